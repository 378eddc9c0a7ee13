"""A generation as the Master sees it: one zygote, its channel and its workers.

Two may live side by side, on the same listeners and the same scoreboard: the one that
serves and the one that is to take over. Here stands what is done to processes and what
is heard from them; whether to do it is decided in the Master, by the rules in
worker_pool.py.
"""

from __future__ import annotations

import os
import time

from spyglass.errors import LoadError, blame
from spyglass.log import LEVELS
from spyglass.master.hung_processes import Overdue
from spyglass.master.worker_records import Orphans, Worker, read_slot
from spyglass.policy import worker_pool as fleet
from spyglass.policy.worker_pool import Slot, Streak
from spyglass.runtime import channel, fork, scoreboard
from spyglass.runtime.fast_imports import signal, signal_name, socket
from spyglass.zygote import main as zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.runtime.poller import Doors
    from spyglass.runtime.shared_memory import Shared

_LATE = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR2,
)  # meant for the Master, or said already, but sent to all by systemctl
_SENT_TO_ALL = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP, signal.SIGUSR2)
_WEIGH_EVERY = 5.0  # seconds between two looks at the memory of the workers
_NEVER = float("inf")
_RECYCLE_AGAIN = 5.0  # seconds until the next try when a replacement has not lived
_HEARD_A_TURN = 1024  # messages
_MOST_PID = 1 << 22  # PID_MAX_LIMIT of the kernel
_BUFFER = 1 << 20  # the channel's; a zygote must never wait for its Master


