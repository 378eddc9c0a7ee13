"""The worker's loop: one epoll over the listeners, the connections, the Master's bell
and the signals.

All of it belongs to the leader (leader_followers.py). Calling the app can take the lead
away: then an exception leaves `turn()` in the middle, and the next leader begins
another turn. So a turn does first what calls no app. It notes all that is ready, sends
what other threads have made, and checks the deadlines. Then it serves what is ready, in
an order that outlives the leader (turn_queue.py).
"""

from __future__ import annotations

from select import EPOLLIN, epoll
from time import monotonic

from spyglass.http11.request_body import Bodies
from spyglass.runtime import scoreboard
from spyglass.runtime.poller import LONGEST_WAIT
from spyglass.runtime.sd_daemon import cache_directory
from spyglass.runtime.shared_memory import empty
from spyglass.runtime.timers import Deadlines
from spyglass.worker.acceptor import Acceptor, Activity, Room
from spyglass.worker.body_spool import Spool
from spyglass.worker.drain import Drain
from spyglass.worker.host import Host
from spyglass.worker.interface import Interface
from spyglass.worker.response_writer import Held
from spyglass.worker.server import Server
from spyglass.worker.turn_queue import TurnQueue
from spyglass.worker.warm_up import WarmUp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, NoReturn

    from spyglass.config.settings import Config
    from spyglass.gateway.wsgi import App
    from spyglass.log import Log
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import ConnectionBase, Visit


# Seconds for a kept-alive client's next request when the worker drains, or other
# clients wait for its place
_LAST_CALL = 1.0
_LINGER = 2.0  # seconds for a client to read its last answer and close
_OBEY = 5.0  # seconds for a call that was cancelled to come to its end
_EVENTS: Final = 900  # connections that are reported at once in any case
_NEVER: Final = 1 << 62


