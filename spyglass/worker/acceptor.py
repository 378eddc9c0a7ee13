"""Accept clients, decide which of them gives way when the worker is full, and count
what is open: by that count the Master decides on the idle exit.

One worker per processor waits at the same listening sockets, and the kernel chooses
which of them it wakes. With EPOLLEXCLUSIVE (epoll_ctl(2)) it wakes one waiter per
event instead of all of them: the first in the listener's queue of waiters that is
asleep. That has two consequences. A busy worker is not asked, which is the balance we
want. And of several idle workers it is always the same one, so its code and data stay
in the processor's caches. Once that worker has more than a few clients it steps back
to the end of the queue, so that the next client wakes another worker.

An exclusive waiter has a duty, too: no other worker hears of the client for which it
was woken. A worker that is woken and does not accept (it is full, or has been told to
exit) must have the others look for themselves, see Acceptor.look().
"""

from __future__ import annotations

from select import EPOLLEXCLUSIVE, EPOLLIN, epoll
from time import monotonic, monotonic_ns

from spyglass.errors import RobbedError
from spyglass.runtime import scoreboard
from spyglass.runtime.addresses import ACCEPT_PAUSE, EXHAUSTED, GONE
from spyglass.runtime.fast_imports import deque
from spyglass.runtime.sd_daemon import has_pending
from spyglass.runtime.timers import IDLE
from spyglass.worker.client_socket import ClientSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

    from spyglass.http11.request_body import Body
    from spyglass.log import Log
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.connection_base import ConnectionBase, Visit
    from spyglass.worker.slow_clients import Client
    from spyglass.worker.warm_up import WarmUp


# With so many connections a worker stays first in the queue of waiters: it serves them
# where the code is warm. With more, the other workers are to be used as well.
_FEW: Final = 1
ACCEPTED_A_TURN: Final = 16  # connections
_LOOK_FOR_ROOM = 0.25  # seconds between two attempts to make room


class Activity:
    """The number of open connections, in the scoreboard's `slot`: one enter/leave pair.
    With `idle_ignore` it is an IgnoringActivity (idle_activity.py).

    The idle exit is decided by OPEN and ACTIVITY alone. So OPEN is raised before
    anything else is done for a client, and falls when even the app's close() has
    returned.
    """

    __slots__ = ("_slot", "open")

    def __init__(self, slot: memoryview[int]) -> None:
        self._slot = slot
        self.open = 0

    def enter(self, listener: Listener) -> Visit | None:
        """A client was accepted at `listener`."""
        self.open += 1
        self._slot[scoreboard.OPEN] = self.open
        self._slot[scoreboard.ACTIVITY] = monotonic_ns()
        return None

    def branch(self, visit: Visit | None) -> Visit | None:
        """What the app does for the connection of `visit` outlives it, or its response:
        it counts by itself from now on, until leave().
        """
        self.open += 1
        self._slot[scoreboard.OPEN] = self.open
        return None

    def leave(self, visit: Visit | None, served: int) -> None:
        """A connection has ended, and so has all that the app does for it; the worker
        has answered `served` requests by now.
        """
        # OPEN last: when the Master sees it fall, the rest is up to date.
        self.open -= 1
        self._slot[scoreboard.ACTIVITY] = monotonic_ns()
        self._slot[scoreboard.SERVED] = served
        self._slot[scoreboard.OPEN] = self.open


