"""Write the access log, and the lines about slow requests (`log_slow`), and never wait
for their reader.

Lines are collected and written once a turn of the loop, to where the log goes: stderr
or the journal. That may be full, because its reader is slow or stopped (journald, a
terminal after Ctrl-S). write(2) would wait for the reader, and all clients with it.
O_NONBLOCK does not help: it belongs to the open file description, which we share with
the process that gave it to us, and with the app. So it depends on the kind of file. A
socket, which is what the journal is, is asked not to wait message by message
(MSG_DONTWAIT). A pipe is opened again, which makes a description of our own. For any
other file poll(2) is asked first.

Lines that find no room are kept and written later, up to a limit. Beyond that they are
dropped, and counted. Each write has whole lines and is no longer than PIPE_BUF, so a
pipe takes all of it or nothing, and lines of several workers never mix.
"""

from __future__ import annotations

import os
import select
import stat
import time
from math import inf

from spyglass.gateway.wsgi import Exchange
from spyglass.log import ACCESS_LOG, INFO, WARNING, open_stream
from spyglass.policy.access_log_format import Entry, formatter, slow_formatter
from spyglass.runtime.fast_imports import deque, socket
from spyglass.worker.timed_exchange import TimedExchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from spyglass.http11.request import Request
    from spyglass.log import Log
    from spyglass.runtime.sd_daemon import Listener

    class Answer(Protocol):
        """What the app has answered, a WSGI app by an Exchange."""

        status: str

        @property
        def given(self) -> int: ...

    class WebSocket(Answer, Protocol):
        """A WebSocket that has ended (websocket_session.py)."""

        received: int
        sent: int

        @property
        def code(self) -> int: ...

    class Peer(Protocol):
        """The client of a connection (peer.py)."""

        listener: Listener

        def client(self, request: Request | None) -> str: ...

    class Doors(Protocol):
        """Calls a function when a descriptor is ready (loop.py)."""

        def open_door(self, fd: int, callback: Callable[[], None], events: int) -> None: ...
        def close_door(self, fd: int) -> None: ...


_AT_ONCE = 4096  # PIPE_BUF, pipe(7)
_KEPT = 256 << 10  # bytes of lines that wait for a reader


