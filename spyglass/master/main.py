"""The Master: the unit's main process. It waits, looks, acts, tells systemd, and leaves
when it is quiet.

systemd (or the lookout) starts it with the listening sockets. It never imports the app,
so nothing an app does can hurt it: a zygote forked from it loads the app and forks the
workers. Two generations may live side by side, `serving` and `loading`; what is neither
any more is `retired` until its last process has gone. When there is nobody to serve,
the Master answers 503 itself (`failing`).

Nobody is lost to the leaving (idle_exit.py). STOPPING=1 cannot be taken back
(sd_notify(3)), so it is said after the decision and never before.
"""

from __future__ import annotations

import os
import time

from spyglass import log
from spyglass.config.settings import Config
from spyglass.errors import EX_CONFIG, EX_UNAVAILABLE, ConfigError, LoadError
from spyglass.master.generation import Generation, count
from spyglass.policy import worker_pool
from spyglass.runtime import scoreboard
from spyglass.runtime.fast_imports import signal, signal_name
from spyglass.runtime.poller import Doors
from spyglass.runtime.sd_daemon import notify, somebody_waits
from spyglass.runtime.shared_memory import Shared
from spyglass.runtime.signals import Signals, hold_back_unheard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.log import Log
    from spyglass.master.counters import Counters
    from spyglass.master.idle_exit import Quiet
    from spyglass.master.reload_socket import Reloads
    from spyglass.master.systemd_watchdog import Watchdog
    from spyglass.master.unavailable import Failing
    from spyglass.runtime.sd_daemon import Listener

_SLOTS = 1024  # two generations of the most workers there can be, and those on their way out
_MOST_WORKERS = 256
_NEVER = float("inf")
_NOTE_AFTER = 1.0  # seconds after the first worker, when the first visitor has been answered
# Seconds between two looks while somebody is there, so that `systemctl status` is not
# old news
_STATUS_EVERY = 5.0
_UNREAD = 3  # failures in a row are taken for granted when they cannot be counted
_LATE = 1.0  # seconds that a wake-up may be late on a machine that has a lot to do
_IDLE = "idle"
_LEAVING = "it is leaving; the next start will load what is there then"
_STOP = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
_SIGNALS = (
    *_STOP,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR2,
    signal.SIGCHLD,
    signal.SIGTSTP,
)


