"""Which worker to replace, and when: max_requests and max_memory. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.policy.worker_slot import Slot

_JITTER = 0.2  # of max_requests
_GOLDEN = 0.618033988749895


def request_limit(max_requests: int, number: int) -> int:
    """Return after how many requests the `number`th worker of a generation (int, from
    0) is recycled; 0: never.

    It is up to a fifth less than `max_requests`: workers that share the load evenly
    must not become due together. Multiples of the golden ratio spread any number of
    workers evenly; random numbers would often put two of them close together.
    """
    return max_requests - int(max_requests * _JITTER * (number * _GOLDEN % 1.0))


def worn_out(slots: Iterable[Slot], max_memory: int) -> Slot | None:
    """Return the worker to recycle next, or None: the largest one beyond `max_memory`
    (bytes; 0: no limit), else the one furthest beyond its limit of requests.

    A worker that has answered nothing is never due. If the limit is too low for the
    app, workers are then replaced as requests come, and not in an endless loop. Nor is
    one due that the app keeps awake: recycling it, and all others, would have to wait.
    """
    used = [slot for slot in slots if slot.served and not slot.holds]
    heavy = [slot for slot in used if max_memory and slot.memory > max_memory]
    old = [slot for slot in used if slot.limit and slot.served >= slot.limit]
    if heavy:
        return max(heavy, key=lambda slot: slot.memory)
    return max(old, key=lambda slot: slot.served - slot.limit, default=None)
