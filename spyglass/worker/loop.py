"""The worker's loop: one epoll over the listeners, the connections, the Master's bell and the signals.

All of it belongs to the crew's leader (crew.py). Calling the app can take the lead away, at which an exception leaves `turn()` in the
middle. What had not been done by then is not lost: epoll is level-triggered and reports it again to the next leader; and whatever
is reported only once, or kept in a list of ours, is dealt with before a call can be made, or stays in the list until its turn.
"""

from __future__ import annotations

import select
import time
from time import monotonic

from spyglass import scoreboard
from spyglass.deadlines import WRITE, Deadlines
from spyglass.http11.body import Bodies
from spyglass.http11.head import HeadParser
from spyglass.http11.refusal import http_date
from spyglass.http11.request import Limits
from spyglass.lean import deque
from spyglass.systemd import cache_directory
from spyglass.worker.connection import Connection, server_name
from spyglass.worker.crew import Crew, Solo
from spyglass.worker.reception import Reception
from spyglass.worker.sending import AWAY, QUEUED, RESPONDING
from spyglass.worker.spool import Spool
from spyglass.wsgi import base_environ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from spyglass.config import Config
    from spyglass.lean import socket
    from spyglass.loader import App
    from spyglass.log import Log
    from spyglass.systemd import Listener
    from spyglass.worker.access_log import AccessLog
    from spyglass.worker.process import Stray
    from spyglass.worker.sending import Sender

_LINGER = 2.0  # seconds for a client to read its last answer and close
_LAST_WORDS = 1.0  # seconds, after the cut, for calls that are not the leader's to make
_LATE = 1.0  # seconds that a wake-up may be late on a machine that has a lot to do
_HOLD = 0.001  # seconds
_NEVER = 1 << 62
_ANY = ("0.0.0.0", "::")  # noqa: S104, of what is bound already


