"""From an app's status and headers to the head of a response, and the framing of its
body (RFC 9112 6, RFC 9110 6.4 and 8.6).

The framing tells the client where the response ends. It is one of four:

    NONE         there is no body: HEAD, 204, 205, 304
    LENGTH       Content-Length, given by the app or known because all of the body is
    CHUNKED      Transfer-Encoding: chunked, if the client speaks HTTP/1.1
    UNTIL_CLOSE  the body ends with the connection

An app that could frame its response itself could end it early, and what follows would
be the answer to the next request. So only the server sets the framing, and a value with
a line end in it is refused: it would let whatever has chosen the value write the rest
of the response (response splitting).
"""

from __future__ import annotations

from spyglass.http11.caches import RESPONSE_FIELDS, RESPONSE_NAMES, STATUSES
from spyglass.http11.chunked import is_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from spyglass.http11.request import Request

NONE: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
UNTIL_CLOSE: Final = 3

# RFC 9110 7.6.1, RFC 9112 9: these are about one connection, so only the server can set
# them (PEP 3333, "Other HTTP Features"). Most apps that set one have it from a tutorial
# (`Connection: keep-alive` for events). It is dropped, which changes nothing.
HOP_BY_HOP: Final = frozenset(
    (
        *(
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
        ),
        *("te", "trailer", "trailers", "transfer-encoding", "upgrade"),
    )
)
_NOT_IN_VALUE: Final = str.maketrans("", "", "".join(map(chr, [*range(9), *range(10, 32), 127])))
_ORDINARY: Final = 0
_LENGTH: Final = 1
_DATE: Final = 2
_SERVER: Final = 4
_DROPPED: Final = 8
_SPECIAL: Final = {"content-length": _LENGTH, "date": _DATE, "server": _SERVER}
_STATUSES: Final[dict[object, int]] = STATUSES.entries
_NAMES: Final[dict[str, int]] = RESPONSE_NAMES.entries
_CHECKED: Final[dict[tuple[object, ...], CheckedFields]] = RESPONSE_FIELDS.entries


def check_status(status: object) -> int:
    """Return the code of a status like "200 OK". Raises TypeError or ValueError unless
    it is a final one and cannot break the framing (PEP 3333).
    """
    try:
        return _STATUSES[status]
    except KeyError:
        pass
    if not isinstance(status, str):
        raise TypeError(f'the status must be a str like "200 OK", not {type(status).__name__}')
    code, text = status[:3], status[3:]
    if not (code.isascii() and code.isdigit() and len(code) == 3) or (
        text and not text.startswith(" ")
    ):
        raise ValueError(
            f'the status must be like "200 OK", three digits, a space and a reason: {status!r}'
        )
    if not 200 <= int(code) <= 999:
        raise ValueError(f"the status must be a final one, 200 or above: {status!r}")
    _check_value(status)
    STATUSES.keep(status, int(code), len(status))
    return int(code)


class CheckedFields:
    """Headers that may be sent. `text` (str) has them as lines, without Content-Length;
    `length` (int or None) is the value of that one.

    `dropped` (tuple of str) are the names of headers that are not sent (HOP_BY_HOP),
    `closing` (bool): one of them asks for the end of the connection. `own` has a bit
    for each header that the server adds, unless it is among them.

    `made` belongs to make_head(): the head that it last made of these headers, and what
    else it was made of. It is one tuple, because threads share these objects and must
    not see half of a change.
    """

    __slots__ = ("closing", "dropped", "length", "made", "own", "text")

    def __init__(
        self,
        text: str,
        length: int | None,
        own: int,
        dropped: tuple[str, ...] = (),
        closing: bool = False,
    ) -> None:
        self.closing = closing
        self.dropped = dropped
        self.text = text
        self.length = length
        self.own = own
        self.made: tuple[tuple[object, ...], Head] | None = None


def check_fields(fields: object) -> CheckedFields:
    """Return the headers of an app, checked. Raises TypeError or ValueError unless
    `fields` is a list of (name, value) that may be sent (PEP 3333, RFC 9110 5).
    """
    if type(fields) is not list:
        raise TypeError(f"the headers must be a list of (name, value), not {type(fields).__name__}")
    key = tuple(fields)
    try:
        return _CHECKED[key]
    except TypeError:  # what cannot be a key is no str, and is refused there
        return judge_fields(fields)
    except KeyError:
        pass
    checked = judge_fields(fields)
    RESPONSE_FIELDS.keep(key, checked, len(checked.text))
    return checked


