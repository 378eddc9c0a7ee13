"""Files that are replaced as a whole or not at all, and what would change in them."""

from __future__ import annotations

import difflib
import os
import stat
import sys
import tempfile
from typing import TYPE_CHECKING

from spyglass.ops.terminal import is_coloured
from spyglass.ops.untrusted_text import lines_of
from spyglass.runtime import untrusted_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TextIO

_COLOURS = {"+": "\033[32m", "-": "\033[31m", "@": "\033[36m"}
_BOLD, _PLAIN = "\033[1m", "\033[m"


def read(path: str) -> str:
    """What stands in the file, "" when there is none. What is not UTF-8 in it is not
    lost, and not equal to anything of ours.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


UNTRUSTED_LIMIT = 1 << 20
"""Bytes of a file that is another user's, of which more would be no settings, no unit
and no app's main module.
"""


def read_untrusted_or_empty(path: str, limit: int = UNTRUSTED_LIMIT) -> str:
    """Return the first `limit` bytes of a regular file as text; "" when it cannot be
    read, or is none.
    """
    try:
        return read_untrusted(path, limit)
    except OSError:
        return ""


def read_untrusted(path: str, limit: int = UNTRUSTED_LIMIT, *, links: bool = True) -> str:
    """The same, but raise OSError. With `links` false a symbolic link in place of the
    file is refused, too.
    """
    return untrusted_files.read(path, limit, links=links).decode(errors="replace")


def contains_files(directory: str, limit: int = 10_000) -> bool:
    """Return False if there is no file anywhere below `directory`, which may be an
    app's to fill; True if that is too much to look at.
    """
    return any(
        each is None or stat.S_ISREG(each[1].st_mode) for each in walk_untrusted(directory, limit)
    )


def walk_untrusted(
    directory: str, limit: int, max_depth: int = 64
) -> Iterator[tuple[str, os.stat_result] | None]:
    """Yield path and lstat(2) of all that is below `directory`, which may be an app's
    to fill and to change meanwhile.

    Links are not followed, nor what is exchanged for one. There is a None for what is
    left out: all after `limit` entries, and what is in a directory deeper than
    `max_depth`. What cannot be looked at is passed over.
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


def write(path: str, text: str, new: bool = False) -> None:
    """Put `text` at `path`, mode 0644, the directory made if need be: a power cut
    leaves the old file or the new one (fsync(2), rename(2)).

    An empty text is no file, and no directory either if it would be empty then. `new`:
    raises FileExistsError if there is one.
    """
    directory = os.path.dirname(path)
    if not text:
        _remove(path)
        return
    os.makedirs(directory, exist_ok=True)
    # systemd reads what ends in .conf, and we what ends in .toml: not this.
    fd, temporary = tempfile.mkstemp(prefix=".spyglass-", dir=directory)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(fd, 0o644)
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
    directory = os.path.dirname(path)
    try:
        os.unlink(path)
        _sync(directory)
        os.rmdir(directory)
    except OSError:
        if os.path.lexists(path):
            raise


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unified_diff(wanted: Mapping[str, str]) -> list[str]:
    """What writing these texts, by path, would change: lines of a unified diff."""
    changes: list[str] = []
    for path, text in wanted.items():
        old = lines_of(read(path))
        source, target = (path if old else "/dev/null"), (path if text else "/dev/null")
        changes += difflib.unified_diff(old, lines_of(text), source, target, lineterm="")
    # What is not UTF-8 cannot be printed either.
    return [line.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for line in changes]


def print_diff(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print a diff, in colours where they are wanted."""
    stream = stream or sys.stdout
    colours = is_coloured(stream, os.environ)
    for line in lines:
        colour = _BOLD if line.startswith(("+++", "---")) else _COLOURS.get(line[:1], "")
        print(f"{colour}{line}{_PLAIN}" if colours and colour else line, file=stream)
