"""Read a file that another user may have put in place: never wait for it, never follow
its link, never read without bound.

A named pipe blocks open(2) until a writer comes, a device acts when it is opened, a
symbolic link leads root to a file that its owner may not read, and a file may be larger
than memory. An administrator's command, run as root, reads the files of apps and
developers only through here. So does the Master with its own file in a directory that
the app can write to.
"""

from __future__ import annotations

import os
import stat

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class NotRegularError(OSError):
    """What is there is not a regular file; `strerror` says so."""


def read(path: str, most: int, *, links: bool = False) -> bytes:
    """Return the first `most` bytes of the regular file at `path`.

    `links`: follow a symbolic link in the last component. Raise OSError when there is
    no such file or it cannot be read, ELOOP for a link that is not followed, and
    NotRegularError for what is no regular file.
    """
    fd = open_regular(path) if links else os.open(path, _FLAGS | os.O_NOFOLLOW)
    try:
        _refuse_others(fd, path)
        pieces = []
        while most > 0 and (piece := os.read(fd, most)):
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def open_regular(path: str) -> int:
    """Return a descriptor of the regular file at `path`, reached by links or not. Raise
    OSError, NotRegularError.
    """
    # A link may lead to a device, and to open a watchdog or a tape drive has effects.
    # O_PATH opens the name only (open(2)). Through /proc exactly the file that was
    # checked is opened, wherever the name leads by then.
    name = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _refuse_others(name, path)
        return os.open(f"/proc/self/fd/{name}", _FLAGS)
    finally:
        os.close(name)


def _refuse_others(fd: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise NotRegularError(22, "not a regular file", path)
