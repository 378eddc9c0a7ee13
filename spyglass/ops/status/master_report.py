"""Ask the Masters of awake apps what they report of themselves
(master/report_socket.py). That wakes none: the socket of an app that sleeps is gone.

The socket is in a directory that the app may write to. So it is opened as a name only,
without following a link, and connected to through /proc: exactly what was looked at. A
link could lead to the socket of another app, which a connection would wake. Only the
process that systemd names as the Master is believed (SO_PEERCRED, unix(7)).
"""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
import time
from typing import TYPE_CHECKING

from spyglass.master.report_socket import LONGEST, NAME, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spyglass.master.report_socket import Report

_WITHIN = 1.0  # seconds; a Master that stands still does not answer
_AT_ONCE = 128  # connections; the usual limit of open files is 1024


def ask(masters: Sequence[tuple[str, int]], *, within: float = _WITHIN) -> list[Report | None]:
    """Return a report of each of `masters`, (state directory, pid); None for one that
    does not answer `within` (float) seconds, or that we may not ask.
    """
    found: list[Report | None] = []
    for first in range(0, len(masters), _AT_ONCE):
        found += _ask_some(masters[first : first + _AT_ONCE], within)
    return found


def _ask_some(masters: Sequence[tuple[str, int]], within: float) -> list[Report | None]:
    """The same for a few, all of them at the same time."""
    said: list[bytes] = [b""] * len(masters)
    waiting: dict[int, tuple[int, socket.socket]] = {}
    poll, by = select.poll(), time.monotonic() + within
    for index, (directory, pid) in enumerate(masters):
        if sock := connect(os.path.join(directory, NAME), pid):
            waiting[sock.fileno()] = index, sock
            poll.register(sock, select.POLLIN)
    while waiting and (left := by - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            index, sock = waiting[fd]
            try:
                piece = sock.recv(LONGEST)
            except OSError:
                piece = b""
            said[index] += piece
            if not piece or len(said[index]) > LONGEST:
                poll.unregister(sock)
                del waiting[fd]
                sock.close()
    for _, sock in waiting.values():
        sock.close()
    return [_understood(each) for each in said]


def connect(path: str, pid: int) -> socket.socket | None:
    """Return a connection, which does not block, to the socket `path` of the Master
    with this pid; None if there is none.
    """
    try:
        name = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    sock = socket.socket(socket.AF_UNIX)
    try:
        if not stat.S_ISSOCK(os.fstat(name).st_mode):
            raise OSError("not a socket")
        # A unix socket connects at once, or its queue is full (connect(2), EAGAIN).
        sock.setblocking(False)
        sock.connect(f"/proc/self/fd/{name}")
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("iII", peer)[0] != pid:
            raise OSError("not the Master")
    except OSError:
        sock.close()
        return None
    finally:
        os.close(name)
    return sock


def _understood(said: bytes) -> Report | None:
    try:
        return parse(said.decode())
    except ValueError:
        return None
