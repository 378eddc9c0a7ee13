"""The zygote: forked from the Master, it loads the app once and forks the workers from
itself.

Why a process of its own? The workers must be forked from a process that has loaded the
app: so they share its memory (copy-on-write), and a new one is ready in a millisecond
however long the import takes. The Master cannot be that process. An app's code may
crash, hang or exit at import, and what an import did to a process cannot be undone: a
reload needs a process that has not loaded the app yet.

The zygote owns all that the app did at import. When it exits, all of that goes back to
the kernel. It takes orders and reports over a channel (runtime/channel.py). It reaps
its workers, because it is their parent. At the end of the channel it waits for the last
worker and exits.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import select
import sys
from _thread import _count as count_threads
from time import monotonic

from spyglass import api
from spyglass.errors import LoadError
from spyglass.log import LEVELS, flush, print_by_lines
from spyglass.runtime import channel, fork, scoreboard
from spyglass.runtime.fast_imports import signal
from spyglass.runtime.sd_daemon import hide_from_the_app
from spyglass.runtime.signals import Signals
from spyglass.zygote.import_effects import Watch, check_threads, disown_children, keep_modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from spyglass.config.settings import Config
    from spyglass.gateway.wsgi import App
    from spyglass.log import Log
    from spyglass.runtime.fast_imports import socket
    from spyglass.runtime.shared_memory import Shared
    from spyglass.worker.asgi.runner import Runner
    from spyglass.worker.loop import Loop
    from spyglass.zygote.rehearsal import Rehearsal

_LOOK = 50  # milliseconds between two checks of whether the app still holds off the exit

# Recorded and not acted on: they are sent to the whole group (by systemd, a terminal),
# and the Master decides what they mean.
_TOLD_TO_END = (signal.SIGTERM, signal.SIGQUIT)
_SIGNALS_OF_A_WORKER = (
    *_TOLD_TO_END,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGTSTP,
)
_SIGNALS = (*_SIGNALS_OF_A_WORKER, signal.SIGCHLD)


def main(
    config: Config | None,
    shared: Shared,
    slot: int,
    channel: socket.socket,
    log: Log,
    *,
    first: bool,
    rehearsal: Rehearsal | None = None,
) -> int:
    """Run the zygote that has `slot` until its generation ends; return its exit status.

    `config` is None if the Master has not read it yet, and will send it. `first`
    (bool): this is the first try at loading, so a crash leaves its traceback in the
    journal. Must be called below fork.run(): each worker starts there.
    """

    def live() -> None:
        Zygote(config, shared, slot, channel, log.child("zygote"), rehearsal).run(first)

    return log.exit_status(live)


class Zygote:
    """One generation's parent."""

    _config: Config  # of a wake's first zygote: when _learn() has returned

    def __init__(
        self,
        config: Config | None,
        shared: Shared,
        slot: int,
        channel: socket.socket,
        log: Log,
        rehearsal: Rehearsal | None,
    ) -> None:
        self._given = config
        self._shared = shared
        self._cells = shared.board.slot(slot)
        self._channel = channel
        self._log = log
        self._rehearsal = rehearsal
        self._app: App | None = None
        self._is_asgi = False
        self._post_fork: Callable[[], object] | None = None
        self._workers: dict[int, int] = {}  # pid to slot
        self._signals = Signals(_SIGNALS)
        self._open = True  # the channel
        self._served = False  # a worker has been forked
        self._leave_by = 0.0  # monotonic seconds, when the channel has ended
        self._forking = False  # a worker, at this moment
        self._stray = False  # this is a process that the app forked

    def run(self, first: bool) -> None:
        """Load, then fork and reap until the channel ends and the last worker exits."""
        self._settle(first)
        if not self._load():
            return
        self._freeze()
        self._signals.install()  # the app may have set its own
        poll = select.poll()
        poll.register(self._signals.fd, select.POLLIN)
        poll.register(self._channel, select.POLLIN)
        while self._open or self._workers or self._is_held:
            for fd, _ in poll.poll(None if self._open or self._workers else _LOOK):
                if fd == self._signals.fd:
                    self._signals.take()
                else:
                    self._obey()
                    if not self._open:
                        poll.unregister(fd)
            self._reap()
        self._cells[scoreboard.STATE] = scoreboard.LEAVING
        if self._cells[scoreboard.HOLDS]:
            self._log.warning(
                f"leaving after {self._config.graceful_timeout:g} s (graceful_timeout) though the app wants to stay awake"
            )

    def _settle(self, first: bool) -> None:
        """Make the child that the Master forked a zygote."""
        if first:
            faulthandler.enable(2, all_threads=True)
        faulthandler.register(signal.SIGUSR2, 2, all_threads=True, chain=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR2,))
        self._signals.ignore_unheard()
        hide_from_the_app()
        api.process.claim(self._cells, self._shared.ring)
        self._signals.forget_in_children(lambda: _SIGNALS_OF_A_WORKER if self._forking else ())
        os.register_at_fork(after_in_child=self._forked)
        # Until there is an app, nothing is lost with this process. An app that hangs at
        # import would not notice the Master's death. It would keep systemd, and with it
        # new clients, waiting for as long as a stop may take.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Nothing made while loading is garbage worth looking for.
        gc.disable()

    def _freeze(self) -> None:
        """Take what has been loaded out of the collector's sight, for good.

        The collector writes its marks into the head of each object that it looks at.
        After a fork each such write would copy a page that was shared.
        """
        gc.freeze()
        if self._app is not None:
            # What is still to be loaded, in each worker, leaves its traceback the first
            # time only.
            faulthandler.enable(2, all_threads=True)

    def _load(self) -> bool:
        try:
            # Not at the top of this file: the Master imports it, and nothing of these.
            from spyglass.worker.httptools_import import import_worker
            from spyglass.zygote import app_loader

            app_loader.run_site()
            print_by_lines()
            import_worker()
            # Only then may the app's code run: what was passed in may not be ours.
            if not self._learn():
                return False
            if self._config.idle_ignore:
                import spyglass.worker.idle_activity  # noqa: F401, only apps that ignore pay for it
            app_loader.prepare(self._config)
            keep_modules()
            if self._config.preload:
                self._load_app()
        except LoadError as error:
            self._end_strays(error)
            channel.send_failure(self._channel, error, channel.FAILED)
            return False
        return True

    def _learn(self) -> bool:
        """Wait for what was not known when this process was forked: the settings and
        the listeners. Return False if the Master has exited, or has none.
        """
        config = self._given
        if config is None:
            from spyglass.config import sent_settings  # others were forked with them

            config = sent_settings.receive(self._channel)
            if config is None:
                return False
            self._log.set_level(LEVELS[config.log_level])
        self._config = config
        api.process.serves = self._shared, config
        return self._shared.adopted or self._shared.learn(self._channel)

    def _load_app(self) -> None:
        from spyglass.zygote import app_loader

        if self._rehearsal is not None:
            self._rehearsal.loading()
        with Watch() as watch:
            app = app_loader.load(self._config)
        self._end_strays()
        check_threads()
        self._post_fork = app_loader.post_fork(self._config)
        self._app = app
        self._is_asgi = app_loader.is_asgi(app, self._config)
        if self._is_asgi:  # here, so that the workers share it
            from spyglass.zygote import asgi_startup  # only ASGI apps pay for it

            asgi_startup.note(self._config, self._log, self._rehearsal)
        has_post_fork = self._post_fork is not None
        if self._rehearsal is not None:
            self._rehearsal.loaded(watch, has_post_fork=has_post_fork, is_asgi=self._is_asgi)
        elif self._config.preload and (watch.fds or watch.tids):
            module = app_loader.module_of(self._config)
            watch.judge(self._log, module, has_post_fork=has_post_fork)

    def _forked(self) -> None:
        """Run in each new process. One that the app forks while it loads gets nothing
        of ours.

        With a listener it would keep the port in use after we exit. With the channel or
        the life line it would hide the exit of the zygote or the Master.
        """
        if not self._forking:
            self._stray = True
            self._channel.close()
            self._shared.abandon()

    def _end_strays(self, error: LoadError | None = None) -> None:
        """End this process if the app forked it and it came back here, after the app
        was loaded, or failed with `error`.
        """
        if self._stray:
            how = f": {error.summary}\n{error.details}".rstrip() if error else ""
            self._log.child("stray").warning(
                f"a process that the app forked at import came back from the import, and is ended{how}"
            )
            os._exit(1)

    def _obey(self) -> None:
        """Take one order of the Master's: fork a worker, or exit."""
        message = channel.receive(self._channel)
        if message is None:
            self._open = False
            self._leave_by = monotonic() + self._config.graceful_timeout
            return
        slot: int = message[1]
        if self._served and "threading" not in sys.modules:
            self._learn_threads()
        flush()  # or the worker would print it again
        self._forking = True
        try:
            pid = os.fork()
        except OSError as error:
            channel.send(self._channel, channel.CANNOT, slot, error.strerror)
            return
        finally:
            self._forking = False
        if not pid:
            self._become_worker(slot)
        self._workers[pid] = slot
        self._served = True
        channel.send(self._channel, channel.SPAWNED, slot, pid)

    @staticmethod
    def _learn_threads() -> None:
        """Import `threading` for all workers but the first.

        A client waits for that one, which imports it after its first answer; the others
        are ordered later. The first call of another worker may be a long one, and
        another thread could not take the lead without it (leader_followers.py).
        """
        try:
            import threading  # noqa: F401
        except OSError:
            pass  # no descriptor is left to read it with

    def _become_worker(self, slot: int) -> NoReturn:
        # The zygote reports it, too, but may be killed before it can. A worker that the
        # Master does not know of could not be told to exit.
        if not channel.send(self._channel, channel.SPAWNED, slot, os.getpid()):
            os._exit(0)
        log = self._log.child("worker")
        fork.enter(lambda: log.exit_status(lambda: self._work(slot, log)))

    def _work(self, slot: int, log: Log) -> None:
        """In a worker, on its own stack: prepare, then serve until told to exit."""
        api.process.claim(self._shared.board.slot(slot), self._shared.ring)
        disown_children()
        if self._app is None:
            self._or_leave(slot, self._load_app)
            gc.freeze()  # as the zygote does with what it has loaded
        gc.enable()
        post_fork = self._post_fork
        if post_fork is not None:
            from spyglass.zygote import app_loader

            self._or_leave(slot, lambda: app_loader.call(post_fork))
        loop = self._make_loop(slot, log)
        if self._rehearsal is not None:
            self._rehearsal.ready(has_post_fork=post_fork is not None)
            return
        self._channel.close()
        # As sandbox_hints.sandboxed(), whose import only failures pay for.
        if "/spyglass/" in os.environ.get("STATE_DIRECTORY", ""):
            log.expect_refusals(_hint)
        from spyglass.worker.main import work

        work(loop, self._shared, slot, log, self._signals)

    def _or_leave(self, slot: int, do: Callable[[], None]) -> None:
        """In a worker: let the app `do` what it must; if that fails, tell the Master
        why, and exit.

        Meanwhile SIGTERM ends the worker at once, for the same reason as in _settle().
        """
        if self._rehearsal is not None:
            self._rehearsal.preparing()
        self._signals.release(_TOLD_TO_END)
        try:
            do()
            self._signals.install()
        except LoadError as error:
            self._leave_unfit(slot, error)
        self._end_strays()

    def _leave_unfit(self, slot: int, error: LoadError) -> NoReturn:
        self._end_strays(error)
        channel.send_failure(self._channel, error, channel.UNFIT, slot, self._app is None)
        if not count_threads():
            raise SystemExit(1) from None
        # An interpreter waits at its end for the threads that the app has started. The
        # app has not got far enough to have anything to finish.
        flush()
        os._exit(1)

    def _make_loop(self, slot: int, log: Log) -> Loop | Runner:
        """In a worker: return its loop, or exit if the app removed what it needs."""
        from spyglass.worker.main import make_loop

        config, app = self._config, self._app
        assert app is not None
        try:
            check_threads()  # again: a post_fork() may do what an import may
            loop = make_loop(config, app, self._shared, slot, log, is_asgi=self._is_asgi)
        except LoadError as error:
            self._leave_unfit(slot, error)
        if self._is_asgi:
            from spyglass.zygote import asgi_startup

            self._or_leave(slot, lambda: asgi_startup.start(loop, config, self._rehearsal))
        return loop

    @property
    def _is_held(self) -> bool:
        """True while a thread of the app holds this process awake, and still may."""
        return self._cells[scoreboard.HOLDS] > 0 and monotonic() < self._leave_by

    def _reap(self) -> None:
        # Only our workers, by pid: what the app started at import is for it to reap.
        for pid, slot in list(self._workers.items()):
            try:
                reaped, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                reaped, status = pid, 0  # the app has reaped it: it waits for any child
            if reaped:
                del self._workers[pid]
                channel.send(self._channel, channel.DIED, slot, pid, status)


def _hint(error: BaseException) -> tuple[str, str]:
    """Return what helps against a refusal of the sandbox, or "", and its kind."""
    from spyglass.zygote.sandbox_hints import advice, kind  # only failures pay for it

    found = advice(error)
    return found, kind(found)
