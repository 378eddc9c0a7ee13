"""The scoreboard: shared memory through which Master and workers know of each other without a system call.

The Master makes it before its first fork. Each worker has one slot. In a slot the worker alone writes its facts, the Master alone
writes `ORDER` and `LIMIT`; everybody reads all. A cell is eight bytes, aligned, stored at once, so no reader ever sees half a number.

The handshake before leaving: the Master writes a new positive number into ORDER of every slot and rings the bell; a worker takes its
listeners out of its loop and only then copies the number into ANSWER. From then on OPEN can only fall.
"""

from __future__ import annotations

import mmap

# What a worker writes.
STATE = 0  # one of the states below
OPEN = 1  # connections accepted and not yet closed
SERVED = 2  # requests answered
ACTIVITY = 3  # when a connection was last accepted or closed, monotonic nanoseconds
CALL_SINCE = 4  # since when the app has been working on a request without giving us anything, monotonic nanoseconds; 0: it is not
ANSWER = 5  # the last order obeyed
# What the Master writes.
ORDER = 6
LIMIT = 7  # after so many requests the worker is to be recycled, and tells the Master; 0: never
_CELLS = 8  # a slot fills one cache line, so that two workers never write to the same one

EMPTY, STARTING, ACCEPTING, DRAINING = range(4)

SERVE = 0
# Finish what was accepted and leave; the lower, the stricter.
RETIRE = -1  # however long that takes
DRAIN = -2  # in graceful_timeout, then cut


class Scoreboard:
    """`size` (int) slots in anonymous shared memory (mmap(2), MAP_SHARED | MAP_ANONYMOUS); gone with its last process."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._memory = mmap.mmap(-1, size * _CELLS * 8)
        self._cells = memoryview(self._memory).cast("q")
        self._free = list(range(size - 1, -1, -1))

    def slot(self, number: int) -> memoryview[int]:
        """The cells of slot `number`, to be indexed with the names above."""
        return self._cells[number * _CELLS : (number + 1) * _CELLS]

    def take(self) -> int:
        """In the Master: a free slot for a worker that is about to be forked, all its cells 0."""
        number = self._free.pop()
        cells = self.slot(number)
        for cell in range(_CELLS):
            cells[cell] = 0
        return number

    def give_back(self, number: int) -> None:
        """In the Master: the worker of this slot has ended."""
        self._free.insert(0, number)
