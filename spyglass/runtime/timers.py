"""Keep the deadlines of connections: O(1) each, and next to nothing for a busy one.

A busy connection's deadline moves with every request and nearly never passes. So it is
kept on the connection itself, and the wheel only knows a moment at which to look, never
later than the deadline. Setting a later deadline is two attributes. When that moment
comes and the deadline has moved on, the connection is put where it belongs now (the
lazy timers of the kernel's TCP and of nginx work like this).

The wheel's slots are 1/128 s wide: a deadline passes up to that much late, never early.
It does not pass at all while its connection is queued, that is, ready and waiting for
the worker: that is the worker's delay, not the client's.
"""

from __future__ import annotations

from spyglass.runtime.fast_imports import heappop, heappush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

# The kinds. Each is a number of its own, which compiled code has in place.
HEAD: Final = 0
BODY: Final = 1
WRITE: Final = 2
IDLE: Final = 3
LAST_CALL: Final = 4
LINGER: Final = 5
# Of a call of an ASGI app, which has a deadline of its own: until its response begins,
# or since its client has gone; and until it has obeyed a cancellation.
CALL: Final = 6
CANCEL: Final = 7
# Of a stream of such an app: until it is left, as the worker drains
LEAVE: Final = 8
SILENCE: Final = 9  # of a WebSocket's client, see websocket_session.py

_NEVER = float("inf")
_WIDTH: Final = 1 / 128
_RECHECK = (
    1 / 8
)  # seconds until a deadline is looked at again that had passed while its connection was queued


class Timed:
    """What has a deadline: `deadline` (int or None) is its kind, `due` (monotonic
    seconds) when it passes.

    `queued` (bool): it waits in the worker's queue, and no deadline passes meanwhile.
    """

    __slots__ = ("deadline", "due", "queued", "slot")

    def __init__(self) -> None:
        self.deadline: int | None = None
        self.due = _NEVER
        self.queued = False
        self.slot = _NEVER  # where it is in the wheel: not after `due`, unless that has passed


class Deadlines:
    """`durations` (list of float, seconds) by kind. A connection has one deadline at a
    time.
    """

    def __init__(self, durations: list[float]) -> None:
        self._durations = durations
        self.late: set[Timed] = set()  # their deadlines have passed while they were queued
        self._wheel: dict[float, set[Timed]] = {}
        self._slots: list[
            float
        ] = []  # a heap of the wheel's keys, and of some that are gone from it

    def set(self, connection: Timed, kind: int, now: float) -> None:
        """Start the deadline `kind` at `now` (monotonic seconds), in the place of any
        other.
        """
        connection.deadline = kind
        connection.due = due = now + self._durations[kind]
        if due + _WIDTH <= connection.slot:
            self._move(connection, due)

    def clear(self, connection: Timed) -> None:
        """Set no deadline. The wheel forgets the connection when it comes to it."""
        connection.deadline = None
        connection.due = _NEVER

    def forget(self, connection: Timed) -> None:
        """Keep no reference to `connection`: it is closed."""
        self.clear(connection)
        self.late.discard(connection)
        self._take_out(connection)

    def next(self) -> float | None:
        """Return when to call `expired()` next (monotonic seconds), or None. That is
        not after the first deadline, perhaps before.
        """
        slots = self._slots
        while slots and slots[0] not in self._wheel:
            heappop(slots)
        return slots[0] if slots else None

    def expired(self, now: float) -> list[tuple[Any, int]]:
        """Return the connections that are late, and the kinds of their deadlines, which
        are cleared.
        """
        passed: list[tuple[Any, int]] = []
        while (slot := self.next()) is not None and slot <= now:
            heappop(self._slots)
            for connection in self._wheel.pop(slot):
                connection.slot = _NEVER
                if connection.deadline is None:
                    continue
                if connection.due > now:
                    self._move(connection, connection.due)
                elif connection.queued:
                    self.late.add(connection)
                    self._move(connection, now + _RECHECK)
                else:
                    passed.append((connection, connection.deadline))
                    self.clear(connection)
        return passed

    def overdue(self, now: float) -> list[tuple[Any, int]]:
        """Return the same of those that were queued then, and are not any more."""
        passed: list[tuple[Any, int]] = []
        for connection in [each for each in self.late if not each.queued]:
            self.late.discard(connection)
            if connection.deadline is not None and connection.due <= now:
                passed.append((connection, connection.deadline))
                self.clear(connection)
        return passed

    def _move(self, connection: Timed, due: float) -> None:
        self._take_out(connection)
        connection.slot = slot = (
            -(-due // _WIDTH) * _WIDTH
        )  # rounded up; a power of two, so exactly
        there = self._wheel.get(slot)
        if there is None:
            self._wheel[slot] = {connection}
            heappush(self._slots, slot)
        else:
            there.add(connection)

    def _take_out(self, connection: Timed) -> None:
        there = self._wheel.get(connection.slot)
        if there is not None:
            there.discard(connection)
            if not there:
                # Else an idle process would wake for nothing.
                del self._wheel[connection.slot]
        connection.slot = _NEVER
