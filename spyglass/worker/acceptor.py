"""Who is let in: the listeners of a worker's loop (loop.py), and the count of what is
open by which the Master decides whether to leave.
"""

from __future__ import annotations

import select
import time
from time import monotonic

from spyglass.errors import RobbedError
from spyglass.runtime import scoreboard
from spyglass.runtime.addresses import ACCEPT_PAUSE, EXHAUSTED, GONE
from spyglass.runtime.sd_daemon import has_pending
from spyglass.runtime.timers import IDLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.config.settings import Config
    from spyglass.http11.request_body import Body
    from spyglass.log import Log
    from spyglass.runtime.fast_imports import socket
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.connection import Connection

# So many connections are served where the code is warm; with more, the other workers
# are to be used as well
_FEW = 1
# Seconds for a kept-alive client's next request when the worker drains, or others wait
# for its place
_LAST_CALL = 1.0
_LOOK_FOR_ROOM = 0.25  # seconds between two looks at whether somebody does


class Reception:
    """Accepts by `listeners` as long as it may, and tells the Master in `slot` (cells
    of the scoreboard) how many are there.
    """

    def __init__(
        self, config: Config, listeners: list[Listener], slot: memoryview[int], log: Log
    ) -> None:
        self.log = log
        self.draining = False
        self.served = 0
        self._slot = slot
        self._most = config.max_connections
        self.keepalive_timeout = config.keepalive_timeout
        self.last_call = min(_LAST_CALL, config.keepalive_timeout)
        self._listeners = {listener.fd: listener for listener in listeners}
        self._listening = False
        self._accepted_by: set[int] = (
            set()
        )  # listeners (descriptors) by which a client was accepted while there were others
        self._quiesced = False
        self._accept_after = 0.0
        self._room_after = 0.0  # monotonic; 0: there is room
        self._cut_after = 0.0  # monotonic; 0: nothing is cut
        # Connections whose end is not complete; what is closed, but for the app's
        # close(), is among them
        self._open = 0
        self._connections: dict[int, Connection] = {}
        self._epoll = select.epoll()
        # Never the number of a connection, unless somebody has closed what we still
        # use: what we write there would reach a client.
        self.ours = {0, 1, 2, self._epoll.fileno(), *self._listeners}

    def _meet(self, sock: socket.socket, address: Any, listener: Listener) -> Connection:
        """What is to be done with `sock`, which was just accepted."""
        raise NotImplementedError

    def quiesce(self, quiesced: bool) -> None:
        """Stop accepting, or start again. When this returns nothing more is accepted:
        what is held is all there is.
        """
        self._quiesced = quiesced
        self._consider_listening()

    def look(self) -> None:
        """Hear of everybody who waits. A worker that has left may have been the only
        one that the kernel woke for them (EPOLLEXCLUSIVE).
        """
        if self._listening:
            self._listen(False)
            self._listen(True)  # epoll_ctl(2) reports what is ready when it is added

    def would_keep(self) -> bool:
        """False when the worker drains, or has been told to while the app was
        running.
        """
        return not self.draining and self._slot[scoreboard.ORDER] >= scoreboard.SERVE

    def count_error(self) -> None:
        """A response says, or shows by its end, that the app could not do what it was
        asked for.
        """
        self._slot[scoreboard.ERRORS] += 1

    @property
    def _told_to_leave(self) -> bool:
        return self.draining or self._slot[scoreboard.ORDER] < scoreboard.PART

    def _consider_listening(self) -> None:
        stopped = self._quiesced or self.draining or self._accept_after
        if len(self._connections) >= self._most and not stopped:
            self._make_room()
        else:
            self._room_after = 0.0
        self._listen(not (stopped or len(self._connections) >= self._most))

    def _make_room(self) -> None:
        """We hold as many as we may. Whoever waits takes the place of those who have
        been idle for longest, as long as at a drain at the least: in a shorter pause
        the next request may be on its way. Where none is idle, it is the slowest.
        """
        now = monotonic()
        if now < self._room_after:
            return
        self._room_after = now + _LOOK_FOR_ROOM
        if has_pending(self._listeners.values()):
            before = now + self.keepalive_timeout - self.last_call
            idle = [
                each
                for each in self._connections.values()
                if each.deadline == IDLE and each.due <= before
            ]
            leaving = sorted(idle, key=lambda each: each.due) or self._slowest(now)
            for connection in leaving[: len(leaving) // 8 + 1]:
                connection.give_way()

    def _slowest(self, now: float) -> list[Connection]:
        try:
            from spyglass.worker.slow_clients import slowest  # only who is full pays for it
        except OSError:
            return []  # no descriptor is left to import with; the next look may have one
        return slowest(self._connections.values(), now)

    def _make_room_for(self, body: Body) -> bool:
        """No disk is left for `body`, which has begun to come: whether a slower one has
        given its own away.
        """
        for connection in self._slowest(monotonic()):
            other = connection.body
            if other is not None and other is not body and other.on_disk and connection.give_way():
                return True
        return False

    def _listen(self, listening: bool) -> None:
        if listening == self._listening:
            return
        self._listening = listening
        for fd in self._listeners:
            if listening:
                self._register(fd)
            else:
                self._epoll.unregister(fd)

    def _register(self, fd: int) -> None:
        # EPOLLEXCLUSIVE: without it every worker wakes for every connection and all but
        # one find nothing (epoll_ctl(2)). The kernel wakes the first in the listener's
        # queue that is asleep: a busy worker is not asked, and of idle ones always the
        # same.
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _step_back(self) -> None:
        """Go to the end of the queue of workers that wait at a listener, so that the
        next client wakes another.

        A client that comes meanwhile is not missed: epoll_ctl(2) reports what is ready
        when it is added.
        """
        if self._listening:
            for fd in self._accepted_by:
                self._epoll.unregister(fd)
                self._register(fd)
        self._accepted_by.clear()

    def _accept(self, listener: Listener) -> Connection | None:
        """The next client that waits at `listener`; None when there is none, or it must
        not be accepted now.
        """
        # Told to leave in this very turn, or not heard of it yet? Then even those who
        # woke us are for the others, who are told to look(), or at a stop for the next
        # Master.
        if len(self._connections) >= self._most or self._quiesced or self._told_to_leave:
            return None
        try:
            sock, address = listener.sock.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in EXHAUSTED:
                # The connection stays in the queue and the listener readable: without a
                # pause this would spin.
                self.log.error(
                    f"cannot accept on {listener}: {error.strerror}; trying again in {ACCEPT_PAUSE:g} s"
                )
                self._accept_after = monotonic() + ACCEPT_PAUSE
            elif error.errno in GONE:
                raise RobbedError(f"{listener} is no listening socket any more") from error
            return None  # or the client has gone
        self._enter()
        sock.setblocking(False)
        if not listener.inherited:
            listener.prepare(sock)
        connection = self._meet(sock, address, listener)
        if connection.fd in self._connections or connection.fd in self.ours:
            # The kernel gives numbers that are free. Who had this one would go on with
            # it: another client's answer might leave here.
            raise RobbedError(f"a new connection has the number of one of ours, {connection.fd}")
        self._connections[connection.fd] = connection
        if len(self._connections) > _FEW:
            self._accepted_by.add(listener.fd)
        if self.log.debugging:
            self.log.debug(f"{connection}: accepted")
        return connection

    # The one pair that counts what is open: idleness is decided by these two numbers
    # alone.

    def _enter(self) -> None:
        self._open += 1
        self._slot[scoreboard.OPEN] = self._open
        self._slot[scoreboard.ACTIVITY] = time.monotonic_ns()

    def exit(self, connection: Connection) -> None:
        """It has ended, and so has all that the app does for it."""
        self._open -= 1
        self._slot[scoreboard.ACTIVITY] = time.monotonic_ns()
        self._slot[scoreboard.SERVED] = self.served
        self._slot[scoreboard.OPEN] = self._open
