"""A request's body on its way to the app: in memory while it is small, in a temporary
file when it is not.

The app is called only when the body is complete. So a slow upload costs an open
connection, and no thread. What all bodies of a worker hold together is bounded, in
memory and on disk (Bodies).
"""

from __future__ import annotations

from io import BytesIO

from spyglass.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

# Most bodies come in few parts, which are copied once when they are joined at the end.
# Many small parts would take more memory than they hold.
_PARTS = 8
# A body whose length is known is received right where the app reads it, as soon as this
# part of it has come: a sixteenth. What a client announces and does not send takes no
# memory from others. The first read brings that much of a body of 64 KiB.
_TRUSTED = 16


def temporary_file(directory: str | None = None) -> BinaryIO:
    """Return a file without a name in `directory`, by default the one that tempfile
    chooses. It is gone with the process, however that ends. Raises OSError.

    tempfile uses O_TMPFILE, and removes the name at once where the file system does not
    know that.
    """
    import tempfile  # inside: only large bodies need it

    # A small buffer, as each body has one. Most pieces are larger than it, and are
    # written without being buffered.
    return tempfile.TemporaryFile(buffering=1 << 14, dir=directory)  # type: ignore[return-value]


class Bodies:
    """What all bodies of a worker hold, `memory` and `disk` (int, bytes), and how much
    they may hold, `most_memory` and `most_disk`.

    A body that would take too much memory goes to disk. When there is no room on the
    disk, either, `make_room(body)` may refuse another, slower body and return True;
    else `body` is refused. `open_file()` returns a temporary file without a name.
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
        """Count `size` bytes on disk for `body`, or raise RequestError.

        503 (RFC 9110 15.6.4) and not 413 or 507: the same request may succeed soon, and
        a proxy may try another server.
        """
        while self.disk + size > self.most_disk:
            if not self._make_room(body):
                raise RequestError(503, "too many request bodies at this moment")
        self.disk += size


class Body:
    """Collects a body, of which up to `memory` (int, bytes) may stay in memory;
    `expected` (int) is its length where the client has told it, else 0.

    `length` (int) is how much has come so far, `on_disk` (int) how much of the worker's
    disk it has taken.

    A caller that has written must close, whatever happens. write() and close() are the
    one pair that counts for `bodies`: write() takes, and close() gives everything back.
    A body is in memory as a whole, or spooled to disk as a whole.
    """

    __slots__ = (
        *("_bodies", "_expected", "_file", "_memory", "_pace", "_parts", "_place", "_spooled"),
        *("_taken", "length", "on_disk"),
    )

    def __init__(self, memory: int, bodies: Bodies | None = None, expected: int = 0) -> None:
        self.length = 0
        self._expected = expected
        self._memory = memory
        self._bodies = Bodies(memory, 0) if bodies is None else bodies
        self.on_disk = 0
        self._parts: list[bytes] = []
        self._taken = 0  # of the memory of all bodies
        self._file: BinaryIO | None = None  # holds what came before the parts
        self._place: memoryview | None = None  # of the whole body, in the file
        self._spooled = False
        # The period over which the speed of the client is measured: since when
        # (monotonic seconds), and how many bytes had come by then
        self._pace: tuple[float, int] | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Append. Raises OSError when the temporary file cannot be made or is full
        (ENOSPC), RequestError when all bodies together are too large.
        """
        size = len(data)
        length = self.length + size
        if self._place is not None:
            self._place[self.length : length] = data
            self.length = length
            return
        bodies = self._bodies
        if length <= self._memory and bodies.memory + size <= bodies.most_memory:
            bodies.memory += size
            self._taken += size
        else:
            if not self._spooled:
                self._spool()
            self._take_disk(size)
        self.length = length
        if self._file is not None:
            self._file.write(data)
        else:
            parts = self._parts
            # bytes() does not copy bytes. A view would keep all of its buffer in
            # memory.
            parts.append(bytes(data))
            if length < self._expected <= length * _TRUSTED and self._make_place():
                return
            if len(parts) == _PARTS:
                self._file = BytesIO()
                self._gather(self._file)

    def _make_place(self) -> bool:
        """Take the memory for all of the body at once; False when it may not have
        that.
        """
        expected, bodies = self._expected, self._bodies
        rest = expected - self.length
        self._expected = 0  # asked once
        if expected > self._memory or bodies.memory + rest > bodies.most_memory:
            return False
        bodies.memory += rest
        self._taken += rest
        # These bytes are the file's alone, so it gives them to be written to, and later
        # to an app that reads all of them at once, in both cases without a copy.
        file = BytesIO(bytes(expected))
        self._gather(file)
        self._file, self._place = file, file.getbuffer()
        return True

    @property
    def room(self) -> memoryview | None:
        """Where the rest of the body may be received, from its first byte on; None
        where it is to be written. arrived() is to be called then.
        """
        return None if self._place is None else self._place[self.length :]

    def arrived(self, size: int) -> None:
        """So many bytes have been received there."""
        self.length += size

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
        self._memory = -1  # all that follows goes to the file
        self._give_memory_back()  # before the writing, which may fail
        if small is not None:
            file.write(small.getbuffer())  # type: ignore[attr-defined]
        self._gather(file)

    def _give_memory_back(self) -> None:
        self._bodies.memory -= self._taken
        self._taken = 0  # so that a second close gives nothing back

    def lags(self, now: float, period: float, rate: int) -> bool:
        """Return True if fewer than `rate` bytes a second (int) have come in the last
        `period` (float, seconds). Call it when bytes have come, at `now` (monotonic).

        Each period is judged alone, and the first one begins with the first piece: a
        client that begins fast may not be slow later.
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
        """Begin a new period, whatever has come in this one."""
        self._pace = now, self.length

    def finish(self) -> None:
        """Complete the body. Raises OSError when what is still buffered cannot be
        written.
        """
        if self._spooled and self._file is not None:
            self._file.flush()

    def open(self) -> BinaryIO:
        """Return the body from its first byte on, as `wsgi.input` (PEP 3333). Reading
        never blocks; at the end it gives b"".
        """
        file = self._file
        self._leave_place()
        if file is None:
            # BytesIO keeps the very bytes, and an app that reads all of them at once
            # gets them without a copy.
            self._file = file = BytesIO(b"".join(self._parts))
            self._parts.clear()
        else:
            file.seek(0)
        return file

    def _leave_place(self) -> None:
        """Let the file have its bytes for itself."""
        if self._place is not None:
            self._place.release()
            self._place = None

    def close(self) -> None:
        """Release the body, and with it what could not be written."""
        self._give_memory_back()
        self._leave_place()
        if self.on_disk:
            self._bodies.disk -= self.on_disk
            self.on_disk = 0
        if self._file is None:
            self._parts.clear()
            return
        try:
            self._file.close()
        except (OSError, BufferError):
            # A full disk; or the app holds a view (BytesIO.getbuffer()), and the memory
            # is released with that.
            pass
