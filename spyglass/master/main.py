"""The Master: the unit's main process. It waits, looks at its parts, tells systemd, and
exits when the app is idle.

systemd (or the lookout) starts it with the listening sockets. It never imports the app,
so nothing an app does can hurt it: a zygote forked from it loads the app and forks the
workers. Its loop has one wait point. Each part of it (collaborator.py) says when it is
to be looked at again; a turn waits for the earliest of these times, or an event, and
then looks at all of them in order.

STOPPING=1 cannot be taken back (sd_notify(3)), so it is sent after the decision to exit
and never before. How an idle app exits without losing a connection: see idle_exit.py.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import time

from spyglass.errors import EX_UNAVAILABLE, ListenerError, LoadError, RestartError
from spyglass.master.beginning import STOP
from spyglass.master.launch import Launcher
from spyglass.runtime.fast_imports import signal, signal_name
from spyglass.runtime.module_finder import import_all, were_replaced
from spyglass.runtime.poller import Poller, wait_seconds
from spyglass.runtime.sd_daemon import adopt_listeners, first_pending, notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.config.settings import Config
    from spyglass.master.beginning import Beginning
    from spyglass.master.collaborator import Collaborator
    from spyglass.master.counters import CounterNotes
    from spyglass.master.failing import Failing
    from spyglass.master.generations import Generations
    from spyglass.master.reload_socket import Reloads
    from spyglass.master.report_socket import Reports
    from spyglass.master.status_notes import StatusNotes
    from spyglass.master.systemd_watchdog import Watchdog

_LATE = 1.0  # seconds that a wake-up may be late on a machine that has a lot to do
_LONG_STANDSTILL = 5.0  # seconds; a shorter one is for debugging only
_PAUSE = 0.1  # seconds until a module is read again
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_IDLE = "idle"
_LEAVING = "the app is stopping; its next start loads the current code"


class Master:
    """`read_config()` returns the current configuration, or raises ConfigError; it is
    called before each attempt to load the app.
    """

    # Set by _build(), when the first zygote has been forked.
    _generations: Generations
    _failing: Failing
    _reloads: Reloads
    _reports: Reports
    _notes: CounterNotes
    _watchdog: Watchdog
    _status: StatusNotes

    def __init__(self, read_config: Callable[[], Config], beginning: Beginning) -> None:
        self._log = log = beginning.log
        self._shared = beginning.shared
        self._signals = beginning.signals
        self._poller = Poller()
        self._launcher = Launcher(
            read_config, self._shared, self._poller, log, self._become_child, beginning.fork
        )
        self._parts: list[Collaborator] = []  # in the order of their turns
        self._looked = 0.0  # when they were looked at last
        self._said = ""  # to systemd, before there were the parts
        self._stopping = False
        self._exit = 0, ""  # the exit status, and why it exits

    def run(self) -> int:
        """Serve until the app is idle or a signal says stop; return the exit status.

        Raise ListenerError if no listeners were passed in.
        """
        self._poller.watch(self._signals.fd, self._heed_signals)
        self._poller.watch(self._shared.poke, self._shared.hear)
        self._wake_up()
        gc.enable()  # which the command has disabled; little more is imported
        self._look(time.monotonic())
        while not self._stopping or self._generations.all() or self._failing.open:
            self.turn()
        status, why = self._exit
        self._notes.end(why)
        self._reloads.close()
        self._reports.close()
        return status

    def _wake_up(self) -> None:
        """Start the app, and make the parts. A client waits for all that comes before
        first_answer.wait() returns.
        """
        began = time.time()
        ready = False
        zygote = failure = None
        try:
            config = self._launcher.read_config()
            self._launcher.follow(config)
            zygote = self._launcher.start(config, first=True)
        except LoadError as error:
            failure = error
            self._launcher.discard_made()
        try:
            listeners = adopt_listeners()
        except ListenerError:
            if zygote is not None:
                zygote.discard()
            raise
        self._shared.adopt(listeners, first_pending(listeners))
        if zygote is not None:
            zygote.begin_work(config)
            # In here: no client waits for what is imported now.
            from spyglass.master import first_answer, status_line

            self._said = status_line.waking(config.app, waits=False)
            notify(f"STATUS={self._said}")
            line = status_line.awake(1, [], 0)
            ready = first_answer.wait(zygote, self._shared, self._signals.fd, line)
            if ready:
                self._said = line
        self._build_or_exit(ready)
        if zygote is not None:
            self._launcher.check_ignored(config)
            if ready:
                self._generations.be_ready()
            self._generations.begin(config, zygote)
            zygote.hear()
        elif failure is not None:
            self._generations.fail(failure, began)

    def _build_or_exit(self, ready: bool) -> None:
        """Make the parts. Raise RestartError if their modules are of another version:
        that Master would do what no version does. The next one starts at once, and this
        one's worker finishes what it has accepted.
        """
        signalled = False
        while True:
            try:
                self._build(ready)
                break
            except Exception as error:
                if were_replaced():
                    break
                if not isinstance(error, OSError) or error.errno not in _NO_DESCRIPTOR:
                    raise
            # No descriptor is left to read a module with; the app serves meanwhile. A
            # signal cannot wait for that: without a Master, the worker exits, too.
            if signalled:
                raise RestartError("no descriptor is left to read the program with")
            poll = select.poll()
            poll.register(self._signals.fd, select.POLLIN)
            signalled = bool(poll.poll(_PAUSE * 1000))
        if were_replaced():
            raise RestartError(
                "the files of Spyglass were replaced while it started: starting again"
            )

    def _build(self, ready: bool) -> None:
        """Make the parts, whose modules are imported here: see first_answer.py. `ready`
        (bool): systemd has had READY=1.

        All of them are imported now, because an upgrade of the package may replace
        them on disk while this Master runs.
        """
        import_all("parts")
        from spyglass.master.counters import CounterNotes
        from spyglass.master.failing import Failing
        from spyglass.master.generations import Generations
        from spyglass.master.idle_exit import IdleExit
        from spyglass.master.listener_watch import ListenerWatch
        from spyglass.master.reload_socket import Reloads
        from spyglass.master.report_socket import Reports
        from spyglass.master.settings_recorder import SettingsRecorder
        from spyglass.master.status_notes import StatusNotes
        from spyglass.master.systemd_watchdog import Watchdog, interval
        from spyglass.zygote import main as _  # noqa: F401, for the zygotes to come

        poller, log, shared = self._poller, self._log, self._shared
        generations = Generations(self._launcher, shared, poller, log, self._exit_idle)
        watch = ListenerWatch(shared.listeners, poller, lambda: failing.meet_clients())
        failing = Failing(poller, log, watch, generations.retry, generations.busy, self._stop)
        # First, because it raises OSError if it cannot read what was counted before.
        notes = CounterNotes(
            os.environ, shared, log, generations.workers, lambda: failing.loads.total,
            lambda: failing.refused,
        )  # fmt: skip
        reloads = Reloads(poller, log, lambda: self._reload("reload"))
        generations.idle_exit = IdleExit(shared.listeners, log, watch.set, self._prepare_to_exit)
        generations.failing, generations.reloads, generations.notes = failing, reloads, notes
        self._watchdog = Watchdog(
            interval(os.environ), shared, generations.all, lambda: generations.serving
        )
        self._status = StatusNotes(generations, failing, reloads, self._said, ready)
        self._generations, self._failing = generations, failing
        self._reloads, self._notes = reloads, notes
        self._reports = Reports(os.environ, poller, self._report)
        record = SettingsRecorder(lambda: self._launcher.config, lambda: generations.ready, log)
        # The record before the reloads: when a reload has ended, it is up to date.
        self._parts = [failing, generations, self._watchdog, self._status]
        self._parts += [record, reloads, self._reports, notes]

    def turn(self) -> None:
        """Wait once, handle the events there are, look at every part."""
        began = time.monotonic()
        due = [when for part in self._parts for when in part.due(self._looked)]
        if self._stopping:
            due.append(self._looked + _LATE)
        patience = wait_seconds(due, self._looked, began)
        self._poller.wait(patience)
        now = self._looked = time.monotonic()
        if patience is not None and now > began + patience + _LATE:
            self._overslept(now - began, now)
        self._look(now)

    def _look(self, now: float) -> None:
        for part in self._parts:
            part.look(now)

    def _overslept(self, seconds: float, now: float) -> None:
        """The Master woke up too late, after `seconds`: it was stopped (SIGSTOP, a
        frozen control group, a halted machine), and perhaps not alone.
        """
        level = self._log.info if seconds > _LONG_STANDSTILL else self._log.debug
        level(f"the Master did not run for up to {seconds:.0f} s (stopped or suspended)")
        self._generations.overslept(seconds, now)
        self._watchdog.overslept(now)

    def _become_child(self) -> None:
        """In each process that the Master forks."""
        self._poller.abandon()
        self._signals.forget()
        for part in self._parts:
            part.abandon()

    # Signals

    def _heed_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._reap()
            elif number in STOP:
                self._told_to_stop(number)
            elif number == signal.SIGHUP:
                self._reload("SIGHUP")
            elif number == signal.SIGUSR2:
                self._dump_tracebacks()
            elif number == signal.SIGTTIN:
                self._generations.change_workers(number, 1)
            elif number == signal.SIGTTOU:
                self._generations.change_workers(number, -1)

    def _reap(self) -> None:
        """Collect the exit status of each zygote that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for generation in self._generations.all():
                if generation.zygote.pid == pid:
                    generation.zygote_ended(status)

    def _told_to_stop(self, number: int) -> None:
        name = signal_name(number)
        if not self._stopping:
            self._log.info(f"{name}: stopping")
            self._stop(0, f"stopped by {name}")
        elif number == signal.SIGINT:
            self._log.info(f"{name} again: stopping at once")
            self._generations.kill()
            self._failing.close()

    def _dump_tracebacks(self) -> None:
        import faulthandler  # here, so that only SIGUSR2 pays for it

        faulthandler.dump_traceback(all_threads=True)
        for worker in self._generations.workers():
            worker.kill(signal.SIGUSR2)
            # faulthandler writes piece by piece: two at once could not be read.
            time.sleep(0.02)

    def _reload(self, asker: str) -> None:
        self._reloads.begin(ready=self._generations.ready and not self._stopping)
        if self._stopping:
            self._reloads.end(EX_UNAVAILABLE, _LEAVING)
            return
        self._log.info(f"{asker}: loading another generation")
        self._generations.reload()

    def _report(self) -> str:
        """Return what the Master reports of itself (report_socket.py)."""
        from spyglass.master.report_socket import Report  # loaded by _build()

        status = self._status.line(time.monotonic())
        return Report(status, self._notes.current(), self._reloads.last).text()

    # Exiting

    def _prepare_to_exit(self) -> None:
        """Do what may take a moment: the workers still accept, so no client waits."""
        from spyglass.master.byte_code_sweep import sweep_byte_code

        self._notes.note(_IDLE)
        sweep_byte_code(self._launcher.config)

    def _exit_idle(self) -> None:
        config = self._launcher.config
        counts = " that counts" if config.idle_ignore else ""
        self._log.info(f"exiting after {config.idle_timeout:g} s without a connection{counts}")
        self._stop(0, _IDLE)

    def _stop(self, status: int, why: str) -> None:
        """Have every part finish; the loop ends when they have."""
        self._stopping, self._exit = True, (status, why)
        seconds = self._generations.stop()
        self._failing.drain(time.monotonic() + self._launcher.config.graceful_timeout)
        self._reloads.end(EX_UNAVAILABLE, _LEAVING, ready=False)
        self._notes.stop()
        self._status.stop()
        # Last: from here on systemd starts the next Master for a client that comes.
        notify("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int((seconds + 5) * 1e6)}")