class Room:
    """Chooses the client that gives way when a worker has as many `connections` as it
    may have, or no disk space for one more body.

    `last_call` (seconds) is how long a client must have been idle before its place is
    given to another: its next request may be on its way.
    """

    def __init__(
        self,
        connections: dict[int, ConnectionBase],
        keepalive_timeout: float,
        last_call: float,
        lateness: WarmUp,
    ) -> None:
        self.last_call = last_call
        self.look_at = 0.0  # monotonic: when to try again; 0: there is room
        self._connections = connections
        self._keepalive_timeout = keepalive_timeout
        self._lateness = lateness

    def make(self, listeners: Iterable[Listener]) -> None:
        """If clients wait at `listeners`, close connections that are idle: those that
        have been idle for longest. Where none is idle, close the slowest.
        """
        now = monotonic()
        if now < self.look_at:
            return
        self.look_at = now + _LOOK_FOR_ROOM
        if has_pending(listeners):
            before = now + self._keepalive_timeout - self.last_call
            idle: list[Client] = [
                each
                for each in self._connections.values()
                if each.deadline == IDLE and each.due <= before
            ]
            idle.sort(key=lambda each: each.due)
            leaving = idle or self._slowest(now)
            for connection in leaving[: len(leaving) // 8 + 1]:
                connection.give_way()

    def make_on_disk(self, body: Body) -> bool:
        """Close the slowest client that has its body on disk; False when there is none
        but that of `body`, which has begun to arrive.
        """
        for connection in self._slowest(monotonic()):
            other = connection.body
            if other is not None and other is not body and other.on_disk and connection.give_way():
                return True
        return False

    def _slowest(self, now: float) -> list[Client]:
        self._lateness.run(now)  # a worker can be full before its first answer
        return self._lateness.slowest(self._connections.values(), now)


class Acceptor:
    """Accepts clients from `listeners` while it may, `limit` of them at a time.

    It puts the listeners into the loop's `epoll` and takes them out again. `callers`
    are the listeners at which clients wait. `reserved` are the descriptors that no
    connection can have. 15 attributes and a flag: what decides whether it accepts.
    """

    def __init__(
        self,
        listeners: list[Listener],
        epoll: epoll,
        slot: memoryview[int],
        limit: int,
        connections: dict[int, ConnectionBase],
        room: Room,
        activity: Activity,
        log: Log,
    ) -> None:
        self.listeners = {listener.fd: listener for listener in listeners}
        self.listening = False
        self.callers: deque[Listener] = deque()
        # No new connection gets one of these numbers, unless the app has closed what we
        # still use: what we write there would reach a client.
        self.reserved = {0, 1, 2, epoll.fileno(), *self.listeners}
        self.resume_at = 0.0  # monotonic: accept() failed, do not try before; 0: try
        self.room = room
        self._epoll = epoll
        self._slot = slot
        self._limit = limit
        self._connections = connections
        self._activity = activity
        self._log = log
        # Listeners (descriptors) from which a client was accepted while there were
        # others: there we step back
        self._used: set[int] = set()
        self._quiesced = False
        self._closed = False

    def quiesce(self, quiesced: bool) -> None:
        """Stop accepting, or start again.

        When this returns nothing more is accepted, so OPEN can only fall: the Master
        relies on that when it decides to exit.
        """
        self._quiesced = quiesced
        self.prepare()

    def close(self) -> None:
        """Accept no more, for good: the worker drains."""
        self._closed = True
        self.prepare()

    def look(self) -> None:
        """Have the kernel report all clients that wait. A worker that has exited may
        have been the only one that was woken for them (EPOLLEXCLUSIVE).
        """
        if self.listening:
            self._listen(False)
            self._listen(True)  # epoll_ctl(2) reports what is ready when it is added

    def prepare(self) -> None:
        """Decide whether to wait for clients; to be called before each wait."""
        stopped = self._quiesced or self._closed or self.resume_at
        if not stopped and len(self._connections) >= self._limit:
            self.room.make(self.listeners.values())
        else:
            self.room.look_at = 0.0
        listening = not (stopped or len(self._connections) >= self._limit)
        if listening != self.listening:
            self._listen(listening)
        if self._used:
            self._step_back()

    def stop(self) -> None:
        """Take the listeners out of the epoll."""
        if self.listening:
            self._listen(False)

    def _listen(self, listening: bool) -> None:
        self.listening = listening
        for fd in self.listeners:
            if listening:
                self._register(fd)
            else:
                self._epoll.unregister(fd)

    def _register(self, fd: int) -> None:
        # EPOLLEXCLUSIVE: without it every worker wakes for every connection and all but
        # one find nothing (epoll_ctl(2)).
        self._epoll.register(fd, EPOLLIN | EPOLLEXCLUSIVE)

    def _step_back(self) -> None:
        """Go to the end of the queue of workers that wait at a listener, so that the
        next client wakes another.

        A client that arrives meanwhile is not missed: epoll_ctl(2) reports what is
        ready when it is added.
        """
        if self.listening:
            for fd in self._used:
                self._epoll.unregister(fd)
                self._register(fd)
        self._used.clear()

    def call(self, fd: int) -> None:
        """The descriptor `fd` is ready: if it is a listener, a client waits there."""
        listener = self.listeners.get(fd)
        if listener is not None and listener not in self.callers:
            self.callers.append(listener)

    def accept(
        self, meet: Callable[[ClientSocket, Any, Listener, Visit | None], ConnectionBase]
    ) -> ConnectionBase | None:
        """Accept one client, from the listeners in turn, and return the connection that
        `meet` makes of it; None when no more can be accepted now.
        """
        callers = self.callers
        while callers:
            # The order to stop may have come in this very turn, or may be unread yet.
            # Then even the clients that woke us are for the other workers, which are
            # told to look(), or at a stop for the next Master.
            if (
                len(self._connections) >= self._limit
                or self._quiesced
                or self._closed
                or self._slot[scoreboard.ORDER] < scoreboard.PART
            ):
                callers.clear()
                break
            listener = callers.popleft()
            try:
                fd, address = listener.sock._accept()  # type: ignore[attr-defined]  # as in Listening
            except BlockingIOError:
                continue
            except OSError as error:
                self._not_accepted(listener, error)
                continue
            visit = self._activity.enter(listener)
            socket = ClientSocket(fd, listener)
            if not listener.inherited:
                listener.prepare(socket.object)
            connection = meet(socket, address, listener, visit)
            self._admit(connection, listener)
            callers.append(listener)
            return connection
        return None

    def _not_accepted(self, listener: Listener, error: OSError) -> None:
        if error.errno in EXHAUSTED:
            # The connection stays in the kernel's queue and the listener readable:
            # without a pause this would spin.
            self._log.error(
                f"cannot accept on {listener}: {error.strerror}; trying again in {ACCEPT_PAUSE:g} s"
            )
            self.resume_at = monotonic() + ACCEPT_PAUSE
        elif error.errno in GONE:
            raise RobbedError(f"{listener} is no listening socket any more") from error
        # or the client has gone

    def _admit(self, connection: ConnectionBase, listener: Listener) -> None:
        if connection.fd in self._connections or connection.fd in self.reserved:
            # The kernel gives numbers that are free, so the app has closed this one of
            # ours. Its former user would go on with it: another client's answer might
            # be sent here.
            raise RobbedError(f"a new connection has the number of one of ours, {connection.fd}")
        self._connections[connection.fd] = connection
        if len(self._connections) > _FEW:
            self._used.add(listener.fd)
        if self._log.debugging:
            self._log.debug(f"{connection}: accepted")