class Loop(Reception):
    """Serves `app` on `listeners`, telling the Master about it in `slot` (cells of the scoreboard)."""

    def __init__(self, config: Config, app: App, listeners: list[Listener], slot: memoryview[int], log: Log) -> None:
        self.app = app
        super().__init__(config, listeners, slot, log)
        self.base = base_environ(config.threads)
        self._bases: dict[int, dict[str, Any]] = {}
        spool = Spool(cache_directory(), log)
        self.limits = Limits(config, Bodies(config.bodies_memory, config.bodies_disk, spool.open, self._make_room_for))
        self.body_timeout = config.body_timeout
        self.body_min_rate = config.body_min_rate
        self.heads = HeadParser()
        self.debug = config.debug
        self.trusted_proxies = config.trusted_proxies
        self.forwarded_headers = config.forwarded_headers
        self.proxy_protocol = config.proxy_protocol
        if config.proxy_protocol:
            # Not with the first header: an import takes a descriptor, and its connection may have taken the last.
            import spyglass.worker.greeting  # noqa: F401
        self.write_timeout = config.write_timeout
        self.cutting = False
        self._stay_until = 0.0  # when it leaves although the app holds it
        self.crew = Crew(config.threads, slot, log) if config.threads > 1 else Solo(slot)
        self._graceful = config.graceful_timeout
        self._warned: set[str] = set()
        self._heard_at = 0.0  # in the last turn
        self._tell_at = _NEVER
        self._tell: Callable[[], None] | None = None
        self._callers: deque[Listener] = deque()  # those at which somebody waits whom we were woken for
        self._again: deque[Sender] = deque()
        self.holding = False  # whether a small answer may wait for those of others
        self._held: deque[Sender] = deque()
        self._held_until = 0.0
        self._passed: deque[Connection] = deque()  # who takes nothing, and is to be closed
        self.deadlines = Deadlines(
            [
                config.header_timeout,
                config.body_timeout,
                config.write_timeout,
                config.keepalive_timeout,
                self.last_call,
                _LINGER,
            ]
        )
        self.date = ""
        self._next_second = 0.0
        self._doors: dict[int, Callable[[], None]] = {}
        if self.crew.bell >= 0:
            self.ours.add(self.crew.bell)
            self._epoll.register(self.crew.bell, select.EPOLLIN)
        self.access: AccessLog | None = None
        if config.access_log:
            from spyglass.worker.access_log import AccessLog  # only who wants it pays for it

            self.access = AccessLog(config.access_log, log, self)

    # What the process asks for

    def open_door(self, fd: int, callback: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Call `callback` when `fd` is ready."""
        self._doors[fd] = callback
        self.ours.add(fd)
        self._epoll.register(fd, events)

    def close_door(self, fd: int) -> None:
        """Undo open_door()."""
        del self._doors[fd]
        self.ours.discard(fd)
        self._epoll.unregister(fd)

    def run(self) -> None:
        """Serve until drained."""
        self._slot[scoreboard.STATE] = scoreboard.ACCEPTING
        self.crew.run(self)

    def lead(self, slow: int | None) -> None:
        """Serve until drained, or until the lead is lost (Demoted). `slow` (fd) is of the one over which the last leader has lost it."""
        if slow is not None:
            self.detach(slow)
        self._let_go()
        while not (self.draining and self._finished()):
            self.turn()
        self._listen(False)
        if self._slot[scoreboard.HOLDS]:
            self.log.warning(f"leaving after {self._graceful:g} s (graceful_timeout) though the app wants to stay awake")
        if self.access is not None:
            self.access.write()

    def detach(self, fd: int) -> None:
        """Another thread is at work for this connection: what its client sends meanwhile must wait, and not wake us again and again."""
        connection = self._connections.get(fd)
        if connection is not None:
            self.deadlines.clear(connection)
            connection.condition = AWAY
            if connection.watched:
                self._epoll.unregister(fd)
                connection.watched = 0
        # One thread less to take the lead, should the next call be a long one: nobody is to wait for that.
        self.holding = False
        self._let_go()

    def tell_after(self, requests: int, tell: Callable[[], None]) -> None:
        """Call `tell` once, in the turn in which so many `requests` have been answered."""
        self._tell_at, self._tell = requests, tell

    def drain(self) -> None:
        """Finish what was accepted and accept nothing new; cut what is left after `graceful_timeout`."""
        if not self._cut_after:
            self._cut_after = monotonic() + self._graceful
        self.retire()

    def retire(self) -> None:
        """The same, and cut nothing: nobody waits for the worker to be gone. Only the app may not hold it for longer than that."""
        if self.draining:
            return
        self.draining = True
        self._stay_until = monotonic() + self._graceful
        self._slot[scoreboard.STATE] = scoreboard.DRAINING
        self._consider_listening()
        for connection in list(self._connections.values()):
            connection.last_call()

    def abandon(self, stray: Stray) -> None:
        """In a process that the app has forked: let go of all that is the worker's. Who comes back from the app meets `stray`."""
        self._epoll.close()  # first: it is shared, and to unregister here would be to unregister there (epoll(7))
        for connection in self._connections.values():
            connection.sock.close()  # a client waits for the end of its connection, and that is the end of the last copy
        self.crew.abandon(stray.back)
        self.log = stray

    def turn(self) -> None:
        """Wait once, and do what has become possible."""
        self._consider_listening()
        if self.access is not None and self.access.due:
            self.access.write()  # of the last turn, however that has ended
        patience = self._patience()
        asked_at = monotonic() if self._cut_after else 0.0
        events = self._epoll.poll(patience)
        # Taken before the app is called: what a client sends meanwhile is read in the next turn, before its deadline is looked at.
        # A worker that is busy keeps the others waiting; that is its time, not theirs.
        heard_at = monotonic()
        if self._cut_after and patience is not None and heard_at > asked_at + patience + _LATE:
            self._cut_after += heard_at - asked_at  # it has stood still (SIGSTOP, a frozen control group): nobody could finish meanwhile
        if heard_at >= self._next_second:
            self._tell_the_time(heard_at)
        connections = self._connections
        ready = []
        for fd, _ in events:
            connection = connections.get(fd)
            if connection is not None:
                ready.append(connection)
            elif fd in self._doors:
                # First, for a bell that rings is reported once; and whoever was told to quiesce or to drain must not take one more.
                self._doors[fd]()
            elif fd in self._listeners:
                if self._listeners[fd] not in self._callers:
                    self._callers.append(self._listeners[fd])
            else:
                self._bell_rang(fd)
        # From here on the app is called.
        self.holding = (len(ready) > 1 or bool(self._callers)) and self.crew.ample
        for connection in ready:
            connection.handle()
        if self.crew.returned:
            self._take_back()
        for _ in range(len(self._again)):
            waiting = self._again.popleft()
            waiting.condition = RESPONDING
            if waiting.fd >= 0:
                waiting.proceed()
        while self._callers:
            self._accept(self._callers[0])
            self._callers.popleft()  # not before: the lead may be lost in there
        self._let_go()
        # Not by the time of this turn: between the look and the clock, or while waiting, all of the process may have stood still (SIGSTOP;
        # the wait is over then without a look, PEP 475). What came before the last turn's time has been read by now.
        self._expire(self._heard_at)
        self._heard_at = heard_at
        self._slot[scoreboard.SERVED] = self.served
        if self.served >= self._tell_at and self._tell is not None:
            self._tell_at = _NEVER
            self._tell()
        if self.crew.crowded:
            self.crew.resign()

    def _patience(self) -> float | None:
        """Seconds until something falls due; None: nothing will."""
        if self._again or self._passed or self._callers or self.crew.returned:
            return 0
        due = self.deadlines.next()
        if self._cut_after:
            over = self._cut_after + (_LAST_WORDS if self.cutting else 0.0)
            over = min(over, monotonic() + _LATE)  # often enough to notice that it has stood still
            due = min(due, over) if due is not None else over
        if self.draining and not self._open:
            due = min(due, self._stay_until) if due is not None else self._stay_until
        for when in (self._accept_after, self._room_after):
            if when:
                due = min(due, when) if due is not None else when
        # epoll_wait(2) counts in milliseconds and Python rounds up, so a deadline that woke us has passed.
        return None if due is None else max(0.0, due - monotonic())

    def _bell_rang(self, fd: int) -> None:
        import os

        try:
            os.eventfd_read(fd)
        except BlockingIOError:
            pass
        self.crew.heard()

    def _take_back(self) -> None:
        """Go on with those whose call was made in another thread."""
        returned = self.crew.returned
        for _ in range(len(returned)):
            exchange, piece = returned.popleft()
            self.crew.ended(exchange)
            exchange.connection.resume(piece)

    def _expire(self, now: float) -> None:
        for connection, kind in self.deadlines.expired(now):
            if kind == WRITE:
                # Its end may call the app: not before all others have been looked at.
                self._passed.append(connection)
            elif connection.fd >= 0:
                connection.expire(kind)
        if self._accept_after and now >= self._accept_after:
            self._accept_after = 0.0
        while self._passed:
            self._passed.popleft().close("the client takes nothing")
        if self._cut_after and now >= self._cut_after:
            self._cut()

    def _cut(self) -> None:
        """End what has not ended in time. Again in each turn that is left: the lead may be lost in here, and calls may come back."""
        if not self.cutting and self._connections:
            self.log.warning(f"cutting {len(self._connections)} connections after {self._graceful:g} s of draining")
        self.cutting = True
        for connection in list(self._connections.values()):
            connection.cut()

    def _finished(self) -> bool:
        """True when nothing is left of what was to be finished, or of the time for it.

        Calls that still run in other threads have some more, to come back, and so has the app, to end what was cut.
        """
        if not self._open:
            return not self._slot[scoreboard.HOLDS] or monotonic() >= self._stay_until
        return self.cutting and monotonic() >= self._cut_after + _LAST_WORDS

    # What connections ask for

    def _meet(self, sock: socket.socket, address: Any, listener: Listener) -> Connection:
        return Connection(self, sock, address, listener)

    def base_of(self, listener: Listener) -> dict[str, Any]:
        """What is the same in the environ of all requests that come by `listener`."""
        base = self._bases.get(listener.fd)
        if base is None:
            base = self._bases[listener.fd] = self.base.copy()
            if listener.is_unix:
                # PEP 3333 wants name and port never empty; a unix socket has neither, and its peer no address.
                base.update(REMOTE_ADDR="", SERVER_NAME="localhost", SERVER_PORT="80")
            else:
                host, port = listener.sock.getsockname()[:2]
                # Of a socket for all addresses each connection knows better by which of them it came.
                base.update(SERVER_NAME="" if host in _ANY else server_name(host), SERVER_PORT=str(port))
        return base

    def watch(self, connection: Sender, events: int) -> None:
        if connection.watched == events:
            return
        if connection.watched:
            self._epoll.modify(connection.fd, events)
        else:
            self._epoll.register(connection.fd, events)
        connection.watched = events

    def again(self, connection: Sender) -> None:
        """Let the others have their turn, then call its `proceed()`."""
        self.deadlines.clear(connection)
        connection.condition = QUEUED
        self._again.append(connection)

    def hold(self, connection: Sender) -> None:
        """Call its `let_go()` at the end of the turn, or when those before it have been waiting for _HOLD seconds.

        Should a call in between turn out to be a long one, whoever takes the lead lets them go first.
        """
        now = monotonic()
        if not self._held:
            self._held_until = now + _HOLD
        self._held.append(connection)
        if now >= self._held_until:
            self._let_go()

    def _let_go(self) -> None:
        if not self._held:
            return
        late = max(0.0, monotonic() - self._held_until)
        while self._held:
            connection = self._held.popleft()
            connection.let_go()
            connection.due += late  # it is not the client who has let time go by

    def forget(self, connection: Connection) -> None:
        """It is about to be closed; `exit()` follows when its end is complete."""
        self.deadlines.forget(connection)
        if connection.watched:
            self._epoll.unregister(connection.fd)
            connection.watched = 0
        del self._connections[connection.fd]

    def dismiss(self, connection: Connection) -> None:
        """Close it when all others have been looked at: its end may call the app."""
        self._passed.append(connection)

    def warn_once(self, connection: Connection, what: str) -> None:
        """Tell the administrator what is probably a mistake in a configuration, and not again for each that connects."""
        if what not in self._warned:
            self._warned.add(what)
            self.log.warning(f"{connection}: {what}")

    def _tell_the_time(self, now: float) -> None:
        """Render the Date of the responses, once a second."""
        seconds = time.time()
        self.date = http_date(time.gmtime(seconds))
        self._next_second = now + 1 - seconds % 1
