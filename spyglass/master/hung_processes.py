"""Who takes too long, of the processes of a generation: for a call, to begin, to end.
They are told to go, and then killed.
"""

from __future__ import annotations

import os
import select
import time

from spyglass.errors import LoadError
from spyglass.policy import worker_pool as fleet
from spyglass.runtime import scoreboard
from spyglass.runtime.fast_imports import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.master.worker_records import Worker
    from spyglass.policy.worker_pool import Slot
    from spyglass.runtime.shared_memory import Shared

# Seconds that the other requests of a worker have to end when one of its calls must be
# ended
_OTHERS = 5.0
_LOOK_AGAIN = 0.1  # seconds between two looks at whether they have
_TOLD = (
    5.0  # seconds within which a zygote does what it is told, and tells of a worker that was killed
)
# Seconds for the traceback of every thread, before a worker is killed that has been
# told to abort
_LAST_WORDS = 2.0
_NEVER = float("inf")


class Overdue:
    """What a generation (generation.py) has of that. `first` (bool): it is the first to
    be tried, and leaves tracebacks of what hangs.
    """

    def __init__(self, config: Config, shared: Shared, log: Log, *, first: bool) -> None:
        self.config = config
        self.workers: dict[int, Worker] = {}
        self.pid = 0  # the zygote's; 0 when it has gone
        self.leave_by: float | None = None  # all of it must be gone by then
        self.started = time.monotonic()
        self.awake_since = 0.0  # monotonic: what lies before is not held against a call
        self._number: int | None = None  # of the zygote's slot
        self._draining = False  # there is nothing more to fork
        # Monotonic: since when the zygote, which speaks for the first time then, has
        # had nothing to do but fork
        self._loaded = _NEVER
        self._zygote_killed = False
        self._mute_since = _NEVER  # monotonic: its channel has ended then
        self._first = first
        self._shared = shared
        self._log = log

    def slots(self) -> list[Slot]:
        return [worker.slot() for worker in self.workers.values()]

    def end_overdue(self, now: float) -> None:
        """End each worker with a call that has been running for request_timeout, after
        it has finished what else it is doing.

        And each that hangs in what the app does before it can accept, start_timeout
        after its fork.
        """
        for slot in fleet.overdue(self.slots(), now, self.config.request_timeout, self.awake_since):
            worker = self.workers[slot.number]
            if worker.end_by is None:
                # With one thread nothing else can be finished.
                worker.end_by = now + (
                    min(_OTHERS, self.config.graceful_timeout) if self.config.threads > 1 else 0.0
                )
                worker.order(scoreboard.DRAIN)
                self._shared.ring()
                if self.config.threads > 1:
                    # It may have accepted another since the look at its slot; from now
                    # on it does not
                    continue
            if slot.open <= 1 or now >= worker.end_by:
                self.abort(
                    worker,
                    now,
                    f"a call has been running for {self.config.request_timeout:g} s (request_timeout)",
                )
        for worker in self.workers.values():
            if now >= self._late_at(worker):
                worker.end_by = now
                worker.unfit = LoadError(
                    f"no worker was ready within {self.config.start_timeout:g} s (start_timeout)"
                )
                self.abort(
                    worker,
                    now,
                    f"it was not ready within {self.config.start_timeout:g} s (start_timeout)",
                )
            if worker.kill_at and now >= worker.kill_at:
                worker.kill(signal.SIGKILL)
                if now >= worker.kill_at + _TOLD:
                    self._end_zygote(f"it does not tell that worker {worker.pid} has ended")
            elif not worker.pid and now >= self._forked_by(worker):
                self._end_zygote("it does not fork")
        if now >= self._mute_since + _TOLD and not self._draining:
            self._end_zygote("it has closed its channel, and tells nothing any more")

    def end_late(self, now: float) -> None:
        """Kill who should have left. What it had accepted it has cut by itself, so
        mostly it is the app that does not come to its end: functions that it has
        registered with atexit, or threads that are no daemons, for which an interpreter
        waits.
        """
        for worker in self.workers.values():
            leaving = worker.cells[scoreboard.STATE] == scoreboard.LEAVING
            if leaving and worker.leave_by is None:
                worker.leave_by = (
                    now + self.config.graceful_timeout
                )  # of its own accord, or to be recycled: nothing was to be cut
            if worker.leave_by is not None and now >= worker.leave_by and not worker.late:
                worker.late = worker.killed = True
                worker.kill_at = now
                self._tell_late(f"worker {worker.pid}", leaving)
                worker.kill(signal.SIGKILL)
        if self._draining and self.leave_by is None and not self.workers:
            self.leave_by = (
                now + self.config.graceful_timeout + scoreboard.KILL_AFTER
            )  # retired: the time of the zygote begins
        if (
            self.leave_by is not None
            and now >= self.leave_by
            and self.pid
            and self._number is not None
        ):
            self._tell_late(
                f"zygote {self.pid}",
                self._shared.board.slot(self._number)[scoreboard.STATE] == scoreboard.LEAVING,
            )
            self.leave_by = _NEVER
            os.kill(self.pid, signal.SIGKILL)

    def _tell_late(self, who: str, leaving: bool) -> None:
        why = ": atexit functions of the app, or threads that are no daemons" if leaving else ""
        self._log.warning(
            f"{who} killed: it has not left within {self.config.graceful_timeout:g} s (graceful_timeout){why}"
        )

    def due(self, now: float) -> list[float]:
        """When to look for such workers next (monotonic seconds)."""
        late = [worker.leave_by for worker in self.workers.values() if worker.leave_by is not None]
        late += [] if self.leave_by is None else [self.leave_by]
        if any(worker.end_by is not None or worker.kill_at for worker in self.workers.values()):
            return [*late, now + _LOOK_AGAIN]
        late += (
            [self._mute_since + _TOLD]
            if self.pid and not self._zygote_killed and not self._draining
            else []
        )
        late += [self._late_at(worker) for worker in self.workers.values()]
        late += [self._forked_by(worker) for worker in self.workers.values() if not worker.pid]
        return [
            *late,
            fleet.overdue_at(self.slots(), now, self.config.request_timeout, self.awake_since),
        ]

    def _forked_by(self, worker: Worker) -> float:
        """Workers are asked for before the app is loaded, and no time counts while it
        is.
        """
        return max(worker.born, self._loaded) + _TOLD

    def _late_at(self, worker: Worker) -> float:
        return worker.born + self.config.start_timeout if worker.starting else _NEVER

    def abort(self, worker: Worker, now: float, why: str) -> None:
        """End `worker` at once; `why` is for the journal, and so is what faulthandler
        says, the traceback of every thread.
        """
        if not worker.killed:
            worker.killed = True
            worker.kill_at = now + _LAST_WORDS
            self._log.error(f"worker {worker.pid}: killed, {why}")
            worker.kill(signal.SIGABRT)

    def _end_zygote(self, why: str) -> None:
        """It is stopped, or stuck: its workers go on until others have taken over."""
        if self.pid and not self._zygote_killed:
            self._zygote_killed = True
            self._log.error(f"zygote {self.pid}: killed, {why}")
            os.kill(self.pid, signal.SIGKILL)

    def overslept(self, seconds: float, now: float) -> None:
        """So many seconds before `now` the Master has not run, and perhaps nobody has:
        they count against nobody.
        """
        self.started += seconds
        self._loaded += seconds
        self._mute_since += seconds
        self.awake_since = now
        if self.leave_by is not None:
            self.leave_by += seconds
        for worker in self.workers.values():
            worker.born += seconds
            if worker.leave_by is not None:
                worker.leave_by += seconds
            if worker.kill_at:
                worker.kill_at += seconds

    def late(self) -> LoadError:
        """Says what has not been done within start_timeout; the first time, where that
        hangs is left in the journal, by faulthandler.
        """
        worker = next((worker for worker in self.workers.values() if worker.starting), None)
        if self._first and (self.pid or worker is not None):
            _abort_and_wait(self.pid if worker is None else worker.pid)
        within = f"within {self.config.start_timeout:g} s (start_timeout)"
        if worker is not None and self.config.preload:
            return LoadError(
                f"no worker was ready {within}: a function that the app has called after the fork does not return"
            )
        return LoadError(f"the app was not loaded {within}")


def _abort_and_wait(pid: int) -> None:
    """Tell it to abort, and wait until it has had its last words; but not for long, if
    it does not hear.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        os.kill(pid, signal.SIGABRT)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(_LAST_WORDS * 1000)
    finally:
        os.close(fd)
