"""A connection of the soak's visitors: what was asked, and what exactly became of it.

Nothing is tried again and nothing is overlooked. Several requests may be under way on
one connection, so the bytes that come are kept here, and each answer takes its own from
them.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

PATIENCE = 40.0  # seconds until a request counts as unanswered: graceful_timeout and then some
Door = str | tuple[str, int]


class Failure(Exception):
    """A request that got no whole answer, or a wrong one. `kind` (str) is what the
    ledger counts.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        self.kind = kind
        super().__init__(f"{kind}: {detail}" if detail else kind)


class _Kept(io.BufferedReader):
    """http.client closes what it reads from at the end of an answer; the next answer is
    in here, too.
    """

    def close(self) -> None: ...


def filler(visit: str, size: int) -> bytes:
    """What apps/deeds.py makes of it."""
    block = hashlib.sha256(visit.encode()).hexdigest().encode()
    return (block * (size // len(block) + 1))[:size]


STATIC = filler("static", 700_000)


@dataclass
class Request:
    """One request of a visit. `sleep` (seconds) is how long the app takes at the least,
    `size` how many bytes it answers with.
    """

    visit: str
    what: str = "echo"
    method: str = "GET"
    query: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunked: bool = False
    version: str = "1.1"
    keep: bool = True

    @property
    def sleep(self) -> float:
        return float(self.query.get("sleep", 0))

    def head(self) -> bytes:
        fields = {"Host": "soak"} | self.fields
        if self.body and self.chunked:
            fields["Transfer-Encoding"] = "chunked"
        elif self.body or self.method == "POST":
            fields["Content-Length"] = str(len(self.body))
        if not self.keep:
            fields["Connection"] = "close"
        target = f"/{self.what}?{urlencode({'visit': self.visit} | self.query)}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{self.method} {target} HTTP/{self.version}\r\n{lines}\r\n".encode()

    def framed(self, at: int, end: int) -> bytes:
        """A piece of the body as it is sent."""
        piece = self.body[at:end]
        if not self.chunked:
            return piece
        last = b"0\r\n\r\n" if end >= len(self.body) else b""
        return b"%x\r\n%b\r\n%b" % (len(piece), piece, last)

    def whole(self) -> bytes:
        return self.head() + (self.framed(0, len(self.body)) if self.body else b"")


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes
    first: float  # when its first byte came, monotonic
    life: str = ""  # the first line of the app's answer
    pid: int = 0
    version: int = 0
    made: float = (
        0.0  # when the app did, monotonic: on a busy machine much may happen until we hear of it
    )

    @property
    def closing(self) -> bool:
        return self.fields.get("connection", "").lower() == "close"


class Wire:
    """A connection to `door`, made by the first who sends. `small` (bool): its receive
    buffer is, so a slow reader is felt.
    """

    def __init__(self, door: Door, preface: bytes = b"", small: bool = False) -> None:
        self.door = door
        self.preface = preface
        self.small = small
        self.sock: socket.socket | None = None
        self.number = 0
        self.answers = 0
        self.answered = 0.0  # when the last answer was complete, monotonic
        self.made = 0.0  # when the app has made the last answer
        self.pid = 0  # the worker that has it, when known
        self.closing = False  # the last answer was announced as the last

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.sock is not None:
            self._raw.close()
            self.sock.close()

    def vanish(self) -> None:
        """Ends without a word, by a reset (SO_LINGER 0, socket(7))."""
        if self.sock is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def open(self) -> socket.socket:
        if self.sock is None:
            self.sock = socket.socket(
                socket.AF_UNIX if isinstance(self.door, str) else socket.AF_INET
            )
            if self.small:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
            self.sock.settimeout(PATIENCE)
            self._raw = socket.SocketIO(self.sock, "r")
            self._reader = _Kept(self._raw, 64 << 10)
            try:
                self.sock.connect(self.door)
            except (ConnectionRefusedError, FileNotFoundError) as error:
                raise Failure("refused", repr(error)) from None
            except OSError as error:
                raise Failure("not connected", repr(error)) from None
            if self.preface:
                self.send(self.preface)
        return self.sock

    def makefile(self, mode: str) -> _Kept:
        """What http.client asks a socket for."""
        return self._reader

    def send(self, data: bytes) -> None:
        sock = self.open()
        try:
            sock.sendall(data)
        except TimeoutError:
            raise Failure("not taken", f"for {PATIENCE:g} s") from None
        except OSError as error:
            # What was answered before the end is still to be read: a refusal (413, 507)
            # comes before all has been sent.
            if not self.heard():
                raise Failure("reset", f"while sending: {error!r}") from None

    def heard(self) -> bool:
        """Whether there is something to read, the end included."""
        assert self.sock is not None
        return bool(select.select([self.sock], [], [], 0)[0])

    def peek(self, kind: str = "no answer") -> bytes:
        """Waits for what comes next, and leaves it there."""
        self.open()
        try:
            data = self._reader.peek(12)
        except TimeoutError:
            raise Failure("unanswered", f"for {PATIENCE:g} s") from None
        except OSError as error:
            raise Failure("reset", repr(error)) from None
        if not data:
            raise Failure(kind)
        return data

    def exactly(self, size: int) -> bytes:
        """So many of the bytes that come next, none at the end."""
        try:
            data = self._reader.read(size)
        except TimeoutError:
            raise Failure("unanswered", f"nothing more, for {PATIENCE:g} s") from None
        except OSError as error:
            raise Failure("reset", repr(error)) from None
        if len(data) < size and data:
            raise Failure("cut", f"after {len(data)} of {size} bytes")
        return data

    def wants_more(self) -> bool:
        """After a head with Expect: True when 100 came, False when it is the final
        answer already.
        """
        if not self.peek().startswith(b"HTTP/1.1 100"):
            return False
        while self._reader.readline() not in (b"\r\n", b""):
            pass
        return True

    def answer(self, method: str, read: Callable[[Any], Iterator[bytes]] | None = None) -> Answer:
        """The next one. `read` takes it in pieces, as slowly as it likes."""
        self.peek()
        first = time.monotonic()
        response = http.client.HTTPResponse(self, method=method)  # type: ignore[arg-type]
        try:
            response.begin()
            body = b"".join(read(response)) if read else response.read()
            if (
                response.length
            ):  # read in pieces, an end that comes too early is not an error of http.client's
                raise http.client.IncompleteRead(body, response.length)
        except TimeoutError:
            raise Failure("unanswered", f"not further, for {PATIENCE:g} s") from None
        except (http.client.IncompleteRead, ConnectionError) as error:
            raise Failure("cut", repr(error)[:200]) from None
        except http.client.HTTPException as error:
            raise Failure("nonsense", repr(error)[:200]) from None
        self.answers += 1
        self.answered = time.monotonic()
        answer = Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            body,
            first,
        )
        self.closing = answer.closing or response.version == 10
        return answer

    def until_closed(self) -> None:
        """After the last answer nothing may come but the end."""
        try:
            rest = self._reader.read(1)
        except TimeoutError:
            raise Failure("not closed", f"for {PATIENCE:g} s after Connection: close") from None
        except OSError:
            return
        if rest:
            raise Failure("nonsense", f"{rest!r} after the last answer")


def check(request: Request, answer: Answer) -> None:
    """Failure unless it is the answer to this request, to the last byte."""
    if answer.status != 200:
        raise Failure(f"status {answer.status}", answer.body[:100].decode(errors="replace"))
    if request.what == "file":
        if answer.fields.get("x-visit") != request.visit or answer.body != (
            b"" if request.method == "HEAD" else STATIC
        ):
            raise Failure(
                "mixed up", f"{len(answer.body)} bytes for {answer.fields.get('x-visit')}"
            )
        return
    if request.method == "HEAD":
        if answer.body:
            raise Failure("mixed up", "a body for HEAD")
        return
    line, _, rest = answer.body.partition(b"\n")
    words = line.decode(errors="replace").split()
    if (
        len(words) != 6
        or words[0] != request.visit
        or rest != filler(request.visit, int(request.query.get("size", 0)))
    ):
        raise Failure("mixed up", f"{line[:100]!r} and {len(rest)} bytes for {request.visit}")
    if words[4] != hashlib.sha256(request.body).hexdigest():
        raise Failure("mixed up", f"the body arrived as another one: {len(request.body)} bytes")
    answer.life, answer.pid, answer.version, answer.made = (
        words[1],
        int(words[2]),
        int(words[3]),
        float(words[5]),
    )