def judge_fields(fields: Iterable[object]) -> CheckedFields:
    """As check_fields(), of any iterable, without a look at what is known."""
    text = ""
    length = None
    own = _ORDINARY
    dropped: tuple[str, ...] = ()
    closing = False
    for field in fields:
        if type(field) is not tuple or len(field) != 2:
            raise TypeError(f"a header must be a tuple of two str: {field!r}")
        name, value = field
        # PEP 3333 says str. A derived class is good enough: template engines have one
        # for text that they have escaped.
        if not isinstance(name, str):
            raise TypeError(
                f"the name of a header must be a str, not {type(name).__name__}: {field!r}"
            )
        if not isinstance(value, str):
            raise TypeError(
                f"the value of the header {name} must be a str, not {type(value).__name__}: {value!r}"
            )
        kind = _NAMES.get(name)
        if kind is None:
            kind = _kind_of(name)
        if not (value.isascii() and value.isprintable()):
            _check_value(value)
        if kind == _LENGTH:
            if length is not None or not (value.isascii() and value.isdigit()):
                raise ValueError(
                    f"bad Content-Length: {value!r}"
                    if length is None
                    else "more than one Content-Length"
                )
            length = int(value)
        elif kind == _DROPPED:
            dropped += (name,)
            closing = closing or (
                name.lower() == "connection"
                and "close" in [each.strip().lower() for each in value.split(",")]
            )
        else:
            own |= kind
            # join() takes the characters of a derived class, not what its methods
            # return.
            text += "".join((name, ": ", value, "\r\n"))
    return CheckedFields(text, length, own, dropped, closing)


def _kind_of(name: str) -> int:
    """Return what is special about the headers of this name; ValueError for a name that
    cannot be sent.
    """
    if not name.isascii() or not is_token(name.encode("ascii")):
        raise ValueError(f"bad header name: {name!r}")
    lower = name.lower()
    kind = _DROPPED if lower in HOP_BY_HOP else _SPECIAL.get(lower, _ORDINARY)
    RESPONSE_NAMES.keep(name, kind, len(name))
    return kind


def _check_value(value: str) -> None:
    # CR and LF would split the response, see above.
    if value.translate(_NOT_IN_VALUE) != value:
        raise ValueError(f"control character in a header: {value!r}")
    value.encode("latin-1")  # UnicodeEncodeError is a ValueError


class Head:
    """The head of a response as bytes, and the framing of its body.

    `framing` is one of the four above, `length` (int or None) is the Content-Length,
    and `keep_alive` (bool): the connection can take another request afterwards.
    """

    __slots__ = ("data", "framing", "keep_alive", "length")

    def __init__(self, data: bytes, framing: int, length: int | None, keep_alive: bool) -> None:
        self.data = data
        self.framing = framing
        self.length = length
        self.keep_alive = keep_alive


def make_head(
    status: str,
    fields: CheckedFields,
    request: Request,
    date: str,
    keep_alive: bool,
    length: int | None,
) -> Head:
    """Return a head for a checked `status` and checked `fields`.

    `date` (str) is the value of Date unless the app gives one, `keep_alive` (bool): the
    server is willing, `length` (int or None) is that of the whole body if it is known.
    """
    made_of = (status, request.method, request.version, date, keep_alive, length)
    made = fields.made
    if made is not None and made[0] == made_of:
        return made[1]
    given = fields.length
    if request.method == "HEAD" or status[:3] in _SILENT:
        framing = NONE
        length = _length_of_nothing(status[:3], given, length)
        framed = "" if length is None else f"Content-Length: {length}\r\n"
    elif given is not None or length is not None:
        framing = LENGTH
        if given is not None:
            length = given
        framed = f"Content-Length: {length}\r\n"
    elif request.version != (1, 0):
        framing = CHUNKED
        framed = "Transfer-Encoding: chunked\r\n"
    else:
        framing = UNTIL_CLOSE
        framed = ""
        keep_alive = False
    keep_alive = keep_alive and not fields.closing
    if not keep_alive:
        framed += "Connection: close\r\n"
    elif request.version == (1, 0):
        framed += "Connection: keep-alive\r\n"
    ours = (
        missing_fields(fields.own, date) if fields.own else f"Date: {date}\r\nServer: spyglass\r\n"
    )
    text = (
        f"HTTP/1.1 {status if len(status) > 3 else status + ' '}\r\n{fields.text}{ours}{framed}\r\n"
    )
    head = Head(text.encode("latin-1"), framing, length, keep_alive)
    fields.made = made_of, head
    return head


_SILENT: Final = ("204", "205", "304")


def missing_fields(own: int, date: str) -> str:
    return ("" if own & _DATE else f"Date: {date}\r\n") + (
        "" if own & _SERVER else "Server: spyglass\r\n"
    )


def _length_of_nothing(code: str, given: int | None, length: int | None) -> int | None:
    """Return the Content-Length of a response without a body."""
    if code == "205":
        # To a client it is framed as any other (RFC 9110 15.3.6): without a length, it
        # would wait for the end of the connection.
        return 0
    if code == "204":
        return None  # RFC 9110 8.6
    if given is not None or code == "304":
        return given
    # HEAD may have the length that GET would have (RFC 9110 9.3.2). An empty body says
    # nothing about that: many apps leave the body out for HEAD.
    return length or None
