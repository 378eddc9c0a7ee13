"""Send pieces of a response, in order, as far as the client takes them.

A piece is sent when it is there, with one exception: while more connections wait to be
served in the same turn of the loop, a small answer that is complete is *held*, and all
held answers are sent together. Each send(2) may have to wake a client, most often a
proxy on the same machine. In a virtual machine, where that interrupts another
processor, it can cost as much as making the answer. A proxy that waits for many
connections at a time is woken once that way.

What is held waits for the app's calls in between, for as long as these keep the
interpreter's lock, and is lost if they end the process. So nothing is held while the
app runs in another thread, and before a call that is not known to be quick all of it is
sent.
"""

from __future__ import annotations

from os import sendfile, write, writev
from select import POLLOUT, poll
from time import monotonic

from spyglass.gateway.wsgi import CutOff
from spyglass.runtime.fast_imports import deque
from spyglass.runtime.poller import LONGEST_WAIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from spyglass.gateway.file_wrapper import FileSpan
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import ConnectionBase


# A fast reader gives the others a turn after so much: its socket may be ready for more
# for as long as there is any.
_BYTES_A_TURN: Final = 256 << 10
SMALL: Final = 16 << 10  # bytes of an answer that may be held
_HOLD = 0.001  # seconds for which one is held, at the most
_QUICK = 0.001  # seconds
_TRIALS = 100  # calls in a row that must have been quick until a path is taken for harmless
_RELAPSE = 10_000  # the same, when one was not
_MOST_PATHS = 1024
_NEVER = float("inf")


class Held:
    """Answers that wait to be sent together, `pending`. While `holding` (bool) an
    answer may be added. `harmless` are the paths that may be called meanwhile, `called`
    is the last.

    `look()` is to be called when the time (monotonic) is `look_at`, which is never
    after the end of the turn, and `let_go()` at that end.
    """

    def __init__(self) -> None:
        self.pending: deque[ConnectionBase] = deque()
        self.holding = False
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

    def add(self, connection: ConnectionBase) -> None:
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
        """Send all held answers."""
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
                connection.due += late  # that time was ours, not the client's

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


class ResponseWriter:
    """What is still to be sent to `client`.

    `pending` are bytes, `span` is a part of a file that follows them, and `held` (bool)
    tells whether `pending` waits for the end of the turn. Nothing here knows when the
    socket is ready again, nor what is closed when sending fails: OSError is for the
    caller, and so is BlockingIOError in flush().
    """

    __slots__ = ("_client", "_untaken", "held", "pending", "span")

    def __init__(self, client: ClientSocket) -> None:
        self._client = client
        self.pending: memoryview | bytes = b""
        self.span: FileSpan | None = None
        self.held = False
        self._untaken = 0  # bytes that the client had not taken at the last look

    def send(self, piece: bytes) -> bool:
        """Send `piece`, with nothing pending; False when some of it is left."""
        try:
            sent = write(self._client.fd, piece)
        except BlockingIOError:
            sent = 0
        if sent == len(piece):
            return True
        self.pending = memoryview(piece)[sent:]
        return False

    def send_both(self, head: bytes, body: bytes) -> bool:
        """Send a head and a body so large that joining them would cost more than a
        dearer system call; False when some of it is left.
        """
        try:
            sent = writev(self._client.fd, (head, body))
        except BlockingIOError:
            sent = 0
        if sent == len(head) + len(body):
            return True
        self.pending = (
            memoryview(body)[sent - len(head) :] if sent >= len(head) else head[sent:] + body
        )
        return False

    def flush(self) -> bool:
        """Send what is pending; False when it is more than a turn's. Raises
        BlockingIOError when the client does not take all of it now, and CutOff.
        """
        self.held = False
        left = _BYTES_A_TURN
        while self.pending and left > 0:
            sent = write(self._client.fd, self.pending)
            self.pending = b"" if sent == len(self.pending) else memoryview(self.pending)[sent:]
            left -= sent
        if self.span is not None and left > 0:
            self._send_file(self.span, left)
        return not self.pending and self.span is None

    def _send_file(self, span: FileSpan, left: int) -> None:
        while span.count and left > 0:
            sent = sendfile(self._client.fd, span.fd, span.offset, min(span.count, left))
            if not sent:
                raise CutOff("a file became shorter while it was sent")
            span.offset += sent
            span.count -= sent
            left -= sent
        if not span.count:
            self.span = None

    def send_held(self) -> bool:
        """Send what is held, as much of it as the socket takes, and nothing else; False
        when some of it is left.
        """
        self.held = False
        held = self.pending
        try:
            sent = write(self._client.fd, held)
        except OSError:
            return False  # it is full, or the next use of it will tell
        if sent == len(held):
            self.pending = b""
            return True
        self.pending = memoryview(held)[sent:]
        return False

    @property
    def size(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return len(self.pending) + (self.span.count if self.span is not None else 0)

    def note(self, untaken: int) -> None:
        """Note how many sent bytes the client has not taken from the kernel."""
        self._untaken = untaken

    def progresses(self, untaken: int) -> bool:
        """Return True if there are fewer than when that was noted last: it reads.

        The socket is ready again only when a third of its buffer is free. A client that
        reads slowly may take longer for that than write_timeout.
        """
        before, self._untaken = self._untaken, untaken
        return untaken < before

    def push(
        self,
        data: bytes,
        timeout: float,
        untaken: Callable[[int], int],
        progress: Callable[[], None],
    ) -> None:
        """Send `data` before returning, for write(): the one call in which a slow
        reader blocks a thread (PEP 3333 wants it so).

        `progress` is called whenever the client has taken something. Raises CutOff when
        it takes nothing for `timeout` seconds.
        """
        left = memoryview(data)
        writable = poll()
        fd = self._client.fd
        writable.register(fd, POLLOUT)
        while left:
            try:
                sent = write(self._client.fd, left)
                left = left[sent:]
            except BlockingIOError:
                self.note(untaken(fd))
                until = monotonic() + timeout
                while not writable.poll(min(timeout, LONGEST_WAIT) * 1000):
                    if self.progresses(untaken(fd)):
                        until = monotonic() + timeout
                    elif monotonic() >= until:
                        raise CutOff("the client takes nothing") from None
            except OSError as error:
                raise CutOff(f"writing failed: {error.strerror}") from None
            progress()
