"""What the connections of a loop share, and what they ask of it: to be called when
their socket is ready or a deadline has passed, to be called again, to be forgotten.

All of it belongs to the leader (leader_followers.py).
"""

from __future__ import annotations

from spyglass.worker.connection_states import DETACHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select

    from spyglass.runtime.timers import Deadlines
    from spyglass.worker.acceptor import Activity
    from spyglass.worker.connection_base import ConnectionBase, Visit
    from spyglass.worker.connection_states import State
    from spyglass.worker.drain import Drain
    from spyglass.worker.leader_followers import Crew
    from spyglass.worker.response_writer import Held
    from spyglass.worker.server import Server
    from spyglass.worker.solo import Solo
    from spyglass.worker.turn_queue import TurnQueue
    from spyglass.worker.warm_up import WarmUp


class Host:
    """The loop's parts, as its connections need them; `connections` are those that are
    open, by their descriptors.
    """

    __slots__ = (
        *("_activity", "_epoll", "_leaving", "_server"),
        *("connections", "crew", "deadlines", "held", "turns", "warm_up"),
    )

    def __init__(
        self,
        epoll: select.epoll,
        connections: dict[int, ConnectionBase],
        crew: Crew | Solo,
        deadlines: Deadlines,
        held: Held,
        turns: TurnQueue,
        warm_up: WarmUp,
        leaving: Drain,
        activity: Activity,
        server: Server,
    ) -> None:
        self._epoll = epoll
        self._leaving = leaving
        self._activity = activity
        self._server = server
        self.connections = connections
        self.crew = crew
        self.deadlines = deadlines
        self.held = held
        self.turns = turns
        self.warm_up = warm_up

    @property
    def cutting(self) -> bool:
        """True when the time to drain is over."""
        return self._leaving.cutting

    def watch(self, connection: ConnectionBase, events: int) -> None:
        """Give `connection` a turn when its socket is ready for `events`."""
        if connection.watched == events:
            return
        if connection.watched:
            self._epoll.modify(connection.fd, events)
        else:
            self._epoll.register(connection.fd, events)
        connection.watched = events

    def _unwatch(self, connection: ConnectionBase) -> None:
        if connection.watched:
            self._epoll.unregister(connection.fd)
            connection.watched = 0

    def again(self, connection: ConnectionBase, state: State) -> None:
        """Give `connection` a turn after the others that wait, in this `state`."""
        self.deadlines.clear(connection)
        connection.state = state
        self.turns.enqueue(connection)

    def detach(self, fd: int) -> None:
        """Another thread works for the connection `fd`. What its client sends meanwhile
        must wait, and not wake us again and again.
        """
        connection = self.connections.get(fd)
        if connection is not None:
            self.deadlines.clear(connection)
            connection.state = DETACHED
            self._unwatch(connection)
        # There is one thread less that could take the lead if the next call is a long
        # one. No answer may be held for that long.
        self.held.holding = False
        self.held.let_go()

    def forget(self, connection: ConnectionBase) -> None:
        """It is about to be closed; `ended()` follows when its end is complete."""
        self.deadlines.forget(connection)
        self._unwatch(connection)
        del self.connections[connection.fd]

    def replace(self, connection: ConnectionBase, other: ConnectionBase) -> None:
        """Have `other` take the place of `connection`, with its socket."""
        self.deadlines.forget(connection)
        other.watched, connection.watched = connection.watched, 0
        self.connections[other.fd] = other

    def ended(self, connection: ConnectionBase) -> None:
        """It has ended, and so has all that the app does for it."""
        self._activity.leave(connection.visit, self._server.served)

    def branch(self, connection: ConnectionBase) -> Visit | None:
        """A call of the app's goes on when its connection does not need it any more.
        branch_ended() follows, with what this returns.
        """
        return self._activity.branch(connection.visit)

    def branch_ended(self, visit: Visit | None) -> None:
        """That call has returned."""
        self._activity.leave(visit, self._server.served)
