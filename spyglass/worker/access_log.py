"""Writes the access log, and never waits for whoever reads it.

Lines are collected and written once a turn of the loop, to where the log goes, stderr
or the journal. That may be full: its reader is slow, or stands still (a stopped
journald, a terminal after Ctrl-S), and write(2) would wait for it, with all clients
waiting, too. O_NONBLOCK is no way out, for it belongs to the open file description that
we share with whoever gave it to us, and with the app. So a socket, which is what the
journal is, is asked not to wait message by message (MSG_DONTWAIT), a pipe is opened
anew, which makes a description of our own, and of anything else poll(2) is asked first.
What finds no room is kept and written when there is some. But only so much of it:
beyond that lines are dropped, and counted.

Each write is of whole lines and no longer than PIPE_BUF, so that a pipe takes all of it
or nothing, and lines of several workers never mix.
"""

from __future__ import annotations

import os
import select
import stat
import time

from spyglass.log import INFO, WARNING
from spyglass.policy.access_log_format import Entry, formatter
from spyglass.runtime.fast_imports import deque, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.http11.request import Request
    from spyglass.log import Log
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.loop import Loop

_AT_ONCE = 4096  # PIPE_BUF, pipe(7)
_KEPT = 256 << 10  # bytes of lines that wait for a reader


class AccessLog:
    """The access log as `setting` has it, of the worker whose loop is `loop`. All of it
    is the leader's.

    A line of the short form stands in the log like any other, behind the role, and
    where there is no journal the time and the pid. In all other forms the line is for
    programs, and nothing is in front of it but, for the journal, its priority.
    """

    def __init__(self, setting: bool | str, log: Log, loop: Loop) -> None:
        self._format = formatter(setting)
        self._short = setting is True
        self._log = log
        self._loop = loop
        self._pid = os.getpid()
        self._listeners: dict[int, str] = {}
        self._lines: deque[bytes] = deque()
        self._size = 0  # bytes of the lines
        self._lost = 0  # lines
        self._waiting = False  # for room
        self._fd, self._send = _outlet(log.fd)

    @property
    def due(self) -> bool:
        """True when there is something to be written, and no reason why it could not
        be.
        """
        return bool(self._lines) and not self._waiting

    def entry(
        self, listener: Listener, client: str, request: Request | None, line: str = ""
    ) -> Entry:
        """What is known so far; see there."""
        name = self._listeners.get(listener.fd)
        if name is None:
            name = self._listeners[listener.fd] = str(listener)
        return Entry(
            when=time.time(),
            calendar=time,
            pid=self._pid,
            listener=name,
            client=client,
            request=request,
            line=line,
        )

    def add(self, entry: Entry) -> None:
        """Have the line of `entry` written at the end of this turn."""
        if self._size > _KEPT:
            self._lost += 1
            return
        if self._lost:
            self._confess()
        bare = f"<{INFO}>" if self._log.journal else ""
        start = self._log.start(INFO) if self._short else bare
        self._keep(f"{start}{self._format(entry)}\n")

    def _keep(self, line: str) -> None:
        data = line.encode()
        self._lines.append(data)
        self._size += len(data)

    def _confess(self) -> None:
        lost, self._lost = self._lost, 0
        self._keep(
            f"{self._log.start(WARNING)}{lost} line{'s' if lost > 1 else ''} of the access log lost: nobody was reading\n"
        )

    def write(self) -> None:
        """Write so much as there is room for."""
        while self._lines or self._lost:
            if not self._lines:
                self._confess()
            piece = self._piece()
            try:
                sent = self._send(piece)
            except BlockingIOError:
                self._lines.appendleft(piece)
                self._wait(True)
                return
            except OSError:
                # As with all of the log: what cannot be written is dropped.
                self._lines.clear()
                self._size = self._lost = 0
                break
            self._size -= sent
            if sent < len(piece):
                self._lines.appendleft(piece[sent:])
        self._wait(False)

    def _piece(self) -> bytes:
        lines = self._lines
        piece = lines.popleft()
        rest = []
        size = len(piece)
        while lines and size + len(lines[0]) <= _AT_ONCE:
            size += len(lines[0])
            rest.append(lines.popleft())
        return b"".join((piece, *rest)) if rest else piece

    def _wait(self, waiting: bool) -> None:
        if waiting == self._waiting:
            return
        if waiting:
            self._loop.open_door(self._fd, self.write, select.EPOLLOUT)
        else:
            self._loop.close_door(self._fd)
        self._waiting = waiting


class _Stream(socket.socket):
    def send_now(self, data: bytes) -> int:
        return self.send(data, socket.MSG_DONTWAIT)


def _outlet(log: int = 2) -> tuple[int, Callable[[bytes], int]]:
    """A descriptor of the log's file, and what writes to it without waiting: gives the
    bytes written, or raises BlockingIOError.
    """
    try:
        mode = os.fstat(log).st_mode
        if stat.S_ISSOCK(mode):
            stream = _Stream(fileno=os.dup(log))
            return stream.fileno(), stream.send_now
        if stat.S_ISFIFO(mode):
            try:
                fd = os.open(f"/proc/self/fd/{log}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                pass  # somebody else's, or there is no /proc
            else:
                return fd, lambda data: os.write(fd, data)
        return _polled(os.dup(log))
    except OSError:  # it is closed
        return log, lambda data: os.write(log, data)


def _polled(fd: int) -> tuple[int, Callable[[bytes], int]]:
    # Two workers may both be told of the room for one; that is what is left of waiting,
    # where neither of the better ways is to be had.
    poll = select.poll()
    poll.register(fd, select.POLLOUT)

    def write(data: bytes) -> int:
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(fd, data)

    return fd, write
