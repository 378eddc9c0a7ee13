"""The zygote: forked from the Master, loads the app once, and forks the workers from
itself.

It owns everything the app did while it was imported; when it goes, all of that goes
back to the kernel. It is told what to do over a channel, one message a packet, and
tells its Master over the same: FAILED, SPAWNED, UNFIT, DIED. It reaps its workers, for
it is their parent. The end of the channel means: leave, when the last of the workers
has.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import select
import sys
from _thread import _count as count_threads
from _thread import allocate_lock, start_new_thread
from time import monotonic

from spyglass import api
from spyglass.errors import LoadError
from spyglass.log import flush
from spyglass.runtime import channel, scoreboard
from spyglass.runtime.fast_imports import signal
from spyglass.runtime.sd_daemon import hide_from_the_app
from spyglass.runtime.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.runtime.fast_imports import socket
    from spyglass.runtime.shared_memory import Shared
    from spyglass.worker.loop import Loop
    from spyglass.zygote.app_loader import App
    from spyglass.zygote.fork_safety import Found

_LOOK = 50  # milliseconds between two looks at whether the app still holds off the end

_THREAD_STARTS = 2.0  # seconds

# Recorded and not acted on: they come to the whole group (systemd, a terminal) and the
# Master decides what they mean.
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


class Watch:
    """What is new in this process after the code beneath its `with`: descriptors `fds`
    and threads `tids` (set of int).

    `carers` are the names of the modules whose code has registered functions for a fork
    there. To know that costs a wake some 100 us.
    """

    def __enter__(self) -> Watch:
        self.carers: set[str] = set()
        self._os = vars(sys.modules["os"])  # the app's: see _keep_modules()
        self._register = self._os["register_at_fork"]
        self._os["register_at_fork"] = self._registered
        self._before = _descriptors_and_threads()
        return self

    def __exit__(self, *_error: object) -> None:
        self._os["register_at_fork"] = self._register
        self.look()

    def look(self) -> None:
        fds, tids = _descriptors_and_threads()
        self.fds = fds - self._before[0]
        self.tids = tids - self._before[1]

    def _registered(self, **functions: Any) -> None:
        module = str(sys._getframe(1).f_globals.get("__name__"))
        if "after_in_child" in functions:
            self.carers.add(module)
        self._register(**functions)


def _descriptors_and_threads() -> tuple[set[int], set[int]]:
    try:
        fds = {fd for name in os.listdir("/proc/self/fd") if _is_open(fd := int(name))}
        return fds, {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:  # no /proc, or no descriptor left: nothing is known
        return set(), set()


def _is_open(fd: int) -> bool:
    """False for the descriptor by which they were listed."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class Zygote:
    """One generation's parent. `first` (bool): this is the first try at loading, so a
    crash leaves its traceback in the journal.
    """

    def __init__(
        self, config: Config, shared: Shared, number: int, channel: socket.socket, log: Log
    ) -> None:
        self._config = config
        self._shared = shared
        self._cells = shared.board.slot(number)
        self._channel = channel
        self._log = log
        self._app: App | None = None
        self._post_fork: Callable[[], object] | None = None
        self._workers: dict[int, int] = {}  # pid to slot
        self._signals = Signals(_SIGNALS)
        self._open = True  # the channel
        self._leave_by = 0.0  # monotonic seconds, when it has ended
        self._forking = False  # a worker, at this moment
        self._stray = False  # this is a process that the app has forked

    def run(self, first: bool) -> None:
        """Load, then fork and reap until the channel ends and the last worker has gone.
        Returns in the workers, too.
        """
        _print_by_lines()
        if first:
            faulthandler.enable(2, all_threads=True)
        faulthandler.register(signal.SIGUSR2, 2, all_threads=True, chain=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR2,))
        self._signals.ignore_unheard()
        hide_from_the_app()
        api.process.claim(self._cells, self._shared.ring)
        api.process.serves = self._shared, self._config
        self._signals.forget_in_children(lambda: _SIGNALS_OF_A_WORKER if self._forking else ())
        os.register_at_fork(after_in_child=self._forked)
        # Nothing made while loading is garbage worth looking for, and what survives is
        # never to be looked at again: the collector's marks would copy every shared
        # page.
        gc.disable()
        # Until there is an app nothing is lost with us. One that hangs when it is
        # imported would not notice the Master's death, and keep systemd, and who comes
        # meanwhile, waiting for as long as a stop may take.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if not self._load():
            return
        gc.freeze()
        if (
            self._app is not None
        ):  # what is still to be loaded, in each worker, leaves its traceback the first time only
            faulthandler.enable(2, all_threads=True)
        self._signals.install()  # the app may have set its own
        poll = select.poll()
        poll.register(self._signals.fd, select.POLLIN)
        poll.register(self._channel, select.POLLIN)
        while self._open or self._workers or self._held:
            for fd, _ in poll.poll(None if self._open or self._workers else _LOOK):
                if fd == self._signals.fd:
                    self._signals.take()
                elif self._obey() is not None:
                    return
                elif not self._open:
                    poll.unregister(fd)
            self._reap()
        self._cells[scoreboard.STATE] = scoreboard.LEAVING
        if self._cells[scoreboard.HOLDS]:
            self._log.warning(
                f"leaving after {self._config.graceful_timeout:g} s (graceful_timeout) though the app wants to stay awake"
            )

    def _load(self) -> bool:
        try:
            from spyglass.runtime.httptools_import import import_worker
            from spyglass.zygote import app_loader as loader

            import_worker()
            if self._config.idle_ignore:
                import spyglass.worker.idle_activity  # noqa: F401, who ignores nobody does not pay for it
            loader.prepare(self._config)
            _keep_modules()
            if self._config.preload:
                self._load_app()
        except LoadError as error:
            self._end_strays(error)
            channel.send_failure(self._channel, error, channel.FAILED)
            return False
        return True

    def _load_app(self) -> None:
        from spyglass.zygote import app_loader as loader

        with Watch() as watch:
            app = loader.load(self._config)
        self._end_strays()
        check_threads()
        self._post_fork = loader.post_fork(self._config)
        self._app = app
        self._look(watch)

    def _look(self, watch: Watch) -> None:
        """At what the app has made that was not there before. Raises LoadError if it
        must not be there in a worker.
        """
        if not self._config.preload or not (watch.fds or watch.tids):
            return
        from spyglass.zygote import fork_safety as inherited
        from spyglass.zygote.app_loader import module_of

        try:
            found = self._found(watch)
            inherited.refuse(found, module_of(self._config))
            inherited.warn(self._log, found, module_of(self._config))
        except LoadError:
            raise
        except Exception as error:
            self._log.exception("a bug of ours, while looking at what the app has made", error)

    def _found(self, watch: Watch, trace: Callable[[object], str] | None = None) -> list[Found]:
        """What workers had better not inherit. `trace` as in inherited.Look."""
        from spyglass.zygote import fork_safety as inherited

        def found() -> list[Found]:
            return inherited.Look(
                watch.fds, watch.tids, watch.carers, self._post_fork is not None, trace
            ).found()

        if not any(each.grave for each in found()):
            return found()
        # The collector is off while the app is loaded: what the app has let go of may
        # still be there, such as a connection in a cycle.
        gc.collect()
        watch.look()
        return found()

    def _forked(self) -> None:
        """In every new process. Those that the app forks while it loads are its own
        affair, and have nothing of ours.

        With a listener they would keep the port after our end. With the channel and the
        life line they would hide the end of one of us.
        """
        if not self._forking:
            self._stray = True
            self._channel.close()
            self._shared.abandon()

    def _end_strays(self, error: LoadError | None = None) -> None:
        """The app has been loaded, or not; but for one that has come back from a fork
        of the app's, this is the end.
        """
        if self._stray:
            how = f": {error.summary}\n{error.details}".rstrip() if error else ""
            self._log.child("stray").warning(
                f"a process that the app has forked came back from loading it, and is ended{how}"
            )
            os._exit(1)

    def _obey(self) -> int | None:
        """Do what the Master says; in a worker that has come to its end, a number."""
        message = channel.receive(self._channel)
        if message is None:
            self._open = False
            self._leave_by = monotonic() + self._config.graceful_timeout
            return None
        slot: int = message[1]
        flush()  # or the worker would print it again
        self._forking = True
        try:
            pid = os.fork()
        except OSError as error:
            channel.send(self._channel, channel.CANNOT, slot, error.strerror)
            return None
        finally:
            self._forking = False
        if not pid:
            self._become_worker(slot)
            return slot
        self._workers[pid] = slot
        channel.send(self._channel, channel.SPAWNED, slot, pid)
        if "threading" not in sys.modules:
            self._learn_threads()
        return None

    @staticmethod
    def _learn_threads() -> None:
        """The first worker, for which somebody waits, goes without, and learns it after
        its first answer. Of the others the first call may be a long one, from which
        nobody could take the lead before that.
        """
        try:
            import threading  # noqa: F401
        except OSError:
            pass  # no descriptor is left

    def _become_worker(self, slot: int) -> None:
        # The zygote says so, too, and may have been killed before it could. A worker of
        # which nobody has heard could not be told to leave.
        if not channel.send(self._channel, channel.SPAWNED, slot, os.getpid()):
            os._exit(0)
        api.process.claim(self._shared.board.slot(slot), self._shared.ring)
        _disown_children()
        log = self._log.child("worker")
        if self._app is None:
            self._or_leave(slot, self._load_app)
            gc.freeze()  # as what was loaded before the fork
        gc.enable()
        post_fork = self._post_fork
        if post_fork is not None:
            from spyglass.zygote import app_loader as loader

            self._or_leave(slot, lambda: loader.call(post_fork))
        self._serve(slot, log)

    def _or_leave(self, slot: int, do: Callable[[], None]) -> None:
        """In a worker: let the app `do` what it has to, or tell the Master why that
        cannot be, and be no more.

        SIGTERM ends it at once meanwhile, for the same reason as in the zygote.
        """
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
        # It would wait for them to end; the app has not got far enough to have anything
        # to finish.
        flush()
        os._exit(1)

    def _make_loop(self, slot: int, log: Log) -> Loop:
        """In a worker: what it will serve with, or its end where the app does not leave
        it what that takes.
        """
        from spyglass.worker.main import make_loop

        assert self._app is not None
        try:
            check_threads()  # again: a post_fork() may do what an import may
            return make_loop(self._config, self._app, self._shared, slot, log)
        except LoadError as error:
            self._leave_unfit(slot, error)

    def _serve(self, slot: int, log: Log) -> None:
        from spyglass.worker.main import work

        loop = self._make_loop(slot, log)
        self._channel.close()
        if "/spyglass/" in os.environ.get(
            "STATE_DIRECTORY", ""
        ):  # as refused.sandboxed(), which only failures pay for
            log.expect_refusals()
        work(loop, self._shared, slot, log, self._signals)

    @property
    def _held(self) -> bool:
        """Whether a thread that the app has started in here wants to stay awake, and
        may.
        """
        return self._cells[scoreboard.HOLDS] > 0 and monotonic() < self._leave_by

    def _reap(self) -> None:
        # Only our own workers: a process that the app started while loading is the
        # app's to wait for.
        for pid, slot in list(self._workers.items()):
            try:
                reaped, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                reaped, status = pid, 0  # the app waits for any child
            if reaped:
                del self._workers[pid]
                channel.send(self._channel, channel.DIED, slot, pid, status)


