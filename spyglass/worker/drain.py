"""Decide how long a worker that drains waits for what it has accepted.

Three limits, each for something that might not end by itself:

- After graceful_timeout, connections that are still open are *cut*. But only when the
  Master waits for the worker to be gone (a stop, a reload). A worker that merely
  retires, because it is to be recycled, cuts nothing.
- The app may hold the worker (`stay_awake`), for graceful_timeout at the most.
- After the cut, calls in other threads have a second more to come back: no thread can
  be ended from outside.

The time in which the whole process was stopped (SIGSTOP, a frozen control group) does
not count: nothing could be finished then.
"""

from __future__ import annotations

_LAST_WORDS = 1.0  # seconds after the cut
LATE = 1.0  # seconds that a wake-up may be late on a machine that has a lot to do


class Drain:
    """The times of one worker; all are monotonic seconds.

    `cut_at`: when to cut, 0 if never. `cutting` (bool): that has begun. `stay_until`:
    when the worker exits although the app holds it.
    """

    __slots__ = ("cut_at", "cutting", "graceful", "stay_until")

    def __init__(self, graceful_timeout: float) -> None:
        self.graceful = graceful_timeout
        self.cut_at = 0.0
        self.cutting = False
        self.stay_until = 0.0

    def begin(self, now: float) -> None:
        """The worker drains from `now` on."""
        self.stay_until = now + self.graceful

    def limit(self, now: float) -> None:
        """What is not finished in time is to be cut."""
        if not self.cut_at:
            self.cut_at = now + self.graceful

    def waited(self, since: float, seconds: float | None, until: float) -> None:
        """The loop wanted to wait for `seconds`, and has waited from `since` to
        `until`.
        """
        if self.cut_at and seconds is not None and until > since + seconds + LATE:
            self.cut_at += until - since  # the process was stopped

    def due(self, now: float, nothing_open: bool) -> float | None:
        """Return when the loop has to look again; None: not because of this."""
        due = None
        if self.cut_at:
            due = self.cut_at + (_LAST_WORDS if self.cutting else 0.0)
            due = min(due, now + LATE)  # often enough to notice that the process was stopped
        if nothing_open and self.stay_until:
            due = self.stay_until if due is None else min(due, self.stay_until)
        return due

    def finished(self, now: float, open_: int, holds: int) -> bool:
        """Return True when the worker may exit: nothing is open and the app does not
        hold it, or the time for that is over.
        """
        if not open_:
            return not holds or now >= self.stay_until
        return self.cutting and now >= self.cut_at + _LAST_WORDS
