"""Copy an app's state directory into an archive, and out of one.

The app can write there, and what is in an archive may be anybody's. So root follows no
symbolic link: each directory is opened relative to its parent, with O_NOFOLLOW. Links
are copied as links, wherever they lead: only the app, in its sandbox, follows them.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.errors import StartError
from spyglass.master import counters, reload_socket, report_socket
from spyglass.ops.move.app_archive import STATE, ArchiveError, Member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spyglass.ops.move.app_archive import Reader, Writer

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a named pipe in the place of the file would block us.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DEPTH = 100  # each level holds a descriptor
_OURS = (
    *(reload_socket.NAME, report_socket.NAME),
    *(counters.NAME, f"{counters.NAME}.new"),  # new: one that is being written
)
_SPARE = 64 << 20  # bytes of the disk that are left to others


@dataclass
class Survey:
    """What a directory holds: number of `entries`, their `bytes`. `omitted` are
    sockets, named pipes and devices, which are not copied.
    """

    entries: int = 0
    bytes: int = 0
    omitted: list[str] = field(default_factory=list)


class StoredDataError(StartError):
    """The data cannot be copied; the message says why."""

    exit_status = 1


# Out of the directory


def survey(directory: str) -> Survey:
    """Look at everything in `directory`. Raise OSError, StoredDataError."""
    found = Survey()
    for _, name, status in _walk(directory):
        if _is_ours(name, status):
            continue
        if _kind(status) is None:
            found.omitted.append(name)
        else:
            found.entries += 1
            found.bytes += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return found


def pack(directory: str, archive: Writer) -> None:
    """Add `directory` to the archive. Raise OSError, StoredDataError."""
    for parent, name, status in _walk(directory):
        if _is_ours(name, status):
            continue
        kind = _kind(status)
        inside = f"{STATE}/{name}" if name else STATE
        last = os.path.basename(name)
        if kind == "file":
            _pack_file(parent, last, inside, archive)
        elif kind == "link":
            target = os.readlink(last, dir_fd=parent)
            archive.add(Member(inside, kind, 0o777, 0, status.st_mtime, target))
        elif kind is not None:
            mode = status.st_mode & 0o3777
            archive.add(Member(inside, kind, mode, 0, status.st_mtime))


def _is_ours(name: str, status: os.stat_result) -> bool:
    """Return True for what the Master keeps there: its counters are about this machine,
    and its sockets about this moment. Anything else is the app's, whatever its name.
    """
    return name in _OURS and not stat.S_ISDIR(status.st_mode)


def _pack_file(parent: int, name: str, inside: str, archive: Writer) -> None:
    with os.fdopen(os.open(name, _FILE, dir_fd=parent), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise StoredDataError(f"{inside}: was replaced while it was copied")
        mode = status.st_mode & 0o777
        archive.add(Member(inside, "file", mode, status.st_size, status.st_mtime), stream)


def _kind(status: os.stat_result) -> str | None:
    if stat.S_ISDIR(status.st_mode):
        return "directory"
    if stat.S_ISREG(status.st_mode):
        return "file"
    return "link" if stat.S_ISLNK(status.st_mode) else None


def _walk(directory: str) -> Iterator[tuple[int, str, os.stat_result]]:
    """Yield (descriptor of the parent, path in `directory`, lstat result) of everything
    in it, the directory itself first, as "".
    """
    fd = os.open(directory, _DIRECTORY)
    try:
        yield fd, "", os.fstat(fd)
        yield from _below(fd, "", _MAX_DEPTH)
    finally:
        os.close(fd)


def _below(fd: int, above: str, depth: int) -> Iterator[tuple[int, str, os.stat_result]]:
    if not depth:
        raise StoredDataError(f"{above}: nested deeper than {_MAX_DEPTH} directories")
    for name in sorted(os.listdir(fd)):
        path = f"{above}/{name}" if above else name
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        yield fd, path, status
        if stat.S_ISDIR(status.st_mode):
            inner = os.open(name, _DIRECTORY, dir_fd=fd)
            try:
                yield from _below(inner, path, depth - 1)
            finally:
                os.close(inner)


# Into a directory


class Unpacker:
    """Unpacks members into the directory `top`, which only root can enter meanwhile.

    Everything gets the `owner` (uid, gid). `entries` and `bytes` are what was unpacked,
    `links_out` the symbolic links that lead out of the directory.
    """

    def __init__(self, top: str, owner: tuple[int, int]) -> None:
        self._top = top
        self._owner = owner
        self._directories: list[Member] = []
        self.entries = 0
        self.bytes = 0
        self.links_out: list[str] = []

    def check_space(self, size: int, entries: int = 1) -> None:
        """Raise StoredDataError if the disk has no room for so many bytes and
        entries.
        """
        disk = os.statvfs(os.path.dirname(self._top))
        free = disk.f_bavail * disk.f_frsize - _SPARE
        if size > max(0, free) or (disk.f_files and entries > disk.f_favail):
            raise StoredDataError(
                f"{os.path.dirname(self._top)}: not enough space: {size >> 20} MiB and {entries} "
                f"files are to be unpacked, {max(0, free) >> 20} MiB and {disk.f_favail} files fit"
            )

    def unpack(self, member: Member, reader: Reader) -> None:
        """Unpack one member, whose name begins with STATE. Raise ArchiveError,
        StoredDataError, OSError.
        """
        parts = member.name.split("/")[1:]
        if len(parts) > _MAX_DEPTH:
            raise ArchiveError(f"{member.name}: nested deeper than {_MAX_DEPTH} directories")
        self.check_space(member.size)
        self.entries += 1
        self.bytes += member.size
        if not parts:
            self._make_top(member)
            return
        try:
            with self._open(parts[:-1]) as parent:
                self._make(parent, parts[-1], member, reader)
        except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
            # O_NOFOLLOW makes a link no directory.
            why = "is there twice" if isinstance(error, FileExistsError) else "is in no directory"
            raise ArchiveError(f"{member.name}: {why}") from None

    def finish(self) -> None:
        """Give directories their modes and times: what is unpacked into them would
        change the times.
        """
        for member in reversed(self._directories):
            with self._open(member.name.split("/")[1:]) as fd:
                os.fchown(fd, *self._owner)
                os.fchmod(fd, member.mode)
                os.utime(fd, (member.mtime, member.mtime))

    def _make_top(self, member: Member) -> None:
        if member.kind != "directory" or self._directories:
            raise ArchiveError(f"{member.name}: must be one directory")
        os.mkdir(self._top, 0o700)
        self._directories.append(member)

    def _make(self, parent: int, name: str, member: Member, reader: Reader) -> None:
        if member.kind == "directory":
            os.mkdir(name, 0o700, dir_fd=parent)
            self._directories.append(member)
        elif member.kind == "link":
            os.symlink(member.target, name, dir_fd=parent)
            os.chown(name, *self._owner, dir_fd=parent, follow_symlinks=False)
            depth = len(member.name.split("/")) - 2
            if _leads_out(member.target, depth):
                self.links_out.append(f"{member.name} -> {member.target}")
        else:
            with os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=parent), "wb") as stream:
                while piece := reader.read():
                    stream.write(piece)
                stream.flush()
                os.fchown(stream.fileno(), *self._owner)
                os.fchmod(stream.fileno(), member.mode & 0o777)
                os.utime(stream.fileno(), (member.mtime, member.mtime))

    @contextmanager
    def _open(self, parts: list[str]) -> Iterator[int]:
        """Open the directory with this path in `top`, following no link."""
        fd = os.open(self._top, _DIRECTORY)
        try:
            for part in parts:
                inner = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)


def _leads_out(target: str, depth: int) -> bool:
    """Return True if a link, `depth` directories below the top, leads out of it."""
    if target.startswith("/"):
        return True
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False
