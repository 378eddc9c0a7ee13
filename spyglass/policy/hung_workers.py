"""Which workers hang: in a call that exceeds request_timeout, or without any sign of
life. Pure: facts and a time go in, a verdict comes out.

Times are monotonic seconds (float).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.policy.worker_slot import Slot

_ANSWER = (
    10.0  # seconds in which a worker shows that its loop turns, on a machine that has a lot to do
)
_NEVER = float("inf")


def overdue(
    slots: Iterable[Slot], now: float, request_timeout: float, since: float = 0.0
) -> list[Slot]:
    """Return the workers in which the app has been working on one request for
    `request_timeout` without giving any output.

    Time before `since` (monotonic seconds) does not count.
    """
    return [
        slot
        for slot in slots
        if slot.call_since and now - max(slot.call_since, since) >= request_timeout
    ]


def overdue_at(
    slots: Iterable[Slot], now: float, request_timeout: float, since: float = 0.0
) -> float:
    """Return when a worker may be overdue at the earliest. A call that has not begun
    yet cannot be overdue before `request_timeout` from now.
    """
    return (
        min(
            (max(slot.call_since, since) if slot.call_since else now for slot in slots), default=now
        )
        + request_timeout
    )


class Pulse:
    """The signs of life of one worker: when something `moved` last, and since when it
    has been `asked` for one (0: it has not).

    `ask_at` is when to ask for one, `stuck_at` when the worker is taken for hung.
    """

    __slots__ = ("_seen", "ask_at", "asked", "moved", "stuck_at")

    def __init__(self, now: float) -> None:
        self.moved = now
        self.asked = 0.0
        self.ask_at = self.stuck_at = _NEVER
        self._seen: object = None

    def feel(self, slot: Slot, owes: bool, request_timeout: float, now: float) -> None:
        """Look at its `slot`. `owes` (bool): it should react at once, to an order or to
        a connection in a listener's queue.

        A worker with a connection may be in a call that it could not note, and a call
        has `request_timeout`. So has what the app does in the background while it asks
        to stay awake. Other workers have no reason not to react. A call that is noted
        is watched by itself, see overdue().
        """
        seen = (slot.served, slot.activity, slot.call_since, slot.heard)
        if seen != self._seen:
            self._seen, self.moved, self.asked = seen, now, 0.0
        self.ask_at = self.stuck_at = _NEVER
        if slot.call_since or not (slot.open or owes):
            return
        if not self.asked:
            self.ask_at = self.moved + request_timeout / 2 if slot.open else now
        elif slot.open or slot.holds:
            self.stuck_at = max(
                self.moved + request_timeout, self.asked + min(_ANSWER, request_timeout / 2)
            )
        else:
            self.stuck_at = self.asked + min(_ANSWER, request_timeout)
