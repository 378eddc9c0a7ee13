"""The scoreboard: shared memory through which Master and workers know of each other
without a system call.

The Master makes it before its first fork. Each worker has one slot, and so has each
zygote. In a slot its process alone writes its facts, the Master alone writes `ORDER`
and `LIMIT`; all processes read all of it. A cell is eight bytes, aligned, stored at
once, so no reader ever sees half a number.

The handshake before leaving: the Master writes a new positive number into ORDER of
every slot and rings the bell; a worker takes its listeners out of its loop and only
then copies the number into ANSWER. From then on OPEN can only fall.
"""

from __future__ import annotations

import mmap
import time

from spyglass.printable import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# What a worker writes.
STATE: Final = 0  # one of the states below
OPEN: Final = 1  # connections accepted and not yet closed
SERVED: Final = 2  # requests answered
# When a connection was last accepted or closed, or a hold ended, monotonic nanoseconds
ACTIVITY: Final = 3
# Since when the app has been working on a request without any output, monotonic
# nanoseconds; 0: it is not
CALL_SINCE: Final = 4
ANSWER: Final = 5  # the last order obeyed
# What the Master writes.
ORDER: Final = 6
# After so many requests the worker is due for recycling and pokes the Master; 0: never
LIMIT: Final = 7
# What a worker writes as well.
# When its loop heard the bell last, monotonic nanoseconds: the one sign of life of a
# worker that has nothing to do
HEARD: Final = 9
ERRORS: Final = 11  # of the answers, those with a status of 5xx that were the app's
# How many of the open connections do not keep the app awake, because they brought only
# requests that are ignored (idle_ignore)
IGNORED: Final = 10
WEBSOCKETS: Final = 12  # how many of the open connections are WebSockets
INTERFACE: Final = 13  # how it calls the app, as an index of INTERFACES; 0: it cannot yet
# And what a zygote writes, too.
HOLDS: Final = 8  # how many times the app asks to stay awake at the moment (api.py), and
_REASON, _WORDS = 16, 8  # why, in UTF-8: the first of so many cells
# What a worker has answered, for `spyglass metrics` (worker/meter.py). By the class of
# the status, from 1xx to 5xx, and for each class by duration: so many buckets.
ANSWERS: Final = 24
BUCKETS: Final = 13
TOOK: Final = 89  # nanoseconds, all of them together
UNTIMED: Final = 90  # by class those that have no duration
CUT: Final = 95  # responses that have ended before they were complete
REFUSED: Final = 96  # answers of the server's own: 4xx, and in the next cell 5xx
_COUNTED: Final = 98
_CELLS: Final = 104  # a slot fills cache lines, so that two workers never write to the same one

INTERFACES = ("", "wsgi", "asgi")
# LEAVING: all is done but what the app does at exit
EMPTY, STARTING, ACCEPTING, DRAINING, LEAVING = range(5)

SERVE: Final = 0
HOLD: Final = 1  # be ready and accept nothing yet; numbers above it begin the handshake, see above
# Serve, but close each connection after its answer: all that are open do not keep the
# app awake. Takes effect without the bell.
PART: Final = -1
# Finish what was accepted and exit; the lower, the stricter.
RETIRE: Final = -2  # however long that takes
DRAIN: Final = -3  # in graceful_timeout, then cut
KILL_AFTER = 2.0  # seconds beyond it, in which a process cuts its connections by itself


class Scoreboard:
    """`size` (int) slots in anonymous shared memory (mmap(2), MAP_SHARED |
    MAP_ANONYMOUS); gone with its last process.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._memory = mmap.mmap(-1, (size + 1) * _CELLS * 8)
        self._cells = memoryview(self._memory).cast("q")
        self._free = list(range(size - 1, -1, -1))
        # In the Master: sums over the processes that have ended, and how many of those
        # ended without an order, or were replaced for another reason.
        self.served = self.errors = self.crashes = 0
        self.answers = [0] * (_COUNTED - ANSWERS)  # see read_answers()
        self.restarts: dict[str, int] = {}

    def note_accepting(self) -> None:
        """In a worker that accepts from now on. Of two at the same time, the later
        write stays.
        """
        if not self.accepting_since:
            self._cells[self.size * _CELLS] = time.monotonic_ns()

    @property
    def accepting_since(self) -> int:
        """When the first worker of all began to accept (monotonic nanoseconds); 0: none
        has yet.
        """
        return self._cells[self.size * _CELLS]

    def slot(self, number: int) -> memoryview[int]:
        """Return the cells of slot `number`, to be indexed with the names above."""
        return self._cells[number * _CELLS : (number + 1) * _CELLS]

    @property
    def free(self) -> int:
        """In the Master: how many slots may be taken."""
        return len(self._free)

    def take(self) -> int:
        """In the Master: return a free slot for a process that is about to be forked,
        all its cells 0.
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
        self.answers = add(self.answers, read_answers(self.slot(number)))
        self._free.insert(0, number)

    def note_crash(self, *, hung: bool) -> None:
        """In the Master: a worker has ended without an order, or was killed because it
        was `hung` (bool).
        """
        self.crashes += 1
        self.note_restart("hung" if hung else "crash")

    def note_restart(self, reason: str) -> None:
        """In the Master: a worker is replaced, for this reason."""
        self.restarts[reason] = self.restarts.get(reason, 0) + 1


def read_answers(cells: memoryview[int]) -> list[int]:
    """Return the cells from ANSWERS on. The app may have written there, too: never a
    number below 0.
    """
    return [max(0, count) for count in cells[ANSWERS:_COUNTED]]


def add(some: list[int], others: list[int]) -> list[int]:
    """Return the sum of two such lists, cell by cell."""
    return [one + other for one, other in zip(some, others, strict=True)]


def write_reason(cells: memoryview[int], reason: str) -> None:
    """Write as much of `reason` as fits. A reader at this very moment may see a mix of
    the old and the new one.
    """
    data = reason.encode("utf-8", "replace")[: _WORDS * 8].ljust(_WORDS * 8, b"\0")
    cells[_REASON : _REASON + _WORDS] = memoryview(data).cast("q")


def read_reason(cells: memoryview[int]) -> str:
    """Return what was written, in one line."""
    return one_line(
        cells[_REASON : _REASON + _WORDS].tobytes().rstrip(b"\0").decode("utf-8", "ignore")
    )
