"""`spyglass check`: rehearse a wake without sockets; say if the app would be served.

The configuration is read, a zygote loads the app and forks one worker. The worker calls
post_fork(), has an ASGI app start and stop (its lifespan), and exits where others begin
to accept. These are the processes that the
service has (zygote/rehearsal.py), so a crash, a hang or a sys.exit() at import is
reported and takes nothing down. What they print goes to the terminal.

Three processes take part. The supervisor, which is the command itself, does the
Master's part. The zygote and its worker report to it. A guard, in a session of its own,
continues the supervisor if the app stops it.
"""

from __future__ import annotations

import os
import select
import sys
import time

from spyglass.config import asgi_settings
from spyglass.config.setting_text import assignment
from spyglass.config.settings import SETTINGS
from spyglass.errors import EX_CONFIG, LoadError
from spyglass.master.generation import how_it_ended, is_end, is_pid
from spyglass.ops.check import check_report, import_costs
from spyglass.ops.check.stage_reports import Reporter
from spyglass.printable import one_line
from spyglass.runtime import channel, fork
from spyglass.runtime.fast_imports import signal, socket
from spyglass.runtime.poller import LONGEST_WAIT
from spyglass.runtime.shared_memory import Shared
from spyglass.zygote import main as zygote
from spyglass.zygote.app_loader import module_of
from spyglass.zygote.fork_safety import Found, remedy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from spyglass.config.settings import Config
    from spyglass.log import Log

_LAST_WORDS = 2.0  # seconds for the traceback of what hangs
_MOST_LATE = 1000  # messages
_AGAIN = 0.1  # seconds until a process that should have ended is continued again
# Seconds of that, until the app's process, which stops us each time, is killed.
_KILL_AFTER = 5.0
_GOODBYE = 1.0  # seconds for the app's own atexit functions


def check(config: Config, log: Log, label: str = "", note: str = "") -> int:
    """Rehearse and print the results; return the exit status, 0 or EX_CONFIG.

    `label` is what the verdict calls the app, by default what `app` says. `note` is
    printed before it if the app cannot be loaded.
    """
    for line in _configuration(config):
        check_report.print_line(line)
    return fork.run(lambda: _rehearse(config, log, label or _called(config), note))


def _rehearse(config: Config, log: Log, label: str, note: str) -> int:
    rehearsal = _Supervisor(config, log)
    patience = _GOODBYE
    failure = None
    try:
        rehearsal.run()
    except LoadError as error:
        failure = error
    except KeyboardInterrupt:
        patience = 0.0
        return 130  # as shells do: 128 + SIGINT
    finally:
        rehearsal.end(patience)
    if failure is not None:
        for line in [*failure.details.split("\n"), note]:
            if line:
                check_report.print_line(line, sys.stderr)
        check_report.print_verdict(label, [failure.summary])
        return EX_CONFIG
    for line in rehearsal.report():
        check_report.print_line(line)
    check_report.print_verdict(label, [], rehearsal.warned)
    return 0


def _called(config: Config) -> str:
    return config.app or "the welcome page"


def _configuration(config: Config) -> list[str]:
    """Return the settings that differ from their defaults, as lines of a file."""
    file = f"configuration: {config.file or 'no file'}"
    given = [
        (SETTINGS[name], value)
        for name, value in config.values.items()
        if value != SETTINGS[name].default
    ]
    if not given:
        return [f"{file}; all settings have their defaults"]
    return [file, *(f"  {assignment(setting, value)}" for setting, value in given)]


