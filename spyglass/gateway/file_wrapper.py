"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"): a file as
a response, sent by the kernel where that gives the same bytes.
"""

from __future__ import annotations

from os import fstat, pread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class FileWrapper:
    """Iterates over a file in blocks. The server sends a real file by sendfile(2)
    instead.
    """

    def __init__(self, file: Any, block_size: int = 64 << 10) -> None:
        self.file = file
        self.block_size = block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.block_size), b"")


class FileSpan:
    """`count` bytes of the file behind descriptor `fd` from `offset` on."""

    __slots__ = ("count", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int) -> None:
        self.fd = fd
        self.offset = offset
        self.count = count


def rest_of(file: Any) -> FileSpan | None:
    """Return what is left of `file` from its position on, or None when it must be read
    with its own read().

    sendfile(2) needs a regular file whose size is true. The size of a file in /proc is
    0, and of one in /sys 4096, whatever they hold: such a file has no blocks on a disk,
    and no byte where its size says that the last one is.
    """
    import io
    import stat

    # Only the types that are nothing but their descriptor: gzip.GzipFile has a
    # fileno(), too, but read() gives other bytes than those behind it.
    if type(file) not in (io.FileIO, io.BufferedReader, io.BufferedRandom):
        return None
    try:
        fd = file.fileno()
        status = fstat(fd)
        offset = file.tell()
        has_true_size = status.st_blocks > 0 or (
            status.st_size > 0 and pread(fd, 1, status.st_size - 1) != b""
        )
    except (AttributeError, OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode) or not has_true_size:
        return None
    return FileSpan(fd, offset, max(0, status.st_size - offset))
