"""When an idle app may exit. Pure: facts and a time go in, a time comes out.

Times are monotonic seconds (float).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.policy.worker_slot import Slot

_NEVER = float("inf")


def idle_since(slots: Iterable[Slot], since: float, now: float) -> float:
    """Return the latest activity in any of `slots`, but not before `since`; `now` while
    one of them is busy.
    """
    latest = since
    for slot in slots:
        if slot.busy:
            return now
        latest = max(latest, slot.activity)
    return latest


def exit_at(slots: Iterable[Slot], since: float, now: float, idle_timeout: float) -> float:
    """Return when the app may exit if no client comes; inf for never.

    While a connection is open, that is at least `idle_timeout` from now. Looking again
    only then loses no time, so no worker needs to tell when its connection ends.
    """
    return idle_since(slots, since, now) + idle_timeout if idle_timeout else _NEVER


def quiesced(slots: Iterable[Slot], order: int) -> bool:
    """Return True if every worker has stopped accepting in obedience to `order`."""
    return all(slot.answer == order for slot in slots)