class _Supervisor:
    """Starts the zygote, hears its reports, and does not wait for ever."""

    def __init__(self, config: Config, log: Log) -> None:
        self._config = config
        self._log = log
        self._zygote = 0  # pid
        self._worker = 0  # pid
        self._channel, self._far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._facts: dict[str, tuple[Any, ...]] = {}
        self._found: list[Found] = []

    def run(self) -> None:
        """Raise LoadError if the service could not serve."""
        sys.stdout.flush()
        to_guard = self._guard()
        self._zygote = os.fork()
        if not self._zygote:
            os.close(to_guard)
            self._channel.close()
            self._become_zygote()
        os.write(to_guard, str(self._zygote).encode())
        os.close(to_guard)
        self._far_end.close()
        channel.send(self._channel, channel.SPAWN, 0)
        until = time.monotonic() + self._config.start_timeout
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        # Messages that were heard after the time was over: this process may have been
        # stopped meanwhile, and the app may write without end.
        late = 0
        while channel.READY not in self._facts:
            left = max(0.0, until - time.monotonic())
            heard = poll.poll(min(left, LONGEST_WAIT) * 1000)
            late += not left
            if not left and (not heard or late > _MOST_LATE):
                raise self._late()
            if heard:
                self._listen()

    def _become_zygote(self) -> NoReturn:
        config, far_end, log = self._config, self._far_end, self._log

        def live() -> int:
            reporter = Reporter(config, far_end)
            return zygote.main(
                config, Shared([], 2), 1, far_end, log, first=True, rehearsal=reporter
            )

        fork.enter(live)

    def _listen(self) -> None:
        try:
            message = channel.receive(self._channel)
            if message is not None:
                self._hear(*message)
                return
        except ValueError:
            return  # from the app, which found the channel (runtime/channel.py)
        raise self._ended(self._wait())

    def _guard(self) -> int:
        """Start the guard, which continues this process once its time is over, until it
        ends: the app may stop its parent, or its process group.

        Return the descriptor that tells the guard the pid of the zygote.
        """
        parent = os.pidfd_open(os.getpid())
        told, to_guard = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        pid = os.fork()
        if not pid:
            self._become_guard(parent, told, to_guard)
        os.close(parent)
        os.close(told)
        os.waitpid(pid, 0)
        return to_guard

    def _become_guard(self, parent: int, told: int, to_guard: int) -> NoReturn:
        # Forked twice, so that the supervisor has no child but the zygote to wait for.
        # In a session of its own, so that neither the app's signals to its group nor
        # Ctrl-C reach it.
        try:
            if not os.fork():
                os.setsid()
                self._channel.close()
                self._far_end.close()
                os.close(to_guard)
                self._continue(parent, told)
        finally:
            os._exit(0)

    def _continue(self, parent: int, told: int) -> None:
        until = time.monotonic() + self._config.start_timeout + _LAST_WORDS
        while not select.select(
            [parent], [], [], min(max(_AGAIN, until - time.monotonic()), LONGEST_WAIT)
        )[0]:
            now = time.monotonic()
            if now >= until + _KILL_AFTER and (pid := _read_pid(told)):
                self._kill(pid)
            if now >= until:
                _signal_process(parent, signal.SIGCONT)

    def _hear(self, kind: str, *facts: Any) -> None:
        if kind == channel.FAILED:
            raise LoadError(*facts)
        if kind == channel.UNFIT:
            raise LoadError(*facts[2:])
        if kind == channel.SPAWNED:
            if not is_pid(facts[1]):
                raise ValueError(f"{facts[1]} is no worker's pid")
            self._worker = facts[1]
        elif kind == channel.DIED:
            if not is_end(facts[2]):
                raise ValueError(f"no worker ends with status {facts[2]}")
            raise self._ended(facts[2])
        elif kind == channel.CANNOT:
            raise LoadError(f"cannot fork a worker: {facts[1]}")
        elif kind == channel.FOUND:
            grave, settled, *texts = facts
            what, why, locked = map(one_line, texts)
            self._found.append(
                Found(what, why, grave=bool(grave), settled=bool(settled), locked=locked)
            )
        else:
            self._facts[kind] = facts

    def _ended(self, status: int) -> LoadError:
        if channel.LOADED in self._facts:
            return LoadError(f"a worker {how_it_ended(status)} before it was ready")
        return LoadError(f"the app's process {how_it_ended(status)} while it was being loaded")

    def _late(self) -> LoadError:
        # faulthandler in the process that hangs prints where it does.
        os.kill(self._worker or self._zygote, signal.SIGABRT)
        select.select([self._channel], [], [], _LAST_WORDS)
        within = f"within {self._config.start_timeout:g} s (start_timeout)"
        if channel.LOADED in self._facts:
            is_asgi = self._facts[channel.LOADED][2]
            what = (
                "what the app does after the fork, in post_fork() or lifespan.startup, does not end"
            )
            return LoadError(
                f"no worker was ready {within}: {what}"
                if is_asgi
                else f"no worker was ready {within}: a function that the app has called after the fork does not return"
            )
        return LoadError(f"the app was not loaded {within}")

    def _wait(self) -> int:
        pid, self._zygote = self._zygote, 0
        return os.waitpid(pid, 0)[1]

    def end(self, patience: float) -> None:
        """End all of it, after `patience` seconds to exit by itself."""
        self._channel.close()
        if self._zygote:
            fd = os.pidfd_open(self._zygote)
            if not select.select([fd], [], [], patience)[0]:
                self._kill(self._worker)
                self._kill(self._zygote)
            os.close(fd)
            self._wait()

    def _kill(self, pid: int) -> None:
        try:
            if pid:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    # Reporting

    def report(self) -> list[str]:
        milliseconds, size, is_asgi = self._facts[channel.LOADED]
        app, mebibytes = _called(self._config), size / (1 << 20)
        interface = "ASGI" if is_asgi else "WSGI"
        lines = [
            f"app: {app}, loaded in {milliseconds / 1000:.2f} s, {interface}, {mebibytes:.0f} MiB; no request was tried"
        ]
        lines += [
            one_line(str(text), import_costs.LONGEST_LINE)
            for text in self._facts.get(channel.IMPORTS, ())
        ]
        milliseconds, has_post_fork = self._facts[channel.READY]
        if has_post_fork:
            lines.append(f"post_fork: called, {milliseconds / 1000:.2f} s")
        if is_asgi:
            milliseconds, has_lifespan = self._facts.get(channel.LIFESPAN, (0, 0))
            lines.append(
                f"lifespan: started, {milliseconds / 1000:.2f} s, and stopped"
                if has_lifespan
                else "lifespan: the app has none"
            )
            if unused := asgi_settings.without_effect(self._config):
                lines.append(f"note: settings without effect on an ASGI app: {', '.join(unused)}")
        for each in self._found:
            lines.append(f"{'warning' if each in self._warnings else 'note'}: {each}")
        return [*lines, f"preload: {self._verdict()}"]

    @property
    def warned(self) -> int:
        """The number of warnings in the report."""
        return len(self._warnings)

    @property
    def _warnings(self) -> list[Found]:
        """The problems that the app does not handle. Without preloading, those that
        several workers have with a lock that only one can hold.
        """
        if self._config.preload:
            return [each for each in self._found if each.grave and not each.settled]
        return [each for each in self._found if each.locked and self._config.workers > 1]

    def _verdict(self) -> str:
        grave = [each for each in self._found if each.grave]
        if not self._config.preload:
            if any(not each.settled for each in grave):
                alone = f"; but only the first of {self._config.workers} workers can lock the file: set workers = 1"
                return (
                    "off, as this app needs: with it on, what is noted above would not work in workers"
                    + (alone if self._warnings else "")
                )
            return "off; turning it on would save memory, and no problems were found"
        if self._warnings:
            return f"on, but this app is not ready for it: {remedy(module_of(self._config))}"
        return (
            "on; the app handles what its workers must not share"
            if grave
            else "on (no problems found)"
        )


def _read_pid(told: int) -> int:
    """Return the pid that was written to the pipe `told`, 0 if there is none, or none
    any more.
    """
    try:
        return int(os.read(told, 20) or b"0")
    except BlockingIOError:
        return 0


def _signal_process(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
