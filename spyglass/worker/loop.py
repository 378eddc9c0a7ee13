"""The worker's loop: one epoll over the listeners, the connections, the Master's bell
and the signals.

All of it belongs to the crew's leader (leader_followers.py). Calling the app can take
the lead away, at which an exception leaves `turn()` in the middle. So a turn does first
what calls no app: it takes note of all that is ready, sends what other threads have
made, and checks the deadlines. Then it serves what is ready, in an order that outlives
the leader.

That order is one queue of connections, first come, first served. A connection stands in
it at most once, also when it was not the socket that made it ready but an answer that
is not finished. New clients are accepted to its end, no more of them than wait there
already: the others stay in the kernel's queue, where a worker that has less to do can
take them. After _TURN seconds, or a longer call, the turn is over: new events, signals
and deadlines wait for no more than one call of the app.
"""

from __future__ import annotations

import select
import time
from time import monotonic

from spyglass.gateway.environ import Contexts, base_environ
from spyglass.http11.error_response import http_date
from spyglass.http11.request import Limits
from spyglass.http11.request_body import Bodies
from spyglass.http11.request_head import HeadParser
from spyglass.runtime import scoreboard
from spyglass.runtime.fast_imports import deque
from spyglass.runtime.poller import LONGEST_WAIT
from spyglass.runtime.sd_daemon import cache_directory
from spyglass.runtime.shared_memory import empty
from spyglass.runtime.timers import WRITE, Deadlines
from spyglass.worker.acceptor import Reception
from spyglass.worker.body_spool import Spool
from spyglass.worker.connection import Connection, server_name
from spyglass.worker.leader_followers import Crew, Solo
from spyglass.worker.response_writer import AWAY, DISMISSED, STALLED, UNFINISHED, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.runtime.fast_imports import socket
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.access_log import AccessLog
    from spyglass.worker.main import Stray
    from spyglass.worker.response_writer import Sender
    from spyglass.zygote.app_loader import App

_LINGER = 2.0  # seconds for a client to read its last answer and close
_LAST_WORDS = 1.0  # seconds, after the cut, for calls that are not the leader's to make
_LATE = 1.0  # seconds that a wake-up may be late on a machine that has a lot to do
_TURN = 0.005  # seconds of serving after which the loop looks at what has come meanwhile
_ACCEPTED_A_TURN = 16
_EVENTS = 900  # connections that a look tells of in any case
_NEVER = 1 << 62
_ANY = ("0.0.0.0", "::")  # noqa: S104, of what is bound already


