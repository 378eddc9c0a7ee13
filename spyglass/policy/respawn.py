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
    """What goes wrong with a generation's workers in a row: whether to start another
    one at once, after a pause, or not at all.

    `limit` (int): so many workers that died young, in a row and with no request
    answered in between, make the generation hopeless. One that died with an open
    connection did start, and may be the victim of its request: it counts a quarter.
    """

    def __init__(self, limit: int) -> None:
        self.respawn_at = 0.0
        self._limit = limit
        self._deaths = 0
        self._young = 0
        self._held = False  # the last one had a connection open
        self._unforked = 0
        self._refusal = ""

    def died(self, now: float, age: float, answered: int, held: int = 0) -> None:
        """A worker died, `age` seconds old and with `held` connections. Since the death
        before, all workers together have answered `answered` requests.
        """
        if age >= SETTLED:
            self._deaths = 0
        self._deaths += 1
        self._young = 0 if answered or age >= SETTLED else self._young + (1 if held else _BORN_DEAD)
        self._held = held > 0
        # The first death is an accident: the worker is replaced at once. What keeps
        # happening must not take the whole machine.
        self.respawn_at = now + (_pause(self._deaths - 1) if self._deaths > 1 else 0.0)

    def not_forked(self, now: float, refusal: str) -> bool:
        """A fork has failed, and `refusal` says why. Return True if that is news. An
        attempt at once would find the same.
        """
        if now < self.respawn_at:
            return False  # one of several that were requested together
        self._unforked += 1
        self._refusal = refusal
        self.respawn_at = now + _pause(self._unforked)
        return self._unforked == 1

    def forked(self) -> bool:
        """A fork has succeeded. Return True if that is news."""
        news, self._unforked = self._unforked > 0, 0
        return news

    @property
    def hopeless(self) -> str:
        """Why no further worker is worth starting, or ""."""
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
    """Return the seconds before an app that failed `failures` times in a row is loaded
    again.
    """
    return min(0.5 * 2.0 ** min(failures - 1, 10), _LONGEST_RETRY)
