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

import fcntl
import os
import stat
import struct
import sys
from _thread import get_ident

from spyglass.errors import LoadError
from spyglass.runtime.fast_imports import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from threading import Thread
    from types import CodeType, FrameType

    from spyglass.log import Log

    Trace = Callable[[object], str]

_MISSING = "no worker has it"
_MOST = 8  # lines in the journal
_SQLITE = b"SQLite format 3\0"  # sqlite.org/fileformat.html, 1.3
_SQLITE_NAMES = (".db", ".db3", ".sqlite", ".sqlite3")  # of one that is still empty
_SQLITE_BESIDE = ("-wal", "-shm", "-journal")
_LOCKS = ("POSIX", "FLOCK", "OFDLCK")
_NAMED = 3  # locked files in one line
_KERNEL = {"[eventfd]": "an eventfd", "[timerfd]": "a timer", "[signalfd]": "a signalfd"}


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
            log.debug(f"made by the app while it was loaded, which sees to it: {each}")
    grave = [each for each in found if each.grave and not each.settled]
    for each in grave[:_MOST]:
        log.warning(f"made by the app while it was loaded: {each}")
    if grave:
        more = f"and {len(grave) - _MOST} more; " if len(grave) > _MOST else ""
        log.warning(f"{more}{remedy(module)}; `spyglass check` tells more")


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
        "\n".join(each.what for each in found if each.locked and ", made at " in each.what),
    )


def remedy(module: str) -> str:
    return f"make it after the fork, in a function post_fork() of {module}, or set preload = false"


class Look:
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
        self._fds = sorted(fds)
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
                else ("", "; those of numerical libraries come again")
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
        links = {fd: link for fd in self._fds if (link := _link(fd))}
        locked = [fd for fd in links if is_locked(fd)]
        for fd in locked:
            path = shown(links[fd])
            what = f"a file that is locked for writing, {path}{self._trace(fd)} (descriptor {fd})"
            yield Found(
                what,
                "one process alone may use what the lock guards, a database most likely",
                locked=path,
            )
        loops = "anon_inode:[eventpoll]" in links.values()
        groups: dict[tuple[str, str, bool], list[int]] = {}
        for fd, link in links.items():
            if fd in locked:
                continue
            described = _describe(fd, link, links, loops)
            if described is not None:
                what, why, grave = described
                groups.setdefault((what + self._trace(fd), why, grave), []).append(fd)
        for (what, why, grave), fds in groups.items():
            numbers = f"descriptor{'s' if len(fds) > 1 else ''} {', '.join(map(str, fds))}"
            yield Found(f"{what} ({numbers})", why, grave=grave, settled=self._app_cares)


def _describe(
    fd: int, link: str, links: dict[int, str], loops: bool
) -> tuple[str, str, bool] | None:
    """What it is, why that is no good in several processes, and whether it is grave;
    None for what may be shared.
    """
    kind, _, name = link.partition(":")
    if kind == "socket":
        return _describe_socket(fd, loops)
    if kind == "pipe":
        return "a pipe", "all workers have both of its ends", False
    if kind == "anon_inode":
        if name == "[eventpoll]":
            return (
                "an epoll, as event loops have",
                "all workers would wait in the one, for each other's descriptors",
                True,
            )
        if name == "inotify":
            return (
                "an inotify",
                "what happens is told to one of the workers, whichever reads first",
                True,
            )
        return (
            _KERNEL.get(name, f"an object of the kernel, {name}"),
            "all workers would share its state",
            False,
        )
    return _describe_file(fd, link, set(links.values()))