class Loop(Reception):
    """Serves `app` on `listeners`, telling the Master about it in `slot` (cells of the
    scoreboard).
    """

    def __init__(
        self, config: Config, app: App, listeners: list[Listener], slot: memoryview[int], log: Log
    ) -> None:
        self.app = app
        super().__init__(config, listeners, slot, log)
        self.base = base_environ(config.threads)
        self._bases: dict[int, dict[str, Any]] = {}
        spool = Spool(cache_directory(), log)
        self.limits = Limits(
            max_head=config.max_head,
            max_fields=config.max_fields,
            max_body=config.max_body,
            body_memory=config.body_memory,
            bodies=Bodies(
                config.bodies_memory, config.bodies_disk, spool.open, self._make_room_for
            ),
        )
        self.body_timeout = config.body_timeout
        self.body_min_rate = config.body_min_rate
        self.heads = HeadParser()
        self.debug = config.debug
        self.fresh_context = Contexts().fresh  # we are in the thread that has called post_fork()
        self.trusted_proxies = config.trusted_proxies
        self.forwarded_headers = config.forwarded_headers
        self.proxy_protocol = config.proxy_protocol
        if config.proxy_protocol:
            # Not with the first header: an import takes a descriptor, and its
            # connection may have taken the last.
            import spyglass.worker.proxy_header  # noqa: F401
        self.write_timeout = config.write_timeout
        self.cutting = False
        self._stay_until = 0.0  # when it leaves although the app holds it
        self.crew = Crew(config.threads, slot, log) if config.threads > 1 else Solo(slot)
        self._graceful = config.graceful_timeout
        self._warned: set[str] = set()
        self._heard_at = 0.0  # in the last turn
        self._tell_at = _NEVER
        self._tell: Callable[[], None] | None = None
        self._callers: deque[Listener] = deque()  # those with clients to be accepted
        self._queue: deque[Sender] = deque()  # connections that are ready
        self.turn_ends = 0.0  # monotonic: nothing more is begun after that
        self.holding = False  # whether a small answer may wait for those of others
        self.held = Held()
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

    def open_door(
        self, fd: int, callback: Callable[[], None], events: int = select.EPOLLIN
    ) -> None:
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
        """Serve until drained, or until the lead is lost (Demoted). `slow` (fd) is of
        the one over which the last leader has lost it.
        """
        if slow is not None:
            self.detach(slow)
        self._settle()
        while not (self.draining and self._finished()):
            self.turn()
        self._listen(False)
        if self._slot[scoreboard.HOLDS]:
            self.log.warning(
                f"leaving after {self._graceful:g} s (graceful_timeout) though the app wants to stay awake"
            )
        if self.access is not None:
            self.access.write()

    def detach(self, fd: int) -> None:
        """Another thread is at work for this connection: what its client sends
        meanwhile must wait, and not wake us again and again.
        """
        connection = self._connections.get(fd)
        if connection is not None:
            self.deadlines.clear(connection)
            connection.condition = AWAY
            if connection.watched:
                self._epoll.unregister(fd)
                connection.watched = 0
        # One thread less to take the lead, should the next call be a long one: nobody
        # is to wait for that.
        self.holding = False
        self.held.let_go()

    def tell_after(self, requests: int, tell: Callable[[], None]) -> None:
        """Call `tell` once, in the turn in which so many `requests` have been
        answered.
        """
        self._tell_at, self._tell = requests, tell

    def drain(self) -> None:
        """Finish what was accepted and accept nothing new; cut what is left after
        `graceful_timeout`.
        """
        if not self._cut_after:
            self._cut_after = monotonic() + self._graceful
        self.retire()

    def retire(self) -> None:
        """The same, and cut nothing: nobody waits for the worker to be gone. Only the
        app may not hold it for longer than that.
        """
        if self.draining:
            return
        self.draining = True
        self._stay_until = monotonic() + self._graceful
        self._slot[scoreboard.STATE] = scoreboard.DRAINING
        self._consider_listening()
        for connection in list(self._connections.values()):
            connection.last_call()

    def abandon(self, stray: Stray) -> None:
        """In a process that the app has forked: let go of all that is the worker's. Who
        comes back from the app meets `stray`.
        """
        # First: it is shared, and to unregister here would be to unregister there
        # (epoll(7))
        self._epoll.close()
        for connection in self._connections.values():
            # A client waits for the end of its connection, and that is the end of the
            # last copy
            connection.sock.close()
        self.crew.abandon(stray.back)
        self.log = stray

    def turn(self) -> None:
        """Wait once, and do what has become possible."""
        self._consider_listening()
        if self._accepted_by:
            self._step_back()
        if self.access is not None and self.access.due:
            self.access.write()  # of the last turn, however that has ended
        patience = self._patience()
        asked_at = monotonic() if self._cut_after else 0.0
        if len(self._connections) < _EVENTS:
            events = self._epoll.poll(patience)
        else:
            # All of them: a deadline must not be held against a client because what it
            # has sent was not among the first.
            events = self._epoll.poll(patience, len(self._connections) + len(self.ours))
        # Taken before the app is called: what a client sends meanwhile is read in the
        # next turn, before its deadline is looked at. A worker that is busy keeps the
        # others waiting; that is its time, not theirs.
        heard_at = monotonic()
        if self._cut_after and patience is not None and heard_at > asked_at + patience + _LATE:
            self._cut_after += (
                heard_at - asked_at
            )  # it has stood still (SIGSTOP, a frozen control group): nobody could finish meanwhile
        if heard_at >= self._next_second:
            self._tell_the_time(heard_at)
        self._take_note(events)
        if self.crew.returned:
            self._take_back()
        # Not by the time of this turn: between the look and the clock, or while
        # waiting, all of the process may have stood still (SIGSTOP; the wait is over
        # then without a look, PEP 475). What came before the last turn's time has been
        # noted by now.
        now, self._heard_at = self._heard_at, heard_at
        self._expire(now)
        self._serve()
        self._settle()

    def _take_note(self, events: list[tuple[int, int]]) -> None:
        connections = self._connections
        queue = self._queue
        for fd, _ in events:
            connection = connections.get(fd)
            if connection is not None:
                if not connection.queued:
                    connection.queued = True
                    queue.append(connection)
            elif fd in self._doors:
                # At once: a bell is reported only once, and a worker that was told to
                # quiesce or drain must not accept one more.
                self._doors[fd]()
            elif fd in self._listeners:
                if self._listeners[fd] not in self._callers:
                    self._callers.append(self._listeners[fd])
            elif fd == self.crew.bell:
                self._bell_rang(fd)
            # Else it was a connection until a door made room for others.

    def _serve(self) -> None:
        """Serve what is ready, each at most once, until the time is up."""
        queue, callers, held = self._queue, self._callers, self.held
        now = monotonic()
        self.turn_ends = turn_ends = now + _TURN
        if len(queue) == 1 and not callers:
            # Most turns of a worker that has little to do: nothing can be held, for
            # nothing else waits.
            connection = queue.popleft()
            connection.queued = False
            connection.handle()
            return
        held.begin(now, turn_ends)
        if queue and callers:
            # No more than wait here already: the others are left to workers that have
            # less to do.
            for newcomer in self._accept_some(min(len(queue), _ACCEPTED_A_TURN)):
                self._enqueue(newcomer)
        self.holding = (len(queue) > 1 or bool(callers)) and self.crew.ample
        for _ in range(len(queue)):
            connection = queue.popleft()
            connection.queued = False
            connection.handle()
            now = monotonic()
            if now >= held.look_at:
                held.look(now)
                if now >= turn_ends:
                    return
        if not queue:
            # Its request is most often there already, and then it need not be watched.
            # It is served before the next is accepted: a client that waits behind a
            # long call is still there for another worker.
            for newcomer in self._accept_some(_ACCEPTED_A_TURN):
                newcomer.handle()
                now = monotonic()
                if now >= held.look_at:
                    held.look(now)
                    if now >= turn_ends:
                        return

    def _accept_some(self, most: int) -> Iterator[Connection]:
        """Clients of the listeners in turn, as they are accepted."""
        callers = self._callers
        while callers and most > 0:
            most -= 1
            listener = callers.popleft()
            connection = self._accept(listener)
            if connection is not None:
                callers.append(listener)
                yield connection

    def _settle(self) -> None:
        """Do what a turn leaves to be done, however it has ended."""
        self.holding = False
        held = self.held
        if held.pending or held.tried:
            held.look(monotonic())
            held.let_go()
        if self.deadlines.late:
            # What those clients have sent was not enough. One that never stops sending
            # is always queued when the deadlines are checked.
            for connection, kind in self.deadlines.overdue(self._heard_at):
                self._expire_one(connection, kind)
        self._slot[scoreboard.SERVED] = self.served
        if self.served >= self._tell_at and self._tell is not None:
            self._tell_at = _NEVER
            self._tell()
        if self.crew.crowded:
            self.crew.resign()

    def _patience(self) -> float | None:
        """Seconds until something falls due, or it is time to look whether it has;
        None: nothing will.
        """
        if self._queue or self._callers or self.crew.returned:
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
        # epoll_wait(2) counts in milliseconds and Python rounds up, so a deadline that
        # woke us has passed.
        return None if due is None else max(0.0, min(due - monotonic(), LONGEST_WAIT))

    def _bell_rang(self, fd: int) -> None:
        empty(fd)
        self.crew.heard()

    def _take_back(self) -> None:
        """Send what was made in other threads."""
        returned = self.crew.returned
        for _ in range(len(returned)):
            exchange, piece = returned.popleft()
            self.crew.ended(exchange)
            exchange.connection.resume(piece)

    def _expire(self, now: float) -> None:
        for connection, kind in self.deadlines.expired(now):
            self._expire_one(connection, kind)
        if self._accept_after and now >= self._accept_after:
            self._accept_after = 0.0
        if self._cut_after and now >= self._cut_after:
            self._cut()

    def _expire_one(self, connection: Sender, kind: int) -> None:
        if kind == WRITE:
            connection.condition = STALLED
            self._enqueue(connection)  # its end may call the app
        elif connection.fd >= 0:
            connection.expire(kind)

    def _cut(self) -> None:
        """End what has not ended in time. Again in each turn that is left: the lead may
        be lost in here, and calls may come back.
        """
        if not self.cutting and self._connections:
            self.log.warning(
                f"cutting {len(self._connections)} connections after {self._graceful:g} s of draining"
            )
        self.cutting = True
        for connection in list(self._connections.values()):
            connection.cut()

    def _finished(self) -> bool:
        """True when nothing is left of what was to be finished, or of the time for it.

        Calls that still run in other threads have some more, to come back, and so has
        the app, to end what was cut.
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
                # PEP 3333 wants name and port never empty; a unix socket has neither,
                # and its peer no address.
                base.update(REMOTE_ADDR="", SERVER_NAME="localhost", SERVER_PORT="80")
            else:
                host, port = listener.sock.getsockname()[:2]
                # Of a socket for all addresses each connection knows better by which of
                # them it came.
                base.update(
                    SERVER_NAME="" if host in _ANY else server_name(host), SERVER_PORT=str(port)
                )
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
        connection.condition = UNFINISHED
        self._enqueue(connection)

    def _enqueue(self, connection: Sender) -> None:
        if not connection.queued:
            connection.queued = True
            self._queue.append(connection)

    def forget(self, connection: Connection) -> None:
        """It is about to be closed; `exit()` follows when its end is complete."""
        self.deadlines.forget(connection)
        if connection.watched:
            self._epoll.unregister(connection.fd)
            connection.watched = 0
        del self._connections[connection.fd]

    def dismiss(self, connection: Connection) -> None:
        """Close it when it is its turn: its end may call the app."""
        self.deadlines.clear(connection)
        connection.condition = DISMISSED
        self._enqueue(connection)

    def warn_once(self, connection: Connection, what: str) -> None:
        """Tell the administrator what is probably a mistake in a configuration, and not
        again for each that connects.
        """
        if what not in self._warned:
            self._warned.add(what)
            self.log.warning(f"{connection}: {what}")

    def _tell_the_time(self, now: float) -> None:
        """Render the Date of the responses, once a second."""
        seconds = time.time()
        self.date = http_date(time.gmtime(seconds))
        self._next_second = now + 1 - seconds % 1