class AccessLog:
    """The access log in the form of `setting`, False for none, and a line for each
    request that took `slow` seconds (float) or more, 0 for none. All of it is the
    leader's. `exchange` is the class of the exchanges that it is told of.

    A line of the short form looks like any other line of the log: after the role and,
    without a journal, the time and the pid. In all other forms the line is for
    programs: nothing precedes it but, for the journal, its priority.
    """

    def __init__(self, setting: bool | str, slow: float, log: Log, doors: Doors) -> None:
        self._format = formatter(setting) if setting else None
        self._websocket_format: Callable[[Entry], str] | None = None
        self._setting = setting
        self._short = setting is True
        self._slow = slow or inf
        self._slow_format = slow_formatter()
        self.exchange: type[Exchange] = TimedExchange if slow else Exchange
        self._log = log
        self._doors = doors
        self._pid = os.getpid()
        self._listeners: dict[int, str] = {}
        self._lines: deque[bytes] = deque()
        self._size = 0  # bytes of the lines
        self._lost = 0  # lines
        self._waiting = False  # for room
        # By this name `spyglass logs` and journalctl -t tell these lines from others.
        stream = open_stream(ACCESS_LOG) if log.journal else 2
        self._fd, self._send = _outlet(stream if stream > 2 else log.fd)
        if stream > 2:
            os.close(stream)

    @property
    def due(self) -> bool:
        """True when there is something to write, and we do not wait for room."""
        return bool(self._lines) and not self._waiting

    def answered(
        self,
        peer: Peer,
        request: Request,
        exchange: Answer,
        began: float,
        unsent: int,
        *,
        cut: bool = False,
        kept: bool = False,
    ) -> None:
        """Note an answer, `unsent` bytes of which have not been sent. It took from
        `began` (monotonic) until now.
        """
        taken = time.monotonic() - began
        is_slow = taken >= self._slow
        if self._format is None and not is_slow:
            return
        entry = self._entry(peer, request)
        entry.status = exchange.status[:3]
        entry.sent = max(0, exchange.given - unsent)
        entry.taken = taken
        entry.cut = cut
        entry.kept = kept
        if self._format is not None:
            self._add_entry(entry)
        if is_slow:
            if isinstance(exchange, TimedExchange):
                entry.in_app = exchange.in_app
            self._add(f"{self._log.start(WARNING)}{self._slow_format(entry)}\n")

    def websocket_ended(
        self, peer: Peer, request: Request, socket: WebSocket, began: float
    ) -> None:
        """Note a WebSocket at its end. It was open for as long as it took, so it is
        never slow.
        """
        if self._format is None:
            return
        entry = self._entry(peer, request)
        entry.status = socket.status[:3]
        entry.sent = socket.given
        entry.taken = time.monotonic() - began
        if entry.status == "101":
            entry.websocket = {
                "code": socket.code,
                "received": socket.received,
                "sent": socket.sent,
            }
        if self._websocket_format is None:
            self._websocket_format = formatter(self._setting, websocket=True)
        self._add_entry(entry, self._websocket_format)

    def refused(
        self, peer: Peer, request: Request | None, line: str, status: int, size: int
    ) -> None:
        """Note an error of our own, with a body of `size` bytes. Without a request that
        could be read, `line` is what arrived of its first line.
        """
        if self._format is None:
            return
        entry = self._entry(peer, request, line)
        entry.status = str(status)
        entry.sent = size
        self._add_entry(entry)

    def _entry(self, peer: Peer, request: Request | None, line: str = "") -> Entry:
        listener = peer.listener
        name = self._listeners.get(listener.fd)
        if name is None:
            name = self._listeners[listener.fd] = str(listener)
        return Entry(
            when=time.time(),
            calendar=time,
            pid=self._pid,
            listener=name,
            client=peer.client(request),
            request=request,
            line=line,
        )

    def _add_entry(self, entry: Entry, format_: Callable[[Entry], str] | None = None) -> None:
        format_ = format_ or self._format
        assert format_ is not None
        bare = f"<{INFO}>" if self._log.journal else ""
        start = self._log.start(INFO) if self._short else bare
        self._add(f"{start}{format_(entry)}\n")

    def _add(self, line: str) -> None:
        # Written at the end of this turn, by write()
        if self._size > _KEPT:
            self._lost += 1
            return
        if self._lost:
            self._confess()
        self._keep(line)

    def _keep(self, line: str) -> None:
        data = line.encode()
        self._lines.append(data)
        self._size += len(data)

    def _confess(self) -> None:
        lost, self._lost = self._lost, 0
        self._keep(
            f"{self._log.start(WARNING)}{lost} line{'s' if lost > 1 else ''} of the access log lost: its reader was too slow\n"
        )

    def write(self) -> None:
        """Write as much as there is room for."""
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
                # As everywhere in the log, what cannot be written is dropped.
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
            self._doors.open_door(self._fd, self.write, select.EPOLLOUT)
        else:
            self._doors.close_door(self._fd)
        self._waiting = waiting


class _Stream(socket.socket):
    def send_now(self, data: bytes) -> int:
        return self.send(data, socket.MSG_DONTWAIT)


def _outlet(log: int = 2) -> tuple[int, Callable[[bytes], int]]:
    """Return a descriptor of the log's file, and a function that writes to it without
    waiting. That returns the bytes written, or raises BlockingIOError.
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
                pass  # another user's, or there is no /proc
            else:
                return fd, lambda data: os.write(fd, data)
        return _polled(os.dup(log))
    except OSError:  # it is closed
        return log, lambda data: os.write(log, data)


def _polled(fd: int) -> tuple[int, Callable[[bytes], int]]:
    # Two workers may both be told of the room for one write. Then one of them waits:
    # neither of the better ways is possible here.
    poll = select.poll()
    poll.register(fd, select.POLLOUT)

    def write(data: bytes) -> int:
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(fd, data)

    return fd, write
