"""Deadlines of connections, O(1) each: however many connections wait, setting, clearing and looking cost the same.

All deadlines of one kind lie equally far ahead, so in order of setting is in order of falling due, and a dict keeps that order.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Timed:
    """Whoever has a deadline: `deadline` (int or None) is its kind."""

    __slots__ = ("deadline",)

    def __init__(self) -> None:
        self.deadline: int | None = None

HEAD, BODY, WRITE, IDLE, LAST_CALL, LINGER = range(6)


class Deadlines:
    """`durations` (list of float, seconds) by kind. A connection has one deadline at a time."""

    def __init__(self, durations: list[float]) -> None:
        self._durations = durations
        self._queues: list[dict[Timed, float]] = [{} for _ in durations]

    def set(self, connection: Timed, kind: int, now: float) -> None:
        """Start the deadline `kind` afresh at `now` (monotonic seconds)."""
        self.clear(connection)
        self._queues[kind][connection] = now + self._durations[kind]
        connection.deadline = kind

    def clear(self, connection: Timed) -> None:
        if connection.deadline is not None:
            del self._queues[connection.deadline][connection]
            connection.deadline = None

    def next(self) -> float | None:
        """When the first of them falls due, or None."""
        firsts = [next(iter(queue.values())) for queue in self._queues if queue]
        return min(firsts) if firsts else None

    def expired(self, now: float) -> list[tuple[Any, int]]:
        """Those that have fallen due, cleared."""
        due = []
        for kind, queue in enumerate(self._queues):
            for connection, when in queue.items():
                if when > now:
                    break
                due.append((connection, kind))
        for connection, _ in due:
            self.clear(connection)
        return due
