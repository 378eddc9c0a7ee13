"""From an app's status and fields to the head of a response, and how its body is framed (RFC 9112 6, RFC 9110 6.4 and 8.6)."""

from __future__ import annotations

import functools

from spyglass.http11.chunked import is_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.http11.request import Request

    Fields = list[tuple[str, str]]

NONE, LENGTH, CHUNKED, UNTIL_CLOSE = range(4)

# RFC 9110 7.6.1, RFC 9112 9: these speak of one connection, so they are the server's alone (PEP 3333, "Other HTTP Features").
HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "trailers", "transfer-encoding", "upgrade")
)
_NOT_IN_VALUE = str.maketrans("", "", "".join(map(chr, [*range(9), *range(10, 32), 127])))

def check_status(status: object) -> None:
    """Raises TypeError or ValueError unless `status` is like "200 OK", of a final status, and cannot break the framing (PEP 3333)."""
    if type(status) is not str:
        raise TypeError(f"the status must be of type str, not {type(status).__name__}")
    code, text = status[:3], status[3:]
    if not (code.isascii() and code.isdigit() and len(code) == 3) or (text and not text.startswith(" ")):
        raise ValueError(f"the status must begin with three digits and a space: {status!r}")
    if not 200 <= int(code) <= 999:
        raise ValueError(f"the status must be a final one, 200 or above: {status!r}")
    _check_value(status)


def check_fields(fields: object) -> None:
    """Raises TypeError or ValueError unless `fields` is a list of (name, value) that may be sent (PEP 3333, RFC 9110 5)."""
    if type(fields) is not list:
        raise TypeError(f"the headers must be a list, not {type(fields).__name__}")
    lengths = 0
    for field in fields:
        if type(field) is not tuple or len(field) != 2 or type(field[0]) is not str or type(field[1]) is not str:
            raise TypeError(f"a header must be a tuple of two str: {field!r}")
        name, value = field
        _check_name(name)
        _check_value(value)
        if name.lower() == "content-length":
            lengths += 1
            if lengths > 1 or not (value.isascii() and value.isdigit()):
                raise ValueError(f"bad Content-Length: {value!r}" if lengths == 1 else "more than one Content-Length")


@functools.lru_cache(maxsize=512)
def _check_name(name: str) -> None:
    if not name.isascii() or not is_token(name.encode("ascii")):
        raise ValueError(f"bad header name: {name!r}")
    if name.lower() in HOP_BY_HOP:
        raise ValueError(f"{name}: hop-by-hop headers are the server's own (PEP 3333)")


def _check_value(value: str) -> None:
    # CR and LF would let whoever can choose the value write the rest of the response.
    if value.translate(_NOT_IN_VALUE) != value:
        raise ValueError(f"control character in a header: {value!r}")
    value.encode("latin-1")  # UnicodeEncodeError is a ValueError


class Head:
    """The head of a response as bytes, and what its body must be like.

    `framing` is one of the names above; `length` (int or None) is the Content-Length; `keep_alive` says whether the connection can
    take another request afterwards; `silent` that no body may be sent whatever the app gives.
    """

    __slots__ = ("data", "framing", "keep_alive", "length", "silent")

    def __init__(self, data: bytes, framing: int, length: int | None, keep_alive: bool, silent: bool) -> None:
        self.data = data
        self.framing = framing
        self.length = length
        self.keep_alive = keep_alive
        self.silent = silent


def make_head(status: str, fields: Fields, request: Request, date: str, keep_alive: bool, length: int | None) -> Head:
    """Compose a head for a checked `status` and checked `fields`.

    `date` (str) is the Date to send unless the app gives one, `keep_alive` whether we are willing, `length` (int or None) that of
    the whole body if it is known already.
    """
    code = int(status[:3])
    lines = [f"HTTP/1.1 {status if len(status) > 3 else status + ' '}"]
    given: int | None = None
    names = set()
    for name, value in fields:
        lower = name.lower()
        names.add(lower)
        if lower == "content-length":
            if code == 205:
                continue  # its body has length 0, whatever the app says (RFC 9110 15.3.6)
            given = int(value)
            if code == 204:
                continue  # RFC 9110 8.6
        lines.append(f"{name}: {value}")
    if "date" not in names:
        lines.append(f"Date: {date}")
    if "server" not in names:
        lines.append("Server: spyglass")
    silent = request.method == "HEAD" or code in (204, 205, 304)
    framing, length = _frame(code, request, silent, given, length)
    if framing == CHUNKED:
        lines.append("Transfer-Encoding: chunked")
    elif given is None and length is not None:
        lines.append(f"Content-Length: {length}")
    if framing == UNTIL_CLOSE:
        keep_alive = False
    if not keep_alive:
        lines.append("Connection: close")
    elif request.version < (1, 1):
        lines.append("Connection: keep-alive")
    lines.append("\r\n")
    return Head("\r\n".join(lines).encode("latin-1"), framing, length, keep_alive, silent)


def _frame(code: int, request: Request, silent: bool, given: int | None, length: int | None) -> tuple[int, int | None]:
    if code == 205:
        return LENGTH, 0
    if silent:
        # What GET would say of its length may be said here (RFC 9110 9.3.2). An empty body says nothing: many apps leave it out for HEAD.
        return NONE, given if given is not None or code in (204, 304) else length or None
    if given is not None:
        return LENGTH, given
    if length is not None:
        return LENGTH, length
    return (CHUNKED, None) if request.version >= (1, 1) else (UNTIL_CLOSE, None)
