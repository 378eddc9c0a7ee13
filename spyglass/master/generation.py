"""One generation: a zygote that has loaded the app, and the workers it has forked.

Two may live side by side, on the same listeners and the same scoreboard: the one that
serves and the one that is to take over. This file starts and stops their processes and
hears how they end. Whether to do so is decided in generations.py, by the rules in
policy/.
"""

from __future__ import annotations

import os
import time

from spyglass.errors import LoadError
from spyglass.master.hung_processes import HungProcesses, abort_and_wait
from spyglass.master.load_failures import LoadFailures
from spyglass.master.orphans import Orphans
from spyglass.master.status_line import count
from spyglass.master.worker_records import Departed, Worker
from spyglass.master.worker_recycling import WorkerRecycling, limit_of
from spyglass.policy.recycling import request_limit
from spyglass.policy.respawn import Streak
from spyglass.runtime import channel, scoreboard
from spyglass.runtime.fast_imports import signal, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.master.zygote_process import ZygoteProcess
    from spyglass.policy.worker_slot import Slot
    from spyglass.runtime.poller import Poller
    from spyglass.runtime.shared_memory import Shared

# Meant for the Master, or sent by it already: systemctl sends them to all processes.
_LATE = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
_MOST_PID = 1 << 22  # PID_MAX_LIMIT of the kernel


