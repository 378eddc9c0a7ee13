"""What loading the app has left in the process that is about to be forked, and that its
workers had better not inherit.

A fork copies descriptors but not what they refer to: two workers with one connection
send over each other and take each other's answers. It copies memory but, of all
threads, only the one that forks: a pool's or a scheduler's are missing in each worker.
Most of what an app makes while it is imported is fine to share, and that is the point
of preloading. Here stands what is not, for people: the zygote and `spyglass check` ask,
and only when there is something new.

Who has thought of the fork is not lectured: an app with a post_fork() or an
os.register_at_fork() of its own sees to all of it, a library that registers itself
(OpenTelemetry's, say) to its own threads.

One thing is refused, whatever the app says: a file that the import has locked for
writing. The lock says that one process alone uses what it guards, and that is a
database in most cases (DuckDB, ZODB's FileStorage, LMDB, HDF5). Several workers with
one copy each of what it keeps in memory destroy its file.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

from spyglass.errors import LoadError
from spyglass.zygote.inherited_descriptors import find_shared, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from threading import Thread
    from types import CodeType, FrameType

    from spyglass.log import Log

    Trace = Callable[[object], str]

_MISSING = "no worker has it"
_MOST = 8  # lines in the journal
_NAMED = 3  # locked files in one line


class Found:
    """`what` (str) there was, and `why` (str) that is no good in a worker.

    `grave` (bool): it is worth a line in the journal; `settled` (bool): the app sees to
    it itself. `locked` (str): the file that this process has locked for writing, or "".
    """

    def __init__(
        self, what: str, why: str, *, grave: bool = True, settled: bool = False, locked: str = ""
    ) -> None:
        self.what = what
        self.why = why
        self.grave = grave
        self.settled = settled
        self.locked = locked

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


def warn(log: Log, found: list[Found], module: str) -> None:
    """Write into the journal what of it is grave, and what to do about it; `module`
    (str) is where the app is.
    """
    for each in found:
        if each.settled:
            log.debug(f"created by the app's import, and handled by the app: {each}")
    grave = [each for each in found if each.grave and not each.settled]
    for each in grave[:_MOST]:
        log.warning(f"created by the app's import: {each}")
    if grave:
        more = f"and {len(grave) - _MOST} more; " if len(grave) > _MOST else ""
        log.warning(f"{more}{remedy(module)}; for more, run `spyglass check`")


def refuse(found: list[Found], module: str) -> None:
    """Raise LoadError if a file of those `found` is locked for writing; `module` (str)
    is where the app is.
    """
    locked = list(dict.fromkeys(each.locked for each in found if each.locked))
    if not locked:
        return
    named = ", ".join(locked[:_NAMED]) + (
        f" and {len(locked) - _NAMED} more" if len(locked) > _NAMED else ""
    )
    raise LoadError(
        f"{named}: locked for writing by the app's import, and workers must not share what is locked for one process: "
        f"open it in a function post_fork() of {module}, or set preload = false and workers = 1",
        "\n".join(each.what for each in found if each.locked and ", created at " in each.what),
    )


def remedy(module: str) -> str:
    return (
        f"create it after the fork, in a function post_fork() of {module}, or set preload = false"
    )


class Inspection:
    """At the descriptors `fds` and the threads `tids` (int, as /proc names them) that
    are new since the app began to be loaded.

    `carers` are the names of the modules that have registered a function for after a
    fork, `has_post_fork` says whether the app has one. `trace(key)` says where the app
    has made something, as " at shop.py:7", or "": of a Thread, or of a descriptor's
    number.
    """

    def __init__(
        self,
        fds: Iterable[int],
        tids: Iterable[int],
        carers: Iterable[str],
        has_post_fork: bool,
        trace: Trace | None = None,
    ) -> None:
        self._fds = set(fds)
        self._tids = set(tids)
        modules = {name for name in carers if not _is_standard(name)}
        self._app_cares = has_post_fork or any(not _is_library(name) for name in modules)
        self._caring = {name.partition(".")[0] for name in modules}
        self._trace = trace or (lambda key: "")

    def found(self) -> list[Found]:
        return [*self._threads(), *self._descriptors()]

    # Threads

    def _threads(self) -> Iterable[Found]:
        frames = sys._current_frames()
        del frames[get_ident()]
        for thread in _pythons():
            code = _runs(frames.pop(thread.ident or 0, None)) or getattr(
                getattr(thread, "function", None), "__code__", None
            )
            if thread.native_id in self._tids:
                self._tids.remove(thread.native_id)
                what = f"a thread, {thread.name!r}{_running(code)}{self._trace(thread)}"
                yield Found(what, _MISSING, settled=self._is_settled(type(thread).__module__, code))
        own = _thread_name(os.getpid())
        names = [name for tid in self._tids if (name := _thread_name(tid))]
        for frame in frames.values():
            # Begun by _thread, below `threading`: Python knows nothing of it but where
            # it is.
            if own in names and (code := _runs(frame)) is not None:
                names.remove(own)
                yield Found(
                    f"a thread{_running(code)}", _MISSING, settled=self._is_settled("", code)
                )
        for name in sorted(set(names)):
            # OpenBLAS, whose threads have no names, ends them before a fork and starts
            # them again when they are needed.
            which, why = (
                (f", {name!r},", "")
                if name != own
                else ("", "; numerical libraries start theirs again when needed")
            )
            what = f"{_several(names.count(name), 'a thread')}{which} of a library"
            # No alarm: whether a library counts on them after a fork cannot be seen,
            # and those that are there once it is imported (pyarrow's allocator,
            # OpenBLAS) do not matter.
            yield Found(what, _MISSING + why, grave=False, settled=self._app_cares)

    def _is_settled(self, module: str, code: CodeType | None) -> bool:
        """`module` is that of the thread's class."""
        path = code.co_filename if code is not None else ""
        caring = module.partition(".")[0] in self._caring or any(
            f"{os.sep}{name}{os.sep}" in path for name in self._caring
        )
        return self._app_cares or caring

    # Descriptors

    def _descriptors(self) -> Iterable[Found]:
        for each in find_shared(self._fds, self._trace):
            yield Found(
                each.what,
                each.why,
                grave=each.grave,
                # No post_fork() helps against a lock.
                settled=self._app_cares and not each.locked,
                locked=each.locked,
            )


# Names


def _several(number: int, noun: str) -> str:
    return noun if number == 1 else f"{number} {noun.partition(' ')[2]}s"


def _thread_name(tid: int) -> str:
    try:
        with open(f"/proc/self/task/{tid}/comm", encoding="utf-8", errors="replace") as stream:
            return stream.read().rstrip("\n")
    except OSError:  # ended meanwhile
        return ""


def _pythons() -> list[Thread]:
    if "threading" not in sys.modules:
        return []
    import threading

    return [thread for thread in threading.enumerate() if thread.ident != get_ident()]


def _runs(frame: FrameType | None) -> CodeType | None:
    """The outermost code of a thread that is not the means by which threads run."""
    found = None
    while frame is not None:
        if not _is_plumbing(frame.f_code.co_filename):
            found = frame.f_code
        frame = frame.f_back
    return found


def _running(code: CodeType | None) -> str:
    return (
        ""
        if code is None
        else f", which runs {code.co_qualname}() of {shown(code.co_filename)}:{code.co_firstlineno}"
    )


def _is_plumbing(path: str) -> bool:
    return path.endswith(("/threading.py", "/concurrent/futures/thread.py"))


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _is_library(module: str) -> bool:
    path = getattr(sys.modules.get(module), "__file__", None) or ""
    return "/site-packages/" in path or "/dist-packages/" in path
