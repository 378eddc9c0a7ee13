"""Text that others have written: apps, by their status and their log; the kernel and
systemd, where these quote them; names of files.

Whatever it holds, reading it raises nothing, and what is shown of it does nothing to
the terminal of the administrator who looks.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, cast

from spyglass.ops.terminal import escape_unencodable, is_coloured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DIGITS = re.compile(r"[0-9]{1,20}")
# Colours are ours alone (terminal.py, atomic_files.py): no text with which others could
# hide, move or ask for something is among them.
_OURS = re.compile(r"(\033\[(?:0|1|2|31|32|33|36|1;31)?m)")


def number(value: object, default: int = 0) -> int:
    """The whole number that `value` is in decimal digits, `default` for all else: "[not
    set]", "²", "", None.
    """
    text = str(value)
    return int(text) if _DIGITS.fullmatch(text) else default


def lines_of(text: str) -> list[str]:
    """The lines of a program's answer: they end in "\\n" and nothing else. To
    str.splitlines() U+2028 is a line end, too.
    """
    found = text.split("\n")
    return found if found[-1] else found[:-1]


def sanitize(text: str) -> str:
    """`text`, with something visible in the place of each character that is not:
    control characters, marks that turn the direction.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


class _Filter:
    """A text stream through which only what is harmless passes, and colours where there
    are any.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._coloured = is_coloured(stream, os.environ)

    def write(self, text: str) -> int:
        pieces = _OURS.split(text) if self._coloured else [text]
        pieces[::2] = map(sanitize, pieces[::2])
        self._stream.write("".join(pieces))
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextmanager
def filtered() -> Iterator[None]:
    """All that is printed meanwhile, to stdout and stderr, does nothing to a
    terminal.
    """
    before = sys.stdout, sys.stderr
    escape_unencodable(
        sys.stdout
    )  # what stands for a character may not be in the terminal's encoding
    sys.stdout, sys.stderr = (cast(TextIO, _Filter(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
