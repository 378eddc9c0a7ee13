"""A request's body on its way to the app: in memory while it is small, in a temporary file when it is not.

The app is called only when the body is complete, so a slow upload costs an open connection and nothing else.
"""

from __future__ import annotations

from io import BytesIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

# A body mostly comes in few parts, and joined at the end they are copied once; many small ones would cost more memory than they hold.
_PARTS = 8


class Body:
    """Collects a body; `memory` (int, bytes) is how much of it stays in memory. `length` (int) is what has come so far."""

    __slots__ = ("_file", "_memory", "_parts", "_spooled", "length")

    def __init__(self, memory: int) -> None:
        self.length = 0
        self._memory = memory
        self._parts: list[bytes] = []
        self._file: BinaryIO | None = None  # behind what is in the parts, there is nothing else yet
        self._spooled = False

    def write(self, data: bytes | memoryview) -> None:
        """Append. OSError when the temporary file cannot be made or is full (tempfile(3), ENOSPC)."""
        self.length += len(data)
        if self.length > self._memory and not self._spooled:
            self._spool()
        if self._file is not None:
            self._file.write(data)
        else:
            self._parts.append(data if isinstance(data, bytes) else bytes(data))  # a view would keep all that it is a part of
            if len(self._parts) == _PARTS:
                self._file = BytesIO()
                self._gather(self._file)

    def _gather(self, file: BinaryIO) -> None:
        file.writelines(self._parts)
        self._parts.clear()

    def _spool(self) -> None:
        import tempfile  # only large bodies pay for this import

        # Without a name from the start (O_TMPFILE): it is gone with us, however we end.
        file: BinaryIO = tempfile.TemporaryFile(buffering=1 << 16)  # type: ignore[assignment]  # noqa: SIM115, closed by close()
        if self._file is not None:
            file.write(self._file.getbuffer())  # type: ignore[attr-defined]
        self._gather(file)
        self._file = file
        self._spooled = True

    def finish(self) -> None:
        """The body is complete. OSError when what is still buffered cannot be written."""
        if self._spooled and self._file is not None:
            self._file.flush()

    def open(self) -> BinaryIO:
        """The body from its first byte, as `wsgi.input` reads it (PEP 3333): at the end it gives b"", it never blocks."""
        if self._file is None:
            # It keeps the very bytes, and an app that reads all of them gets them without a copy.
            self._file = BytesIO(b"".join(self._parts))
            self._parts.clear()
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Let go of it, also of what could not be written."""
        self._parts.clear()
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError:
            pass
