"""Serve what is ready in the order in which it became ready.

There is one queue of connections, first come, first served. A connection stands in it
at most once, also when it was not the socket that made it ready but an answer that is
not finished. New clients are accepted to its end, no more of them than wait there
already: the others stay in the kernel's queue, where a worker that has less to do can
take them. After _TURN seconds, or a longer call, the turn is over: new events, signals
and deadlines wait for no more than one call of the app.

A leader may lose the lead while it serves. What it has not served is still in the
queue, and the next leader's turn begins there.
"""

from __future__ import annotations

from time import monotonic

from spyglass.runtime.fast_imports import deque
from spyglass.worker.acceptor import ACCEPTED_A_TURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.acceptor import Acceptor
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import ConnectionBase, Visit
    from spyglass.worker.leader_followers import Crew
    from spyglass.worker.response_writer import Held
    from spyglass.worker.solo import Solo


_TURN = 0.005  # seconds of serving after which the loop looks at what has arrived meanwhile


class TurnQueue:
    """The connections that are `ready`. What is ready was known when the turn `began`,
    and nothing more is begun after its `end` (both monotonic). `meet` makes a
    connection of what was accepted.
    """

    __slots__ = ("_acceptor", "_held", "_meet", "began", "end", "ready")

    def __init__(
        self,
        acceptor: Acceptor,
        held: Held,
        meet: Callable[[ClientSocket, Any, Listener, Visit | None], ConnectionBase],
    ) -> None:
        self.ready: deque[ConnectionBase] = deque()
        self.began = self.end = 0.0
        self._acceptor = acceptor
        self._held = held
        self._meet = meet

    def enqueue(self, connection: ConnectionBase) -> None:
        """Give it a turn after those that are ready already."""
        if not connection.queued:
            connection.queued = True
            self.ready.append(connection)

    def serve(self, threads: Crew | Solo) -> None:
        """Serve what is ready, each connection at most once, until the time is up."""
        queue, callers, held = self.ready, self._acceptor.callers, self._held
        now = monotonic()
        self.end = end = now + _TURN
        if len(queue) == 1 and not callers:
            # Most turns of a worker that has little to do: nothing can be held, for
            # nothing else waits.
            connection = queue.popleft()
            connection.queued = False
            connection.state.on_turn(connection)
            return
        held.begin(now, end)
        if queue and callers:
            # No more than wait here already: the others are left to workers that have
            # less to do.
            for _ in range(min(len(queue), ACCEPTED_A_TURN)):
                newcomer = self._acceptor.accept(self._meet)
                if newcomer is None:
                    break
                self.enqueue(newcomer)
        held.holding = (len(queue) > 1 or bool(callers)) and threads.ample
        for _ in range(len(queue)):
            connection = queue.popleft()
            connection.queued = False
            connection.state.on_turn(connection)
            now = monotonic()
            if now >= held.look_at:
                held.look(now)
                if now >= end:
                    return
        if not queue and callers:
            # Its request is most often there already, and then it need not be watched.
            # It is served before the next is accepted: a client that waits behind a
            # long call is still there for another worker.
            for _ in range(ACCEPTED_A_TURN):
                newcomer = self._acceptor.accept(self._meet)
                if newcomer is None:
                    return
                newcomer.state.on_turn(newcomer)
                now = monotonic()
                if now >= held.look_at:
                    held.look(now)
                    if now >= end:
                        return
