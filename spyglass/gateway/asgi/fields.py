"""Between the headers of HTTP and ASGI's lists of pairs of bytes, both ways.

A request's pairs are cut from the very lines that llhttp and our own rules have judged
(http11/request_head.py), so nothing is judged twice, and nothing by a second parser. A
response's pairs are checked as those of a WSGI app are (http11/response_head.py).
"""

from __future__ import annotations

from spyglass.http11.caches import HARMLESS, REQUEST_PAIRS, RESPONSE_PAIRS
from spyglass.http11.response_head import judge_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from spyglass.http11.request import Section
    from spyglass.http11.response_head import CheckedFields

    Pair = tuple[bytes, bytes]

_KNOWN: Final[dict[bytes, tuple[bytes, bytes]]] = REQUEST_PAIRS.entries
_CHECKED: Final[dict[tuple[object, ...], CheckedFields]] = RESPONSE_PAIRS.entries
_HARMLESS_NAMES: Final = frozenset(
    key.removeprefix("HTTP_").replace("_", "-").lower().encode() for key in HARMLESS
)
_REASONS: Final = {
    200: "OK", 201: "Created", 202: "Accepted", 203: "Non-Authoritative Information",
    204: "No Content", 205: "Reset Content", 206: "Partial Content", 207: "Multi-Status",
    208: "Already Reported", 226: "IM Used", 300: "Multiple Choices",
    301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
    305: "Use Proxy", 307: "Temporary Redirect", 308: "Permanent Redirect",
    400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable",
    407: "Proxy Authentication Required", 408: "Request Timeout", 409: "Conflict",
    410: "Gone", 411: "Length Required", 412: "Precondition Failed",
    413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type",
    416: "Range Not Satisfiable", 417: "Expectation Failed", 421: "Misdirected Request",
    422: "Unprocessable Content", 423: "Locked", 424: "Failed Dependency",
    425: "Too Early", 426: "Upgrade Required", 428: "Precondition Required",
    429: "Too Many Requests", 431: "Request Header Fields Too Large",
    451: "Unavailable For Legal Reasons", 500: "Internal Server Error",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported",
    506: "Variant Also Negotiates", 507: "Insufficient Storage", 508: "Loop Detected",
    511: "Network Authentication Required",
}  # fmt: skip
_LINES: Final[dict[object, str]] = {code: f"{code} {reason}" for code, reason in _REASONS.items()}


def request_pairs(section: Section) -> list[Pair]:
    """Return the headers of a request as they came, with names in small letters. The
    list is shared: copy it.

    A name with an underscore is dropped, as it is for a WSGI app (environ_key() in
    http11/request_head.py): what an app makes of it may be the same as its twin with a
    dash.
    """
    pairs = section.pairs
    if pairs is None:
        known = _KNOWN
        pairs = []
        for line in section.text.split(b"\r\n"):
            pair = known[line] if line in known else _split(line)
            if pair[0]:
                pairs.append(pair)
        section.pairs = pairs
    return pairs


def _split(line: bytes) -> Pair:
    name, _, value = line.partition(b":")
    name = b"" if b"_" in name else name.lower()
    pair = name, value.strip(b" \t")
    if name in _HARMLESS_NAMES:
        REQUEST_PAIRS.keep(line, pair, len(line))
    return pair


def status_line(status: object) -> str:
    """Return the status as it stands in a status line, "200 OK". Raise TypeError or
    ValueError unless it is a final one.
    """
    if not isinstance(status, int):
        raise TypeError(f"the status must be an int, not {type(status).__name__}: {status!r}")
    line = _LINES.get(status)
    if line is None:
        if not 200 <= status <= 999:
            raise ValueError(f"the status must be a final one, 200 to 999: {status!r}")
        line = f"{int(status)}"
    return line


def check_pairs(headers: Any) -> CheckedFields:
    """Return the headers of an app, checked. Raise TypeError or ValueError unless they
    are pairs of bytes that may be sent (RFC 9110 5).
    """
    key = tuple(headers)
    try:
        return _CHECKED[key]
    except TypeError:  # a pair may be a list, too
        key = tuple([_as_tuple(pair) for pair in key])
    except KeyError:
        pass
    fields = []
    for pair in key:
        name, value = _as_tuple(pair)
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise TypeError(f"a header must be a pair of bytes: {pair!r}")
        fields.append((name.decode("latin-1"), value.decode("latin-1")))
    checked = judge_fields(fields)
    RESPONSE_PAIRS.keep(key, checked, len(checked.text))
    return checked


def _as_tuple(pair: Any) -> tuple[object, object]:
    if isinstance(pair, str | bytes):
        raise TypeError(f"a header must be a pair of bytes: {pair!r}")
    try:
        name, value = pair
    except (TypeError, ValueError):
        raise TypeError(f"a header must be a pair of bytes: {pair!r}") from None
    return name, value
