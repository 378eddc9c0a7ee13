"""How long to wait before starting another worker, or loading the app again: growing
pauses after deaths and failures. Pure.

Times are monotonic seconds (float).
"""

from __future__ import annotations

SETTLED = 10.0  # a worker that has lived this long was not born broken
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_BORN_DEAD = 4
_UNFORKED = 6  # tries in a row, for three seconds
_LONGEST_RETRY = 10.0


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