def _describe_socket(fd: int, loops: bool) -> tuple[str, str, bool] | None:
    sock = socket.socket(fileno=fd)
    try:
        if sock.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
            return (
                f"a socket of address family {sock.family}",
                "all workers would send on it, and take each other's answers",
                True,
            )
        if sock.type == socket.SOCK_DGRAM:
            return None  # each message stands for itself: syslog's, the journal's, statistics
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            where = _address(sock.getsockname())
            return (
                f"a socket that listens on {where}",
                "it is open in each worker, and none of them accepts from it",
                True,
            )
        try:
            peer = _address(sock.getpeername())
        except OSError:
            return "a socket that is not connected", "all workers would have the same", False
        if not peer:
            pid = struct.unpack(
                "iII",
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")),
            )[0]
            if pid == os.getpid():  # how an event loop wakes itself up
                return (
                    None if loops else ("one of a pair of sockets", "all workers have both", False)
                )
            peer = f"process {pid}"
        return (
            f"a connection to {peer}",
            "all workers would send on it, and take each other's answers",
            True,
        )
    finally:
        sock.detach()


def _address(address: object) -> str:
    if isinstance(address, tuple):
        return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    text = os.fsdecode(address) if isinstance(address, bytes) else str(address)
    return (
        "@" + text[1:] if text.startswith("\0") else text
    )  # as everybody writes an abstract one (unix(7))


def _describe_file(fd: int, path: str, open_paths: set[str]) -> tuple[str, str, bool] | None:
    if path.startswith(("/memfd:", "/dev/shm/")) or not stat.S_ISREG(os.fstat(fd).st_mode):  # noqa: S108, meant to be shared
        return None
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    writes = flags & os.O_ACCMODE != os.O_RDONLY
    stem = next((path.removesuffix(end) for end in _SQLITE_BESIDE if path.endswith(end)), None)
    if stem in open_paths:
        return None
    # By pread(), which moves no position, and on this descriptor: closing another one
    # of the file would take its locks away (sqlite.org/howtocorrupt.html, 2.2, which is
    # also about connections carried across a fork, 2.6).
    if _is_sqlite(fd, flags) or (writes and _may_become_sqlite(fd, path)):
        return (
            f"an SQLite database, {shown(path)}",
            "its connection is good in one process only, and can destroy the file in several",
            True,
        )
    if flags & os.O_APPEND:
        return None  # a log
    what = f"a file that is open for {'writing' if writes else 'reading'}, {shown(path)}"
    return what, "all workers would share one position in it", False


def _is_sqlite(fd: int, flags: int) -> bool:
    return flags & os.O_ACCMODE != os.O_WRONLY and os.pread(fd, 16, 0) == _SQLITE


def _may_become_sqlite(fd: int, path: str) -> bool:
    """Whether it is as SQLite leaves a file in which nothing has been stored yet:
    empty. Others have files of such names, too.
    """
    return path.endswith(_SQLITE_NAMES) and os.fstat(fd).st_size == 0 and "_sqlite3" in sys.modules


def is_locked(fd: int) -> bool:
    """Whether this process has locked the file of descriptor `fd` for writing, in
    whichever of the three ways (fcntl(2), flock(2)).

    /proc/PID/fdinfo lists the locks that were made by that very descriptor (proc(5)).
    /proc/locks has those of all processes, but none in a pid namespace, and no pid with
    those that belong to an open file.
    """
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii", errors="replace") as stream:
            lines = [line.split() for line in stream if line.startswith("lock:")]
    except OSError:  # closed meanwhile
        return False
    # lock: 1: POSIX ADVISORY WRITE 4711 08:01:123 0 EOF
    return any(len(words) > 4 and words[2] in _LOCKS and words[4] == "WRITE" for words in lines)


# Names


def shown(path: str) -> str:
    """A path as short as it can be told from others."""
    for part in ("/site-packages/", "/dist-packages/"):
        if part in path:
            return path.partition(part)[2]
    here = os.getcwd() + os.sep
    path = path.removeprefix(here)
    return path if path.isprintable() else ascii(path)


def _several(number: int, noun: str) -> str:
    return noun if number == 1 else f"{number} {noun.partition(' ')[2]}s"


def _link(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # closed meanwhile
        return ""


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
