"""Policy, pure: from facts and the time to decisions. No process is touched here and no
clock is read.

Times are monotonic seconds (float) unless a name says otherwise.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SETTLED = 10.0  # a worker that has lived this long was not born broken
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_BORN_DEAD = 4
_UNFORKED = 6  # tries in a row, for three seconds
_LONGEST_RETRY = 10.0
_JITTER = 0.2  # of max_requests
_ANSWER = (
    10.0  # seconds in which a worker shows that its loop turns, on a machine that has a lot to do
)
_NEVER = float("inf")
_GOLDEN = 0.618033988749895


class Slot:
    """What the scoreboard says of one worker, as a value; and its `memory`, bytes, 0 if
    nobody has looked.

    `ignored` (int) of the open connections do not put off the leaving. `holds` (int)
    and `reason` (str) are of stay_awake(); a zygote has nothing else.
    """

    __slots__ = (
        *(
            "activity",
            "answer",
            "call_since",
            "heard",
            "holds",
            "ignored",
            "limit",
            "memory",
            "number",
            "open",
            "reason",
            "served",
        ),
        "state",
    )

    def __init__(
        self, number: int, state: int, open: int, served: int, activity: float, call_since: float, answer: int,
        limit: int = 0, memory: int = 0, ignored: int = 0, holds: int = 0, reason: str = "", heard: float = 0.0,
    ) -> None:  # fmt: skip
        self.number = number
        self.state = state
        self.open = open
        self.served = served
        self.activity = activity
        self.call_since = call_since
        self.answer = answer
        self.limit = limit
        self.memory = memory
        self.ignored = ignored
        self.holds = holds
        self.reason = reason
        self.heard = heard

    @property
    def busy(self) -> bool:
        """True while it puts off the leaving: somebody is connected who is not ignored,
        or the app wants to stay awake.
        """
        return self.open > self.ignored or self.holds > 0


def patience(due: Iterable[float | None], looked: float, now: float) -> float | None:
    """Seconds to wait for the first of these times; None: only an event can change
    anything.

    What had come at the last look, at `looked`, was looked at and waits for an event.
    What has come since then was not, and is not waited for: a look takes some time, and
    a time that fell into it would never be looked at.
    """
    ahead = [when for when in due if when is not None and when > looked]
    return max(0.0, min(ahead) - now) if ahead else None


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


def why_awake(slots: Iterable[Slot]) -> str:
    """The rest of a status line: that the app holds off the leaving, and the reason
    that it gives; "" if it does not.
    """
    holding = [slot for slot in slots if slot.holds]
    reason = next((slot.reason for slot in holding if slot.reason), "the app asks for it")
    return f"; stays awake: {reason}" if holding else ""


def overdue(
    slots: Iterable[Slot], now: float, request_timeout: float, since: float = 0.0
) -> list[Slot]:
    """The workers whose app has been working on one request for `request_timeout`
    without giving any output.

    What was before `since` (monotonic seconds) does not count.
    """
    return [
        slot
        for slot in slots
        if slot.call_since and now - max(slot.call_since, since) >= request_timeout
    ]


def overdue_at(
    slots: Iterable[Slot], now: float, request_timeout: float, since: float = 0.0
) -> float:
    """When a worker may be overdue at the earliest: a call that has not begun yet
    cannot be before `request_timeout` from now.
    """
    return (
        min(
            (max(slot.call_since, since) if slot.call_since else now for slot in slots), default=now
        )
        + request_timeout
    )


class Pulse:
    """What is heard of one worker: when something `moved` last, and since when it has
    been `asked` for a sign of life (0: it has not).

    `ask_at` and `stuck_at` say when that is to be done, and when it is to be given up.
    """

    __slots__ = ("_seen", "ask_at", "asked", "moved", "stuck_at")

    def __init__(self, now: float) -> None:
        self.moved = now
        self.asked = 0.0
        self.ask_at = self.stuck_at = _NEVER
        self._seen: object = None

    def feel(self, slot: Slot, owes: bool, request_timeout: float, now: float) -> None:
        """Look at its `slot`. `owes` (bool): it is expected to react at once, to an
        order or to somebody in the listeners' queue.

        Who holds a connection may be in a call that it could not tell of, and a call
        has `request_timeout`; so has what the app does in the background while it wants
        to stay awake. Others have nothing to keep them from reacting. A call that is
        known of is watched by itself, see overdue().
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


def quiesced(slots: Iterable[Slot], order: int) -> bool:
    """True when every worker has stopped accepting in obedience to `order`."""
    return all(slot.answer == order for slot in slots)


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


class Streak:
    """What goes wrong with a generation's workers in a row: whether to go on at once,
    after a pause, or not at all.

    `limit` (int): so many workers that died young, one after the other and not a
    request answered meanwhile, make the generation hopeless. One that died with a
    visitor in hand was not born broken, and may be the victim of what it was asked: it
    weighs a quarter of another.
    """

    def __init__(self, limit: int) -> None:
        self.respawn_at = 0.0
        self._limit = limit
        self._deaths = 0
        self._young = 0
        self._held = False  # the last had somebody in hand
        self._unforked = 0
        self._refusal = ""

    def died(self, now: float, age: float, answered: int, held: int = 0) -> None:
        """A worker did, `age` seconds old and with `held` connections; since the one
        before `answered` requests had been, by anybody.
        """
        if age >= SETTLED:
            self._deaths = 0
        self._deaths += 1
        self._young = 0 if answered or age >= SETTLED else self._young + (1 if held else _BORN_DEAD)
        self._held = held > 0
        # The first is an accident and replaced at once; what keeps happening must not
        # eat the machine.
        self.respawn_at = now + (_pause(self._deaths - 1) if self._deaths > 1 else 0.0)

    def not_forked(self, now: float, refusal: str) -> bool:
        """There was no process to be had, and `refusal` says why; True when that is
        news. Asking again at once would find the same.
        """
        if now < self.respawn_at:
            return False  # one of several that were asked for together
        self._unforked += 1
        self._refusal = refusal
        self.respawn_at = now + _pause(self._unforked)
        return self._unforked == 1

    def forked(self) -> bool:
        """There is one; True when that is news."""
        news, self._unforked = self._unforked > 0, 0
        return news

    @property
    def hopeless(self) -> str:
        """Why, or ""."""
        if self._unforked >= _UNFORKED:
            return f"cannot fork a worker: {self._refusal}"
        if self._young < self._limit * _BORN_DEAD:
            return ""
        return (
            "the workers die before they have answered anything"
            if self._held
            else "the workers die as soon as they are started"
        )


def _pause(times: int) -> float:
    return min(_FIRST_PAUSE * 2.0 ** min(times - 1, 10), _LONGEST_PAUSE)


def retry_pause(failures: int) -> float:
    """Seconds before an app that failed `failures` times in a row is tried again."""
    return min(0.5 * 2.0 ** min(failures - 1, 10), _LONGEST_RETRY)
