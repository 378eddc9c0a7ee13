"""A request's body on its way to the app: in memory while it is small, in a temporary
file when it is not.

The app is called only when the body is complete, so a slow upload costs an open
connection and nothing else. What all bodies of a worker hold together is bounded, in
memory and on disk, see Bodies.
"""

from __future__ import annotations

from io import BytesIO

from spyglass.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

# A body mostly comes in few parts, and joined at the end they are copied once; many
# small ones would cost more memory than they hold.
_PARTS = 8


def temporary_file(directory: str | None = None) -> BinaryIO:
    """A file without a name in `directory`, by default the one that tempfile chooses:
    it is gone with us, however we end.

    By O_TMPFILE; where the file system has no notion of that, its name is removed at
    once (both in tempfile). OSError.
    """
    import tempfile  # only large bodies pay for this import

    # What is written mostly comes in large pieces, and passes the buffer by; each body
    # has one, so it is a small one.
    return tempfile.TemporaryFile(buffering=1 << 14, dir=directory)  # type: ignore[return-value]


class Bodies:
    """What all bodies of a worker hold: `memory` and `disk` (int, bytes), and how much
    that may be.

    A body that would take too much memory goes to disk. Where there is no room on the
    disk either, `make_room(body)` may take it from another, slower one, and says
    whether it has; if not, `body` is refused. `open_file()` gives a temporary file
    without a name.
    """

    __slots__ = ("_make_room", "disk", "memory", "most_disk", "most_memory", "open_file")

    def __init__(
        self,
        most_memory: int,
        most_disk: int,
        open_file: Callable[[], BinaryIO] = temporary_file,
        make_room: Callable[[Body], bool] = lambda body: False,
    ) -> None:
        self.memory = 0
        self.disk = 0
        self.open_file = open_file
        self.most_memory = most_memory
        self.most_disk = most_disk
        self._make_room = make_room

    def take_disk(self, body: Body, size: int) -> None:
        """Count `size` bytes for `body`, or raise RequestError.

        503 (RFC 9110 15.6.4) and not 413 or 507: the same request can succeed in a
        moment, and a proxy may try another server.
        """
        while self.disk + size > self.most_disk:
            if not self._make_room(body):
                raise RequestError(503, "too many request bodies at this moment")
        self.disk += size


class Body:
    """Collects a body of which up to `memory` (int, bytes) may stay in memory. `length`
    (int) is what has come so far, `on_disk` how much of the worker's disk it has taken.

    The caller closes what it has written to, whatever happened. write() and close() are
    the one pair that counts for `bodies`: a body takes when something has come, and
    gives all of it back when it is closed. What is not spooled is in memory, all of it.
    """

    __slots__ = ("_bodies", "_file", "_memory", "_pace", "_parts", "_spooled", "length", "on_disk")

    def __init__(self, memory: int, bodies: Bodies | None = None) -> None:
        self.length = 0
        self._memory = memory
        self._bodies = Bodies(memory, 0) if bodies is None else bodies
        self.on_disk = 0
        self._parts: list[bytes] = []
        self._file: BinaryIO | None = None  # behind what is in the parts, there is nothing else yet
        self._spooled = False
        # The period in which its client shows how fast it is: since when (monotonic
        # seconds), and how many bytes had come by then.
        self._pace: tuple[float, int] | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Append. OSError when the temporary file cannot be made or is full
        (tempfile(3), ENOSPC), RequestError when all are too much.
        """
        size = len(data)
        length = self.length + size
        bodies = self._bodies
        if length <= self._memory and bodies.memory + size <= bodies.most_memory:
            bodies.memory += size
        else:
            if not self._spooled:
                self._spool()
            self._take_disk(size)
        self.length = length
        if self._file is not None:
            self._file.write(data)
        else:
            parts = self._parts
            parts.append(
                bytes(data)
            )  # what is bytes is not copied; a view would keep all that it is a part of
            if len(parts) == _PARTS:
                self._file = BytesIO()
                self._gather(self._file)

    def _gather(self, file: BinaryIO) -> None:
        file.writelines(self._parts)
        self._parts.clear()

    def _take_disk(self, size: int) -> None:
        self._bodies.take_disk(self, size)
        self.on_disk += size

    def _spool(self) -> None:
        self._take_disk(self.length)
        file = self._bodies.open_file()
        small, self._file, self._spooled = self._file, file, True
        self._memory = -1  # nothing more of it
        self._bodies.memory -= self.length  # at once: what follows may fail
        if small is not None:
            file.write(small.getbuffer())  # type: ignore[attr-defined]
        self._gather(file)

    def lags(self, now: float, period: float, rate: int) -> bool:
        """True when less than `rate` bytes a second have come in `period` seconds or
        longer. To be asked when some have come, at `now`.

        Each period is judged by itself, the first one from the first piece on: a fast
        beginning is no credit for later.
        """
        if self._pace is not None:
            since, seen = self._pace
            if now - since < period:
                return False
            if self.length - seen < rate * (now - since):
                return True
        self.forgive(now)
        return False

    def forgive(self, now: float) -> None:
        """Begin another period, whatever came in this one."""
        self._pace = now, self.length

    def finish(self) -> None:
        """The body is complete. OSError when what is still buffered cannot be
        written.
        """
        if self._spooled and self._file is not None:
            self._file.flush()

    def open(self) -> BinaryIO:
        """The body from its first byte, as `wsgi.input` reads it (PEP 3333): at the end
        it gives b"", it never blocks.
        """
        file = self._file
        if file is None:
            # It keeps the very bytes, and an app that reads all of them gets them
            # without a copy.
            self._file = file = BytesIO(b"".join(self._parts))
            self._parts.clear()
        else:
            file.seek(0)
        return file

    def close(self) -> None:
        """Let go of it, also of what could not be written."""
        if not self._spooled:
            self._spooled = True  # so that a second close gives nothing back
            self._bodies.memory -= self.length
        if self.on_disk:
            self._bodies.disk -= self.on_disk
            self.on_disk = 0
        if self._file is None:
            self._parts.clear()
            return
        try:
            self._file.close()
        except (OSError, BufferError):
            # A full disk; or the app still looks at it (BytesIO.getbuffer()), and its
            # memory goes with that
            pass