class Generation:
    """Made when its `zygote` has been forked. `wanted` (int) workers are to be there.

    `retry` (bool): the generation before it could not be loaded, or could not live.
    """

    def __init__(
        self,
        config: Config,
        zygote: ZygoteProcess,
        shared: Shared,
        poller: Poller,
        log: Log,
        *,
        retry: bool,
    ) -> None:
        self.config = config
        self.wanted = config.workers
        self.workers: dict[int, Worker] = {}  # by slot number
        self._first = not retry
        self._shared = shared
        self._log = log
        self.zygote = zygote
        zygote.report = self._take
        self.orphans = Orphans(poller, lambda worker: self._remove(worker.number))
        self.hung = HungProcesses(config, self.zygote, self.workers, shared, log)
        self.recycling = WorkerRecycling(config, self.workers, log, self._spawn, self._retire_one)
        self.failures = LoadFailures(log, first=self._first)
        self.departed = Departed()
        if (first := zygote.first_worker) >= 0:
            self.workers[first] = Worker(first, shared.board.slot(first), zygote.started)
            self.departed.spawned += 1
        # A generation that follows a broken one gets no second chance to break for its
        # clients.
        self.streak = Streak(1 if retry else max(3, config.workers + 1))

    # The interface of the Master's collaborators

    def due(self, now: float) -> list[float]:
        return [*self.hung.due(now), *self.orphans.due(now)]

    def look(self, now: float) -> None:
        self.orphans.look(now)
        self.hung.look(now)

    def abandon(self) -> None:
        """In the zygote of another generation."""
        self.zygote.abandon()
        self.orphans.abandon()

    def overslept(self, seconds: float, now: float) -> None:
        """The Master, and perhaps every process of the unit, did not run for `seconds`
        before `now`: they count against none of them.
        """
        self.zygote.overslept(seconds)
        self.hung.overslept(seconds, now)

    # Starting workers

    def maintain(self, now: float, order: int) -> None:
        """Spawn missing workers, under `order`; drain those beyond `wanted`. The zygote
        forks them when it has loaded the app.
        """
        self._count_stopping(now)
        if order <= scoreboard.SERVE and self.zygote.pid and not self.zygote.ending:
            self._recycle(now, order)
        wanted = self.wanted + self.recycling.under_way
        there = [worker for worker in self.workers.values() if not worker.draining]
        if len(there) > wanted:
            for worker in there[wanted:]:
                self._drain_one(worker, now)
            self._shared.ring()
        elif self.zygote.pid and not self.zygote.ending and now >= self.streak.respawn_at:
            living = len(self.workers) if self.config.one_process else len(there)
            for _ in range(min(wanted - living, self._room, self._shared.board.free)):
                self._spawn(now, order)

    @property
    def _room(self) -> int:
        """How many more may begin. A worker that loads the app itself takes a processor
        for that: clients would wait for all that begin together.
        """
        if self.config.preload:
            return self.wanted + 1
        return len(os.sched_getaffinity(0)) - sum(
            worker.cells[scoreboard.STATE] < scoreboard.ACCEPTING
            for worker in self.workers.values()
        )

    def _spawn(self, now: float, order: int) -> Worker:
        number = self._shared.board.take()
        worker = self.workers[number] = Worker(number, self._shared.board.slot(number), now)
        worker.cells[scoreboard.LIMIT] = request_limit(
            self.config.max_requests, self.departed.spawned
        )
        self.departed.spawned += 1
        worker.order(order)
        self.zygote.spawn(number)
        return worker

    def _count_stopping(self, now: float) -> None:
        """Count a worker that stops without our order (a SIGTERM of its own) as missing
        from now on, not only when it has finished.
        """
        for worker in self.workers.values():
            if not worker.draining and worker.cells[scoreboard.STATE] == scoreboard.DRAINING:
                worker.draining = True
                self._shared.board.note_restart("signal")
                self._log.info(
                    f"worker {worker.pid} is shutting down (external SIGTERM); starting a replacement"
                )
                self._count_death(worker, now)

    def _recycle(self, now: float, order: int) -> None:
        if self.recycling.under_way:
            self.recycling.follow()
        elif self.complete and self._shared.board.free and (old := self.recycling.find(now)):
            if self.config.one_process:
                self._drain_one(old, now)
                self._shared.ring()
            else:
                self.recycling.begin(old, now, order)

    # Stopping them

    def order(self, order: int) -> None:
        """Give all workers `order` (see scoreboard.py)."""
        news = False
        for worker in self.workers.values():
            news = news or worker.cells[scoreboard.ORDER] != order
            worker.order(order)
        if news:
            self._shared.ring()

    def obeys(self, order: int) -> bool:
        """Return True if all workers have answered `order`, or a stricter one."""
        return all(
            worker.cells[scoreboard.ANSWER] in (order, scoreboard.DRAIN)
            for worker in self.workers.values()
        )

    def retire(self) -> None:
        """Have all finish, however long that takes, and exit."""
        self.order(scoreboard.RETIRE)
        self.zygote.end_work()

    def _retire_one(self, worker: Worker) -> None:
        worker.order(scoreboard.RETIRE)
        self._shared.ring()

    def drain(self) -> None:
        """Have all finish within graceful_timeout, and exit."""
        now = time.monotonic()
        if self.hung.leave_by is None:
            # The zygote exits last, and the app may have something to do in it, too.
            self.hung.leave_by = now + self.config.graceful_timeout + 2 * scoreboard.KILL_AFTER
        for worker in self.workers.values():
            self._drain_one(worker, now)
        self._shared.ring()
        self.zygote.end_work()

    def _drain_one(self, worker: Worker, now: float) -> None:
        worker.order(scoreboard.DRAIN)
        if worker.leave_by is None:
            worker.leave_by = now + self.config.graceful_timeout + scoreboard.KILL_AFTER

    def kill(self, *, accepting: bool = True) -> None:
        """End all of it now. Unless `accepting`, a worker that may have accepted a
        connection finishes that first, within graceful_timeout.
        """
        self.drain()
        for worker in self.workers.values():
            # A worker reads its order after it has said that it accepts and before it
            # does. So one that has not said so by now never will accept.
            if accepting or worker.cells[scoreboard.STATE] < scoreboard.ACCEPTING:
                worker.killed = True
                worker.kill(signal.SIGKILL)
        self.zygote.kill()

    def late(self) -> LoadError:
        """Return what was not done within start_timeout. The first time, the journal
        gets the traceback of the process that hangs, by faulthandler.
        """
        worker = next((worker for worker in self.workers.values() if worker.starting), None)
        if self._first and (self.zygote.pid or worker is not None):
            abort_and_wait(self.zygote.pid if worker is None else worker.pid)
        within = f"within {self.config.start_timeout:g} s (start_timeout)"
        if worker is not None and self.config.preload:
            return LoadError(
                f"no worker was ready {within}: a function that the app runs after the fork does not return"
            )
        return LoadError(f"the app was not loaded {within}")

    # What the zygote reports

    def _take(self, kind: str, *facts: Any) -> None:
        if kind == channel.SPAWNED:
            self._worker_born(*facts)
        elif kind == channel.FAILED:
            self.failures.load_failed(*facts)
        elif facts[0] not in self.workers:
            raise ValueError(f"{kind!r} for an unknown worker")
        elif kind == channel.UNFIT:
            self._worker_unfit(*facts)
        elif kind == channel.DIED:
            self._worker_died(*facts)
        elif kind == channel.CANNOT:
            self._worker_not_born(*facts)
        else:
            raise ValueError(f"{kind!r} is not for the Master")

    def _worker_born(self, number: int, pid: int) -> None:
        worker = self.workers.get(number)
        if not is_pid(pid):
            raise ValueError(f"{pid} is no worker's pid")
        if worker is None or worker.pid:
            return  # the zygote and the worker both report it
        worker.pid = pid
        worker.born = time.monotonic()
        if worker.killed:
            worker.kill(signal.SIGKILL)
        if self.streak.forked():
            self._log.info("workers can be forked again")

    def _worker_not_born(self, number: int, why: str) -> None:
        spare = self.recycling.fresh_one_failed(number)
        self._remove(number)
        self.failures.unfit = None
        if self.streak.not_forked(time.monotonic(), why) or spare:
            self._log.error(f"cannot fork a worker: {why}")

    def _worker_unfit(self, number: int, loading: int, *why: Any) -> None:
        if loading and not self.accepting:
            self.failures.load_failed(*why)  # as if the zygote had tried
        else:
            self.workers[number].unfit = self.failures.worker_unfit(why, accepting=self.accepting)

    def _worker_died(self, number: int, pid: int, status: int) -> None:
        known = self.workers[number].pid
        if (known and known != pid) or not is_end(status):
            raise ValueError(f"worker {known} has not ended as {pid}, with status {status}")
        spare = self.recycling.fresh_one_failed(number)
        worker = self._remove(number)
        slot = worker.slot()
        # A second SIGTERM (systemd tells all of the group, and we tell the worker) may
        # find the interpreter on its way out, its handlers already taken back. By then
        # everything is finished, the app's atexit functions included.
        if worker.draining and status in (0, *_LATE) and not slot.open:
            if worker.recycled:
                self._shared.board.note_restart(limit_of(worker))
                self._log.info(
                    f"worker {pid} recycled after {count(slot.served, 'request')}: {worker.recycled}"
                )
            else:
                self._log.debug(f"worker {pid} has left after {count(slot.served, 'request')}")
        elif not worker.late:
            self._worker_crashed(worker, slot, pid, status, spare=spare)

    def _worker_crashed(
        self, worker: Worker, slot: Slot, pid: int, status: int, *, spare: bool
    ) -> None:
        """`spare` (bool): it was to replace another worker, which serves on."""
        now = time.monotonic()
        if worker.kill_at or not worker.killed:  # else it shares the fate of its generation
            self._shared.board.note_crash(hung=bool(worker.kill_at))
        level = self._log.info if worker.killed or not status else self._log.error
        level(
            f"worker {pid} {how_it_ended(status)} after {now - worker.born:.1f} s and {count(slot.served, 'request')}; "
            f"{count(slot.open, 'connection')} open{', in the middle of a call' if slot.call_since else ''}"
        )
        if worker.draining or spare:
            return
        self.failures.unfit = worker.unfit
        if not self.config.preload and slot.state < scoreboard.ACCEPTING and not self.accepting:
            self.failures.worker_died_loading(worker.unfit, how_it_ended(status))
        self._count_death(worker, now)

    def _count_death(self, worker: Worker, now: float) -> None:
        """`worker` has ended, or is about to, without our order."""
        slot = worker.slot()
        age = now - worker.born if slot.state >= scoreboard.ACCEPTING else 0.0
        answered = self.departed.answered_since_last_death(self.slots())
        self.streak.died(now, age, answered, slot.open)

    def _remove(self, number: int) -> Worker:
        worker = self.workers.pop(number)
        self.recycling.forget(worker)
        self.departed.add(worker.slot())
        self._shared.board.give_back(number)
        return worker

    def zygote_ended(self, status: int) -> None:
        """The zygote was reaped, with wait status `status`."""
        self.zygote.reaped()
        for slot in self.zygote.slots():
            self.departed.remember(slot)
        self.zygote.give_back_slot()
        # Also while some workers accept: a generation that loads alongside another one
        # waits for all of its workers, and the missing ones cannot be forked any more.
        self.failures.load_ended(how_it_ended(status))
        if self.accepting and not self.zygote.ending:
            self._log.error(
                f"the zygote {how_it_ended(status)}; its workers serve until a new generation takes over"
            )
        for worker in list(self.workers.values()):
            if worker.pid:
                self.orphans.adopt(worker, time.monotonic())
            else:
                self._remove(worker.number)

    # What it is like now

    @property
    def gone(self) -> bool:
        return not self.zygote.pid and not self.workers

    @property
    def accepting(self) -> bool:
        return any(worker.accepting for worker in self.workers.values())

    @property
    def complete(self) -> bool:
        """Every wanted worker accepts, and none is on its way out."""
        return len(self.workers) == self.wanted and all(
            worker.accepting and not worker.draining for worker in self.workers.values()
        )

    def hopeless(self, now: float) -> str:
        """Return why no worker can live, or "". Not while one does: it has connections
        to lose.
        """
        if any(worker.proven(now) for worker in self.workers.values()):
            return ""
        return self.streak.hopeless

    def slots(self) -> list[Slot]:
        return [worker.slot() for worker in self.workers.values()]

    def holders(self) -> list[Slot]:
        """Return the slots of all that can keep the app awake: the workers and the
        zygote.
        """
        return [*self.slots(), *self.zygote.slots()]


def is_pid(number: int) -> bool:
    """Return True if a process other than init and this one could have that pid."""
    return 1 < number < _MOST_PID and number != os.getpid()


def is_end(status: int) -> bool:
    """Return True if it is the wait status of a process that has ended."""
    return not status >> 16 and (os.WIFEXITED(status) or os.WIFSIGNALED(status))


def how_it_ended(status: int) -> str:
    """What a wait status says, as the rest of a sentence."""
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal_name(-code)}" if code < 0 else f"exited with status {code}"
