"""What `systemctl status` shows of the app (STATUS=, sd_notify(3)). Pure: facts in, one
line out.

The first word is the app's state, and `spyglass list` reads it: waking, awake, failing
or leaving.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.policy.worker_slot import Slot

_NEVER = float("inf")


def waking(app: str, *, waits: bool) -> str:
    """`waits` (bool): the processes before must exit first."""
    doing = "waiting for the old process to exit, then loading" if waits else "loading"
    return f"waking: {doing} {app or 'the welcome page'}"


def awake(
    workers: int,
    slots: list[Slot],
    served: int,
    exits_in: float = _NEVER,
    *,
    reloading: bool = False,
    reload_failure: str = "",
) -> str:
    """`slots` are those of all processes, `served` (int) the requests of workers that
    have ended. `exits_in` (seconds) is inf when it does not leave by itself.
    """
    connections = count(sum(slot.open for slot in slots), "connection")
    websockets = sum(slot.websockets for slot in slots)
    if websockets:
        what = "a WebSocket" if websockets == 1 else "WebSockets"
        connections += f", {websockets} of them {what}"
    served += sum(slot.served for slot in slots)
    quiet = why_awake(slots)
    if exits_in < _NEVER and not any(slot.busy for slot in slots):
        quiet = f"; idle, exits in {max(0.0, exits_in):.0f} s"
    reload = "; loading another generation" if reloading else ""
    if reload_failure:
        reload = f"; reload failed: {reload_failure}"
    return (
        f"awake: {count(workers, 'worker')}, {connections}, "
        f"{count(served, 'request')} served{quiet}{reload}"
    )


def why_awake(slots: list[Slot]) -> str:
    """Return that the app asked to stay awake, and its reason, as the end of a line; ""
    if it did not.
    """
    holding = [slot for slot in slots if slot.holds]
    reason = next((slot.reason for slot in holding if slot.reason), "the app asks for it")
    return f"; stays awake: {reason}" if holding else ""


def failing(why: str) -> str:
    return f"failing: {why}"


def leaving(open: int) -> str:
    """`open` (int) connections are still to be finished."""
    return f"leaving: {count(open, 'connection')} to finish" if open else "leaving"


def count(number: int, noun: str) -> str:
    """ "1 worker", "2 workers"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
