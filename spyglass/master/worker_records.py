"""One worker as the Master knows it: its scoreboard slot, its pid, and the deadlines
that it has been given.
"""

from __future__ import annotations

import os
import time

from spyglass.policy import respawn
from spyglass.policy.worker_slot import Slot
from spyglass.runtime import scoreboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.errors import LoadError


def read_slot(number: int, cells: memoryview[int]) -> Slot:
    """Return what stands in `cells`.

    The order of the reads matters: a worker writes ACTIVITY before it lowers OPEN or
    HOLDS. Read after them, ACTIVITY is never older than what they say.
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
        websockets=cells[scoreboard.WEBSOCKETS],
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
        # Monotonic seconds: a call of it must be ended, and its others end until then.
        self.end_by: float | None = None
        self.leave_by: float | None = None  # it must have exited by then
        self.late = False  # it had not, and that was logged
        self.killed = False
        self.kill_at = 0.0  # after its SIGABRT it has until then
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
    def accepted(self) -> bool:
        """It accepts, or has accepted: a SIGTERM of its own may have come since."""
        return self.cells[scoreboard.STATE] >= scoreboard.ACCEPTING

    @property
    def starting(self) -> bool:
        """It was forked, and runs the app's code that comes before it can accept."""
        return bool(self.pid) and self.cells[scoreboard.STATE] < scoreboard.ACCEPTING

    def proven(self, now: float) -> bool:
        """Return True if its work, or its age, shows that it can live."""
        cells = self.cells
        return self.accepting and bool(
            cells[scoreboard.SERVED] or cells[scoreboard.OPEN] or now - self.born >= respawn.SETTLED
        )

    def order(self, order: int) -> None:
        """Give it `order`, which it obeys when the bell rings. One that was told to
        exit obeys only a stricter order.
        """
        self.draining = self.draining or order < scoreboard.PART
        self.cells[scoreboard.ORDER] = (
            min(order, self.cells[scoreboard.ORDER]) if self.draining else order
        )

    def kill(self, number: int) -> None:
        # The zygote reaps a worker and then reports its death. In between, the pid is
        # free. The kernel would have to give it to another process within that moment
        # for this signal to go astray; pids are given out in a circle.
        if self.pid:
            try:
                os.kill(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass  # the latter: the app has written to the channel and made up this pid


class Departed:
    """What the workers of a generation that have ended leave behind: requests `served`
    (int), and the latest `activity` (monotonic seconds). A generation is as busy as all
    the workers it ever had.

    `spawned` (int) is how many it has had.
    """

    def __init__(self) -> None:
        self.spawned = 0
        self.served = 0
        self.activity = 0.0
        self._answered = 0  # requests, by all, at the last death

    def add(self, slot: Slot) -> None:
        self.served += slot.served
        self.remember(slot)

    def remember(self, slot: Slot) -> None:
        # The client it was busy for may come back in a moment.
        self.activity = max(self.activity, time.monotonic() if slot.busy else slot.activity)

    def answered_since_last_death(self, living: list[Slot]) -> int:
        """Return how many requests were answered since the last call."""
        answered = self.served + sum(slot.served for slot in living)
        before, self._answered = self._answered, answered
        return answered - before
