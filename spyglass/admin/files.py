"""Files that are replaced as a whole or not at all, and what would change in them."""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from spyglass import regular
from spyglass.admin.outside import lines_of
from spyglass.admin.table import is_coloured

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

_COLOURS = {"+": "\033[32m", "-": "\033[31m", "@": "\033[36m"}
_BOLD, _PLAIN = "\033[1m", "\033[m"


def read(path: str) -> str:
    """What stands in the file, "" when there is none. What is not UTF-8 in it is not lost, and not equal to anything of ours."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


MOST = 1 << 20
"""Bytes of a file that is another user's, of which more would be no settings, no unit and no app's main module."""


def glance(path: str, most: int = MOST) -> str:
    """Return the first `most` bytes of a regular file as text; "" when it cannot be read, or is none."""
    try:
        return peruse(path, most)
    except OSError:
        return ""


def peruse(path: str, most: int = MOST, *, links: bool = True) -> str:
    """The same, but raise OSError. With `links` false a symbolic link in place of the file is refused, too."""
    return regular.read(path, most, links=links).decode(errors="replace")


def holds_files(directory: str, most: int = 10_000, deepest: int = 64) -> bool:
    """Return False if there is no file anywhere below `directory`, which may be an app's to fill.

    Links are not followed. What has more than `most` entries, or directories deeper than `deepest`, is not looked through: True.
    """
    waiting = [(directory, 0)] if not os.path.islink(directory) else []
    while waiting:
        path, depth = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    most -= 1
                    if entry.is_file(follow_symlinks=False) or most < 0 or depth > deepest:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
        except OSError:
            continue  # it has gone
    return False


def write(path: str, text: str, new: bool = False) -> None:
    """Put `text` at `path`, mode 0644, the directory made if need be: a power cut leaves the old file or the new one (fsync(2), rename(2)).

    An empty text is no file, and no directory either if it would be empty then. `new`: raises FileExistsError if there is one.
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


def difference(wanted: Mapping[str, str]) -> list[str]:
    """What writing these texts, by path, would change: lines of a unified diff."""
    changes: list[str] = []
    for path, text in wanted.items():
        old = lines_of(read(path))
        source, target = (path if old else "/dev/null"), (path if text else "/dev/null")
        changes += difflib.unified_diff(old, lines_of(text), source, target, lineterm="")
    # What is not UTF-8 cannot be printed either.
    return [line.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for line in changes]


def show(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print a diff, in colours where they are wanted."""
    stream = stream or sys.stdout
    colours = is_coloured(stream, os.environ)
    for line in lines:
        colour = _BOLD if line.startswith(("+++", "---")) else _COLOURS.get(line[:1], "")
        print(f"{colour}{line}{_PLAIN}" if colours and colour else line, file=stream)
