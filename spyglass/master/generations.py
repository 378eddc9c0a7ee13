"""Which generation serves, which one loads, which ones finish: the life of the app.

A generation begins as `loading`. When its workers accept it is promoted to `serving`,
and the one before it retires: it finishes what it has accepted, however long that
takes. When it cannot be loaded, the one before it serves on; if there is none, the
Master answers by itself (failing.py). `retired` are those that still have processes.

With `preload = false` and `workers = 1` one process at a time has the app loaded, so
that the app may open what only one process can: a second process would be refused by a
lock, or overwrite what the first has written. There the next generation begins when the
last process of the one before has exited; the kernel's queue holds the clients
meanwhile.
"""

from __future__ import annotations

import time

from spyglass.errors import EX_CONFIG, LoadError
from spyglass.master.byte_code_sweep import sweep_byte_code
from spyglass.master.generation import Generation
from spyglass.master.status_line import count
from spyglass.policy import respawn
from spyglass.runtime import scoreboard
from spyglass.runtime.fast_imports import signal_name
from spyglass.runtime.sd_daemon import notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.master.counters import CounterNotes
    from spyglass.master.failing import Failing
    from spyglass.master.idle_exit import IdleExit
    from spyglass.master.launch import Launcher
    from spyglass.master.reload_socket import Reloads
    from spyglass.master.worker_records import Worker
    from spyglass.master.zygote_process import ZygoteProcess
    from spyglass.policy.worker_slot import Slot
    from spyglass.runtime.poller import Poller
    from spyglass.runtime.shared_memory import Shared

_MOST_WORKERS = 256
_OFTEN = 1.0  # seconds between two looks while time is measured, to notice a standstill
_STATUS_EVERY = 5.0  # seconds, so that `systemctl status` is not old news
_NEVER = float("inf")


