"""All wire cases, one module per topic; each has a table CASES. See case.py for how to write a row."""

from dataclasses import replace
from importlib import import_module

TOPICS = (
    "request_line",
    "target",
    "host",
    "fields",
    "content_length",
    "transfer_encoding",
    "chunked",
    "methods",
    "expect",
    "connection",
    "pipelining",
    "upgrade",
    "limits",
    "timeouts",
    "response_framing",
    "response_fields",
    "environ",
    "wsgi_input",
    "start_response",
    "iterables",
    "app_errors",
    "file_wrapper",
    "proxies",
    "script_name",
    "long_calls",
)

ALL = [replace(case, topic=topic) for topic in TOPICS for case in import_module(f".{topic}", __name__).CASES]
