"""What an app's import does to the process beneath it, and what protects us from it.

An import can open connections and start threads, which a fork does not carry over well:
Watch notes them, and fork_safety.py says which of them matter. An import can also
replace parts of the standard library (monkey-patching, as gevent does): keep_modules()
keeps our own code from that, and check_threads() refuses what cannot work.
"""

from __future__ import annotations

import gc
import os
import sys
from _thread import allocate_lock, start_new_thread

from spyglass.errors import LoadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from spyglass.log import Log
    from spyglass.zygote.fork_safety import Found

_THREAD_STARTS = 2.0  # seconds


class Watch:
    """What is new in this process after the code beneath its `with`: descriptors `fds`
    and threads `tids` (set of int).

    `carers` are the names of the modules whose code registered a function for after a
    fork meanwhile. To know that costs a wake some 100 us.
    """

    def __enter__(self) -> Watch:
        self.carers: set[str] = set()
        self._os = vars(sys.modules["os"])  # the app's: see keep_modules()
        self._register = self._os["register_at_fork"]
        self._os["register_at_fork"] = self._registered
        self._before = _descriptors_and_threads()
        return self

    def __exit__(self, *_error: object) -> None:
        self._os["register_at_fork"] = self._register
        self.look()

    def look(self) -> None:
        """Take stock again."""
        fds, tids = _descriptors_and_threads()
        self.fds = fds - self._before[0]
        self.tids = tids - self._before[1]

    def inherited(
        self, *, has_post_fork: bool, trace: Callable[[object], str] | None = None
    ) -> list[Found]:
        """Return what workers had better not inherit of it. `trace` as in
        fork_safety.Inspection.
        """
        from spyglass.zygote.fork_safety import Inspection  # most apps leave nothing to look at

        def found() -> list[Found]:
            return Inspection(self.fds, self.tids, self.carers, has_post_fork, trace).found()

        if not any(each.grave for each in found()):
            return found()
        # The collector is off while the app is loaded. So what the app has dropped may
        # still be here, such as a connection in a reference cycle.
        gc.collect()
        self.look()
        return found()

    def judge(self, log: Log, module: str, *, has_post_fork: bool) -> None:
        """Warn of what workers had better not inherit. Raise LoadError if they must
        not. `module` (str) is where the app is.
        """
        from spyglass.zygote import fork_safety

        try:
            found = self.inherited(has_post_fork=has_post_fork)
            fork_safety.refuse(found, module)
            fork_safety.warn(log, found, module)
        except LoadError:
            raise
        except Exception as error:
            log.exception(
                "a bug of ours, while inspecting what the app's import left behind", error
            )

    def _registered(self, **functions: Any) -> None:
        if "after_in_child" in functions:
            self.carers.add(str(sys._getframe(1).f_globals.get("__name__")))
        self._register(**functions)


def _descriptors_and_threads() -> tuple[set[int], set[int]]:
    try:
        fds = {fd for name in os.listdir("/proc/self/fd") if _is_open(fd := int(name))}
        return fds, {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:  # no /proc, or no descriptor left: nothing is known
        return set(), set()


def _is_open(fd: int) -> bool:
    """Return False for the descriptor by which /proc was listed."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def keep_modules() -> None:
    """Have each module of ours keep these of the standard library as they are now.

    An app may replace functions in them, or remove some: gevent removes select.epoll,
    and exchanges os.fork and time.sleep for its own. Those are right for the app's
    code. They would break a loop that waits in threads of the operating system. A
    module is an object, so our modules get a copy of it, with the functions of today.
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
    """Raise LoadError if a thread that the app starts would not run while others wait.

    gevent and eventlet replace Python's threads by tasks of their own. Such a task runs
    only while the thread that started it lets it, and a worker waits in threads of the
    operating system. Such an app would be served until it starts one, and then hang.
    """
    now = sys.modules["_thread"]
    if now.start_new_thread is start_new_thread:
        return
    lock = allocate_lock()
    lock.acquire()
    now.start_new_thread(lock.release, ())
    if not lock.acquire(timeout=_THREAD_STARTS):
        by = getattr(now.start_new_thread, "__module__", None) or "something"
        raise LoadError(
            f"the app has replaced Python's threads ({by}), and such threads cannot run in a worker: "
            "remove gevent.monkey.patch_all(), eventlet.monkey_patch() or similar calls"
        )


def disown_children() -> None:
    """In a worker: forget what the app started by multiprocessing in the zygote, such
    as a pool.

    At exit multiprocessing terminates all children that it knows of. A pool's process
    would die holding the lock of the pool's queue, and the zygote would wait for that
    lock for ever. multiprocessing does the same as here in processes that it forks.
    """
    children = getattr(sys.modules.get("multiprocessing.process"), "_children", None)
    if isinstance(children, set):
        children.clear()
