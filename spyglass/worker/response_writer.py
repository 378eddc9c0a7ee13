"""What leaves a connection: pieces of a response, in order, as far as its client takes
them.

A piece is sent when it is there, with one exception: while more connections wait to be
served in the same turn of the loop, a small answer that is complete is *held*, and all
that are held leave together. Each send(2) may have to wake a client, most often a proxy
on the same machine, and in a virtual machine, where that interrupts another processor,
it can cost as much as to make the answer. Who waits for many clients at a time is woken
once that way.

What is held waits for the calls of the app in between, for as long as these keep the
interpreter's lock, and is lost if they end the process. So nothing is held while the
app runs in another thread, and before a call that is not known to be quick all of it is
sent.
"""

from __future__ import annotations

import os
import select
from time import monotonic

from spyglass.gateway.file_wrapper import FileSpan
from spyglass.gateway.wsgi import CutOff
from spyglass.runtime.fast_imports import deque
from spyglass.runtime.poller import LONGEST_WAIT
from spyglass.runtime.timers import WRITE, Timed
from spyglass.worker.leader_followers import ELSEWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.gateway.wsgi import Exchange
    from spyglass.runtime.fast_imports import socket
    from spyglass.worker.leader_followers import Piece
    from spyglass.worker.loop import Loop

# A fast reader gives the others a turn after so much: its socket may be ready for more
# for as long as there is any.
_BYTES_A_TURN = 256 << 10
_SMALL = 16 << 10  # bytes of an answer that may be held
_HOLD = 0.001  # seconds for which one is, at the most
_QUICK = 0.001  # seconds
_TRIALS = 100  # calls in a row that must have been quick until a path is taken for harmless
_RELAPSE = 10_000  # the same, when one was not
_MOST_PATHS = 1024
_NEVER = float("inf")
# What is to be done when it is the connection's turn: read, go on with the answer when
# the socket is ready, the same without waiting for it, drop what comes, read the PROXY
# header that comes before all else, nothing before the app's call has come back from
# another thread, close since the client takes nothing, close since others wait for its
# place, nothing any more.
READING, RESPONDING, UNFINISHED, LINGERING, GREETING, AWAY, STALLED, DISMISSED, CLOSED = range(9)


class Held:
    """Answers that wait to be sent together, `pending`. `harmless` are the paths that
    may be called meanwhile, `called` is the last.

    `look()` is to be called when the time (monotonic) is `look_at`, which is never
    after the end of the turn, and `let_go()` at that end.
    """

    def __init__(self) -> None:
        self.pending: deque[Sender] = deque()
        self.harmless: set[str] = set()
        self.called = ""
        self.look_at = 0.0
        self.tried = ""  # the path of the call under way that is a trial
        self._until = 0.0
        self._turn_ends = _NEVER
        self._needed: dict[str, int] = {}  # so many calls until it is harmless
        self._tried_at = 0.0

    def begin(self, now: float, turn_ends: float) -> None:
        """A turn begins, which is to end at `turn_ends`."""
        self._until = now + _HOLD
        self._turn_ends = turn_ends
        self.look_at = 0.0 if self.pending or self.tried else turn_ends

    def add(self, connection: Sender) -> None:
        """Call its `let_go()` at the end of the turn, or when that has lasted for _HOLD
        seconds.
        """
        if not self.pending:
            self.look_at = min(self.look_at, self._until)
        self.pending.append(connection)

    def expect(self, path: str) -> None:
        """A call at `path`, which is not that of the last one, is to be made. Unless it
        is known to be quick all is let go first.
        """
        if path in self.harmless:
            self.called = path
            return
        self.let_go()
        self.tried, self._tried_at = path, monotonic()
        self.look_at = 0.0

    def look(self, now: float) -> None:
        """See whether the call was quick that was a trial, and whether it is time to
        let go.
        """
        if self.tried:
            path, self.tried = self.tried, ""
            self._judge(path, now - self._tried_at <= _QUICK)
        if self.pending and now >= self._until:
            self.let_go()
        else:
            self.look_at = min(self._until, self._turn_ends) if self.pending else self._turn_ends

    def let_go(self) -> None:
        """Send all of them."""
        if not self.pending:
            return
        now = monotonic()
        late = max(0.0, now - self._until)
        if late > _QUICK and self.called:
            self._judge(self.called, False)
        self.called = ""  # of the next that are held, too, the first call is looked at
        self._until = now + _HOLD
        self.look_at = 0.0 if self.tried else self._turn_ends
        while self.pending:
            connection = self.pending.popleft()
            connection.let_go()
            if late:
                connection.due += late  # it is not the client who has let time go by

    def _judge(self, path: str, quick: bool) -> None:
        needed = self._needed
        self.called = ""  # what is known of it may have changed
        if not quick:
            self.harmless.discard(path)
        left = needed.get(path, _TRIALS) - 1 if quick else _RELAPSE
        for known in (needed, self.harmless):
            if len(known) >= _MOST_PATHS:
                known.clear()
        if left > 0:
            needed[path] = left
        else:
            needed.pop(path, None)
            self.harmless.add(path)


