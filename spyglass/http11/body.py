"""A request's body on its way to the app: in memory while it is small, in a temporary file when it is not.

The app is called only when the body is complete, so a slow upload costs an open connection and nothing else.
"""

from __future__ import annotations

import io

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO


class Body:
    """Collects a body; `memory` (int, bytes) is how much of it stays in memory. `length` (int) is what has come so far."""

    def __init__(self, memory: int) -> None:
        self.length = 0
        self._memory = memory
        self._file: BinaryIO = io.BytesIO()
        self._spooled = False

    def write(self, data: bytes | memoryview) -> None:
        """Append. OSError when the temporary file cannot be made or is full (tempfile(3), ENOSPC)."""
        self.length += len(data)
        if self.length > self._memory and not self._spooled:
            self._spool()
        self._file.write(data)

    def _spool(self) -> None:
        import tempfile  # only large bodies pay for this import

        # Without a name from the start (O_TMPFILE): it is gone with us, however we end.
        file: BinaryIO = tempfile.TemporaryFile(buffering=1 << 16)  # type: ignore[assignment]  # noqa: SIM115, closed by close()
        file.write(self._file.getbuffer())  # type: ignore[attr-defined]
        self._file = file
        self._spooled = True

    def finish(self) -> None:
        """The body is complete. OSError when what is still buffered cannot be written."""
        self._file.flush()

    def open(self) -> BinaryIO:
        """The body from its first byte, as `wsgi.input` reads it (PEP 3333): at the end it gives b"", it never blocks."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Let go of it, also of what could not be written."""
        try:
            self._file.close()
        except OSError:
            pass
