"""One line of the access log: a function of the facts about a request, made once from
the setting `access_log`.

Most of such a line was chosen by a client, which may want to end the line and forge
another one, or to write to the terminal on which it is read. So there is one place
where values become text, and all of them pass through it: control characters, quotes,
backslashes and what is not ASCII leave it escaped.

No line is longer than what a pipe takes in one piece (PIPE_BUF, pipe(7)): several
workers write to one pipe, and journald splits a very long line, of which the second
half would look like a line of its own (LineMax=, journald.conf(5)). Long values are cut
for that, before they are escaped, and end in "...".
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    Fact = str | int | float | bool | dict[str, int] | None

    class Request(Protocol):
        """What a line can tell of a request, see http11/request.py."""

        method: str
        target: str
        path: str
        query: str
        version: tuple[int, int]
        fields: dict[str, str]

    class Calendar(Protocol):
        """The module `time`, which is not for a pure module to import."""

        def gmtime(self, seconds: float, /) -> Any: ...
        def localtime(self, seconds: float, /) -> Any: ...


# Bytes of a line, without what the log puts in front of it and without its end:
# together at most PIPE_BUF, 4096
LONGEST = 4000
_MOST_DIRECTIVES = 40
_LONGEST_FORMAT = 1000
_SHORT_VALUE = 64  # bytes: no value of the server's own is longer
COMBINED = '%h %l %u %t "%r" %s %b "%{Referer}i" "%{User-Agent}i"'
# Not by strftime(), which has the names of the locale.
_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Entry:
    """The facts about one request.

    `client` (str) is REMOTE_ADDR as the app got it, "" for a unix socket. `request` is
    None when the bytes could not be understood; `line` (str) is then the first line, as
    far as it had come. `status` (str) has three digits, or is "" when the app gave
    none. `sent` (int) counts bytes of the response's body. `taken` (float, seconds) is
    the time from the complete request to now, None for a refusal, `in_app` (float or
    None) what of it the app took, where that is known. `cut` (bool): the response was
    not sent completely. `kept` (bool): the connection goes on. `when` (float) is
    seconds since the epoch, which `calendar` makes dates of. `websocket` is None, or
    tells of one how it was closed, and how many messages were received and sent.
    """

    __slots__ = (
        "calendar",
        "client",
        "cut",
        "in_app",
        "kept",
        "line",
        "listener",
        "pid",
        "request",
        "sent",
        "status",
        "taken",
        "websocket",
        "when",
    )

    def __init__(
        self,
        *,
        when: float,
        calendar: Calendar,
        pid: int,
        listener: str,
        client: str,
        request: Request | None,
        line: str = "",
    ) -> None:
        self.when = when
        self.calendar = calendar
        self.pid = pid
        self.listener = listener
        self.client = client
        self.request = request
        self.line = line
        self.status = ""
        self.sent = 0
        self.taken: float | None = None
        self.in_app: float | None = None
        self.cut = False
        self.kept = False
        self.websocket: dict[str, int] | None = None


class Value:
    """One value of a line: `get(entry)` returns it. `is_long` (bool): a client chose
    it, so it can be long, and may be cut.
    """

    __slots__ = ("get", "is_long")

    def __init__(self, get: Callable[[Entry], Fact], is_long: bool) -> None:
        self.get = get
        self.is_long = is_long


def _ours(get: Callable[[Entry], Fact]) -> Value:
    return Value(get, False)


def _theirs(get: Callable[[Entry], Fact]) -> Value:
    return Value(get, True)


def _request_line(entry: Entry) -> str | None:
    request = entry.request
    if request is None:
        return entry.line or None
    return f"{request.method} {request.target} {_protocol(entry)}"


def _protocol(entry: Entry) -> str | None:
    if entry.request is None:
        return None
    return "HTTP/1.1" if entry.request.version >= (1, 1) else "HTTP/1.0"


def _apache_time(t: Any) -> str:
    minutes = t.tm_gmtoff // 60
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
    clock = f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"
    return f"[{t.tm_mday:02d}/{_MONTHS[t.tm_mon]}/{t.tm_year:04d}:{clock} {zone}]"


def _iso_time(entry: Entry) -> str:
    milliseconds = int(entry.when * 1000)
    t = entry.calendar.gmtime(milliseconds // 1000)
    clock = f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}.{milliseconds % 1000:03d}"
    return f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}T{clock}Z"


# The directives of a format, as Apache's mod_log_config has them. To add one, add a row
# here and in packaging/manual/settings.md.
DIRECTIVES: dict[str, Value] = {
    # The client's address, with and without a lookup of its name; there is never one.
    "%h": _theirs(lambda e: e.client or None),
    "%a": _theirs(lambda e: e.client or None),
    # The names that identd and authentication give; neither is done here.
    "%l": _ours(lambda e: None),
    "%u": _ours(lambda e: None),
    "%t": _ours(lambda e: _apache_time(e.calendar.localtime(e.when))),
    "%r": _theirs(_request_line),
    "%m": _theirs(lambda e: e.request.method if e.request else None),
    "%U": _theirs(lambda e: e.request.path if e.request else None),
    "%q": _theirs(lambda e: f"?{e.request.query}" if e.request and e.request.query else ""),
    "%H": _ours(_protocol),
    "%s": _ours(lambda e: e.status or None),
    "%>s": _ours(lambda e: e.status or None),
    # Bytes of the body, "-" and 0 for none; time in microseconds and in seconds.
    "%b": _ours(lambda e: e.sent or None),
    "%B": _ours(lambda e: e.sent),
    "%D": _ours(lambda e: None if e.taken is None else int(e.taken * 1e6)),
    "%T": _ours(lambda e: None if e.taken is None else int(e.taken)),
    # The response was cut, the connection goes on, or it does not.
    "%X": _ours(lambda e: "X" if e.cut else "+" if e.kept else "-"),
    "%P": _ours(lambda e: e.pid),
    # The path of a unix socket has at most 107 bytes: longer than our other values.
    "%A": _theirs(lambda e: e.listener),
}


def _header(name: str) -> Value:
    """Return the value for `%{name}i`."""
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    return _theirs(lambda e: e.request.fields.get(key) if e.request else None)


# access_log = "json": the members of an object.
_JSON: dict[str, Value] = {
    "time": _ours(_iso_time),
    "client": DIRECTIVES["%h"],
    "method": DIRECTIVES["%m"],
    "target": _theirs(lambda e: e.request.target if e.request else None),
    "protocol": DIRECTIVES["%H"],
    "status": _ours(lambda e: int(e.status) if e.status else None),
    "bytes": DIRECTIVES["%B"],
    "seconds": _ours(lambda e: None if e.taken is None else round(e.taken, 6)),
    "cut": _ours(lambda e: e.cut),
    "host": _header("Host"),
    "referer": _header("Referer"),
    "user_agent": _header("User-Agent"),
    "line": _theirs(lambda e: e.line or None),
    "listener": DIRECTIVES["%A"],
    "pid": DIRECTIVES["%P"],
}

# And one more, of a WebSocket.
_JSON_WEBSOCKET: dict[str, Value] = {"websocket": _ours(lambda e: e.websocket)}

# access_log = true: for people. The journal shows time and pid already, and where there
# is no journal, the log writes them in front of the line.
_SHORT: list[str | Value] = [
    DIRECTIVES["%h"],
    ' "',
    _theirs(lambda e: f"{e.request.method} {e.request.target}" if e.request else e.line or None),
    '" ',
    DIRECTIVES["%s"],
    " ",
    DIRECTIVES["%B"],
    " B",
    _ours(lambda e: "" if e.taken is None else f" {e.taken * 1e3:.1f} ms"),
    _ours(lambda e: ", cut" if e.cut else ""),
]


# log_slow: where the time was spent is the first question. The rest of the time went
# into sending, or waiting for a turn.
_SLOW: list[str | Value] = [
    "slow: ",
    *_SHORT[:8],
    _ours(lambda e: f", {e.taken or 0:.3f} s"),
    _ours(lambda e: "" if e.in_app is None else f", {e.in_app:.3f} s of it in the app"),
    _ours(lambda e: ", cut" if e.cut else ""),
]


# From values to a line


def formatter(setting: bool | str, *, websocket: bool = False) -> Callable[[Entry], str]:
    """Return what makes the line, without its end, for `access_log` = `setting`, or
    that of a WebSocket. Raises ValueError: what was expected, and what stands there.
    """
    if setting is True:
        return _Line(_SHORT, _plain)
    if setting == "json":
        parts: list[str | Value] = []
        members = _JSON | _JSON_WEBSOCKET if websocket else _JSON
        for name, value in members.items():
            parts += [f'{", " if parts else "{"}"{name}": ', value]
        return _Line([*parts, "}"], _json())
    return _Line(_parse(COMBINED if setting == "combined" else str(setting)), _plain)


def slow_formatter() -> Callable[[Entry], str]:
    """Return what makes the line about a slow request, without its end."""
    return _Line(_SLOW, _plain)


class _Line:
    """`parts` are literal text and values; `encode` makes text of a value, out of which
    nothing can break.
    """

    def __init__(self, parts: list[str | Value], encode: Callable[[Fact], str]) -> None:
        self._parts = parts
        self._getters = [part if isinstance(part, str) else part.get for part in parts]
        self._encode = encode
        literals = [part for part in parts if isinstance(part, str)]
        values = [part for part in parts if not isinstance(part, str)]
        bytes_of_literals = sum(len(part.encode()) for part in literals)
        long = sum(1 for part in values if part.is_long)
        # Bytes that each long value may have when the line is too long
        self._share = (LONGEST - bytes_of_literals - _SHORT_VALUE * (len(values) - long)) // max(
            1, long
        )
        # Characters of a line; values are ASCII by then, literals need not be.
        self._room = LONGEST - (bytes_of_literals - sum(len(part) for part in literals))

    def __call__(self, entry: Entry) -> str:
        encode = self._encode
        line = "".join(
            [part if isinstance(part, str) else encode(part(entry)) for part in self._getters]
        )
        if len(line) > self._room:
            line = "".join(
                [
                    part if isinstance(part, str) else self._fitting(part, part.get(entry))
                    for part in self._parts
                ]
            )
        return line

    def _fitting(self, part: Value, value: Fact) -> str:
        text = self._encode(value)
        most = keep = self._share if part.is_long else _SHORT_VALUE
        while len(text) > most and isinstance(value, str):
            keep = keep * 3 // 4
            text = self._encode(value[:keep] + "...")
        return text


class _Escapes(dict[int, str]):
    def __missing__(self, code: int) -> str:
        if 0x20 <= code < 0x7F:
            return chr(code)
        if code < 0x100:
            return f"\\x{code:02x}"
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPES = _Escapes({ord('"'): '\\"', ord("\\"): "\\\\"})


def _plain(value: Fact) -> str:
    """Return `value` as Apache writes it: \\xhh, \\" and \\\\; "-" for what is not
    known.
    """
    if value is None:
        return "-"
    text = str(value)
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.translate(_ESCAPES)


def _json() -> Callable[[Fact], str]:
    import json  # inside: only access_log = "json" needs it

    encode = json.JSONEncoder(ensure_ascii=True).encode  # which leaves DEL as it is

    def encoded(value: Fact) -> str:
        if isinstance(value, str):
            # PEP 3333 has the bytes of the wire one by one in a str. A reader of JSON
            # wants the text that they encode.
            if not value.isascii():
                value = value.encode("latin-1", "backslashreplace").decode(
                    "utf-8", "backslashreplace"
                )
            return encode(value).replace("\x7f", "\\u007f")
        return encode(value)

    return encoded


# From a format to its parts

_EXPECTED = f"expected {' '.join(DIRECTIVES)} %{{Field-Name}}i or %%"
# RFC 9110 5.6.2, token, without _ and %
_NAME_LETTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&'*+-.^`|~"
)


def _parse(text: str) -> list[str | Value]:
    if not all(letter.isprintable() or letter == "\t" for letter in text):
        raise ValueError("expected a format without control characters")
    if len(text.encode()) > _LONGEST_FORMAT:
        raise ValueError(f"expected a format of at most {_LONGEST_FORMAT} bytes")
    parts: list[str | Value] = []
    while text:
        literal, _, _ = text.partition("%")
        if literal:
            parts.append(literal)
            text = text[len(literal) :]
            continue
        word, part = _directive(text)
        parts.append(part)
        text = text[len(word) :]
    directives = sum(not isinstance(part, str) for part in parts)
    if not 0 < directives <= _MOST_DIRECTIVES:
        raise ValueError(
            f'expected true, false, "combined", "json", or a format with 1 to {_MOST_DIRECTIVES} directives such as %h'
        )
    return parts


def _directive(text: str) -> tuple[str, str | Value]:
    """Return the directive at the start of `text`, and its part of a line."""
    word = text[:3] if text.startswith("%>") else text[:2]
    if word == "%%":
        return word, "%"
    if word == "%{":
        name, closing, rest = text[2:].partition("}")
        word = text[: len(name) + 4] if closing else text
        # A header with an underscore in its name never arrives (request_head.py).
        if not (name and closing and rest.startswith("i") and _NAME_LETTERS.issuperset(name)):
            raise ValueError(_EXPECTED, word)
        return word, _header(name)
    if word not in DIRECTIVES:
        raise ValueError(_EXPECTED, word)
    return word, DIRECTIVES[word]
