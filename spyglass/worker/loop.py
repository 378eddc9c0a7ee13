"""The worker's loop: one epoll over the listeners, the connections, the Master's bell and the signals.

The app is called right here, between two waits: no queue, no handover, no context switch per request.
"""

from __future__ import annotations

import select
import time

from spyglass import scoreboard
from spyglass.addresses import ACCEPT_PAUSE, EXHAUSTED
from spyglass.deadlines import HEAD, Deadlines
from spyglass.http11.refusal import http_date
from spyglass.http11.request import Limits
from spyglass.worker.connection import Connection
from spyglass.wsgi import base_environ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from spyglass.config import Config
    from spyglass.loader import App
    from spyglass.log import Log
    from spyglass.systemd import Listener
    from spyglass.wsgi import FileSpan

_LINGER = 2.0  # seconds for a client to read its last answer and close
_LAST_CALL = 1.0  # seconds for a kept-alive client's next request when the worker drains


class Loop:
    """Serves `app` on `listeners`, telling the Master about it in `slot` (cells of the scoreboard).
    """

    def __init__(self, config: Config, app: App, listeners: list[Listener], slot: memoryview[int], log: Log) -> None:
        self.app = app
        self.log = log
        self.base = base_environ()
        self.limits = Limits(config)
        self.debug = config.debug
        self.write_timeout = config.write_timeout
        self.draining = False
        self._slot = slot
        self._most = config.max_connections
        self._graceful = config.graceful_timeout
        self._listeners = {listener.fd: listener for listener in listeners}
        self._listening = False
        self._quiesced = False
        self._accept_after = 0.0
        self._cut_after = 0.0
        self._connections: dict[int, Connection] = {}
        self._again: list[Connection] = []
        self._deadlines = Deadlines(
            [
                config.header_timeout,
                config.body_timeout,
                config.write_timeout,
                config.keepalive_timeout,
                min(_LAST_CALL, config.keepalive_timeout),
                _LINGER,
            ]
        )
        self._second = 0
        self._date = ""
        self._epoll = select.epoll()
        self._doors: dict[int, Callable[[], None]] = {}

    # What the process asks for

    def open_door(self, fd: int, callback: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Call `callback` when `fd` is ready."""
        self._doors[fd] = callback
        self._epoll.register(fd, events)

    def run(self) -> None:
        """Serve until drained."""
        self._slot[scoreboard.STATE] = scoreboard.ACCEPTING
        while not (self.draining and not self._connections):
            self.turn()
        self._listen(False)

    def quiesce(self, quiesced: bool) -> None:
        """Stop accepting, or start again. When this returns nothing more is accepted: what is held is all there is."""
        self._quiesced = quiesced
        self._consider_listening()

    def drain(self) -> None:
        """Finish what was accepted and accept nothing new; cut what is left after `graceful_timeout`."""
        if self.draining:
            return
        self.draining = True
        self._slot[scoreboard.STATE] = scoreboard.DRAINING
        self._cut_after = time.monotonic() + self._graceful
        self._consider_listening()
        for connection in list(self._connections.values()):
            connection.last_call()

    def turn(self) -> None:
        """Wait once, and do what has become possible."""
        self._consider_listening()
        events = self._epoll.poll(self._patience())
        # Taken before the app is called: what a client sends meanwhile is read in the next turn, before its deadline is looked at.
        # A worker that is busy keeps the others waiting; that is its time, not theirs.
        heard_at = time.monotonic()
        ready = []
        for fd, _ in events:
            connection = self._connections.get(fd)
            if connection is not None:
                connection.handle()
            else:
                ready.append(fd)
        if self._again:
            again, self._again = self._again, []
            for connection in again:
                if connection.fd >= 0:
                    connection.proceed()
        # Doors before listeners: whoever was told to stop accepting must not take one more on the way.
        for fd in ready:
            if fd in self._doors:
                self._doors[fd]()
        for fd in ready:
            if fd in self._listeners and self._listening:
                self._accept(self._listeners[fd])
        self._expire(heard_at)

    def _patience(self) -> float | None:
        """Seconds until something falls due; None: nothing will."""
        if self._again:
            return 0
        due = self._deadlines.next()
        if self.draining:
            due = min(due, self._cut_after) if due is not None else self._cut_after
        if self._accept_after:
            due = min(due, self._accept_after) if due is not None else self._accept_after
        # epoll_wait(2) counts in milliseconds and Python rounds up, so a deadline that woke us has passed.
        return None if due is None else max(0.0, due - time.monotonic())

    def _expire(self, now: float) -> None:
        for connection, kind in self._deadlines.expired(now):
            if connection.fd >= 0:
                connection.expire(kind)
        if self._accept_after and now >= self._accept_after:
            self._accept_after = 0.0
        if self.draining and now >= self._cut_after and self._connections:
            self.log.warning(f"cutting {len(self._connections)} connections after {self._graceful:g} s of draining")
            for connection in list(self._connections.values()):
                connection.close("cut: the worker leaves")

    # Accepting

    def _consider_listening(self) -> None:
        full = len(self._connections) >= self._most
        self._listen(not (self._quiesced or self.draining or full or self._accept_after))

    def _listen(self, listening: bool) -> None:
        if listening == self._listening:
            return
        self._listening = listening
        for fd in self._listeners:
            if listening:
                # EPOLLEXCLUSIVE: without it every worker wakes for every connection and all but one find nothing (epoll_ctl(2)).
                # It spreads connections by who sleeps, not evenly: a busy worker is not asleep, so it is not asked.
                self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            else:
                self._epoll.unregister(fd)

    def _accept(self, listener: Listener) -> None:
        if len(self._connections) >= self._most:
            return
        try:
            sock, address = listener.sock.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                # The connection stays in the queue and the listener readable: without a pause this would spin.
                self.log.error(f"cannot accept on {listener}: {error.strerror}; trying again in {ACCEPT_PAUSE:g} s")
                self._accept_after = time.monotonic() + ACCEPT_PAUSE
            return  # another worker was faster, or the client has gone
        self._enter()
        sock.setblocking(False)
        connection = Connection(self, sock, address, listener)
        self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, connection.watched)
        if self.log.debugging:
            self.log.debug(f"{connection}: accepted")
        self._deadlines.set(connection, HEAD, time.monotonic())
        connection.handle()  # its request is most often there already

    # The one pair that counts what is open: idleness is decided by these two numbers alone.

    def _enter(self) -> None:
        self._slot[scoreboard.OPEN] += 1
        self._slot[scoreboard.ACTIVITY] = time.monotonic_ns()

    def _exit(self) -> None:
        self._slot[scoreboard.ACTIVITY] = time.monotonic_ns()
        self._slot[scoreboard.OPEN] -= 1

    # What connections ask for

    def watch(self, connection: Connection, events: int) -> None:
        if connection.watched != events:
            connection.watched = events
            self._epoll.modify(connection.fd, events)

    def set_deadline(self, connection: Connection, kind: int) -> None:
        self._deadlines.set(connection, kind, time.monotonic())

    def clear_deadline(self, connection: Connection) -> None:
        self._deadlines.clear(connection)

    def again(self, connection: Connection) -> None:
        """Let the others have their turn, then call its `proceed()`."""
        self._deadlines.clear(connection)
        self._again.append(connection)

    def forget(self, connection: Connection) -> None:
        self._deadlines.clear(connection)
        self._epoll.unregister(connection.fd)
        del self._connections[connection.fd]
        self._exit()

    def call(self, steps: Generator[bytes | FileSpan]) -> bytes | FileSpan | None:
        """The next piece of a response, None after the last; meanwhile the Master can see since when the app has been running."""
        self._slot[scoreboard.CALL_SINCE] = time.monotonic_ns()
        try:
            return next(steps, None)
        finally:
            self._slot[scoreboard.CALL_SINCE] = 0

    def end_call(self, steps: Generator[bytes | FileSpan]) -> None:
        """Let a response that will not be completed run its close()."""
        self._slot[scoreboard.CALL_SINCE] = time.monotonic_ns()
        try:
            steps.close()
        finally:
            self._slot[scoreboard.CALL_SINCE] = 0

    def would_keep(self) -> bool:
        """False when the worker drains, or has been told to while the app was running."""
        return not self.draining and self._slot[scoreboard.ORDER] != scoreboard.DRAIN

    def still_busy(self) -> None:
        self._slot[scoreboard.CALL_SINCE] = time.monotonic_ns()

    def served(self) -> None:
        self._slot[scoreboard.SERVED] += 1

    def date(self) -> str:
        """Now, as a Date field has it; rendered once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = http_date(time.gmtime(second))
        return self._date
