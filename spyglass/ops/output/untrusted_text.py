"""Handle text that an app or another user may have written.

An app chooses its status line, its log lines and the names of its files; systemd and
the kernel quote them. Two rules hold for all of it: parsing it raises nothing, and
printing it does nothing to the administrator's terminal (no escape sequence, no line
break where one line is expected).
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, cast

from spyglass.ops.output.terminal import escape_unencodable, is_coloured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DIGITS = re.compile(r"[0-9]{1,20}")
# The only escape sequences that pass: the colours of terminal.py and atomic_files.py.
# None of them hides text, moves the cursor or makes the terminal answer.
_OURS = re.compile(r"(\033\[(?:0|1|2|31|32|33|36|1;31)?m)")


def number(value: object, default: int = 0) -> int:
    """Return `value` as an int if it is decimal digits, else `default`: "[not set]",
    "²", "", None.
    """
    text = str(value)
    return int(text) if _DIGITS.fullmatch(text) else default


def lines_of(text: str) -> list[str]:
    """Return the lines of a program's output, split at "\\n" only.

    str.splitlines() also splits at U+2028 and others, which may be part of a value.
    """
    found = text.split("\n")
    return found if found[-1] else found[:-1]


def sanitize(text: str) -> str:
    """Return `text` with U+FFFD for each unprintable character, line breaks and tabs
    excepted: control characters, marks that change the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


class _Filter:
    """A text stream that sanitizes what is written to it. Our own colours pass if the
    stream wants colours.
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
    """Sanitize everything printed to stdout and stderr inside the `with` block."""
    before = sys.stdout, sys.stderr
    escape_unencodable(sys.stdout)  # U+FFFD itself may be missing from the encoding
    sys.stdout, sys.stderr = (cast(TextIO, _Filter(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
