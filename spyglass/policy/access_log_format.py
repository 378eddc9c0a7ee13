"""One line of the access log: a function of what is known of a request, made once from
the setting `access_log`.

Most of what stands in such a line was chosen by a client, who may want to end it and
begin another, or to write to the terminal of whoever reads it. So there is one place
where values become text, and everything passes through it: control characters, quotes,
backslashes and what is not ASCII leave it escaped. No line is longer than what a pipe
takes in one piece (PIPE_BUF, pipe(7)), for several workers write to one, and journald
would go on with the rest of a very long one as if it were another (LineMax=,
journald.conf(5)). What has to be cut for that are values, before they are escaped, and
it shows.
"""

from __future__ import annotations

from time import gmtime, localtime

from spyglass.http11.error_response import MONTHS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.http11.request import Request

    Value = str | int | float | bool | None
    Getter = Callable[["Entry"], Value]

# Bytes of a line, less what stands in front of it in the log and the end of the line:
# together at most PIPE_BUF, 4096
LONGEST = 4000
_MOST_DIRECTIVES = 40
_LONGEST_FORMAT = 1000
_FIXED = 64  # bytes: no value is longer that is not a client's
COMBINED = '%h %l %u %t "%r" %s %b "%{Referer}i" "%{User-Agent}i"'


class Entry:
    """What is known of one request.

    `client` (str) is REMOTE_ADDR as the app got it, "" for a unix socket; `request` is
    None for one that could not be understood, and `line` (str) is then its first line,
    so much of it as had come. `status` (str) is of three digits, "" when the app gave
    none; `sent` (int) are bytes of the response's body; `taken` (float, seconds) is
    from the complete request to here, None for a refusal. `cut` (bool): the response
    did not leave whole; `kept` (bool): the connection goes on. `when` (float) is
    seconds since the epoch.
    """

    __slots__ = (
        "client",
        "cut",
        "kept",
        "line",
        "listener",
        "pid",
        "request",
        "sent",
        "status",
        "taken",
        "when",
    )

    def __init__(
        self,
        *,
        when: float,
        pid: int,
        listener: str,
        client: str,
        request: Request | None,
        line: str = "",
    ) -> None:
        self.when = when
        self.pid = pid
        self.listener = listener
        self.client = client
        self.request = request
        self.line = line
        self.status = ""
        self.sent = 0
        self.taken: float | None = None
        self.cut = False
        self.kept = False


def formatter(setting: bool | str) -> Callable[[Entry], str]:
    """What makes the line, without its end, for `access_log` = `setting`. Raises
    ValueError: what was expected, and what stands there.
    """
    if setting is True:
        return _Line(_SHORT, _plain)
    if setting == "json":
        return _Line(_json_parts(), _json())
    return _Line(_parse(COMBINED if setting == "combined" else str(setting)), _plain)


class _Line:
    """`parts` are literal text, and functions that give a value; `encode` makes a value
    into text that nothing can come out of.
    """

    def __init__(self, parts: list[str | Getter], encode: Callable[[Value], str]) -> None:
        self._parts = parts
        self._encode = encode
        literal = sum(len(part.encode()) for part in parts if isinstance(part, str))
        values = [part for part in parts if not isinstance(part, str)]
        theirs = sum(1 for part in values if part not in _OURS)
        self._share = (LONGEST - literal - _FIXED * (len(values) - theirs)) // max(1, theirs)
        self._room = LONGEST - (literal - sum(len(part) for part in parts if isinstance(part, str)))

    def __call__(self, entry: Entry) -> str:
        encode = self._encode
        line = "".join(
            [part if isinstance(part, str) else encode(part(entry)) for part in self._parts]
        )
        if len(line) > self._room:
            line = "".join(
                [
                    part if isinstance(part, str) else self._fitting(part, part(entry))
                    for part in self._parts
                ]
            )
        return line

    def _fitting(self, part: Getter, value: Value) -> str:
        text = self._encode(value)
        most = keep = _FIXED if part in _OURS else self._share
        while len(text) > most and isinstance(value, str):
            keep = keep * 3 // 4
            text = self._encode(value[:keep] + "...")
        return text


# From values to text


class _Escapes(dict[int, str]):
    def __missing__(self, code: int) -> str:
        if 0x20 <= code < 0x7F:
            return chr(code)
        return (
            f"\\x{code:02x}"
            if code < 0x100
            else f"\\u{code:04x}"
            if code < 0x10000
            else f"\\U{code:08x}"
        )


_ESCAPES = _Escapes({ord('"'): '\\"', ord("\\"): "\\\\"})


def _plain(value: Value) -> str:
    """As Apache has it: \\xhh, \\" and \\\\; "-" for what is not known."""
    if value is None:
        return "-"
    text = str(value)
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.translate(_ESCAPES)


def _json() -> Callable[[Value], str]:
    import json  # only who wants it pays for it

    encode = json.JSONEncoder(ensure_ascii=True).encode  # which leaves DEL as it is

    def encoded(value: Value) -> str:
        if isinstance(value, str):
            # The wire has bytes, environ has them one by one (PEP 3333); whoever reads
            # JSON wants the text that they were meant to be.
            if not value.isascii():
                value = value.encode("latin-1", "backslashreplace").decode(
                    "utf-8", "backslashreplace"
                )
            return encode(value).replace("\x7f", "\\u007f")
        return encode(value)

    return encoded


# Values


def _client(entry: Entry) -> Value:
    return entry.client or None


def _unknown(_: Entry) -> Value:
    return None


def _time(entry: Entry) -> Value:
    # Never strftime(), whose months are those of a locale.
    t = localtime(entry.when)
    minutes = t.tm_gmtoff // 60
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
    return f"[{t.tm_mday:02d}/{MONTHS[t.tm_mon]}/{t.tm_year:04d}:{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} {zone}]"