class Master:
    """`read_config` gives the configuration afresh, or raises ConfigError; it is asked
    before each try at loading.
    """

    def __init__(
        self, listeners: list[Listener], read_config: Callable[[], Config], log: Log
    ) -> None:
        self._listeners = listeners
        self._read_config = read_config
        self._log = log
        self._config = Config()
        self._shared = Shared(listeners, _SLOTS)
        self._signals = Signals(_SIGNALS)
        hold_back_unheard()
        self._doors = Doors()
        self._looked = 0.0  # when everything was looked at last
        self._watching = False  # whether the listeners are among the doors
        # Who serves, and who will
        self._loading: Generation | None = None
        self._serving: Generation | None = None
        self._retired: list[Generation] = []
        self._load_when_alone = (
            False  # the next generation begins when those before have ended (Config.one_process)
        )
        self._reloads: Reloads | None = None  # when the first generation is on its way
        self._quiet: Quiet  # likewise
        self._failing: Failing | None = (
            None  # since the first failure: a wake that goes well does not pay for it
        )
        # Ending, and what systemd was told
        self._exit_status: int | None = None
        self._ready = False
        self._status = ""
        self._watchdog: Watchdog | None = None
        # What is to be known when all this is over
        self._counters: Counters | None = None  # when there is something to write
        self._note_at = _NEVER
        self._load_seconds = 0.0
        self._reloaded = 0  # times
        self._why = ""  # it leaves

    def run(self) -> int:
        """Serve until it is quiet or somebody says stop; returns the exit status."""
        self._doors.open(self._signals.fd, self._heed_signals)
        self._doors.open(self._shared.poke, self._shared.hear)
        self._load()
        self._tell(time.monotonic())
        self._get_ready()
        while (
            self._exit_status is None
            or self._generations()
            or (self._failing is not None and self._failing.open)
        ):
            self.turn()
        # Whoever came meanwhile waits in the queue for the next Master, and not for a
        # disk that is slow.
        if self._counters is None or not self._counters.slow:
            self._note(self._why)
        if self._reloads is not None:
            self._reloads.close()
        return self._exit_status

    def _get_ready(self) -> None:
        """The rest, when the zygote is on its way."""
        from spyglass.master.idle_exit import Quiet
        from spyglass.master.reload_socket import Reloads
        from spyglass.master.systemd_watchdog import Watchdog, interval

        if os.environ.get("STATE_DIRECTORY"):
            # Not when it is needed: an upgrade may have put another version in its
            # place by then.
            import spyglass.master.counters  # noqa: F401
        self._quiet = Quiet(
            self._listeners, self._log, self._watch_listeners, self._prepare_to_leave
        )
        self._watchdog = Watchdog(interval(os.environ), self._shared)
        self._reloads = Reloads(self._doors, self._log, lambda: self._reload("reload"))

    def turn(self) -> None:
        """Wait once, hear what there is, look at everything, act."""
        began = time.monotonic()
        patience = worker_pool.patience(self._due(self._looked), self._looked, began)
        self._doors.wait(patience)
        now = self._looked = time.monotonic()
        if patience is not None and now > began + patience + _LATE:
            self._overslept(now - began, now)
        if self._failing is not None:
            self._failing.expire(now)
        for generation in self._generations():
            generation.orphans.look(now)
            generation.end_overdue(now)
            generation.end_late(now)
        if self._exit_status is None:
            if self._loading is not None:
                self._look_at_loading(self._loading, now)
            if self._serving is not None:
                self._look_at_serving(self._serving, now)
            elif self._failing is not None and self._failing.trouble is not None:
                self._look_at_failing(self._failing, now)
        self._retired = [generation for generation in self._retired if not generation.gone]
        if self._load_when_alone and self._exit_status is None and not self._generations():
            self._load()
        if self._watchdog is not None:
            self._watchdog.look(self._generations(), self._serving, now)
        self._tell(now)
        if self._reloads is not None:
            self._reloads.turn(now)
        if now >= self._note_at and self._exit_status is None:
            self._note()

    def _overslept(self, seconds: float, now: float) -> None:
        """Woken too late, after so many seconds: stopped (SIGSTOP, a frozen control
        group, a halted machine), and perhaps not alone.
        """
        level = self._log.info if seconds > _STATUS_EVERY else self._log.debug
        level(f"stood still, for up to {seconds:.0f} s")
        for generation in self._generations():
            generation.overslept(seconds, now)
        if self._watchdog is not None:
            self._watchdog.overslept(now)

    def _due(self, now: float) -> list[float | None]:
        """When something is due, as far as it can be known at `now`; what is past has
        been looked at.
        """
        due = self._failing.due() if self._failing is not None else []
        due.append(self._reloads.due() if self._reloads is not None else None)
        for generation in self._generations():
            due += generation.due(now)
        due += self._watchdog.due() if self._watchdog is not None else []
        if (
            self._exit_status is not None
            or self._loading is not None
            or any(slot.call_since for slot in self._slots())
        ):
            due.append(
                now + _LATE
            )  # while time is measured: often enough to notice that we have stood still
        if self._exit_status is None:
            if self._loading is not None:
                due += [
                    self._loading.started + self._loading.config.start_timeout,
                    self._loading.streak.respawn_at,
                ]
            if self._serving is not None:
                due += [self._leave_at(self._serving, self._serving.holders(), now)]
                due += [
                    self._serving.streak.respawn_at,
                    self._quiet.hear_until,
                    self._note_at,
                    now + _STATUS_EVERY,
                ]
            elif self._failing is not None and self._failing.trouble is not None:
                due += [self._failing_leave_at(self._failing, now), self._note_at]
        return due

    def _watch_listeners(self, watching: bool) -> None:
        if watching == self._watching:
            return
        self._watching = watching
        for listener in self._listeners:
            if watching:
                self._doors.open(listener.fd, self._meet_visitors)
            else:
                self._doors.close(listener.fd)

    def _slots(self) -> list[worker_pool.Slot]:
        return [slot for generation in self._generations() for slot in generation.slots()]

    def _generations(self) -> list[Generation]:
        return [
            generation
            for generation in (self._loading, self._serving, *self._retired)
            if generation is not None
        ]

    # Signals

    def _heed_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._reap()
            elif number in _STOP:
                self._told_to_stop(number)
            elif number == signal.SIGHUP:
                self._reload("SIGHUP")
            elif number == signal.SIGUSR2:
                self._dump_tracebacks()
            elif number in (signal.SIGTTIN, signal.SIGTTOU) and (
                generation := self._serving or self._loading
            ):
                if generation.config.one_process:
                    self._log.warning(
                        f"{signal_name(number)}: one worker remains the only one, by preload = false and workers = 1"
                    )
                    continue
                wanted = generation.wanted + (1 if number == signal.SIGTTIN else -1)
                generation.wanted = max(1, min(_MOST_WORKERS, wanted))
                self._log.info(
                    f"{signal_name(number)}: {count(generation.wanted, 'worker')} from now on"
                )

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for generation in self._generations():
                if generation.pid == pid:
                    generation.zygote_ended(status)

    def _told_to_stop(self, number: int) -> None:
        name = signal_name(number)
        if self._exit_status is None:
            self._log.info(f"{name}: stopping")
            self._stop(0, f"stopped by {name}")
        elif number == signal.SIGINT:
            self._log.info(f"{name} again: stopping at once")
            for generation in self._generations():
                generation.kill()
            if self._failing is not None:
                self._failing.close()

    def _dump_tracebacks(self) -> None:
        import faulthandler

        faulthandler.dump_traceback(all_threads=True)
        for generation in self._generations():
            for worker in generation.workers.values():
                worker.kill(signal.SIGUSR2)
                time.sleep(
                    0.02
                )  # faulthandler writes piece by piece: at the same time, they could not be read

    def _reload(self, who: str) -> None:
        """Load another generation because somebody wants it; a second time before it is
        there: start anew, with what is there now.
        """
        assert self._reloads is not None
        self._reloads.begin(ready=self._ready and self._exit_status is None)
        if self._exit_status is not None:
            self._reloads.end(EX_UNAVAILABLE, _LEAVING)
            return
        self._log.info(f"{who}: loading another generation")
        if self._loading is not None:
            self._discard(self._loading)
            self._loading = None
        if self._serving is not None:
            self._quiet.resume(self._serving)
        self._load()

    # Waking

    def _load(self) -> None:
        """Start a generation from a configuration read afresh."""
        self._load_when_alone = False
        try:
            config = self._read_config()
        except ConfigError as error:
            self._fail(LoadError(str(error), files=[error.file] if error.file else []), time.time())
            return
        if self._shared.board.free <= config.workers:  # the zygote has one, too
            self._fail(
                LoadError("too many workers of earlier generations still have somebody to serve"),
                time.time(),
            )
            return
        if config.idle_ignore:
            self._check_ignored(config)
        if self._others_come_first(config):
            return
        if self._serving is None:
            self._go_by(config)
        try:
            self._loading = Generation(
                config, self._shared, self._doors, self._log, retry=self._failures > 0
            )
            self._loading.start(self._become_child)
        # No descriptor, no process, no memory to be had: as with an app that cannot be
        # loaded, later perhaps
        except OSError as error:
            self._loading = None
            self._fail(
                LoadError(f"cannot start a process for the app: {error.strerror}"), time.time()
            )
            return
        # Now, not when it has loaded: it then forks at once, without asking.
        self._loading.maintain(self._loading.started, self._first_order)
        if not self._ready or (self._reloads is not None and self._reloads.under_way):
            notify(f"EXTEND_TIMEOUT_USEC={int((config.start_timeout + 10) * 1e6)}")

    def _others_come_first(self, config: Config) -> bool:
        """True when a generation with `config` must not begin before all processes of
        the others have ended; those are told to.

        With `preload = false` and `workers = 1` one process at a time has the app
        loaded, so that it may open what only one process can: a second one beside it
        would be refused by a lock, or write over what the first has written. The
        kernel's queue holds the clients meanwhile.
        """
        others = self._generations()
        if not others or not any(
            each.one_process for each in (config, *(other.config for other in others))
        ):
            return False
        if self._serving is not None:
            self._log.info(
                "one process at a time (preload = false, workers = 1): it finishes and exits, then the next one loads the app"
            )
            self._quiet.resume(self._serving)
            self._retired.append(self._serving)
            self._serving = None
        for generation in self._retired:
            generation.drain()
        self._load_when_alone = True
        longest = (
            max(other.config.graceful_timeout for other in others)
            + 2 * scoreboard.KILL_AFTER
            + config.start_timeout
        )
        notify(f"EXTEND_TIMEOUT_USEC={int((longest + 10) * 1e6)}")
        return True

    def _check_ignored(self, config: Config) -> None:
        from spyglass.policy.idle_ignore import (
            unknown_listeners,
        )  # who ignores nobody does not pay for it

        names = [listener.name for listener in self._listeners]
        for entry in unknown_listeners(config.idle_ignore, names):
            self._log.warning(
                f"idle_ignore: no listener is called that, {entry!r}; FileDescriptorName= is {', '.join(sorted(set(names)))}"
            )

    def _go_by(self, config: Config) -> None:
        self._config = config
        self._log.set_level(log.LEVELS[config.log_level])

    def _become_child(self) -> None:
        self._doors.abandon()
        self._signals.forget()
        for generation in self._generations():
            if generation is not self._loading:
                generation.disown()
        if self._failing is not None:
            self._failing.abandon()
        if self._reloads is not None:
            self._reloads.abandon()

    def _look_at_loading(self, generation: Generation, now: float) -> None:
        # Where nobody serves, visitors wait for the first worker. Beside others there
        # is time to wait for all, and no reason to let visitors try what is not known
        # to live.
        there = generation.accepting if self._serving is None else generation.complete
        if there:
            self._promote(generation, now)
        elif generation.last_words is not None:
            self._give_up(generation, LoadError(*generation.last_words))
        elif why := generation.hopeless(now):
            self._give_up(generation, generation.unfit or LoadError(why))
        elif now >= generation.started + generation.config.start_timeout:
            self._give_up(generation, generation.late())
        else:
            generation.maintain(now, self._first_order)

    @property
    def _first_order(self) -> int:
        """What workers of a generation that loads begin with."""
        return scoreboard.SERVE if self._serving is None else scoreboard.HOLD

    def _promote(self, generation: Generation, now: float) -> None:
        """The workers of `generation` are there: it serves from now on, whoever served
        before finishes and leaves.
        """
        seconds = now - generation.started
        generation.order(scoreboard.SERVE)
        if self._reloads is not None:
            self._reloads.take_over(generation, self._serving)
        if self._serving is not None:
            self._log.info(
                f"another generation has taken over after {seconds:.2f} s; the old one drains"
            )
            # However long that takes: nobody waits for it.
            self._serving.retire()
            self._retired.append(self._serving)
            if self._reloads is not None and self._reloads.under_way:
                self._reloaded += 1
        else:
            self._log.info(
                f"awake after {seconds:.2f} s: {generation.config.app or 'the welcome page'}"
            )
            if (
                generation.config.one_process
                and self._reloads is not None
                and self._reloads.under_way
            ):
                self._reloaded += 1
        self._loading, self._serving = None, generation
        self._load_seconds = seconds
        if self._failing is not None:
            self._failing.make_way()
        self._go_by(generation.config)
        self._quiet.begin(now)
        self._say_ready()
        if self._reloads is not None and self._reloads.under_way:
            # The code may lie elsewhere now, and an app that never sleeps has no other
            # moment
            self._sweep_byte_code()

    def _say_ready(self) -> None:
        if not self._ready:
            self._ready = True
            notify("READY=1")
            if os.environ.get("STATE_DIRECTORY"):
                self._note_at = time.monotonic() + _NOTE_AFTER

    # Awake

    def _look_at_serving(self, generation: Generation, now: float) -> None:
        why = generation.hopeless(now)
        if why or (generation.gone and self._failures and self._loading is None):
            self._serving = None
            self._give_up(
                generation,
                generation.unfit or LoadError(why or "the workers die as soon as they are started"),
            )
            return
        if generation.gone:
            # Somebody has killed all of it. An accident, unless it happens again before
            # a request was answered.
            self._quiet.resume(generation)
            self._serving = None
            if self._loading is None:
                self._load()
                self._know_failing().count += 1
            return
        slots = generation.holders()
        if not generation.pid and self._loading is None and now >= generation.streak.respawn_at:
            self._load()
            if self._serving is None:
                return
        if self._failing is not None and (generation.served or any(slot.served for slot in slots)):
            self._failing.forget()
        generation.maintain(now, self._quiet.order)
        when = self._leave_at(generation, slots, now)
        if self._quiet.over(generation, slots, when is not None and now >= when, now):
            counts = " that counts" if self._config.idle_ignore else ""
            self._log.info(
                f"leaving after {self._config.idle_timeout:g} s without a connection{counts}"
            )
            self._stop(0, _IDLE)

    def _leave_at(
        self, generation: Generation, slots: list[worker_pool.Slot], now: float
    ) -> float | None:
        if (
            self._loading is not None
            or self._retired
            or (self._failing is not None and self._failing.open)
        ):
            return None
        return self._quiet.leave_at(generation, slots, now)

    # Failing

    def _give_up(self, generation: Generation, error: LoadError) -> None:
        self._discard(generation)
        if generation is self._loading:
            self._loading = None
        self._fail(error, generation.started_wall)

    def _discard(self, generation: Generation) -> None:
        generation.kill(accepting=False)
        self._retired.append(generation)

    def _fail(self, error: LoadError, began: float) -> None:
        """A try that began at `began` (wall clock) has failed. If a generation serves,
        it goes on; if not, the Master answers.
        """
        now = time.monotonic()
        ended = (
            self._reloads if self._loading is None else None
        )  # else what has failed is not what somebody waits for
        if self._serving is not None:
            self._fail_beside(
                self._serving, error, now, asked=ended is not None and ended.under_way
            )
        else:
            failing = self._know_failing()
            failing.failures += 1
            failing.report("failing", error)
            failing.stand_in(error, self._config, began, now)
            self._watch_listeners(True)
            self._say_ready()
        if ended is not None:
            ended.end(EX_CONFIG, error.summary)

    def _fail_beside(
        self, serving: Generation, error: LoadError, now: float, *, asked: bool
    ) -> None:
        what = (
            "reload failed, the old generation goes on"
            if asked
            else "the zygote is not replaced, its workers go on"
        )
        try:
            failing = self._know_failing()
        except OSError:  # not even a descriptor with which to read our own code for it
            self._log.error(f"{what}: {error.summary}")
            tries = _UNREAD
        else:
            failing.failures += 1
            (failing.tell if asked else failing.report)(what, error)
            tries = failing.count
        if not serving.pid:
            serving.streak.respawn_at = now + worker_pool.retry_pause(tries)

    def _know_failing(self) -> Failing:
        if self._failing is None:
            from spyglass.master.unavailable import Failing

            self._failing = Failing(self._doors, self._log)
        return self._failing

    @property
    def _failures(self) -> int:
        """In a row."""
        return self._failing.count if self._failing is not None else 0

    def _meet_visitors(self) -> None:
        """Somebody waits in a listener's queue while no worker is to accept."""
        failing = self._failing
        if failing is None or failing.trouble is None or self._serving is not None:
            return  # quiescing: the look that follows sees it
        now = time.monotonic()
        if self._loading is None and failing.trouble.may_retry(now):
            self._load()
            if self._loading is not None:
                failing.hold(now, self._config.start_timeout)
                self._watch_listeners(False)
                return
        failing.accept(self._listeners)

    def _look_at_failing(self, failing: Failing, now: float) -> None:
        self._watch_listeners(failing.wants_more(now))
        when = self._failing_leave_at(failing, now)
        if when is not None and now >= when and not somebody_waits(self._listeners):
            self._log.info(
                f"leaving after {self._config.idle_timeout:g} s without a visitor; still broken: {failing}"
            )
            self._stop(EX_CONFIG, f"failing: {failing}")

    def _failing_leave_at(self, failing: Failing, now: float) -> float | None:
        return (
            failing.leave_at(now) if self._loading is None and not self._load_when_alone else None
        )

    # Leaving

    def _stop(self, status: int, why: str) -> None:
        self._exit_status, self._why = status, why
        # By then all that is there was told to leave, or is killed.
        graceful = max(
            (generation.config.graceful_timeout for generation in self._generations()),
            default=self._config.graceful_timeout,
        )
        seconds = graceful + 2 * scoreboard.KILL_AFTER + 5
        self._watch_listeners(False)
        if self._loading is not None:
            self._discard(self._loading)
            self._loading = None
        for generation in self._generations():
            generation.drain()
        if self._serving is not None:
            self._retired.append(self._serving)
            self._serving = None
        if self._failing is not None:
            self._failing.drain(time.monotonic() + self._config.graceful_timeout)
        if self._reloads is not None:
            self._reloads.end(EX_UNAVAILABLE, _LEAVING, ready=False)
        # Last: who hears of it, and comes then, is for the next Master.
        notify("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    # Telling who comes later, and systemd

    def _note(self, why: str = "") -> None:
        """Have what was counted survive us, who leave now because of `why`, or do
        not.
        """
        if not os.environ.get("STATE_DIRECTORY"):
            return
        if self._counters is None:
            try:
                from spyglass.master.counters import Counters

                self._counters = Counters(os.environ, self._shared, self._log)
            # Without a descriptor to read it with; to begin from nothing would be to
            # lose what was counted before
            except OSError:
                self._note_at = time.monotonic() + _NOTE_AFTER
                return
        workers = [
            worker for generation in self._generations() for worker in generation.workers.values()
        ]
        failures = self._failing.failures if self._failing is not None else 0
        self._note_at = time.monotonic() + self._counters.note(
            workers, failures, self._reloaded, self._load_seconds, why
        )

    def _prepare_to_leave(self) -> None:
        """Do what may take a moment: the workers still accept, so no client waits for
        it.
        """
        self._note(_IDLE)
        self._sweep_byte_code()

    def _sweep_byte_code(self) -> None:
        if not os.environ.get("CACHE_DIRECTORY"):
            return
        try:
            from spyglass.zygote import byte_code_cache as byte_code
            from spyglass.zygote.app_loader import byte_code_cache
        except OSError:  # no descriptor is left
            return
        app, venv = os.path.abspath(self._config.directory), self._config.venv
        byte_code.sweep(
            byte_code_cache(),
            [
                app,
                os.path.join(app, venv) if venv else "",
                os.path.dirname(os.__file__),
                "/usr/lib/python3",
            ],
        )

    def _tell(self, now: float) -> None:
        status = self._describe(now)
        if status != self._status:
            self._status = status
            notify(f"STATUS={status}")

    def _describe(self, now: float) -> str:
        if self._exit_status is not None:
            held = sum(slot.open for slot in self._slots())
            return f"leaving: {count(held, 'connection')} to finish" if held else "leaving"
        if self._serving is None:
            doing = (
                "waiting for the process before to exit, then loading"
                if self._load_when_alone
                else "loading"
            )
            loading = f"waking: {doing} {self._config.app or 'the welcome page'}"
            trouble = self._failing.trouble if self._failing is not None else None
            return loading if trouble is None else f"failing: {trouble.error.summary}"
        slots = self._serving.holders()
        held = sum(slot.open for slot in slots)
        served = self._serving.served + sum(slot.served for slot in slots)
        when = (
            None if any(slot.busy for slot in slots) else self._leave_at(self._serving, slots, now)
        )
        quiet = (
            worker_pool.why_awake(slots)
            if when is None
            else f"; quiet, leaves in {max(0.0, when - now):.0f} s"
        )
        reload = "; loading another generation" if self._loading is not None else ""
        if self._reloads is not None and self._reloads.failure:
            reload = f"; reload failed: {self._reloads.failure}"
        workers = count(len(self._serving.workers), "worker")
        return f"awake: {workers}, {count(held, 'connection')}, {count(served, 'request')} served{quiet}{reload}"