def _print_by_lines() -> None:
    """Have what the app prints written when its line ends. The journal is no terminal,
    so Python would keep it until 8 KiB are together.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        except (AttributeError, ValueError, OSError):
            pass  # there is none, or another than Python's: a .pth file may have seen to that


def _keep_modules() -> None:
    """Have each module of ours go on with these of the standard library as they are
    now.

    An app may put others' functions into them, or take them out: gevent removes
    select.epoll, and exchanges os.fork and time.sleep. What it does there is for the
    app's code, and not for a loop that runs in threads of the operating system.
    """
    kept = {}
    for name in ("gc", "os", "select", "time"):
        kept[name] = type(sys)(name)
        kept[name].__dict__.update(sys.modules[name].__dict__)
    for each in [module for name, module in sys.modules.items() if name.startswith("spyglass.")]:
        for name, module in kept.items():
            if each.__dict__.get(name) is sys.modules[name]:
                each.__dict__[name] = module


def check_threads() -> None:
    """Raise LoadError when a thread that the app starts would not run while others
    wait.

    gevent and eventlet put tasks of their own in the place of Python's threads. They
    run only while the thread that has started them lets them, and a worker waits in
    threads of the operating system. Such an app would be served until it starts one,
    and then hang.
    """
    now = sys.modules["_thread"]
    if now.start_new_thread is start_new_thread:
        return
    lock = allocate_lock()
    lock.acquire()
    now.start_new_thread(lock.release, ())
    if not lock.acquire(timeout=_THREAD_STARTS):
        who = getattr(now.start_new_thread, "__module__", None) or "something"
        raise LoadError(
            f"the app has replaced Python's threads ({who}), and such threads do not run in a worker: "
            "leave out gevent.monkey.patch_all(), eventlet.monkey_patch() and their like"
        )


def _disown_children() -> None:
    """In a worker: what the app has started by multiprocessing in the zygote, such as a
    pool, is not the worker's.

    At its exit multiprocessing terminates all children that it knows of; one of a pool
    dies with the lock of the pool's queue, and the zygote would wait for that lock for
    ever. In processes of its own multiprocessing does the same as here.
    """
    children = getattr(sys.modules.get("multiprocessing.process"), "_children", None)
    if isinstance(children, set):
        children.clear()
