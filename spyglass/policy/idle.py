"""When an idle app may exit. Pure: facts and a time go in, a time comes out.

Times are monotonic seconds (float).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.policy.worker_slot import Slot


def quiet_at(slots: Iterable[Slot], since: float, now: float) -> float:
    """Since when nothing has been open anywhere: the latest activity, not before
    `since`; `now` while one of them is busy.
    """
    latest = since
    for slot in slots:
        if slot.busy:
            return now
        latest = max(latest, slot.activity)
    return latest


def leave_at(slots: Iterable[Slot], since: float, now: float, idle_timeout: float) -> float | None:
    """When it will be time to leave if nobody comes; None for never.

    While a connection is open, or held, nobody can leave earlier than `idle_timeout`
    from now: looking again then loses no time, so nothing needs to be told when that
    ends.
    """
    return quiet_at(slots, since, now) + idle_timeout if idle_timeout else None


def quiesced(slots: Iterable[Slot], order: int) -> bool:
    """True when every worker has stopped accepting in obedience to `order`."""
    return all(slot.answer == order for slot in slots)
