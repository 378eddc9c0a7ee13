"""The states of a connection, as a table: what each one does when its turn in the
loop's queue has come, and when its deadline has passed.

The turn comes when the socket is ready for what the state waits for, or is broken, or
when the connection has asked for a turn. The methods are those of connection.py.

    GREETING    waits for the PROXY header that comes before all else (proxy_protocol)
    READING     waits for the rest of a request, or for the next one
    RESPONDING  waits until the socket takes more of the response. No request is read
                meanwhile, which bounds what a client can make us keep.
    YIELDING    could go on with the response, but lets the others have their turn
    DETACHED    waits for the app's call, which is made in another thread
    STALLED     the socket has not been ready for write_timeout
    EVICTED     is to be closed, for other clients wait for its place
    LINGERING   the last answer is out. What the client still sends is dropped: to close
                on unread bytes could destroy the answer (request_receiver.py).
    CLOSED      does nothing any more
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class State:
    """A row of the table. `on_turn` is called with the connection, `on_deadline` with
    the connection and the kind of the deadline: methods, once bind() has found them.
    """

    __slots__ = ("_deadline", "_turn", "name", "on_deadline", "on_turn")

    on_turn: Callable[[Any], None]
    on_deadline: Callable[[Any, int], None]

    def __init__(self, name: str, turn: str, deadline: str) -> None:
        self.name = name
        self._turn = turn
        self._deadline = deadline

    def __repr__(self) -> str:
        return self.name

    def bind(self, kind: type) -> None:
        """Find the methods in the class of the connections."""
        self.on_turn = getattr(kind, self._turn)
        self.on_deadline = getattr(kind, self._deadline)


# A deadline is set in four of the states. Whatever leads to another one clears it.
STATES = (
    #     state         its turn has come  its deadline has passed
    State("GREETING",   "greet",           "leave_idle"),
    State("READING",    "read",            "leave_late"),
    State("RESPONDING", "proceed",         "stall"),
    State("YIELDING",   "go_on",           "ignore"),
    State("DETACHED",   "ignore",          "ignore"),
    State("STALLED",    "judge_reader",    "ignore"),
    State("EVICTED",    "leave_evicted",   "ignore"),
    State("LINGERING",  "drop",            "leave_idle"),
    State("CLOSED",     "ignore",          "ignore"),
)  # fmt: skip
GREETING, READING, RESPONDING, YIELDING, DETACHED, STALLED, EVICTED, LINGERING, CLOSED = STATES
