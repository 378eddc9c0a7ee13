"""The scoreboard: shared memory through which Master and workers know of each other
without a system call.

The Master makes it before its first fork. Each worker has one slot, and so has each
zygote. In a slot its process alone writes its facts, the Master alone writes `ORDER`
and `LIMIT`; everybody reads all. A cell is eight bytes, aligned, stored at once, so no
reader ever sees half a number.

The handshake before leaving: the Master writes a new positive number into ORDER of
every slot and rings the bell; a worker takes its listeners out of its loop and only
then copies the number into ANSWER. From then on OPEN can only fall.
"""

from __future__ import annotations

import mmap
import time

from spyglass.runtime.printable import one_line

# What a worker writes.
STATE = 0  # one of the states below
OPEN = 1  # connections accepted and not yet closed
SERVED = 2  # requests answered
ACTIVITY = (
    3  # when a connection was last accepted or closed, or a hold ended, monotonic nanoseconds
)
# Since when the app has been working on a request without giving us anything, monotonic
# nanoseconds; 0: it is not
CALL_SINCE = 4
ANSWER = 5  # the last order obeyed
# What the Master writes.
ORDER = 6
LIMIT = 7  # after so many requests the worker is to be recycled, and tells the Master; 0: never
# What a worker writes as well.
# When its loop heard the bell last, monotonic nanoseconds: the one sign of life of who
# has nothing to do
HEARD = 9
ERRORS = 11  # of the answers, those with a status of 5xx that were the app's
# How many of the open ones do not put off the leaving, for nothing but what is ignored
# (idle_ignore) came by them
IGNORED = 10
# And what a zygote writes, too.
HOLDS = 8  # how many times the app wants to stay awake at the moment (api.py), and
_REASON, _WORDS = 16, 8  # why, in UTF-8: the first of so many cells
_CELLS = 24  # a slot fills cache lines, so that two workers never write to the same one

EMPTY, STARTING, ACCEPTING, DRAINING, LEAVING = range(
    5
)  # the last: all is done but what the app does at its exit

SERVE = 0
HOLD = 1  # be ready and accept nothing yet; numbers above it ask who leaves, see above
# Serve, but keep no connection for another request: only such are there as do not put
# off the leaving. Takes effect without the bell.
PART = -1
# Finish what was accepted and leave; the lower, the stricter.
RETIRE = -2  # however long that takes
DRAIN = -3  # in graceful_timeout, then cut
KILL_AFTER = 2.0  # seconds beyond it, within which everybody cuts by himself


class Scoreboard:
    """`size` (int) slots in anonymous shared memory (mmap(2), MAP_SHARED |
    MAP_ANONYMOUS); gone with its last process.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._memory = mmap.mmap(-1, (size + 1) * _CELLS * 8)
        self._cells = memoryview(self._memory).cast("q")
        self._free = list(range(size - 1, -1, -1))
        # In the Master: what those had done, all together, whose processes have ended;
        # and how many of them had not been told to.
        self.served = self.errors = self.crashes = 0

    def note_accepting(self) -> None:
        """In a worker that accepts from now on. When two say so at the same time, it is
        the later one's that stays.
        """
        if not self.accepting_since:
            self._cells[self.size * _CELLS] = time.monotonic_ns()

    @property
    def accepting_since(self) -> int:
        """When the first worker of all began to accept (monotonic nanoseconds); 0: none
        has.
        """
        return self._cells[self.size * _CELLS]

    def slot(self, number: int) -> memoryview[int]:
        """The cells of slot `number`, to be indexed with the names above."""
        return self._cells[number * _CELLS : (number + 1) * _CELLS]

    @property
    def free(self) -> int:
        """In the Master: how many slots may be taken."""
        return len(self._free)

    def take(self) -> int:
        """In the Master: a free slot for a worker that is about to be forked, all its
        cells 0.
        """
        number = self._free.pop()
        cells = self.slot(number)
        for cell in range(_CELLS):
            cells[cell] = 0
        return number

    def give_back(self, number: int) -> None:
        """In the Master: the process of this slot has ended."""
        self.served += self.slot(number)[SERVED]
        self.errors += self.slot(number)[ERRORS]
        self._free.insert(0, number)


def write_reason(cells: memoryview[int], reason: str) -> None:
    """So much of `reason` as there is room for. Whoever reads at this moment may see
    half of the last one.
    """
    data = reason.encode("utf-8", "replace")[: _WORDS * 8].ljust(_WORDS * 8, b"\0")
    cells[_REASON : _REASON + _WORDS] = memoryview(data).cast("q")


def read_reason(cells: memoryview[int]) -> str:
    """What was written, in one line."""
    return one_line(
        cells[_REASON : _REASON + _WORDS].tobytes().rstrip(b"\0").decode("utf-8", "ignore")
    )
