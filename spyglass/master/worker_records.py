"""Who belongs to a generation, as the Master sees them: through their slots of the
scoreboard, and by their pids.
"""

from __future__ import annotations

import os

from spyglass.policy import worker_pool as fleet
from spyglass.policy.worker_pool import Slot
from spyglass.runtime import scoreboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.errors import LoadError
    from spyglass.runtime.poller import Doors

_LOOK_AGAIN = 0.5  # seconds until the next try for a descriptor
_NEVER = float("inf")


def read_slot(number: int, cells: memoryview[int]) -> Slot:
    """What stands in `cells`. In the order of the reading: who opens nothing any more,
    or holds no longer, has written when that was.
    """
    answer, ignored = cells[scoreboard.ANSWER], cells[scoreboard.IGNORED]
    open, holds = cells[scoreboard.OPEN], cells[scoreboard.HOLDS]
    return Slot(
        number,
        cells[scoreboard.STATE],
        open,
        cells[scoreboard.SERVED],
        cells[scoreboard.ACTIVITY] / 1e9,
        cells[scoreboard.CALL_SINCE] / 1e9,
        answer,
        cells[scoreboard.LIMIT],
        ignored=ignored,
        holds=holds,
        reason=scoreboard.read_reason(cells) if holds else "",
        heard=cells[scoreboard.HEARD] / 1e9,
    )


class Worker:
    """`pid` (int) is 0 until the zygote has reported it; `born` is monotonic seconds,
    `memory` bytes.
    """

    __slots__ = (
        *(
            "born",
            "cells",
            "draining",
            "end_by",
            "kill_at",
            "killed",
            "late",
            "leave_by",
            "memory",
            "number",
            "pid",
            "recycled",
        ),
        "unfit",
    )

    def __init__(self, number: int, cells: memoryview[int], born: float) -> None:
        self.number = number
        self.cells = cells
        self.born = born
        self.pid = 0
        self.draining = False
        self.end_by: float | None = None  # it has a call that must be ended, at the latest then
        self.leave_by: float | None = None  # it must be gone by then
        self.late = False  # it was not, and that was told
        self.killed = False
        self.kill_at = 0.0  # it has been told to abort, and has until then
        self.recycled = ""  # why
        self.unfit: LoadError | None = None
        self.memory = 0  # when it was looked at

    def slot(self) -> Slot:
        slot = read_slot(self.number, self.cells)
        slot.memory = self.memory
        return slot

    @property
    def accepting(self) -> bool:
        return self.cells[scoreboard.STATE] == scoreboard.ACCEPTING

    @property
    def starting(self) -> bool:
        """It has been forked, and the app's code runs that comes before it can
        accept.
        """
        return bool(self.pid) and self.cells[scoreboard.STATE] < scoreboard.ACCEPTING

    def proven(self, now: float) -> bool:
        """Whether it has shown that it can live: by its work, or its age."""
        cells = self.cells
        return self.accepting and bool(
            cells[scoreboard.SERVED] or cells[scoreboard.OPEN] or now - self.born >= fleet.SETTLED
        )

    def order(self, order: int) -> None:
        """Takes effect when the bell rings; to one that has been told to leave, only a
        stricter one does.
        """
        self.draining = self.draining or order < scoreboard.PART
        self.cells[scoreboard.ORDER] = (
            min(order, self.cells[scoreboard.ORDER]) if self.draining else order
        )

    def kill(self, number: int) -> None:
        # The zygote reports a death after it has reaped it, so for a moment the pid may
        # be nobody's. It would have to be given out again within that moment to be
        # somebody else's.
        if self.pid:
            try:
                os.kill(self.pid, number)
            except (
                ProcessLookupError,
                PermissionError,
            ):  # the latter: it is the app that has told us this pid
                pass


class Orphans:
    """Workers whose zygote has gone. They are init's children now: what still says that
    one has ended is a pidfd (pidfd_open(2)).

    Without a descriptor to be had for it a worker is not given up: nobody could tell it
    to leave, so it would serve old code for as long as the Master lives, in a slot that
    is another's. `due` (monotonic seconds): when to look again.
    """

    def __init__(self, doors: Doors) -> None:
        self.due = _NEVER
        self._doors = doors
        self._unseen: list[tuple[Worker, Callable[[Worker], object]]] = []
        self._fds: set[int] = set()

    def take(self, worker: Worker, ended: Callable[[Worker], object], now: float) -> None:
        """`ended(worker)` is called when it has."""
        try:
            fd = os.pidfd_open(worker.pid)
        except ProcessLookupError:
            ended(worker)
            return
        except OSError:
            self._unseen.append((worker, ended))
            self.due = now + _LOOK_AGAIN
            return

        def readable() -> None:
            self._doors.close(fd)
            self._fds.remove(fd)
            os.close(fd)
            ended(worker)

        self._fds.add(fd)
        self._doors.open(fd, readable)

    def look(self, now: float) -> None:
        if now >= self.due:
            unseen, self._unseen, self.due = self._unseen, [], _NEVER
            for worker, ended in unseen:
                self.take(worker, ended, now)

    def abandon(self) -> None:
        """In a forked child."""
        for fd in self._fds:
            os.close(fd)
