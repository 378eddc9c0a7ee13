"""Files that are replaced as a whole or not at all, and what would change in them."""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from typing import TYPE_CHECKING

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


def glance(path: str, most: int = -1) -> str:
    """What people may read of the file, `most` letters of it; "" when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(most)
    except OSError:
        return ""


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
    lines: list[str] = []
    for path, text in wanted.items():
        old = read(path).splitlines()
        source, target = (path if old else "/dev/null"), (path if text else "/dev/null")
        lines += difflib.unified_diff(old, text.splitlines(), source, target, lineterm="")
    # What is not UTF-8 cannot be printed either.
    return [line.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for line in lines]


def show(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print a diff, in colours where they are wanted."""
    stream = stream or sys.stdout
    colours = is_coloured(stream, os.environ)
    for line in lines:
        colour = _BOLD if line.startswith(("+++", "---")) else _COLOURS.get(line[:1], "")
        print(f"{colour}{line}{_PLAIN}" if colours and colour else line, file=stream)