class Sender(Timed):
    """The sending side of `sock` (non-blocking). `held` (bool) tells whether what is in
    `_out` waits for the end of the turn.
    """

    __slots__ = (
        "_exchange",
        "_loop",
        "_out",
        "_span",
        "_untaken",
        "condition",
        "fd",
        "held",
        "sock",
        "watched",
    )

    def __init__(self, loop: Loop, sock: socket.socket, condition: int) -> None:
        super().__init__()
        self.sock = sock
        self.fd = sock.fileno()
        self.watched = 0
        self.condition = condition
        self.held = False
        self._loop = loop
        self._exchange: Exchange | None = None
        self._out: memoryview | bytes = b""
        self._span: FileSpan | None = None
        self._untaken = 0  # bytes that the client had not taken when that was looked at last

    def handle(self) -> None:
        """Do what there is to do: it is its turn."""
        raise NotImplementedError

    def expire(self, kind: int) -> None:
        """Its deadline has passed, which was of this kind."""
        raise NotImplementedError

    def proceed(self) -> None:
        """Go on with the answer, or with what comes after it."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Send what was held."""
        raise NotImplementedError

    def close(self, why: str) -> None:
        """End at once, whatever is under way."""
        raise NotImplementedError

    def _take(self, piece: Piece) -> bool:
        """Send `piece`, or hold it; False when the client does not take all of it now,
        or the connection has ended.
        """
        if isinstance(piece, bytes):
            if not piece:
                return True
            exchange = self._exchange
            if (
                self._loop.holding
                and exchange is not None
                and exchange.complete
                and len(piece) <= _SMALL
            ):
                self._out = piece
                self.held = True
                self._loop.held.add(self)
                return True
            try:
                sent = self.sock.send(piece)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.close(f"writing failed: {error.strerror}")
                return False
            if sent == len(piece):
                return True
            self._out = memoryview(piece)[sent:]
        elif piece is None:
            return True
        elif isinstance(piece, tuple):
            return self._take_both(*piece)
        elif isinstance(piece, FileSpan):
            self._span = piece
        elif piece is ELSEWHERE:
            self._loop.detach(self.fd)
            return False
        else:
            self.close(str(piece))
            return False
        return self._flush()

    def _take_both(self, head: bytes, body: bytes) -> bool:
        """Send a head and a body so large that making one of them costs more than a
        dearer system call.
        """
        try:
            sent = self.sock.sendmsg((head, body))
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.close(f"writing failed: {error.strerror}")
            return False
        if sent == len(head) + len(body):
            return True
        self._out = (
            memoryview(body)[sent - len(head) :] if sent >= len(head) else head[sent:] + body
        )
        return self._flush()

    def _flush(self) -> bool:
        """Send what is pending; False when the client does not take all of it now, when
        it is more than a turn's, or at the end.
        """
        self.held = False
        left = _BYTES_A_TURN
        try:
            while self._out and left > 0:
                sent = self.sock.send(self._out)
                self._out = b"" if sent == len(self._out) else memoryview(self._out)[sent:]
                left -= sent
            if self._span is not None and left > 0:
                self._send_file(self._span, left)
        except BlockingIOError:
            self.condition = RESPONDING
            if self._exchange is not None and not self._exchange.done:
                self._loop.crew.bind(self._exchange)
            self._untaken = untaken(self.fd)
            self._loop.watch(self, select.EPOLLOUT)
            self._loop.deadlines.set(self, WRITE, monotonic())
            return False
        except (OSError, CutOff) as error:
            self.close(str(error))
            return False
        if self._out or self._span is not None:
            self._loop.again(self)
            return False
        return True

    def _send_file(self, span: FileSpan, left: int) -> None:
        while span.count and left > 0:
            sent = os.sendfile(self.fd, span.fd, span.offset, min(span.count, left))
            if not sent:
                raise CutOff("a file became shorter while it was sent")
            span.offset += sent
            span.count -= sent
            left -= sent
        if not span.count:
            self._span = None

    def _send_held(self) -> None:
        """Send what is held, as much of it as the socket takes, and nothing else."""
        self.held = False
        out = self._out
        try:
            sent = self.sock.send(out)
        except OSError:
            return  # it is full, or the next use of it will tell
        self._out = b"" if sent == len(out) else memoryview(out)[sent:]

    def progresses(self) -> bool:
        """True when the client has taken something since the socket was full, or since
        this was asked last.

        The socket is ready again only when a third of it is free, which a slow reader
        may take longer for than it has.
        """
        before, self._untaken = self._untaken, untaken(self.fd)
        return self._untaken < before

    def push(self, data: bytes) -> None:
        """Send `data` before returning, for write(): the one call in which a slow
        reader holds up a thread (PEP 3333 wants it so).
        """
        left = memoryview(data)
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while left:
            try:
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                self._untaken = untaken(self.fd)
                self._wait_for_room(poll)
            except OSError as error:
                raise CutOff(f"writing failed: {error.strerror}") from None
            if self._exchange is not None:
                self._loop.crew.progress(self._exchange)

    def _wait_for_room(self, poll: select.poll) -> None:
        timeout = self._loop.write_timeout
        until = monotonic() + timeout
        while not poll.poll(min(timeout, LONGEST_WAIT) * 1000):
            if self.progresses():
                until = monotonic() + timeout
            elif monotonic() >= until:
                raise CutOff("the client takes nothing") from None


def untaken(fd: int) -> int:
    """See room.untaken(); 0 when no descriptor is left to import it with."""
    try:
        from spyglass.worker import slow_clients  # only a slow reader pays for it
    except (OSError, ImportError):
        return 0
    return slow_clients.untaken(fd)