class Generation(Overdue):
    """`started` (float) is monotonic, `started_wall` (float) the wall clock's, for
    comparison with times of files.

    `retry` (bool): the one before could not be loaded or could not live.
    """

    def __init__(
        self, config: Config, shared: Shared, doors: Doors, log: Log, *, retry: bool
    ) -> None:
        super().__init__(config, shared, log, first=not retry)
        self.started_wall = time.time()
        self.wanted = config.workers
        self.last_words: tuple[str, str, list[str]] | None = (
            None  # why loading failed: summary, details, files
        )
        self.unfit: LoadError | None = (
            None  # why the last worker that died could not begin to work, if it has said so
        )
        self._told = ""  # which of these stands in the journal
        self._babble = False  # what is none of ours was heard
        # A generation that follows a broken one gets no second chance to break for its
        # visitors.
        self.streak = Streak(1 if retry else max(3, config.workers + 1))
        # Of workers that are no more: a generation is as busy as all it ever had.
        self.served = 0
        self.activity = 0.0
        self._born = 0  # how many there have been
        self._answered = 0  # requests, by all, at the last death
        self._handover: tuple[Worker, Worker] | None = (
            None  # who is to be recycled, and who takes its place
        )
        self._recycle_at = 0.0  # not before
        self._weigh_at = 0.0
        self._doors = doors
        self.orphans = Orphans(doors)
        self._channel, self._far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._fd = self._channel.fileno()

    def start(self, become_child: Callable[[], None]) -> None:
        """Fork the zygote. `become_child` closes, in the child, what is the
        Master's.
        """
        self._far_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._number = number = self._shared.board.take()
        # systemctl sends these to all processes: until the child has handlers of its
        # own, and lets them come (signals.py), it would die of them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SENT_TO_ALL)
        pid = -1
        try:
            pid = os.fork()
        except OSError:
            self._give_back_number()
            raise
        finally:
            if pid:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if not pid:
            self._become_zygote(number, become_child)
        self.pid = pid
        self._far_end.close()
        self._channel.setblocking(False)
        self._doors.open(self._fd, self.hear)

    def _become_zygote(self, number: int, become_child: Callable[[], None]) -> NoReturn:
        config, shared, channel, first = self.config, self._shared, self._far_end, self._first
        log = self._log.child("child")
        try:
            become_child()
            self._channel.close()
            shared.leave_the_line()
            log.set_level(LEVELS[config.log_level])
        except Exception as error:
            # Further up are the Master's handlers: one of them would take this for a
            # failed fork, and continue as a second Master.
            log.exception(blame(error), error)
            raise SystemExit(1) from None
        fork.enter(lambda: zygote.main(config, shared, number, channel, log, first=first))

    def disown(self) -> None:
        """In the zygote of another generation."""
        self._channel.close()
        self.orphans.abandon()

    # Doing

    def maintain(self, now: float, order: int) -> None:
        """Spawn who is missing, under `order`; drain who is too many. The zygote forks
        them when it has loaded the app.
        """
        self._see_off(now)
        if order <= scoreboard.SERVE and self.pid and not self._draining:
            self._recycle(now, order)
        wanted = self.wanted + (self._handover is not None)
        there = [worker for worker in self.workers.values() if not worker.draining]
        if len(there) > wanted:
            for worker in there[wanted:]:
                self._drain_one(worker, now)
            self._shared.ring()
        elif self.pid and not self._draining and now >= self.streak.respawn_at:
            living = len(self.workers) if self.config.one_process else len(there)
            for _ in range(min(wanted - living, self._room, self._shared.board.free)):
                self._spawn(now, order)

    @property
    def _room(self) -> int:
        """How many more may begin. Who loads the app itself takes a processor for that:
        visitors would wait for all that begin together.
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
        worker.cells[scoreboard.LIMIT] = fleet.request_limit(self.config.max_requests, self._born)
        self._born += 1
        worker.order(order)
        channel.send(self._channel, channel.SPAWN, number)
        return worker

    def _see_off(self, now: float) -> None:
        """Whoever was told to leave by somebody else (a SIGTERM of its own) is missing
        from now on, and not when it has finished.
        """
        for worker in self.workers.values():
            if not worker.draining and worker.cells[scoreboard.STATE] == scoreboard.DRAINING:
                worker.draining = True
                self._log.info(
                    f"worker {worker.pid} leaves, and not by our order; another takes its place"
                )
                self._count_out(worker, now)

    def _recycle(self, now: float, order: int) -> None:
        """Replace who is worn out, one at a time: it is told to finish when the one
        that takes its place accepts.

        "At a time" ends when the old one has gone, so there is never more than one
        process too many; and with one_process none.
        """
        if self._handover is not None:
            old, new = self._handover
            if old.draining or new.draining:
                self._handover = (
                    None  # for another reason: whoever is missing then, or too many, is so as ever
                )
            elif new.accepting:
                old.order(scoreboard.RETIRE)
                self._shared.ring()
                self._handover = None
        elif now >= self._recycle_at and self.complete and self._shared.board.free:
            self._weigh(now)
            slot = fleet.worn_out(self.slots(), self.config.max_memory)
            if slot is not None:
                old = self.workers[slot.number]
                heavy = self.config.max_memory and slot.memory > self.config.max_memory
                old.recycled = (
                    f"its memory had grown to {slot.memory / (1 << 20):.0f} MiB"
                    if heavy
                    else "max_requests"
                )
                if self.config.one_process:
                    self._drain_one(old, now)
                    self._shared.ring()
                else:
                    self._handover = old, self._spawn(now, order)

    @property
    def complete(self) -> bool:
        """Nobody is missing, on the way in or on the way out."""
        return len(self.workers) == self.wanted and all(
            worker.accepting and not worker.draining for worker in self.workers.values()
        )

    def _weigh(self, now: float) -> None:
        if not self.config.max_memory or now < self._weigh_at:
            return
        self._weigh_at = now + _WEIGH_EVERY
        try:
            from spyglass.master.worker_memory import share  # who has no limit does not pay for it

            for worker in self.workers.values():
                worker.memory = share(worker.pid)
        except PermissionError as error:
            self._log.warning(f"max_memory has no effect: {error}")
            self._weigh_at = _NEVER
        except OSError:
            pass  # no descriptor is left, or no memory: at the next look there may be

    def order(self, order: int) -> None:
        """Give all workers `order` (see scoreboard.py)."""
        news = False
        for worker in self.workers.values():
            news = news or worker.cells[scoreboard.ORDER] != order
            worker.order(order)
        if news:
            self._shared.ring()

    def obeys(self, order: int) -> bool:
        """True when all workers have answered `order`, or a stricter one."""
        return all(
            worker.cells[scoreboard.ANSWER] in (order, scoreboard.DRAIN)
            for worker in self.workers.values()
        )

    def retire(self) -> None:
        """Tell all to finish, however long that takes, and leave."""
        self.order(scoreboard.RETIRE)
        self._end_work()

    def drain(self) -> None:
        """Tell all to finish in graceful_timeout, and leave."""
        now = time.monotonic()
        if self.leave_by is None:
            # The zygote is the last to leave, and may have something to do then as
            # well.
            self.leave_by = now + self.config.graceful_timeout + 2 * scoreboard.KILL_AFTER
        for worker in self.workers.values():
            self._drain_one(worker, now)
        self._shared.ring()
        self._end_work()

    def _end_work(self) -> None:
        """The end of the channel tells the zygote that there will be no more to
        fork.
        """
        self._draining = True
        if self._fd >= 0:
            try:
                self._channel.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def _drain_one(self, worker: Worker, now: float) -> None:
        worker.order(scoreboard.DRAIN)
        if worker.leave_by is None:
            worker.leave_by = now + self.config.graceful_timeout + scoreboard.KILL_AFTER

    def kill(self, *, accepting: bool = True) -> None:
        """End all of it now. Unless `accepting`, a worker that may have accepted
        something finishes that first, in graceful_timeout.
        """
        self.drain()
        for worker in self.workers.values():
            # It says that it accepts, and reads its order each time before it does: so
            # one that has not said so yet never will accept.
            if accepting or worker.cells[scoreboard.STATE] < scoreboard.ACCEPTING:
                worker.killed = True
                worker.kill(signal.SIGKILL)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def due(self, now: float) -> list[float]:
        return [*super().due(now), self.orphans.due]

    # Hearing

    def hear(self) -> None:
        """Take the zygote's reports."""
        for _ in range(_HEARD_A_TURN):
            if self._fd < 0:
                return
            try:
                message = channel.receive(self._channel)
                if message is None:
                    self._hang_up()
                    return
                self._take(*message)
            except BlockingIOError:
                return
            except (ValueError, OSError) as error:
                # Not from our own code: the app has found the channel. It may harm
                # itself that way, but not end the Master.
                if not self._babble:
                    self._babble = True
                    self._log.warning(
                        f"a message that is none of ours, on a channel of ours, by the app as it seems: {error}"
                    )

    def _take(self, kind: str, *facts: Any) -> None:
        """Act on one report. Raises ValueError for what a zygote of ours does not
        say.
        """
        if kind == channel.SPAWNED:
            self._worker_born(*facts)
        elif kind == channel.FAILED:
            self.last_words = (facts[0], facts[1], facts[2])
        elif facts[0] not in self.workers:
            raise ValueError(f"{kind!r} of a worker that is not there")
        elif kind == channel.UNFIT:
            self._worker_unfit(*facts)
        elif kind == channel.DIED:
            self._worker_died(*facts)
        elif kind == channel.CANNOT:
            self._worker_not_born(*facts)
        else:
            raise ValueError(f"{kind!r} is not for the Master")
        self._loaded = min(self._loaded, time.monotonic())

    def _hang_up(self) -> None:
        if self._fd >= 0:
            self._doors.close(self._fd)
            self._channel.close()
            self._fd = -1
            self._mute_since = time.monotonic()

    def _worker_born(self, number: int, pid: int) -> None:
        worker = self.workers.get(number)
        if not is_pid(pid):
            raise ValueError(f"{pid} is no worker's pid")
        if worker is None or worker.pid:
            return  # told by both
        worker.pid = pid
        worker.born = time.monotonic()
        if worker.killed:
            worker.kill(signal.SIGKILL)
        if self.streak.forked():
            self._log.info("workers can be forked again")

    def _worker_not_born(self, number: int, why: str) -> None:
        spare = self._was_spare(number)
        self._remove(number)
        self.unfit = None
        if self.streak.not_forked(time.monotonic(), why) or spare:
            self._log.error(f"cannot fork a worker: {why}")

    def _worker_unfit(self, number: int, loading: int, *why: Any) -> None:
        if loading and not self.accepting:
            self.last_words = (why[0], why[1], why[2])  # as if the zygote had tried
            return
        error = self.workers[number].unfit = LoadError(*why)
        if error.summary == self._told:
            error.told = True
        elif (
            self._first or self.accepting
        ):  # of another try at what is broken the Master says what is new
            error.told, self._told = True, error.summary
            self._log.error(
                f"a worker cannot begin to work: {error.summary}\n{error.details}".rstrip()
            )

    def _worker_died(self, number: int, pid: int, status: int) -> None:
        known = self.workers[number].pid
        if (known and known != pid) or not is_end(status):
            raise ValueError(f"worker {known} has not ended as {pid}, with status {status}")
        spare = self._was_spare(number)
        worker = self._remove(number)
        now = time.monotonic()
        slot = worker.slot()
        # A second SIGTERM (systemd tells all of the group, and we tell the worker) may
        # find the interpreter on its way out, its handlers already taken back. By then
        # everything is finished, the app's atexit functions included.
        if worker.draining and status in (0, *_LATE) and not slot.open:
            if worker.recycled:
                self._log.info(
                    f"worker {pid} recycled after {count(slot.served, 'request')}: {worker.recycled}"
                )
            else:
                self._log.debug(f"worker {pid} has left after {count(slot.served, 'request')}")
            return
        if worker.late:
            return
        if worker.kill_at or not worker.killed:  # else it shares the fate of its generation
            self._shared.board.crashes += 1
        level = self._log.info if worker.killed or not status else self._log.error
        level(
            f"worker {pid} {how_it_ended(status)} after {now - worker.born:.1f} s and {count(slot.served, 'request')}; "
            f"{count(slot.open, 'connection')} open{', in the middle of a call' if slot.call_since else ''}"
        )
        if not worker.draining and not spare:
            self.unfit = worker.unfit
            if not self.config.preload and slot.state < scoreboard.ACCEPTING and not self.accepting:
                if worker.unfit is not None and self.last_words is None:
                    self.last_words = (
                        worker.unfit.summary,
                        "" if worker.unfit.told else worker.unfit.details,
                        worker.unfit.files,
                    )
                self._loading_ended(status)
            self._count_out(worker, now)

    def _count_out(self, worker: Worker, now: float) -> None:
        """It has ended, or is about to, and nobody of us had told it to."""
        answered = self.served + sum(slot.served for slot in self.slots())
        slot = worker.slot()
        age = now - worker.born if slot.state >= scoreboard.ACCEPTING else 0.0
        self.streak.died(now, age, answered - self._answered, slot.open)
        self._answered = answered

    def _was_spare(self, number: int) -> bool:
        """Whether worker `number`, which has not lived, was to take the place of
        another, who goes on: nobody is missing.
        """
        if (
            self._handover is None
            or self._handover[1].number != number
            or self._handover[1].accepting
        ):
            return False
        self._handover = None
        self._recycle_at = time.monotonic() + _RECYCLE_AGAIN
        return True

    def _remove(self, number: int) -> Worker:
        worker = self.workers.pop(number)
        if self._handover is not None and worker in self._handover:
            self._handover = None
        slot = worker.slot()
        self.served += slot.served
        self._remember(slot)
        self._shared.board.give_back(number)
        return worker

    def _remember(self, slot: Slot) -> None:
        # Whoever it had been busy for may be back in a moment.
        self.activity = max(self.activity, time.monotonic() if slot.busy else slot.activity)

    def _give_back_number(self) -> None:
        if self._number is not None:
            self._remember(read_slot(self._number, self._shared.board.slot(self._number)))
            self._shared.board.give_back(self._number)
            self._number = None

    def zygote_ended(self, status: int) -> None:
        """The zygote was reaped with wait status `status`; whatever it still had to say
        is heard first.
        """
        self.hear()
        # It may not have ended for us: what the app has forked, and not executed, still
        # holds the other end
        self._hang_up()
        self.pid = 0
        self._give_back_number()
        # Also where some accept: one that loads beside another waits for all of them,
        # and nobody is there to fork the others.
        self._loading_ended(status)
        if self.accepting and not self._draining:
            self._log.error(
                f"the zygote {how_it_ended(status)}; its workers go on until others have taken over"
            )
        for worker in list(self.workers.values()):
            if worker.pid:
                self.orphans.take(
                    worker, lambda worker: self._remove(worker.number), time.monotonic()
                )
            else:
                self._remove(worker.number)

    def _loading_ended(self, status: int) -> None:
        if self.last_words is None:
            self.last_words = (
                f"the app's process {how_it_ended(status)} while it was being loaded",
                "",
                [],
            )

    @property
    def gone(self) -> bool:
        return not self.pid and not self.workers

    @property
    def accepting(self) -> bool:
        return any(worker.accepting for worker in self.workers.values())

    def hopeless(self, now: float) -> str:
        """Why nobody can live, or "". Not as long as somebody does, who has something
        to lose as well.
        """
        return (
            ""
            if any(worker.proven(now) for worker in self.workers.values())
            else self.streak.hopeless
        )

    def holders(self) -> list[Slot]:
        """Of all who can hold off the leaving: the workers, and the zygote."""
        own = (
            []
            if self._number is None
            else [read_slot(self._number, self._shared.board.slot(self._number))]
        )
        return [*self.slots(), *own]


def count(number: int, noun: str) -> str:
    """ "1 worker", "2 workers"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


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
