"""Which worker to replace, and when: max_requests and max_memory. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.policy.worker_slot import Slot

_JITTER = 0.2  # of max_requests
_GOLDEN = 0.618033988749895


def request_limit(max_requests: int, number: int) -> int:
    """After how many requests the `number`th worker of a generation (int, from 0) is to
    be recycled; 0: never.

    Up to a fifth less than `max_requests`: workers that share the load evenly must not
    become due together. Multiples of the golden ratio keep each worker as far as can be
    from those before it; chance would put every other pair close together.
    """
    return max_requests - int(max_requests * _JITTER * (number * _GOLDEN % 1.0))


def worn_out(slots: Iterable[Slot], max_memory: int) -> Slot | None:
    """The worker that is to be recycled next: the largest beyond `max_memory` (bytes;
    0: no limit), else who is furthest beyond its limit.

    Who has answered nothing is never due: under a limit that is too low for the app
    only requests wear out workers, not the time. Nor is one that the app keeps awake:
    it would have to be waited for, and all others with it.
    """
    used = [slot for slot in slots if slot.served and not slot.holds]
    heavy = [slot for slot in used if max_memory and slot.memory > max_memory]
    old = [slot for slot in used if slot.limit and slot.served >= slot.limit]
    if heavy:
        return max(heavy, key=lambda slot: slot.memory)
    return max(old, key=lambda slot: slot.served - slot.limit, default=None)
