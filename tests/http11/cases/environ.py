"""The environ: CGI's variables, the fields of the head, and PEP 3333's own keys."""

import re

from .case import EMPTY, EOF, SOME, Case, chunked, chunks, get, ok, post

CASES = [
    Case("wsgi.version", "PEP 3333", get(), ok(environ={"wsgi.version": "(1, 0)"})),
    Case("wsgi.url_scheme", "PEP 3333", get(), ok(environ={"wsgi.url_scheme": "http"})),
    Case("wsgi.multiprocess", "PEP 3333", get(), ok(environ={"wsgi.multiprocess": "True"})),
    Case("wsgi.multithread", "PEP 3333", get(), ok(environ={"wsgi.multithread": re.compile("True|False")})),
    Case("wsgi.run_once", "PEP 3333", get(), ok(environ={"wsgi.run_once": "False"})),
    Case("wsgi.input and wsgi.errors", "PEP 3333", get(), ok(environ={"wsgi.input": SOME, "wsgi.errors": SOME})),
    Case("wsgi.file_wrapper", "PEP 3333", get(), ok(environ={"wsgi.file_wrapper": SOME})),
    Case("wsgi.input_terminated", "ARCHITECTURE 10.1", get(), ok(environ={"wsgi.input_terminated": "True"})),
    Case("wsgi.input_terminated with a length", "ARCHITECTURE 10.1", post(), ok(b"hello", environ={"wsgi.input_terminated": "True"})),
    Case("SERVER_NAME and SERVER_PORT", "RFC 3875 4.1.14", get(), ok(SERVER_NAME=SOME, SERVER_PORT=re.compile("[0-9]+"))),
    Case(
        "SERVER_NAME without Host", "RFC 3875 4.1.14", get(host=None, version="HTTP/1.0"), ok(SERVER_NAME=SOME, SERVER_PORT=SOME, then=EOF)
    ),
    Case("SERVER_NAME with an empty Host", "RFC 3875 4.1.14", get(host=""), ok(SERVER_NAME=SOME, SERVER_PORT=SOME)),
    Case("SERVER_PROTOCOL", "RFC 3875 4.1.16", get(), ok(SERVER_PROTOCOL="HTTP/1.1")),
    Case("SERVER_PROTOCOL of HTTP/1.0", "RFC 3875 4.1.16", get(version="HTTP/1.0"), ok(SERVER_PROTOCOL="HTTP/1.0", then=EOF)),
    Case("SERVER_SOFTWARE", "RFC 3875 4.1.17", get(), ok(SERVER_SOFTWARE=SOME)),
    Case(
        "REMOTE_ADDR and REMOTE_PORT",
        "RFC 3875 4.1.8",
        get(),
        ok(REMOTE_ADDR="127.0.0.1", REMOTE_PORT=re.compile("[0-9]+")),
        modes=("whole", "behind", "before"),
    ),
    Case("REQUEST_METHOD", "RFC 3875 4.1.12", get(method="DELETE"), ok(REQUEST_METHOD="DELETE")),
    Case("SCRIPT_NAME is empty", "PEP 3333", get("/a"), ok(SCRIPT_NAME="", PATH_INFO="/a")),
    Case("REQUEST_URI is raw", "ARCHITECTURE 10.1", get("/a%20b?c%20d"), ok(REQUEST_URI="/a%20b?c%20d")),
    Case("PATH_INFO of the root", "PEP 3333", get("/"), ok(PATH_INFO="/", QUERY_STRING="")),
    # Content fields have no HTTP_
    Case("CONTENT_TYPE", "RFC 3875 4.1.3", post(b"hello", "Content-Type: a/b; c=d"), ok(CONTENT_TYPE="a/b; c=d", HTTP_CONTENT_TYPE=None)),
    Case("no Content-Type", "RFC 3875 4.1.3", get(), ok(CONTENT_TYPE=EMPTY)),
    Case("empty Content-Type", "RFC 3875 4.1.3", get("/", "Content-Type:"), ok(CONTENT_TYPE=EMPTY)),
    Case("CONTENT_LENGTH", "RFC 3875 4.1.2", post(), ok(CONTENT_LENGTH="5", HTTP_CONTENT_LENGTH=None)),
    Case("no Content-Length", "RFC 3875 4.1.2", get(), ok(CONTENT_LENGTH=EMPTY)),
    Case(
        "CONTENT_LENGTH of a chunked body",
        "ARCHITECTURE 10.1",
        chunked(chunks(b"hel", b"lo")),
        ok(b"hello", CONTENT_LENGTH="5", HTTP_TRANSFER_ENCODING=None),
    ),
    Case("CONTENT_LENGTH of an empty chunked body", "ARCHITECTURE 10.1", chunked(chunks()), ok(b"", CONTENT_LENGTH="0")),
    Case(
        "other content fields keep their HTTP_",
        "RFC 3875 4.1.18",
        get("/", "Content-Encoding: gzip", "Content-MD5: x"),
        ok(HTTP_CONTENT_ENCODING="gzip", HTTP_CONTENT_MD5="x"),
    ),
    Case("HTTP_HOST is as sent", "PEP 3333", get(host="A.Example:080"), ok(HTTP_HOST="A.Example:080")),
    Case("dashes become underscores", "RFC 3875 4.1.18", get("/", "X-A-B-C: y"), ok(HTTP_X_A_B_C="y")),
    Case(
        "a field that would be a CGI variable",
        "RFC 3875 4.1.18",
        get("/", "Request-Method: x", "Path-Info: y"),
        ok(REQUEST_METHOD="GET", PATH_INFO="/", HTTP_REQUEST_METHOD="x"),
    ),
    Case("a field that would be a wsgi key", "PEP 3333", get("/", "wsgi.url-scheme: https"), ok(environ={"wsgi.url_scheme": "http"})),
    Case("a field named Remote-Addr", "RFC 3875 4.1.18", get("/", "Remote-Addr: 1.2.3.4"), ok(HTTP_REMOTE_ADDR="1.2.3.4")),
    Case("a field named Script-Name", "RFC 3875 4.1.18", get("/", "Script-Name: /x"), ok(SCRIPT_NAME="")),
    Case("HTTPS is not set", "PEP 3333", get("/", "HTTPS: on"), ok(HTTPS=EMPTY)),
    Case("LISTEN_FDS and NOTIFY_SOCKET are not the app's", "sd_listen_fds(3)", get(), ok(LISTEN_FDS=None, LISTEN_PID=None, NOTIFY_SOCKET=None)),
    Case(
        "what an app does to its environ stays there",
        "PEP 3333",
        get("/vandal") * 2 + get("/3"),
        ok(body=b"done") * 2 + ok(HTTP_EVIL=None, SCRIPT_NAME="", PATH_INFO="/3"),
    ),
]
