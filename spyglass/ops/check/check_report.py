"""How `spyglass check` reports: lines that fit the terminal, and the verdict.

The verdict is the last thing that a check prints. An app that can be served gets one
line on stdout. Otherwise it is on stderr and has each fault once, so that nothing above
it needs to be read for them.

A check in a sandbox (sandboxed_check.py) is another process, whose output is relayed.
Its verdict is not that of the whole check: the address may be in use, too. So the relay
keeps it back, and here it is read again.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from spyglass.ops.output.terminal import colourize, is_coloured, width_limit, wrapped
from spyglass.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

_OURS = re.compile(
    r"(?:addresses|app|check|configuration|imports|lifespan|note|post_fork|preload|sandbox|units|warning): "
)
_SERVED = re.compile(r".{1,300}: can be served(?:, with (?:a|(\d{1,9})) warnings?)?")
_NOT_SERVED = re.compile(r".{1,300}: cannot be served:(?: (.*))?")
_INDENT = "  "
_MOST_FAULTS = 100


def fitted(line: str, stream: TextIO) -> str:
    """Return `line` wrapped with a hanging indent if it is one of our own (of a report,
    or a hint in parentheses), and `stream` is a terminal.

    What an app prints, and a traceback, stay as they are.
    """
    is_hint = line.startswith("(") and line.endswith(")")
    if not _OURS.match(line) and not is_hint:
        return line
    return _wrapped(line, stream, 1 if is_hint else len(_INDENT))


def _wrapped(line: str, stream: TextIO, hanging: int) -> str:
    begin = len(line) - len(line.lstrip(" "))
    return "\n".join(wrapped(line, width_limit(stream, os.environ), begin + hanging))


def print_line(line: str, stream: TextIO | None = None) -> None:
    """Print a line of the report, on stdout by default."""
    stream = stream or sys.stdout
    print(fitted(line, stream), file=stream, flush=True)


def print_verdict(label: str, faults: Iterable[str], warnings: int = 0) -> None:
    """Print whether the app `label` (its name, or what was checked) can be served:
    not if there are `faults` (lines). `warnings` (int) were printed before.
    """
    for line, stream in _verdict(label, list(dict.fromkeys(faults)), warnings):
        text = _wrapped(line, stream, len(_INDENT))
        # Only the judgement is coloured: a fault has to be read.
        for words in ("can be served", "cannot be served"):
            if text.startswith(f"{label}: {words}"):
                kind = "fault" if stream is sys.stderr else "hint" if warnings else "awake"
                coloured = colourize(words, kind, is_coloured(stream, os.environ))
                text = f"{label}: {coloured}{text[len(label) + 2 + len(words) :]}"
        print(text, file=stream, flush=True)


def _verdict(label: str, faults: Sequence[str], warnings: int) -> list[tuple[str, TextIO]]:
    if not faults:
        having = (
            ""
            if not warnings
            else ", with a warning"
            if warnings == 1
            else f", with {warnings} warnings"
        )
        return [(f"{label}: can be served{having}", sys.stdout)]
    if len(faults) == 1:
        return [(f"{label}: cannot be served: {faults[0]}", sys.stderr)]
    lines = [f"{label}: cannot be served:", *(f"{_INDENT}{fault}" for fault in faults)]
    return [(line, sys.stderr) for line in lines]


class Verdict:
    """The verdict among the lines of a check's output, if it is the last that was
    written.

    `is_served` (bool) and `warnings` (int) come from stdout, and `faults` from stderr.
    All of it may be forged by the app: what counts is the exit status.
    """

    def __init__(self) -> None:
        self._held: list[str] = []

    def takes(self, line: str) -> bool:
        """Return True if `line` may belong to the verdict, and is kept for now."""
        if self._held and line.startswith(_INDENT) and len(self._held) <= _MOST_FAULTS:
            self._held.append(line)
            return True
        if not self._held and (_SERVED.fullmatch(line) or _NOT_SERVED.fullmatch(line)):
            self._held.append(line)
            return True
        return False

    def release(self) -> list[str]:
        """Return the lines that were kept: something follows, so they are no
        verdict.
        """
        held, self._held = self._held, []
        return held

    @property
    def warnings(self) -> int:
        found = _SERVED.fullmatch(self._held[0]) if self._held else None
        if found is None or ", with " not in self._held[0].rpartition(": can be served")[2]:
            return 0
        return int(found[1] or 1)

    @property
    def faults(self) -> list[str]:
        found = _NOT_SERVED.fullmatch(self._held[0]) if self._held else None
        if found is None:
            return []
        lines = [found[1]] if found[1] else self._held[1:]
        return [one_line(line.strip()) for line in lines if line and line.strip()]
