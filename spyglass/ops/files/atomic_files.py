"""Read and write small text files: replaced atomically, diffed, untrusted ones bounded.

Two kinds of files are read. Root's own are read whole (read). Files that another user
may have made are opened without blocking, must be regular files and are read up to a
limit (read_untrusted): a named pipe would block root, /dev/zero would fill memory.
"""

from __future__ import annotations

import difflib
import os
import stat
import sys
import tempfile
from typing import TYPE_CHECKING

from spyglass.ops.output.terminal import is_coloured
from spyglass.ops.output.untrusted_text import lines_of
from spyglass.runtime import untrusted_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TextIO

_COLOURS = {"+": "\033[32m", "-": "\033[31m", "@": "\033[36m"}
_BOLD, _PLAIN = "\033[1m", "\033[m"


def read(path: str) -> str:
    """Return the text of a file of root's, "" if it does not exist. Raise OSError.

    Bytes that are not UTF-8 survive as surrogates, so that such a file differs from
    anything we would write.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


UNTRUSTED_LIMIT = 1 << 20
"""Bytes read of another user's file. Settings, units and main modules are smaller."""


def read_untrusted_or_empty(
    path: str, limit: int = UNTRUSTED_LIMIT, *, surrogates: bool = False
) -> str:
    """Return the first `limit` bytes of a regular file as text; "" if it cannot be
    read. With `surrogates` bytes that are not UTF-8 survive (see read()).
    """
    try:
        data = untrusted_files.read(path, limit, links=True)
    except OSError:
        return ""
    return data.decode(errors="surrogateescape" if surrogates else "replace")


def read_untrusted(path: str, limit: int = UNTRUSTED_LIMIT, *, links: bool = True) -> str:
    """Return the first `limit` bytes of a regular file as text. Raise OSError.

    With `links` False a symbolic link as the last component is refused, too.
    """
    return untrusted_files.read(path, limit, links=links).decode(errors="replace")


def contains_files(directory: str, limit: int = 10_000) -> bool:
    """Return whether there is a regular file anywhere below `directory`, which the app
    may write to.

    True as well if there are more than `limit` entries to look at.
    """
    return any(
        each is None or stat.S_ISREG(each[1].st_mode) for each in walk_untrusted(directory, limit)
    )


def walk_untrusted(
    directory: str, limit: int, max_depth: int = 64
) -> Iterator[tuple[str, os.stat_result] | None]:
    """Yield (path, lstat result) of everything below `directory`, which an app may
    change meanwhile.

    Links are not followed, also if one replaces a directory meanwhile: each is opened
    relative to its parent with O_NOFOLLOW. None is yielded for what is omitted:
    everything after `limit` entries, and the contents of directories deeper than
    `max_depth`. What cannot be read is skipped.
    """
    budget = [limit]
    try:
        fd = os.open(directory, _DIRECTORY)
    except OSError:
        return
    try:
        yield from _below(fd, directory, budget, max_depth)
    finally:
        os.close(fd)


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _below(
    fd: int, path: str, budget: list[int], max_depth: int
) -> Iterator[tuple[str, os.stat_result] | None]:
    """Walk the directory open as `fd`; `budget` holds the number of entries that are
    left.
    """
    with os.scandir(fd) as entries:
        for entry in entries:
            if budget[0] <= 0:
                if budget[0] == 0:
                    yield None
                budget[0] = -1
                return
            budget[0] -= 1
            where = os.path.join(path, entry.name)
            try:
                status = entry.stat(follow_symlinks=False)
                yield where, status
                if not stat.S_ISDIR(status.st_mode):
                    continue
                inner = os.open(entry.name, _DIRECTORY, dir_fd=fd)
            except OSError:
                continue
            try:
                if max_depth:
                    yield from _below(inner, where, budget, max_depth - 1)
                else:
                    yield None
            finally:
                os.close(inner)


def write(path: str, text: str, mode: int = 0o644, *, new: bool = False) -> None:
    """Write `text` to `path` atomically, and make its directory if necessary.

    A power cut leaves the old file or the new one (fsync(2), rename(2)). An empty text
    deletes the file, and its directory if that is empty then. With `new` (bool) raise
    FileExistsError if the file exists. Raise OSError, which names `path`.
    """
    try:
        if text:
            _replace(path, text, mode, new=new)
        else:
            _remove(path)
    except OSError as error:
        # Not the temporary file, which is gone by then.
        raise OSError(error.errno, error.strerror, path) from error


def _replace(path: str, text: str, mode: int, *, new: bool) -> None:
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    # This name ends in neither .conf nor .toml, so neither systemd nor Spyglass reads
    # it.
    fd, temporary = tempfile.mkstemp(prefix=".spyglass-", dir=directory)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        if new:
            os.link(temporary, path)
            os.unlink(temporary)
        else:
            os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync(directory)


def _remove(path: str) -> None:
    """Delete a file, and its directory if that is empty then."""
    directory = os.path.dirname(path)
    try:
        os.unlink(path)
        _sync(directory)
        os.rmdir(directory)
    except OSError:
        if os.path.lexists(path):
            raise


def _sync(directory: str) -> None:
    """Make the entries of a directory survive a power cut (fsync(2))."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unified_diff(wanted: Mapping[str, str]) -> list[str]:
    """Return the lines of a unified diff from the files to `wanted`, texts by path."""
    changes: list[str] = []
    for path, text in wanted.items():
        old = lines_of(read(path))
        source, target = (path if old else "/dev/null"), (path if text else "/dev/null")
        changes += difflib.unified_diff(old, lines_of(text), source, target, lineterm="")
    # Surrogates (see read) cannot be printed.
    return [line.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for line in changes]


def print_diff(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print a diff, in colours if `stream` (default: stdout) is a terminal that wants
    them.
    """
    stream = stream or sys.stdout
    colours = is_coloured(stream, os.environ)
    for line in lines:
        colour = _BOLD if line.startswith(("+++", "---")) else _COLOURS.get(line[:1], "")
        print(f"{colour}{line}{_PLAIN}" if colours and colour else line, file=stream)
