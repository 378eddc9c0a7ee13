"""Ends the processes of one generation that take too long: for a call, to become ready,
to exit.

A worker is first ordered to drain, so that its other requests can finish; then it gets
SIGABRT, for which faulthandler prints the traceback of every thread; then SIGKILL. Time
in which the Master itself did not run (SIGSTOP, a frozen control group) is credited to
every process, see overslept().
"""

from __future__ import annotations

import os
import select

from spyglass.errors import LoadError
from spyglass.policy import hung_workers
from spyglass.runtime import scoreboard
from spyglass.runtime.fast_imports import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.master.worker_records import Worker
    from spyglass.master.zygote_process import ZygoteProcess
    from spyglass.policy.worker_slot import Slot
    from spyglass.runtime.shared_memory import Shared

# Seconds for a worker's other requests to end when one of its calls must be ended
_OTHERS = 5.0
_LOOK_AGAIN = 0.1  # seconds between two looks at whether they have
# Seconds for a zygote to fork a worker, or to report the death of one that was killed
_ZYGOTE_ACTS = 5.0
# Seconds between SIGABRT and SIGKILL, for the tracebacks
_LAST_WORDS = 2.0
_NEVER = float("inf")


class HungProcesses:
    """Of the `zygote` and its `workers` (the generation's own dict, by slot number).

    `leave_by` (monotonic seconds or None): all of them must have exited by then.
    """

    def __init__(
        self,
        config: Config,
        zygote: ZygoteProcess,
        workers: dict[int, Worker],
        shared: Shared,
        log: Log,
    ) -> None:
        self.leave_by: float | None = None
        self._awake_since = 0.0  # monotonic: what lies before does not count against a call
        self._config = config
        self._zygote = zygote
        self._workers = workers
        self._shared = shared
        self._log = log

    def _slots(self) -> list[Slot]:
        return [worker.slot() for worker in self._workers.values()]

    def look(self, now: float) -> None:
        self.end_overdue(now)
        self.end_late(now)

    def end_overdue(self, now: float) -> None:
        """End each worker that has a call running for request_timeout, or that was not
        ready within start_timeout; and a zygote that does not do its part.
        """
        for slot in hung_workers.overdue(
            self._slots(), now, self._config.request_timeout, self._awake_since
        ):
            self._end_call(slot, now)
        for worker in self._workers.values():
            if now >= self._late_at(worker):
                worker.end_by = now
                worker.unfit = LoadError(
                    f"no worker was ready within {self._config.start_timeout:g} s (start_timeout)"
                )
                self.abort(
                    worker,
                    now,
                    f"not ready within {self._config.start_timeout:g} s (start_timeout)",
                )
            if worker.kill_at and now >= worker.kill_at:
                worker.kill(signal.SIGKILL)
                if now >= worker.kill_at + _ZYGOTE_ACTS:
                    self._zygote.kill_hung(f"it did not report the end of worker {worker.pid}")
            elif not worker.pid and now >= self._forked_by(worker):
                self._zygote.kill_hung(f"it did not fork a worker within {_ZYGOTE_ACTS:g} s")
        if now >= self._zygote.mute_since + _ZYGOTE_ACTS and not self._zygote.ending:
            self._zygote.kill_hung("its channel to the Master is closed")

    def _end_call(self, slot: Slot, now: float) -> None:
        worker = self._workers[slot.number]
        if worker.end_by is None:
            # With one thread nothing else can finish.
            worker.end_by = now + (
                min(_OTHERS, self._config.graceful_timeout) if self._config.threads > 1 else 0.0
            )
            worker.order(scoreboard.DRAIN)
            self._shared.ring()
            if self._config.threads > 1:
                # It may have accepted another connection since its slot was read; with
                # the order given, it accepts no more.
                return
        if slot.open <= 1 or now >= worker.end_by:
            self.abort(
                worker,
                now,
                f"a request has been running for {self._config.request_timeout:g} s (request_timeout)",
            )

    def end_late(self, now: float) -> None:
        """Kill what should have exited by now.

        A worker cuts what it has accepted at graceful_timeout by itself. So what is
        late is mostly the app: functions that it has registered with atexit, or threads
        that are not daemons, for which an interpreter waits.
        """
        for worker in self._workers.values():
            leaving = worker.cells[scoreboard.STATE] == scoreboard.LEAVING
            if leaving and worker.leave_by is None:
                # It exits by itself, or to be recycled: nothing was to be cut.
                worker.leave_by = now + self._config.graceful_timeout
            if worker.leave_by is not None and now >= worker.leave_by and not worker.late:
                worker.late = worker.killed = True
                worker.kill_at = now
                self._log_late(f"worker {worker.pid}", leaving)
                worker.kill(signal.SIGKILL)
        if self._zygote.ending and self.leave_by is None and not self._workers:
            # The last worker of a retired generation has exited: now the time of the
            # zygote runs.
            self.leave_by = now + self._config.graceful_timeout + scoreboard.KILL_AFTER
        if self.leave_by is not None and now >= self.leave_by and self._zygote.pid:
            self._log_late(f"zygote {self._zygote.pid}", self._zygote.leaving)
            self.leave_by = _NEVER
            self._zygote.kill()

    def _log_late(self, process: str, leaving: bool) -> None:
        why = (
            ": the app's atexit functions, non-daemon threads or lifespan.shutdown still run"
            if leaving
            else ""
        )
        self._log.warning(
            f"{process} killed: it did not exit within {self._config.graceful_timeout:g} s (graceful_timeout){why}"
        )

    def due(self, now: float) -> list[float]:
        """When to look next (monotonic seconds)."""
        workers = self._workers.values()
        due = [worker.leave_by for worker in workers if worker.leave_by is not None]
        due += [] if self.leave_by is None else [self.leave_by]
        if any(worker.end_by is not None or worker.kill_at for worker in workers):
            return [*due, now + _LOOK_AGAIN]
        if self._zygote.pid and not self._zygote.killed and not self._zygote.ending:
            due.append(self._zygote.mute_since + _ZYGOTE_ACTS)
        due += [self._late_at(worker) for worker in workers]
        due += [self._forked_by(worker) for worker in workers if not worker.pid]
        return [
            *due,
            hung_workers.overdue_at(
                self._slots(), now, self._config.request_timeout, self._awake_since
            ),
        ]

    def _forked_by(self, worker: Worker) -> float:
        # Workers are asked for before the app is loaded; loading has its own time.
        return max(worker.born, self._zygote.loaded_at) + _ZYGOTE_ACTS

    def _late_at(self, worker: Worker) -> float:
        return worker.born + self._config.start_timeout if worker.starting else _NEVER

    def abort(self, worker: Worker, now: float, why: str) -> None:
        """Kill `worker`; the journal gets `why` and the traceback of each thread."""
        if not worker.killed:
            worker.killed = True
            worker.kill_at = now + _LAST_WORDS
            self._log.error(f"worker {worker.pid} killed: {why}")
            worker.kill(signal.SIGABRT)

    def overslept(self, seconds: float, now: float) -> None:
        """Move all deadlines: for `seconds` before `now` the Master has not run, and
        perhaps no process of the unit has.
        """
        self._awake_since = now
        if self.leave_by is not None:
            self.leave_by += seconds
        for worker in self._workers.values():
            worker.born += seconds
            if worker.leave_by is not None:
                worker.leave_by += seconds
            if worker.kill_at:
                worker.kill_at += seconds


def abort_and_wait(pid: int) -> None:
    """Send process `pid` SIGABRT and wait for its end, at most 2 s, so that its
    traceback is complete before anything else is done to it.
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
