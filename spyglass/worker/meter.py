"""Count what a worker answers, for `spyglass metrics`: by the class of its status, and
by how long it took.

The counts are cells of the scoreboard, so they outlive this process, and the Master can
read them at any time. A request must not pay much for that. So answers that count in
the same cell as the one before are only counted here, in attributes of compiled code.
They are written at the end of the loop's turn: two stores into shared memory, however
many requests the turn has served. All of it belongs to the leader.
"""

from __future__ import annotations

from spyglass.runtime.scoreboard import ANSWERS, BUCKETS, CUT, REFUSED, TOOK, UNTIMED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Those of policy/durations.py, which the wake path does not import; a test compares.
_QUICK: Final = 0.001
_SLOWER: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meter:
    """Counts in the cells of `slot`. `now` (float, monotonic) is when the last answer
    was out: what needs the time next need not ask for it again.
    """

    __slots__ = ("_cell", "_counts", "_run", "_seconds", "_slot", "_status", "_units", "now")

    def __init__(self, slot: memoryview[int]) -> None:
        self.now = 0.0
        self._slot = slot
        self._status = ""  # of the last answer
        self._units = ANSWERS  # the first cell of its class
        self._cell = ANSWERS  # in which it counts
        self._run = 0  # how many of those are not yet written
        self._counts = [0] * (TOOK - ANSWERS)
        self._seconds = 0.0  # that all answers took

    def answered(self, status: str, since: float, now: float) -> None:
        """Count an answer with `status` to a request that was there at `since`; it is
        out `now` (monotonic seconds).
        """
        self.now = now
        taken = now - since
        self._seconds += taken
        # An app most often gives the same object as the time before.
        if status is not self._status:
            self._status = status
            self._units = ANSWERS + _class_of(status) * BUCKETS
        cell = self._units
        if taken > _QUICK:
            cell += _slower(taken)
        if cell != self._cell:
            self._count()
            self._cell = cell
        self._run += 1

    def answered_untimed(self, status: str) -> None:
        """Count an answer that has no duration: a WebSocket's."""
        self._slot[UNTIMED + _class_of(status)] += 1

    def cut(self) -> None:
        """Count a response that has ended before it was complete."""
        self._slot[CUT] += 1

    def refused(self, status: int) -> None:
        """Count an answer of the server's own, with a status of 4xx or 5xx."""
        self._slot[REFUSED + (status >= 500)] += 1

    def write(self) -> None:
        """Write down what was counted in this turn."""
        if self._run:
            self._count()
            self._slot[TOOK] = int(self._seconds * 1e9)

    def _count(self) -> None:
        cell = self._cell
        count = self._counts[cell - ANSWERS] + self._run
        self._counts[cell - ANSWERS] = count
        self._slot[cell] = count
        self._run = 0


def _class_of(status: str) -> int:
    """Return the place of the status' class: 0 for 1xx, 4 for 5xx."""
    return max(0, "12345".find(status[:1]))


def _slower(taken: float) -> int:
    """Return the number of the bucket of a duration above the first bound."""
    bucket = 1
    for bound in _SLOWER:
        if taken <= bound:
            break
        bucket += 1
    return bucket
