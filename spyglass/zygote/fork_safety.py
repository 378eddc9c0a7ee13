"""What an app's import leaves in the zygote that its workers had better not inherit.

A fork copies descriptors but not what they refer to: two workers with one connection
send over each other and get each other's answers. It copies memory, but only the thread
that forks: those of a pool or a scheduler are missing in each worker. Most of what an
import creates is fine to share, and that is the point of preloading. What is not is
described here, in words for people. The zygote and `spyglass check` ask for it when the
import has left something.

An app that is prepared for the fork gets no warning. One with a post_fork() or an
os.register_at_fork() of its own handles all of it. A library that registers itself, as
OpenTelemetry does, handles its own threads.

One thing is refused in any case: a file that the import locked for writing. The lock
says that only one process uses what it guards, in most cases a database (DuckDB, ZODB's
FileStorage, LMDB, HDF5). Each worker would have a copy of what the database keeps in
memory, and together they would destroy its file.
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
    """`what` (str) the import left behind, and `why` (str) workers must not share it.

    `grave` (bool): it is worth a line in the journal. `settled` (bool): the app handles
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
    """Write to the journal which of `found` are grave, and how to fix it; `module`
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
    """Raise LoadError if one of `found` is a file that is locked for writing; `module`
    (str) is where the app is.
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
    """Inspects the descriptors `fds` and the threads `tids` (int, as /proc names them)
    that are new since the app began to load.

    `carers` are the names of the modules that registered a function for after a fork.
    `has_post_fork` says if the app has one. `trace(key)` returns where the app created
    a Thread or a descriptor (int), as ", created at shop.py:7", or "".
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
            # Started by _thread, below `threading`: Python knows only what it runs.
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
            # Not grave: it cannot be seen if the library needs them after a fork. Those
            # that an import alone starts (pyarrow's allocator, OpenBLAS) do not matter.
            yield Found(what, _MISSING + why, grave=False, settled=self._app_cares)

    def _is_settled(self, module: str, code: CodeType | None) -> bool:
        """Return True for a thread that the app or a library handles. `module` is that
        of its class.
        """
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
    except OSError:  # it has just ended
        return ""


def _pythons() -> list[Thread]:
    if "threading" not in sys.modules:
        return []
    import threading

    return [thread for thread in threading.enumerate() if thread.ident != get_ident()]


def _runs(frame: FrameType | None) -> CodeType | None:
    """Return the outermost code of a thread, below what runs threads in general."""
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
