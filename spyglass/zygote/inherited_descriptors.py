"""Which of the descriptors that an app's import has left open workers had better not
share, and why.

A fork copies a descriptor, not what it refers to (runtime/fork.py). That is right for a
log and a trap for a connection: two workers send over each other on it, and get each
other's answers. What a descriptor refers to is read from /proc, fstat(2), fcntl(2) and
the options of a socket. None of that disturbs it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import sys

from spyglass.runtime.fast_imports import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SQLITE = b"SQLite format 3\0"  # sqlite.org/fileformat.html, 1.3
_SQLITE_NAMES = (".db", ".db3", ".sqlite", ".sqlite3")  # of one that is still empty
_SQLITE_BESIDE = ("-wal", "-shm", "-journal")
_LOCKS = ("POSIX", "FLOCK", "OFDLCK")
_KERNEL = {"[eventfd]": "an eventfd", "[timerfd]": "a timer", "[signalfd]": "a signalfd"}


class SharedDescriptors:
    """Descriptors `fds` that workers would share: `what` (str) they are, and `why` that
    is no good.

    `grave` (bool): it is worth a warning. `locked` (str): the file that this process
    has locked for writing, or "".
    """

    def __init__(
        self, fds: list[int], what: str, why: str, *, grave: bool = True, locked: str = ""
    ) -> None:
        numbers = f"descriptor{'s' if len(fds) > 1 else ''} {', '.join(map(str, fds))}"
        self.what = f"{what} ({numbers})"
        self.why = why
        self.grave = grave
        self.locked = locked


def find_shared(fds: Iterable[int], trace: Callable[[object], str]) -> list[SharedDescriptors]:
    """Return what there is to say of `fds`, alike ones together. `trace` as in
    fork_safety.Inspection.
    """
    links = {fd: link for fd in sorted(fds) if (link := _link(fd))}
    locked = [fd for fd in links if is_locked(fd)]
    found = [
        SharedDescriptors(
            [fd],
            f"a file that is locked for writing, {shown(links[fd])}{trace(fd)}",
            "only one process may use what the lock guards, most likely a database",
            locked=shown(links[fd]),
        )
        for fd in locked
    ]
    has_loop = "anon_inode:[eventpoll]" in links.values()
    groups: dict[tuple[str, str, bool], list[int]] = {}
    for fd, link in links.items():
        if fd in locked:
            continue
        described = _describe(fd, link, links, has_loop)
        if described is not None:
            what, why, grave = described
            groups.setdefault((what + trace(fd), why, grave), []).append(fd)
    found += [
        SharedDescriptors(fds, what, why, grave=grave) for (what, why, grave), fds in groups.items()
    ]
    return found


def _describe(
    fd: int, link: str, links: dict[int, str], loops: bool
) -> tuple[str, str, bool] | None:
    """Return what it is, why processes must not share it, and if that is grave; None if
    they may share it.
    """
    kind, _, name = link.partition(":")
    if kind == "socket":
        return _describe_socket(fd, loops)
    if kind == "pipe":
        return "a pipe", "all workers have both of its ends", False
    if kind == "anon_inode":
        if name == "[eventpoll]":
            return (
                "an epoll, which event loops use",
                "all workers would wait in the one, for each other's descriptors",
                True,
            )
        if name == "inotify":
            return (
                "an inotify",
                "only the worker that reads first gets each event",
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
                "all workers would send on it, and get each other's answers",
                True,
            )
        if sock.type == socket.SOCK_DGRAM:
            return None  # each datagram is independent: syslog, the journal, statistics
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            where = _address(sock.getsockname())
            return (
                f"a socket that listens on {where}",
                "each worker has it open, and none accepts from it",
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
            "all workers would send on it, and get each other's answers",
            True,
        )
    finally:
        sock.detach()


def _address(address: object) -> str:
    if isinstance(address, tuple):
        return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    text = os.fsdecode(address) if isinstance(address, bytes) else str(address)
    return "@" + text[1:] if text.startswith("\0") else text  # an abstract one (unix(7))


def _describe_file(fd: int, path: str, open_paths: set[str]) -> tuple[str, str, bool] | None:
    if path.startswith(("/memfd:", "/dev/shm/")) or not stat.S_ISREG(os.fstat(fd).st_mode):  # noqa: S108, meant to be shared
        return None
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    writes = flags & os.O_ACCMODE != os.O_RDONLY
    stem = next((path.removesuffix(end) for end in _SQLITE_BESIDE if path.endswith(end)), None)
    if stem in open_paths:
        return None
    # With pread(), which moves no position, and on this very descriptor: to close
    # another one of the same file would release its locks (sqlite.org/howtocorrupt.html
    # 2.2; 2.6 is about connections carried across a fork).
    if _is_sqlite(fd, flags) or (writes and _may_become_sqlite(fd, path)):
        return (
            f"an SQLite database, {shown(path)}",
            "its connection is for one process; used by several, it can destroy the file",
            True,
        )
    if flags & os.O_APPEND:
        return None  # a log
    what = f"a file that is open for {'writing' if writes else 'reading'}, {shown(path)}"
    return what, "all workers would share one position in it", False


def _is_sqlite(fd: int, flags: int) -> bool:
    return flags & os.O_ACCMODE != os.O_WRONLY and os.pread(fd, 16, 0) == _SQLITE


def _may_become_sqlite(fd: int, path: str) -> bool:
    """Return True for an empty file: SQLite's is empty until something is stored. Files
    of such names exist without SQLite, too.
    """
    return path.endswith(_SQLITE_NAMES) and os.fstat(fd).st_size == 0 and "_sqlite3" in sys.modules


def is_locked(fd: int) -> bool:
    """Return True if this process has locked the file of descriptor `fd` for writing,
    in one of the three ways (fcntl(2), flock(2)).

    /proc/PID/fdinfo lists the locks that were taken through this descriptor (proc(5)).
    /proc/locks has those of all processes, but none in a pid namespace, and no pid for
    those that belong to an open file description.
    """
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii", errors="replace") as stream:
            lines = [line.split() for line in stream if line.startswith("lock:")]
    except OSError:  # it was just closed
        return False
    # lock: 1: POSIX ADVISORY WRITE 4711 08:01:123 0 EOF
    return any(len(words) > 4 and words[2] in _LOCKS and words[4] == "WRITE" for words in lines)


def _link(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # it was just closed
        return ""


def shown(path: str) -> str:
    """Return a path as short as it still is unambiguous."""
    for part in ("/site-packages/", "/dist-packages/"):
        if part in path:
            return path.partition(part)[2]
    here = os.getcwd() + os.sep
    path = path.removeprefix(here)
    return path if path.isprintable() else ascii(path)