class Generations:
    """`ready` (bool): systemd has been told so. `waits` (bool): the next one begins
    when all processes have exited. `exit_idle()` is called when the app may exit.

    Its collaborators are attributes, set once by the Master.
    """

    idle_exit: IdleExit
    failing: Failing
    reloads: Reloads
    notes: CounterNotes

    def __init__(
        self,
        launcher: Launcher,
        shared: Shared,
        poller: Poller,
        log: Log,
        exit_idle: Callable[[], None],
    ) -> None:
        self.loading: Generation | None = None
        self.serving: Generation | None = None
        self.retired: list[Generation] = []
        self.waits = False
        self.ready = False
        self._launcher = launcher
        self._shared = shared
        self._poller = poller
        self._log = log
        self._exit_idle = exit_idle

    def all(self) -> list[Generation]:
        return [each for each in (self.loading, self.serving, *self.retired) if each]

    def slots(self) -> list[Slot]:
        return [slot for generation in self.all() for slot in generation.slots()]

    def workers(self) -> list[Worker]:
        return [worker for generation in self.all() for worker in generation.workers.values()]

    @property
    def config(self) -> Config:
        """The one that is in force."""
        return self._launcher.config

    # The interface of the Master's collaborators

    def due(self, now: float) -> list[float]:
        due = [when for generation in self.all() for when in generation.due(now)]
        if self.loading or any(slot.call_since for slot in self.slots()):
            due.append(now + _OFTEN)
        if self.loading:
            due += [
                self.loading.zygote.started + self.loading.config.start_timeout,
                self.loading.streak.respawn_at,
            ]
        if self.serving:
            due += [
                self.serving.streak.respawn_at,
                self.idle_exit.hear_until,
                self.exit_at(self.serving.holders(), now),
                now + _STATUS_EVERY,
            ]
        return due

    def look(self, now: float) -> None:
        for generation in self.all():
            generation.look(now)
        # Before the look that may exit: no later event would say that its time is over.
        self._forget_gone()
        if self.loading:
            self._look_at_loading(self.loading, now)
        if self.serving:
            self._look_at_serving(self.serving, now)
        self._forget_gone()
        if self.waits and not self.all():
            self.load()

    def _forget_gone(self) -> None:
        for generation in [each for each in self.retired if each.gone]:
            self.retired.remove(generation)
            self.idle_exit.count_from(generation.departed.activity)

    def abandon(self) -> None:
        for generation in self.all():
            generation.abandon()

    def overslept(self, seconds: float, now: float) -> None:
        for generation in self.all():
            generation.overslept(seconds, now)

    # Loading

    def load(self) -> None:
        """Start a generation, from the configuration as it is now."""
        self.waits = False
        began = time.time()
        try:
            config = self._launcher.read_config()
            if self._shared.board.free <= config.workers:  # the zygote has one, too
                raise LoadError(
                    "too many workers of earlier generations still have open connections"
                )
            if self._others_come_first(config):
                return
            if not self.serving:
                self._launcher.follow(config)
            zygote = self._launcher.start(config, first=not self.failing.loads.in_a_row)
        except LoadError as error:
            self.fail(error, began)
        else:
            self.begin(config, zygote)

    def begin(self, config: Config, zygote: ZygoteProcess) -> None:
        """The zygote has been forked."""
        generation = self.loading = Generation(
            config,
            zygote,
            self._shared,
            self._poller,
            self._log,
            retry=self.failing.loads.in_a_row > 0,
        )
        # Now, not when it has loaded: it then forks at once, without asking.
        generation.maintain(zygote.started, self._first_order)
        if not self.ready or self.reloads.under_way:
            notify(f"EXTEND_TIMEOUT_USEC={int((config.start_timeout + 10) * 1e6)}")

    def busy(self) -> bool:
        """Return True if a generation loads, or is about to."""
        return bool(self.loading) or self.waits

    def retry(self) -> float:
        """Load again after a failure, if nothing loads; returns how many seconds that
        may take, or 0.0 if nothing has begun.
        """
        if self.loading:
            return 0.0
        self.load()
        return self.config.start_timeout if self.loading else 0.0

    def _others_come_first(self, config: Config) -> bool:
        """Return True if a generation with `config` must not begin before all processes
        of the others have exited; those are told to.
        """
        others = self.all()
        if not others or not any(
            each.one_process for each in (config, *(other.config for other in others))
        ):
            return False
        if self.serving:
            self._log.info(
                "one process at a time (preload = false, workers = 1): the old one exits, then a new one loads the app"
            )
            self.idle_exit.cancel(self.serving)
            self.retired.append(self.serving)
            self.serving = None
        for generation in self.retired:
            generation.drain()
        self.waits = True
        longest = (
            max(other.config.graceful_timeout for other in others)
            + 2 * scoreboard.KILL_AFTER
            + config.start_timeout
        )
        notify(f"EXTEND_TIMEOUT_USEC={int((longest + 10) * 1e6)}")
        return True

    def reload(self) -> None:
        """Load another generation. If one is being loaded already, start over, with
        what is there now.
        """
        if self.loading:
            self._discard(self.loading)
            self.loading = None
        if self.serving:
            self.idle_exit.cancel(self.serving)
        self.load()

    def _look_at_loading(self, generation: Generation, now: float) -> None:
        # While no generation serves, clients wait for the first worker. Otherwise there
        # is time to wait for all workers, and no reason to give clients to workers
        # that have not shown that they can live.
        workers = generation.workers.values()
        there = generation.complete if self.serving else any(each.accepted for each in workers)
        if there:
            self._promote(generation, now)
        elif error := generation.failures.loading:
            self._give_up(generation, error)
        elif why := generation.hopeless(now):
            self._give_up(generation, generation.failures.unfit or LoadError(why))
        elif now >= generation.zygote.started + generation.config.start_timeout:
            self._give_up(generation, generation.late())
        else:
            generation.maintain(now, self._first_order)

    @property
    def _first_order(self) -> int:
        """The order with which workers of a generation that loads begin."""
        return scoreboard.HOLD if self.serving else scoreboard.SERVE

    def _promote(self, generation: Generation, now: float) -> None:
        """Have `generation` serve, and the one before it retire."""
        seconds = generation.zygote.seconds_to_accept(now)
        reload = self.reloads.under_way and bool(self.serving or generation.config.one_process)
        generation.order(scoreboard.SERVE)
        self.reloads.take_over(generation, self.serving)
        if self.serving:
            self._log.info(
                f"another generation has taken over after {seconds:.2f} s; the old one drains"
            )
            self.serving.retire()
            self.retired.append(self.serving)
        else:
            self._log.info(
                f"awake after {seconds:.2f} s: {generation.config.app or 'the welcome page'}"
            )
        self.loading, self.serving = None, generation
        self.notes.loaded(seconds, reload=reload)
        self.failing.make_way()
        self._launcher.follow(generation.config)
        self.idle_exit.begin(now)
        self.be_ready()
        if self.reloads.under_way:
            # The code may lie elsewhere now, and an app that never sleeps has no other
            # moment.
            sweep_byte_code(generation.config)

    def be_ready(self) -> None:
        """The wake has ended, well or not. StatusNotes tells systemd so."""
        if not self.ready:
            self.ready = True
            self.notes.begin(time.monotonic())

    # Failing

    def _give_up(self, generation: Generation, error: LoadError) -> None:
        self._discard(generation)
        if generation is self.loading:
            self.loading = None
        self.fail(error, generation.zygote.started_wall)

    def _discard(self, generation: Generation) -> None:
        generation.kill(accepting=False)
        self.retired.append(generation)

    def fail(self, error: LoadError, began: float) -> None:
        """An attempt that began at `began` (wall clock) has failed. If a generation
        serves, it keeps serving; if not, the Master answers.
        """
        asked = not self.loading  # while another loads, a reload does not wait for this
        if self.serving:
            self._fail_beside(self.serving, error, asked=asked and self.reloads.under_way)
        else:
            self.failing.begin(error, self.config, began)
            self.be_ready()
        if asked:
            self.reloads.end(EX_CONFIG, error.summary, error.details)

    def _fail_beside(self, serving: Generation, error: LoadError, *, asked: bool) -> None:
        loads = self.failing.loads
        if asked:
            loads.add_requested("reload failed, the old generation keeps serving", error)
        else:
            loads.add("the zygote could not be replaced, its workers keep serving", error)
        if not serving.zygote.pid:
            serving.streak.respawn_at = time.monotonic() + respawn.retry_pause(loads.in_a_row)

    # Serving

    def _look_at_serving(self, generation: Generation, now: float) -> None:
        why = generation.hopeless(now)
        if why or (generation.gone and self.failing.loads.in_a_row and not self.loading):
            self.serving = None
            self._give_up(
                generation,
                generation.failures.unfit
                or LoadError(why or "the workers die as soon as they are started"),
            )
            return
        if generation.gone:
            self._replace_gone(generation)
            return
        slots = generation.holders()
        if not generation.zygote.pid and not self.loading and now >= generation.streak.respawn_at:
            self.load()
            if not self.serving:
                return
        if generation.departed.served or any(slot.served for slot in slots):
            self.failing.loads.forget()
        generation.maintain(now, self.idle_exit.order)
        if self.idle_exit.step(generation, slots, now >= self.exit_at(slots, now), now):
            self._exit_idle()

    def _replace_gone(self, generation: Generation) -> None:
        """All its processes were killed. That is an accident, unless it happens again
        before a request was answered.
        """
        self.idle_exit.cancel(generation)
        self.serving = None
        if not self.loading:
            self.load()
            self.failing.loads.in_a_row += 1

    def exit_at(self, slots: list[Slot], now: float) -> float:
        """Return when the app may exit if no client comes; inf for never. `slots` are
        those of the generation that serves.
        """
        if not self.serving or self.loading or self.retired or self.failing.open:
            return _NEVER
        return self.idle_exit.exit_at(self.serving, slots, now)

    # Ending, and what systemctl asks for

    def stop(self) -> float:
        """Have all processes finish and exit; returns the longest that may take, in
        seconds.
        """
        limits = [each.config.graceful_timeout for each in self.all()]
        graceful = max(limits, default=self.config.graceful_timeout)
        self.waits = False
        if self.loading:
            self._discard(self.loading)
            self.loading = None
        for generation in self.all():
            generation.drain()
        if self.serving:
            self.retired.append(self.serving)
            self.serving = None
        return graceful + 2 * scoreboard.KILL_AFTER

    def kill(self) -> None:
        for generation in self.all():
            generation.kill()

    def change_workers(self, number: int, more: int) -> None:
        """Signal `number` asks for `more` workers (1 or -1)."""
        generation = self.serving or self.loading
        if not generation:
            return
        if generation.config.one_process:
            self._log.warning(
                f"{signal_name(number)} has no effect: preload = false with workers = 1 allows one worker only"
            )
            return
        generation.wanted = max(1, min(_MOST_WORKERS, generation.wanted + more))
        self._log.info(f"{signal_name(number)}: {count(generation.wanted, 'worker')} from now on")
