"""The vocabulary of the wire cases: what a client sends, what must come back, and what becomes of the connection.

A case is one row of a table: a name, the rule it holds the server to (RFC or PEP section, or of ARCHITECTURE.md for a choice of ours), the bytes
to send and the outcome. Nothing here opens a socket; tests/process/wire drives every row against a real server in several ways
(whole, byte by byte, cut at random, behind another request, in front of another one). A new case is a new row.

    Case("two spaces before the target", "RFC 9112 3", b"GET  / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", refused(400))
    Case("path is decoded", "PEP 3333", get("/a%20b"), ok(PATH_INFO="/a b"))

Unless a row asks for `/play`, `/input` or another program of tests/process/wire/apps.py, the app answers 200 and mirrors the
environ and the body that it saw, which is what `ok()` looks at.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any
from urllib.parse import quote

TOKEN = b"@TOKEN@"  # twelve letters, new for each run of a case: names what the app counts
GATE = "@GATE@"  # path of a file that OPEN_GATE makes; the app can wait for it


class Step(Enum):
    """What a client does besides sending bytes."""

    CONTINUE = "wait for 100 Continue"
    ANSWER = "wait for the next answer"
    OPEN_GATE = "let an app go on that waits at GATE"
    SERVED_MEANWHILE = "another client is served, while an app of this one's waits"
    END = "shut down for writing"
    ABORT = "reset the connection and be gone"


@dataclass(frozen=True)
class Received:
    """Wait until these bytes have come; not to be read as part of an answer yet."""

    data: bytes


@dataclass(frozen=True)
class Trickle:
    """Send this again and again, a little while apart, until something comes back."""

    data: bytes


class Then(Enum):
    """What becomes of the connection after the last answer."""

    OPEN = "another request is answered on it"
    CLOSE = "the answer says `Connection: close`, and it is closed"
    EOF = "it is closed, announced or not"
    CUT = "the last answer is visibly incomplete, and the connection ends"
    ANY = "closed if the answer says so, else open"
    EITHER = "closed without a word, or open"
    GONE = "the client has left; nobody looks"


EOF, CUT, ANY, EITHER = Then.EOF, Then.CUT, Then.ANY, Then.EITHER


class Kind(Enum):
    """Environ values that are not a literal."""

    EMPTY = "absent or the empty string"
    SOME = "a string that is not empty"


EMPTY, SOME = Kind.EMPTY, Kind.SOME


@dataclass(frozen=True)
class Answer:
    """One final response. None means: not looked at.

    `environ` and `seen` are what the mirroring app saw; in `fields` a value is text, a list (the field's lines, in order), a
    compiled pattern, or None for a field that must not be there.
    """

    status: frozenset[int]
    seen: bytes | None = None
    environ: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    head: bool | None = None  # answers a HEAD request; None: when the first request of the case is one
    optional: bool = False  # closing without a word is as good
    reason: str | None = None


@dataclass(frozen=True)
class Outcome:
    answers: tuple[Answer, ...]
    then: Then

    def __add__(self, later: Outcome) -> Outcome:
        return Outcome(self.answers + later.answers, later.then)

    def __mul__(self, times: int) -> Outcome:
        return Outcome(self.answers * times, self.then)

    def and_then(self, then: Then) -> Outcome:
        return replace(self, then=then)

    @property
    def closing(self) -> Outcome:
        return self.and_then(Then.CLOSE)


def _statuses(given: int | tuple[int, ...]) -> frozenset[int]:
    return frozenset([given] if isinstance(given, int) else given)


def ok(
    seen: bytes | None = None,
    *,
    status: int | tuple[int, ...] = 200,
    body: bytes | None = None,
    fields: dict[str, Any] | None = None,
    head: bool | None = None,
    reason: str | None = None,
    then: Then = Then.OPEN,
    environ: dict[str, Any] | None = None,
    **more: Any,
) -> Outcome:
    """Answered; by keyword also what stands in the environ. The connection stays open unless `then` says otherwise."""
    answer = Answer(_statuses(status), seen, (environ or {}) | more, body, fields or {}, head, reason=reason)
    return Outcome((answer,), then)


def refused(*status: int, then: Then = Then.CLOSE, head: bool | None = None) -> Outcome:
    """Refused by the server with one of these, and closed: what follows on the connection can't be trusted (RFC 9112 9.6)."""
    return Outcome((Answer(frozenset(status), head=head),), then)


def dropped(*status: int) -> Outcome:
    """Closed, with or without one of these answers first."""
    return Outcome((Answer(frozenset(status or [400]), optional=True),), Then.EOF)


def tolerated(*status: int, **more: Any) -> Outcome:
    """The RFC leaves the choice: served, or refused with one of these."""
    return ok(status=(200, *(status or (400,))), then=Then.ANY, **more)


# For a client that goes on after its last request: what arrives when the connection is closed already can only be reset.
AT_ONCE = ("whole", "behind")
BAD = refused(400)
FAILED = refused(500, then=ANY)  # an error of the app: the connection may live on
CLOSED = Outcome((), EOF)  # without a word
LEFT = Outcome((), Then.GONE)


@dataclass(frozen=True)
class Case:
    """One row. `send` is bytes or a tuple of bytes and steps; `server` names a configuration of tests/process/wire/server.py."""

    name: str
    rule: str
    send: bytes | tuple[bytes | Step | Received | Trickle, ...]
    outcome: Outcome
    server: str = "plain"
    modes: tuple[str, ...] | None = None  # None: every mode that makes sense for what is sent
    early_continue: bool = False  # where the body comes late, 100 Continue may be sent without waiting for it
    probe: tuple[bytes, bytes] | None = None  # afterwards, on another connection: a target and the body it must give
    logged: str | None = None  # must appear in the server's log
    topic: str = ""

    @property
    def steps(self) -> tuple[bytes | Step | Received | Trickle, ...]:
        return (self.send,) if isinstance(self.send, bytes) else self.send

    @property
    def size(self) -> int:
        return sum(len(step) for step in self.steps if isinstance(step, bytes))


# What is sent -------------------------------------------------------------------------------------------------------------------


def head(*lines: str) -> bytes:
    """These lines and the empty one behind a head."""
    return "".join(line + "\r\n" for line in (*lines, "")).encode("latin-1")


def get(target: str = "/", *fields: str, method: str = "GET", host: str | None = "a", version: str = "HTTP/1.1") -> bytes:
    hosts = [] if host is None else [f"Host: {host}"]
    return head(f"{method} {target} {version}", *hosts, *fields)


def post(body: bytes = b"hello", *fields: str, target: str = "/", method: str = "POST", version: str = "HTTP/1.1") -> bytes:
    return get(target, f"Content-Length: {len(body)}", *fields, method=method, version=version) + body


def chunked(stream: bytes, *fields: str, target: str = "/", method: str = "POST", version: str = "HTTP/1.1") -> bytes:
    """A request with `stream` as its chunked body, as it stands."""
    return get(target, "Transfer-Encoding: chunked", *fields, method=method, version=version) + stream


def chunks(*parts: bytes) -> bytes:
    """A well-formed chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


# What the app is told to do -----------------------------------------------------------------------------------------------------


def program(path: str, value: Any) -> str:
    return f"{path}?{quote(json.dumps(value, separators=(',', ':')), safe=':,@/')}"


def reads(*calls: Any, valid: bool = True) -> str:
    """Target of an app that makes these calls on wsgi.input, e.g. ["read", 3], and answers with the results as JSON."""
    return program("/input" if valid else "/raw/input", calls)


def got(*results: Any) -> bytes:
    """The body of an answer to `reads()`."""
    return json.dumps(results).encode()


def play(*call: Any, body: Any = (), kind: str = "list", valid: bool = True, **more: Any) -> str:
    """Target of an app that performs the steps of `call` when it is called and those of `body` when it is iterated.

    A step is text (a chunk of the body) or a list such as start(...) or ["raise", "ValueError"]; `kind` is the type of what it
    returns. `valid=False` takes wsgiref.validate away, for apps that break the rules or need the server to see their very object.
    """
    return program("/play" if valid else "/raw/play", {"call": call, "body": body, "kind": kind, "token": TOKEN.decode()} | more)


def start(status: Any = "200 OK", *fields: Any, ctype: str | None = "text/plain", **more: Any) -> list[Any]:
    """Step: start_response with these fields, each a pair."""
    return ["start", status, ([["Content-Type", ctype]] if ctype else []) + [list(pair) for pair in fields], more]


def restart(status: Any = "500 Oops", *fields: Any, ctype: str | None = "text/plain") -> list[Any]:
    """Step: start_response with exc_info."""
    return start(status, *fields, ctype=ctype, exc_info=True)


CHUNKED = {"transfer-encoding": "chunked", "content-length": None}
IMF_FIXDATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT")


def sized(length: int) -> dict[str, Any]:
    return {"content-length": str(length), "transfer-encoding": None}