class Loop:
    """Serves `app` on `listeners`; the Master sees it in `slot` (cells of the
    scoreboard).

    More than 15 attributes: they are the worker's parts, which meet only here, and
    connections need several of them for each request.
    """

    def __init__(
        self,
        config: Config,
        app: App,
        listeners: list[Listener],
        slot: memoryview[int],
        log: Log,
        activity: Activity | None = None,
        interface: Interface | None = None,
    ) -> None:
        last_call = min(_LAST_CALL, config.keepalive_timeout)
        self._slot = slot
        self.epoll = self._epoll = epoll()
        self._doors: dict[int, Callable[[], None]] = {}
        self._connections: dict[int, ConnectionBase] = {}
        self._heard_at = 0.0  # in the last turn
        self._woken_at = 0.0  # in this one
        self._tell_at = _NEVER
        self._tell: Callable[[], None] | None = None
        self.activity = activity or Activity(slot)
        self.warm_up = WarmUp(log, config.threads)
        room = Room(self._connections, config.keepalive_timeout, last_call, self.warm_up)
        spool = Spool(cache_directory(), log)
        bodies = Bodies(config.bodies_memory, config.bodies_disk, spool.open, room.make_on_disk)
        self.server = Server(config, app, slot, bodies, log)
        self.acceptor = Acceptor(
            listeners,
            self._epoll,
            slot,
            config.max_connections,
            self._connections,
            room,
            self.activity,
            log,
        )
        self.held = Held()
        self._interface = interface or Interface()
        self.turns = TurnQueue(self.acceptor, self.held, self._meet)
        self.leaving = Drain(config.graceful_timeout)
        self.crew = self._interface.crew(config.threads, slot, log)
        self._hear(self.crew.bell)
        self.deadlines = _deadlines(config, last_call)
        self.host = Host(
            self._epoll,
            self._connections,
            self.crew,
            self.deadlines,
            self.held,
            self.turns,
            self.warm_up,
            self.leaving,
            self.activity,
            self.server,
        )
        if config.access_log or config.log_slow:
            # In here: only a worker with an access log needs it, and that has one from
            # the start
            from spyglass.worker.access_log import AccessLog

            self.server.access = AccessLog(config.access_log, config.log_slow, log, self)

    # What the process asks for

    def open_door(self, fd: int, callback: Callable[[], None], events: int = EPOLLIN) -> None:
        """Call `callback` when `fd` is ready."""
        self._doors[fd] = callback
        self.acceptor.reserved.add(fd)
        self._epoll.register(fd, events)

    def close_door(self, fd: int) -> None:
        """Undo open_door()."""
        del self._doors[fd]
        self.acceptor.reserved.discard(fd)
        self._epoll.unregister(fd)

    def run(self) -> None:
        """Serve until drained."""
        self._slot[scoreboard.STATE] = scoreboard.ACCEPTING
        self.crew.run(self.lead)

    def lead(self, slow: int | None) -> None:
        """Serve until drained, or until the lead is lost (Demoted). `slow` is a
        descriptor: the last leader has lost the lead over a call for that connection.
        """
        if slow is not None:
            self.host.detach(slow)
        self._settle()
        while not self.finished:
            self.turn()
        self.conclude()

    def conclude(self) -> None:
        """It is finished: accept nothing more, and say what is left to say."""
        self.acceptor.stop()
        if self._slot[scoreboard.HOLDS]:
            self.server.log.warning(
                f"leaving after {self.leaving.graceful:g} s (graceful_timeout) though the app wants to stay awake"
            )
        if self.server.access is not None:
            self.server.access.write()

    def tell_after(self, requests: int, tell: Callable[[], None]) -> None:
        """Call `tell` once, in the turn in which so many `requests` have been
        answered.
        """
        self._tell_at, self._tell = requests, tell

    def quiesce(self, quiesced: bool) -> None:
        """See Acceptor."""
        self.acceptor.quiesce(quiesced)

    def part(self) -> None:
        """No open connection keeps the app awake: close what would not end by itself.
        All others part with their next answer.
        """
        for connection in list(self._connections.values()):
            connection.part()

    def drain(self) -> None:
        """Finish what was accepted and accept nothing new; cut what is left after
        `graceful_timeout`.
        """
        self.leaving.limit(monotonic())
        self.retire()

    def retire(self) -> None:
        """Drain, but cut nothing: the Master does not wait for this worker's exit."""
        if self.server.draining:
            return
        self.server.draining = True
        self.leaving.begin(monotonic())
        self._slot[scoreboard.STATE] = scoreboard.DRAINING
        self.acceptor.close()
        for connection in list(self._connections.values()):
            connection.last_call()

    def abandon(self, stray: Log, back: Callable[[], NoReturn]) -> None:
        """In a process that the app has forked: let go of all that is the worker's. The
        thread that comes back from the app logs to `stray`, and calls `back`.
        """
        # First: the epoll is shared with the worker, and to unregister here would be to
        # unregister there (epoll(7)).
        self._epoll.close()
        for connection in self._connections.values():
            # A client waits for the end of its connection, and that is the end of the
            # last copy.
            connection.socket.close()
        self.crew.abandon(back)
        self.server.log = stray

    # A turn

    def turn(self) -> None:
        """Wait once, and do what has become possible."""
        self.serve(self.wait(self.prepare()))

    def prepare(self) -> float | None:
        """Do what precedes the wait; return for how many seconds to wait, at most.
        None: for any time.
        """
        self.acceptor.prepare()
        access = self.server.access
        if access is not None and access.due:
            access.write()  # of the last turn, however that has ended
        return self._patience()

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait before anything is served: nothing of the worker's own is ready yet."""
        return self._epoll.poll(timeout)

    def wait(self, patience: float | None) -> list[tuple[int, int]]:
        """Return what is ready, as epoll.poll() does, after at most `patience`
        seconds.
        """
        server, leaving = self.server, self.leaving
        asked_at = monotonic() if leaving.cut_at else 0.0
        if len(self._connections) < _EVENTS:
            events = self._epoll.poll(patience)
        else:
            # All of them: a deadline must not be held against a client because what it
            # has sent was not among the first.
            most = len(self._connections) + len(self.acceptor.reserved)
            events = self._epoll.poll(patience, most)
        # Taken before the app is called: what a client sends meanwhile is read in the
        # next turn, before its deadline is looked at. A worker that is busy keeps the
        # others waiting; that is its time, not theirs.
        heard_at = monotonic()
        if leaving.cut_at:
            leaving.waited(asked_at, patience, heard_at)
        if heard_at >= server.next_second:
            server.tell_the_time(heard_at)
        self._woken_at = self.turns.began = heard_at
        return events

    def serve(self, events: list[tuple[int, int]]) -> None:
        """Do what has become possible by `events`, and what has fallen due. What is not
        the worker's own is left to the caller.
        """
        self._take_note(events)
        if self.crew.returned:
            self._take_back()
        # Not by the time of this turn. Between the look and the clock, or while
        # waiting, the whole process may have been stopped (SIGSTOP; the wait is over
        # then without a look, PEP 475). What arrived before the last turn's time has
        # been noted by now.
        now, self._heard_at = self._heard_at, self._woken_at
        self._expire(now)
        self.turns.serve(self.crew)
        self._settle()

    def _take_note(self, events: list[tuple[int, int]]) -> None:
        connections = self._connections
        queue = self.turns.ready
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
            else:
                # It may also have been a connection until a door made room for others,
                # or be the app's own, of which only an event loop knows.
                self.acceptor.call(fd)

    def _settle(self) -> None:
        """Do what a turn leaves to be done, however it has ended."""
        held = self.held
        held.holding = False
        if held.pending or held.tried:
            held.look(monotonic())
            held.let_go()
        if self.deadlines.late:
            # What those clients have sent was not enough. One that never stops sending
            # is always queued when the deadlines are checked.
            for connection, kind in self.deadlines.overdue(self._heard_at):
                connection.state.on_deadline(connection, kind)
        served = self.server.served
        self._slot[scoreboard.SERVED] = served
        self.server.meter.write()
        if served >= self._tell_at and self._tell is not None:
            self._tell_at = _NEVER
            self._tell()
        if not self.warm_up.done and (served or self._any_asked()):
            self.warm_up.run(monotonic())
        if self.crew.crowded:
            self.crew.resign()

    def _any_asked(self) -> bool:
        """Return True if the app has been called: its first answer may have no end."""
        return any(each.asked for each in self._connections.values())

    def _patience(self) -> float | None:
        """Return the seconds until something falls due, or it is time to look whether
        it has; None: nothing will.
        """
        acceptor = self.acceptor
        if self.turns.ready or acceptor.callers or self.crew.returned:
            return 0
        due = self.deadlines.next()
        if self.server.draining:
            over = self.leaving.due(monotonic(), not self.activity.open)
            if over is not None:
                due = over if due is None else min(due, over)
        for when in (acceptor.resume_at, acceptor.room.look_at):
            if when:
                due = when if due is None else min(due, when)
        # epoll_wait(2) counts in milliseconds and Python rounds up, so a deadline that
        # woke us has passed.
        return None if due is None else max(0.0, min(due - monotonic(), LONGEST_WAIT))

    def _hear(self, bell: int) -> None:
        if bell >= 0:
            self.open_door(bell, self._bell_rang)

    def _bell_rang(self) -> None:
        empty(self.crew.bell)

    def _take_back(self) -> None:
        """Send what was made in other threads."""
        returned = self.crew.returned
        for _ in range(len(returned)):
            exchange, piece = returned.popleft()
            self.crew.ended(exchange)
            exchange.connection.resume(piece)

    def _expire(self, now: float) -> None:
        for connection, kind in self.deadlines.expired(now):
            connection.state.on_deadline(connection, kind)
        if self.acceptor.resume_at and now >= self.acceptor.resume_at:
            self.acceptor.resume_at = 0.0
        if self.leaving.cut_at and now >= self.leaving.cut_at:
            self._cut()

    def _cut(self) -> None:
        """End what has not ended in time. Again in each turn that is left: the lead may
        be lost in here, and calls may come back.
        """
        if not self.leaving.cutting and self._connections:
            self.server.log.warning(
                f"cutting {len(self._connections)} connections after {self.leaving.graceful:g} s of draining"
            )
        self.leaving.cutting = True
        for connection in list(self._connections.values()):
            connection.cut()

    @property
    def finished(self) -> bool:
        """True when it drains, and nothing is left to be waited for."""
        return self.server.draining and self.leaving.finished(
            monotonic(), self.activity.open, self._slot[scoreboard.HOLDS]
        )

    def _meet(
        self, socket: ClientSocket, address: Any, listener: Listener, visit: Visit | None
    ) -> ConnectionBase:
        return self._interface.meet(self.host, self.server, socket, address, listener, visit)


def _deadlines(config: Config, last_call: float) -> Deadlines:
    # In the order of the kinds in timers.py
    timeouts = config.header_timeout, config.body_timeout, config.write_timeout
    return Deadlines(
        [
            *timeouts,
            *(config.keepalive_timeout, last_call, _LINGER, config.request_timeout, _OBEY, 0.0),
            config.websocket_ping,
        ]
    )
