"""Who comes to the apps: quick ones and slow ones, polite ones and others. KINDS is the
table of them.

A new kind is a function that is given a Caller and leaves when its visit is over, and a
row in the table. Everything it asks for goes through `caller.exchange`, which writes
down what became of it; a Failure that comes out of there ends the visit.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ledger import Entry, Ledger
from wire import Answer, Failure, Request, Wire, check

if TYPE_CHECKING:
    from sites import Site

_connections = itertools.count(1)


class Caller:
    """One visitor of `site`, who comes again and again, each time as another kind."""

    def __init__(self, site: Site, ledger: Ledger, dice: random.Random, name: str) -> None:
        self.site = site
        self.ledger = ledger
        self.dice = dice
        self.name = name
        self.kind = ""
        self._visits = itertools.count(1)

    def wire(self, small: bool = False) -> Wire:
        wire = Wire(self.dice.choice(self.site.doors), self.site.preface(), small)
        wire.number = next(_connections)
        return wire

    def visit_id(self) -> str:
        return f"{self.name}-{next(self._visits)}"

    def request(self, what: str = "echo", **details: Any) -> Request:
        return Request(self.visit_id(), what, **details)

    def echo(self, **details: Any) -> Request:
        """A small one, of any size, with a body or without."""
        body = (
            self.dice.randbytes(self.dice.randrange(1, 3000)) if self.dice.random() < 0.4 else b""
        )
        query = {"size": self.dice.randrange(20_000)}
        return self.request(method="POST" if body else "GET", body=body, query=query, **details)

    def nap(self, least: float, most: float) -> None:
        # A client that takes its time is what is played here.
        time.sleep(self.dice.uniform(least, most))

    @contextmanager
    def noted(self, wire: Wire, request: Request) -> Iterator[Entry]:
        """The entry of a request; a Failure in the block is written into it, and goes
        on.
        """
        entry = Entry(
            self.site.name,
            self.kind,
            request.visit,
            time.monotonic(),
            quick=request.sleep,
            pid=wire.pid,
        )
        entry.big = len(request.body) > self.site.body_memory
        entry.connection = wire.number
        entry.since = wire.answered or entry.began
        try:
            yield entry
        except Failure as failure:
            entry.failure, entry.detail = failure.kind, str(failure)
            raise
        finally:
            entry.ended = time.monotonic()
            self.ledger.add(entry)

    def exchange(
        self,
        wire: Wire,
        request: Request,
        deliver: Callable[[Wire, Request], None] | None = None,
        read: Callable[[Any], Iterator[bytes]] | None = None,
    ) -> Answer:
        """Sends the request and takes its answer, each in its own way."""
        with self.noted(wire, request) as entry:
            try:
                if deliver:
                    deliver(wire, request)
                else:
                    wire.send(request.whole())
                entry.sent = time.monotonic()
                return self.take(wire, request, entry, read)
            except Failure as failure:
                if wire.answers and failure.kind in ("reset", "no answer"):
                    # With the end of the connection; the ledger knows whether that may
                    # be.
                    failure.kind = "too late" if self.late(wire, entry.began) else "crossed"
                raise

    def late(self, wire: Wire, when: float) -> bool:
        """The machine was too busy to let us come back in time: nobody was bound to
        keep the connection for so long.
        """
        return bool(wire.made) and when >= wire.made + self.site.keepalive

    def take(
        self,
        wire: Wire,
        request: Request,
        entry: Entry,
        read: Callable[[Any], Iterator[bytes]] | None = None,
    ) -> Answer:
        answer = wire.answer(request.method, read)
        entry.first = answer.first
        check(request, answer)
        entry.pid, entry.life, entry.version = answer.pid, answer.life, answer.version
        wire.pid, wire.made = answer.pid, answer.made
        if wire.closing:
            wire.until_closed()
        return answer


# Polite ones


def one_shot(caller: Caller) -> None:
    with caller.wire() as wire:
        caller.exchange(wire, caller.echo(keep=False))


def slow_page(caller: Caller) -> None:
    request = caller.echo(keep=False)
    request.query["sleep"] = round(caller.dice.uniform(0.05, 1.5), 3)
    with caller.wire() as wire:
        caller.exchange(wire, request)


def kept_alive(caller: Caller) -> None:
    """Asks again while it is welcome. Pauses are shorter than keepalive_timeout, so
    only a worker that leaves may close.
    """
    with caller.wire() as wire:
        for _ in range(caller.dice.randrange(2, 20)):
            request = caller.echo()
            if wire.answers and wire.heard():
                # Closed meanwhile. Nothing was asked, but it may only happen where
                # something makes workers leave.
                with caller.noted(wire, request) as entry:
                    raise Failure(
                        "too late" if caller.late(wire, entry.began) else "crossed",
                        "closed between two requests",
                    )
            caller.exchange(wire, request)
            if wire.closing:
                return
            caller.nap(0, caller.site.keepalive * 0.5)


def lingering(caller: Caller) -> None:
    """Keeps its connection for longer than it is welcome, and is shown the door in
    silence.
    """
    with caller.wire() as wire:
        request = caller.echo()
        caller.exchange(wire, request)
        if not wire.closing:
            with caller.noted(wire, caller.request("nothing")):
                wire.until_closed()


def pipelined(caller: Caller) -> None:
    """Sends several at once. What stands behind an answer with Connection: close was
    not taken, and must not be begun.
    """
    requests = [caller.echo() for _ in range(caller.dice.randrange(2, 9))]
    requests[-1].keep = False
    with caller.wire() as wire:
        failed: Failure | None = None
        began = 0.0
        for number, request in enumerate(requests):
            try:
                with caller.noted(wire, request) as entry:
                    began = began or entry.began
                    entry.since = began  # it was sent with the first
                    if failed:
                        raise failed
                    if wire.closing:
                        raise Failure("left over")
                    if not number:
                        wire.send(b"".join(each.whole() for each in requests))
                    entry.sent = time.monotonic()
                    caller.take(wire, request, entry)
            except Failure as failure:
                failed = failed or (failure if failure.kind != "left over" else None)


def old_client(caller: Caller) -> None:
    with caller.wire() as wire:
        caller.exchange(wire, caller.echo(version="1.0", keep=False))


def head(caller: Caller) -> None:
    with caller.wire() as wire:
        caller.exchange(wire, caller.request(method="HEAD", query={"size": 1000}, keep=False))


def file(caller: Caller) -> None:
    with caller.wire() as wire:
        caller.exchange(wire, caller.request("file", keep=False))


def stream(caller: Caller) -> None:
    seconds = round(caller.dice.uniform(0.1, 3), 3)
    query = {
        "pieces": caller.dice.randrange(1, 30),
        "sleep": seconds,
        "size": caller.dice.randrange(100_000),
    }
    with caller.wire() as wire:
        caller.exchange(wire, caller.request("stream", query=query, keep=False))


# Slow ones


def slow_head(caller: Caller) -> None:
    def deliver(wire: Wire, request: Request) -> None:
        data = request.whole()
        step = len(data) // 8 + 1
        for at in range(0, len(data), step):
            wire.send(data[at : at + step])
            caller.nap(0, caller.site.header_timeout / 16)

    with caller.wire() as wire:
        caller.exchange(wire, caller.echo(keep=False), deliver)


def upload(caller: Caller, size: int, pause: float) -> None:
    """In pieces, by either framing, with and without asking first (Expect:
    100-continue).
    """
    asks = caller.dice.random() < 0.3
    request = caller.request(
        method="POST",
        body=caller.dice.randbytes(size),
        chunked=caller.dice.random() < 0.5,
        keep=False,
    )
    if asks:
        request.fields["Expect"] = "100-continue"

    def deliver(wire: Wire, request: Request) -> None:
        wire.send(request.head())
        if asks and not wire.wants_more():
            return
        step = max(1, size // 12)
        for at in range(0, size, step):
            wire.send(request.framed(at, at + step))
            if wire.heard():
                return  # a refusal that does not wait for the rest
            caller.nap(0, pause)

    with caller.wire() as wire:
        caller.exchange(wire, request, deliver)


def slow_upload(caller: Caller) -> None:
    upload(caller, caller.dice.randrange(100, caller.site.body_memory), 0.4)


def big_upload(caller: Caller) -> None:
    upload(
        caller, caller.dice.randrange(caller.site.body_memory + 1, caller.site.body_memory * 6), 0.1
    )


def slow_reader(caller: Caller) -> None:
    size = caller.dice.randrange(1 << 20, 3 << 20)

    def read(response: Any) -> Iterator[bytes]:
        while piece := response.read(size // 20):
            yield piece
            caller.nap(0, 0.25)

    what = (
        {"query": {"size": size}}
        if caller.dice.random() < 0.5
        else {"what": "stream", "query": {"size": size, "pieces": 10, "sleep": 0.1}}
    )
    with caller.wire(small=True) as wire:
        caller.exchange(wire, caller.request(keep=False, **what), read=read)


# Others


def vanishing(caller: Caller) -> None:
    """Comes and goes in the middle of something: nobody is owed an answer, but to come
    must be possible.
    """
    request = caller.echo()
    request.query |= {"sleep": 0.1, "size": 500_000}
    data = request.whole()
    stage = caller.dice.randrange(5)
    with caller.wire() as wire, caller.noted(wire, request):
        wire.open()
        try:
            if stage:
                wire.send(data[: len(data) // 2] if stage == 1 else data)
            if stage > 2:
                wire.peek()
            if stage > 3:
                caller.nap(0, 0.1)
        except Failure as failure:
            if failure.kind == "unanswered":
                raise
        if caller.dice.random() < 0.5:
            wire.vanish()


GARBAGE: list[tuple[bytes, set[int]]] = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)), {400}),
    (b"GET /echo?visit=- HTTP/1.1\r\n\r\n", {400}),
    (b"GET /echo?visit=- HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", {400}),
    (
        b"POST /echo?visit=- HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    (
        b"POST /echo?visit=- HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        {400},
    ),
    (b"GET /echo?visit=- HTTP/2.0\r\nHost: a\r\n\r\n", {505}),
    (b"BREW /echo?visit=- HTTP/1.1\r\nHost: a\r\n\r\n", {400, 501}),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", {414}),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", {431}),
    (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", {404}),
]


def garbage(caller: Caller) -> None:
    data, statuses = caller.dice.choice(GARBAGE)
    with caller.wire() as wire, caller.noted(wire, caller.request("garbage")) as entry:
        wire.send(data)
        entry.sent = time.monotonic()
        answer = wire.answer("GET")
        entry.first = answer.first
        if answer.status not in statuses:
            raise Failure(f"status {answer.status}", f"for {data[:60]!r}")


def silent(caller: Caller) -> None:
    """Never says all of its head: 408 when it is late, or the end alone if it has not
    said anything.
    """
    begins = caller.dice.random() < 0.5
    with caller.wire() as wire, caller.noted(wire, caller.request("silence")) as entry:
        wire.open()
        if begins:
            wire.send(b"GET / HTTP/1.1\r\nHost: ")
        entry.sent, entry.quick = time.monotonic(), caller.site.header_timeout
        try:
            answer = wire.answer("GET")
        except Failure as failure:
            if failure.kind == "no answer" and not begins:
                return
            raise
        entry.first = answer.first
        if not begins or answer.status != 408:
            raise Failure(f"status {answer.status}", "for silence")


Kinds = dict[str, tuple[Callable[[Caller], None], float]]  # kind: (who, how often)
KINDS: Kinds = {
    "one-shot": (one_shot, 10),
    "kept alive": (kept_alive, 5),
    "pipelined": (pipelined, 3),
    "slow page": (slow_page, 3),
    "stream": (stream, 2),
    "file": (file, 2),
    "HTTP/1.0": (old_client, 1),
    "HEAD": (head, 1),
    "slow head": (slow_head, 1),
    "slow upload": (slow_upload, 2),
    "big upload": (big_upload, 2),
    "slow reader": (slow_reader, 1),
    "kept too long": (lingering, 1),
    "vanishing": (vanishing, 2),
    "garbage": (garbage, 2),
    "silent": (silent, 0.3),
}