def _utc(entry: Entry) -> Value:
    milliseconds = int(entry.when * 1000)
    t = gmtime(milliseconds // 1000)
    return f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}.{milliseconds % 1000:03d}Z"


def _protocol(entry: Entry) -> Value:
    if entry.request is None:
        return None
    return "HTTP/1.1" if entry.request.version >= (1, 1) else "HTTP/1.0"


def _request_line(entry: Entry) -> Value:
    request = entry.request
    return (
        f"{request.method} {request.target} {_protocol(entry)}"
        if request is not None
        else entry.line or None
    )


def _asked(entry: Entry) -> Value:
    request = entry.request
    return f"{request.method} {request.target}" if request is not None else entry.line or None


def _method(entry: Entry) -> Value:
    return None if entry.request is None else entry.request.method


def _target(entry: Entry) -> Value:
    return None if entry.request is None else entry.request.target


def _path(entry: Entry) -> Value:
    return None if entry.request is None else entry.request.path


def _query(entry: Entry) -> Value:
    return "?" + entry.request.query if entry.request is not None and entry.request.query else ""


def _status(entry: Entry) -> Value:
    return entry.status or None


def _status_number(entry: Entry) -> Value:
    return int(entry.status) if entry.status else None


def _sent(entry: Entry) -> Value:
    return entry.sent


def _sent_or_dash(entry: Entry) -> Value:
    return entry.sent or None


def _microseconds(entry: Entry) -> Value:
    return None if entry.taken is None else int(entry.taken * 1e6)


def _whole_seconds(entry: Entry) -> Value:
    return None if entry.taken is None else int(entry.taken)


def _seconds(entry: Entry) -> Value:
    return None if entry.taken is None else round(entry.taken, 6)


def _how_long(entry: Entry) -> Value:
    return "" if entry.taken is None else f" {entry.taken * 1e3:.1f} ms"


def _if_cut(entry: Entry) -> Value:
    return ", cut" if entry.cut else ""


def _cut(entry: Entry) -> Value:
    return entry.cut


def _end(entry: Entry) -> Value:
    return "X" if entry.cut else "+" if entry.kept else "-"


def _pid(entry: Entry) -> Value:
    return entry.pid


def _listener(entry: Entry) -> Value:
    return entry.listener


def _field(name: str) -> Getter:
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"

    def field(entry: Entry) -> Value:
        return None if entry.request is None else entry.request.fields.get(key)

    return field


# A path of a unix socket has at most 107 bytes, but those are the administrator's; it
# counts as a client's, which may be cut.
_OURS = {
    *(_client, _unknown, _time, _utc, _protocol, _status, _status_number, _sent, _sent_or_dash),
    *(_microseconds, _whole_seconds, _seconds, _how_long, _if_cut, _cut, _end, _pid),
}

# Under systemd the journal knows time and pid, elsewhere the log writes them in front;
# so here is what else one wants to see at a glance.
_SHORT: list[str | Getter] = [
    _client,
    ' "',
    _asked,
    '" ',
    _status,
    " ",
    _sent,
    " B",
    _how_long,
    _if_cut,
]


def _json_parts() -> list[str | Getter]:
    members: dict[str, Getter] = {
        "time": _utc,
        "client": _client,
        "method": _method,
        "target": _target,
        "protocol": _protocol,
        "status": _status_number,
        "bytes": _sent,
        "seconds": _seconds,
        "cut": _cut,
        "host": _field("Host"),
        "referer": _field("Referer"),
        "user_agent": _field("User-Agent"),
        "line": lambda entry: entry.line or None,
        "listener": _listener,
        "pid": _pid,
    }
    parts: list[str | Getter] = []
    for name, getter in members.items():
        parts += [f'{", " if parts else "{"}"{name}": ', getter]
    return [*parts, "}"]


# Formats, with what Apache's mod_log_config knows of the same letters

DIRECTIVES: dict[str, Getter] = {
    "%h": _client,
    "%a": _client,
    "%l": _unknown,
    "%u": _unknown,
    "%t": _time,
    "%r": _request_line,
    "%m": _method,
    "%U": _path,
    "%q": _query,
    "%H": _protocol,
    "%s": _status,
    "%>s": _status,
    "%b": _sent_or_dash,
    "%B": _sent,
    "%D": _microseconds,
    "%T": _whole_seconds,
    "%X": _end,
    "%P": _pid,
    "%A": _listener,
}
_EXPECTED = f"expected {' '.join(DIRECTIVES)} %{{Field-Name}}i or %%"
_NAME_LETTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&'*+-.^`|~"
)  # RFC 9110 5.6.2, less _ and %


def _parse(text: str) -> list[str | Getter]:
    if not all(letter.isprintable() or letter == "\t" for letter in text):
        raise ValueError("expected a format without control characters")
    if len(text.encode()) > _LONGEST_FORMAT:
        raise ValueError(f"expected a format of at most {_LONGEST_FORMAT} bytes")
    parts: list[str | Getter] = []
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


def _directive(text: str) -> tuple[str, str | Getter]:
    """The directive at the start of `text`, and what stands for it."""
    word = text[:3] if text.startswith("%>") else text[:2]
    if word == "%%":
        return word, "%"
    if word == "%{":
        name, closing, rest = text[2:].partition("}")
        word = text[: len(name) + 4] if closing else text
        # A field whose name has an underscore never arrives.
        if not (name and closing and rest.startswith("i") and _NAME_LETTERS.issuperset(name)):
            raise ValueError(_EXPECTED, word)
        return word, _field(name)
    if word not in DIRECTIVES:
        raise ValueError(_EXPECTED, word)
    return word, DIRECTIVES[word]
