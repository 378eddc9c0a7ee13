"""Who comes to ASGI apps alone: WebSockets, readers of event streams, and clients whose
requests are worked on after the answer. LIVE_KINDS is the table of them, beside that in
visitors.py.

What becomes of them is not only seen by the client: the app writes down what it has
been told, and the ledger has it as owed (apps/live_deeds.py).
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ledger import Entry
from process.speaker import GUID
from rfc6455 import speaking
from visitors import Caller, Kinds
from wire import Answer, Failure, Request, Wire, check

# Until the app has written down what it owes, on a machine that is busy
WRITTEN = 5.0  # seconds
APPS_OWN = 4000  # the code with which the app closes when it is asked to


def know(entry: Entry, request: Request, line: bytes, first: float) -> None:
    """The app's first line, outside of an answer's body, is checked like one there."""
    answer = Answer(200, {}, line, first)
    check(request, answer)
    entry.pid, entry.life, entry.version = answer.pid, answer.life, answer.version


class Socket:
    """A WebSocket on `wire`, when the handshake is over."""

    def __init__(self, wire: Wire, visit: str) -> None:
        self.wire = wire
        self.visit = visit
        self.said = 0
        self.owed = ""
        self._leaves = False  # it has sent its Close

    def say(self, what: str | bytes, cut: int = 0) -> None:
        """In two parts, if it is to be `cut`."""
        data, opcode = (
            (what.encode(), speaking.TEXT) if isinstance(what, str) else (what, speaking.BINARY)
        )
        frames = speaking.frame(opcode, data[:cut] if cut else data, fin=not cut)
        self.wire.send(frames + (speaking.more(data[cut:]) if cut else b""))
        self.said += 1

    def hear(self) -> Any:
        """The next message. Failure when there is none: "closed CODE", if the server says
        so.
        """
        while True:
            try:
                kind, what = speaking.hear(self.wire.exactly)
            except AssertionError as error:
                raise Failure("nonsense", str(error)) from None
            if kind == "ping":
                self.wire.send(speaking.pong(what))
            elif kind == "close":
                self._end(*what)
            elif kind == "end":
                raise Failure("cut", "without a Close")
            else:
                return what

    def _end(self, code: int, reason: str) -> None:
        """Answers a Close, or has heard the answer to its own."""
        # Who does not answer at once is not waited for: what it says meanwhile is lost.
        if not self.wire.heard():
            self.owed = f"{self.visit}-heard-{self.said}-{code}"
            if not self._leaves:
                self.wire.send(speaking.close(code))
            if self.wire.exactly(1):
                raise Failure("nonsense", "something behind the Close")
        raise Failure(f"closed {code}", reason)

    def leave(self, code: int) -> None:
        """Until the end, whatever was still on its way."""
        if code == APPS_OWN:
            self.say("bye")
        else:
            self._leaves = True
            self.wire.send(speaking.close(code))
        try:
            while True:
                self.hear()
        except Failure as failure:
            if failure.kind != f"closed {code}":
                raise


@contextmanager
def connected(caller: Caller, what: str, **query: Any) -> Iterator[Socket]:
    """A WebSocket for the block."""
    key = base64.b64encode(caller.dice.randbytes(16))
    accepted = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
    request = caller.request(what, query=query)
    request.fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key.decode()}  # fmt: skip
    with caller.wire() as wire, caller.noted(wire, request) as entry:
        entry.ignored = f"websocket:/{what}" in caller.site.settings.get("idle_ignore", [])
        wire.send(request.whole())
        entry.sent = time.monotonic()
        answer = wire.answer("GET")
        entry.first = answer.first
        if answer.status != 101:
            raise Failure(f"status {answer.status}", answer.body[:100].decode(errors="replace"))
        if answer.fields.get("sec-websocket-accept") != accepted:
            raise Failure("mixed up", "the handshake was another's")
        socket = Socket(wire, request.visit)
        try:
            know(entry, request, socket.hear().encode(), answer.first)
            yield socket
        finally:
            entry.owed, entry.after = socket.owed, WRITTEN


def talking(caller: Caller) -> None:
    """Says something, often in pieces or several times, and hears the same."""
    with connected(caller, "talk") as socket:
        for number in range(caller.dice.randrange(1, 12)):
            said: list[str | bytes] = []
            for _ in range(caller.dice.randrange(1, 4)):
                text = f"{socket.visit} {number} {len(said)} "
                text += "." * caller.dice.choice([0, 200, 3000, 100_000])
                said.append(text if caller.dice.random() < 0.5 else text.encode())
                socket.say(said[-1], caller.dice.choice([0, 0, 5]))
            for each in said:
                if (heard := socket.hear()) != each:
                    raise Failure("mixed up", f"{heard[:100]!r} for {each[:100]!r}")
            caller.nap(0, 0.5)
        socket.leave(caller.dice.choice([1000, APPS_OWN]))


def watching(caller: Caller) -> None:
    """Hears what the app says, now and then or seldom, when there are only pings."""
    pause = caller.dice.choice([0.05, 0.4, 7])
    with connected(caller, "watch", pause=pause) as socket:
        for number in range(caller.dice.randrange(1, int(8 / pause) + 1)):
            if (heard := socket.hear()) != f"{socket.visit} {number}":
                raise Failure("mixed up", f"{heard[:100]!r} for number {number}")
        if caller.dice.random() < 0.8:
            socket.leave(1000)


def reading_events(caller: Caller) -> None:
    """An EventSource, which may be closed before the end that the app has in mind."""
    query = {"count": caller.dice.randrange(2, 60), "pause": caller.dice.choice([0.02, 0.1, 0.3])}
    if caller.dice.random() < 0.5:
        query["deaf"] = 1
    wanted = query["count"] + 1 if caller.dice.random() < 0.7 else query["count"] // 2
    request = caller.request("events", query=query, fields={"Accept": "text/event-stream"})
    came = b""

    def read(response: Any) -> Iterator[bytes]:
        nonlocal came
        while piece := response.read1(65536):
            came += piece
            if wanted <= query["count"] and came.count(b"\n\n") >= wanted:
                raise _Enough
            yield piece

    with caller.wire() as wire, caller.noted(wire, request) as entry:
        entry.owed, entry.after = f"{request.visit}-over", WRITTEN
        wire.send(request.whole())
        entry.sent = time.monotonic()
        try:
            answer = wire.answer("GET", read)
            entry.first = answer.first
            if answer.status != 200:
                raise Failure(f"status {answer.status}", came[:100].decode(errors="replace"))
            if (events := came.count(b"\n\n")) != wanted:
                raise Failure("mixed up", f"{events} events instead of {wanted}")
        except _Enough:
            pass
        except Failure as failure:
            if failure.kind == "cut" and (not came or came.endswith(b"\n\n")):
                failure.kind = "ended"
                _check_events(entry, request, came)
            raise
        _check_events(entry, request, came)


class _Enough(Exception):
    """The reader leaves."""


def _check_events(entry: Entry, request: Request, came: bytes) -> None:
    first, *others = came.split(b"\n\n")
    if others:
        know(entry, request, first.removeprefix(b"data: ") + b"\n", entry.first)
    for number, event in enumerate(others[:-1]):
        if event != f"data: {request.visit} {number}".encode():
            raise Failure("mixed up", f"{event[:100]!r} for number {number}")


def leaving_work(caller: Caller) -> None:
    """Has the app work after the answer, and often for longer than idle_timeout."""
    seconds = round(caller.dice.uniform(0.1, caller.site.idle + 2), 3)
    query: dict[str, Any] = {"seconds": seconds}
    if caller.dice.random() < 0.5:
        query["held"] = 1
    request = caller.request("later", query=query, keep=False)
    with caller.wire() as wire, caller.noted(wire, request) as entry:
        entry.owed, entry.after = f"{request.visit}-done", seconds + WRITTEN
        wire.send(request.whole())
        entry.sent = time.monotonic()
        caller.take(wire, request, entry)


LIVE_KINDS: Kinds = {
    "WebSocket": (talking, 6),
    "WebSocket, watching": (watching, 4),
    "event stream": (reading_events, 4),
    "work after the answer": (leaving_work, 2),
}
