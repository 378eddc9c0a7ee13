"""What the journal says of a unit, by journalctl(1): the last lines, and the last traceback as a whole.

Journald keeps each line of a traceback as an entry of its own, between those of other processes, so it is put together again by who
wrote it: a line of ours begins with the role of the process, one of the app's own with nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spyglass.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_START = re.compile(r"((?:\w+: )?)(Traceback \(most recent call last\):|Fatal Python error: .*)$")
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_DUMP = ("Current thread 0x", "Thread 0x", "Extension modules:", "Python runtime state:", "<")
_FIELDS = "--output-fields=MESSAGE,PRIORITY,_PID"
_TOGETHER = 0.05  # seconds between two lines that were written as one: a message of an exception may have several


class JournalError(StartError):
    """It cannot be read; the text says why."""

    exit_status = 1


@dataclass
class Entry:
    when: float  # wall clock, seconds
    pid: int
    priority: int
    text: str


@dataclass
class Traceback:
    """`title` is what came before it: "master: failing: ModuleNotFoundError..."."""

    when: float
    pid: int
    title: str
    lines: list[str]


def entries(unit: str, most: int, *words: str) -> list[Entry]:
    """The last `most` entries of `unit`, oldest first; `words` are further options. Raises JournalError."""
    argv = ["journalctl", "--unit", unit, "--lines", str(most), "--output", "json", "--all", "--no-pager", _FIELDS, *words]
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, errors="replace")  # noqa: S603, of our own words
    except FileNotFoundError:
        raise JournalError("there is no journalctl here") from None
    found = parse(done.stdout.splitlines())
    if not found and ("permission" in done.stderr.lower() or "not seeing messages" in done.stderr or done.returncode):
        raise JournalError("the journal cannot be read: only root may, and the groups systemd-journal and adm")
    return found


def parse(lines: Iterable[str]) -> list[Entry]:
    """Lines of `journalctl --output=json`."""
    found = []
    for line in lines:
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        message = fields.get("MESSAGE")
        if isinstance(message, list):  # what is not text comes as the numbers of its bytes
            message = bytes(byte for byte in message if isinstance(byte, int)).decode(errors="replace")
        pid, priority = str(fields.get("_PID", "0")), str(fields.get("PRIORITY", "6"))
        when = float(fields.get("__REALTIME_TIMESTAMP", 0)) / 1e6
        for text in harmless(str(message or "")).split("\n"):
            found.append(Entry(when, int(pid) if pid.isdigit() else 0, int(priority) if priority.isdigit() else 6, text))
    return found


def harmless(text: str) -> str:
    """Nothing of it does anything to a terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def last_traceback(found: Sequence[Entry]) -> Traceback | None:
    """The one that began last, with those that it is said to come from."""
    last = None
    for pid in {entry.pid for entry in found}:
        own = [entry for entry in found if entry.pid == pid]
        index = 0
        while index < len(own):
            start = _START.match(own[index].text)
            if start is None:
                index += 1
                continue
            end = _end(own, index, start[1])
            title = own[index - 1].text if index and _belongs(own[index - 1], own[index], start[1]) else ""
            if last is None or own[index].when >= last.when:
                last = Traceback(own[index].when, pid, title, [entry.text.removeprefix(start[1]) for entry in own[index:end]])
            index = end
    return last


def _belongs(before: Entry, entry: Entry, prefix: str) -> bool:
    return before.text.startswith(prefix) and entry.when - before.when < _TOGETHER and before.text != prefix


def _end(own: Sequence[Entry], index: int, prefix: str) -> int:
    """Behind the last line of the traceback that begins at `index`."""
    fatal = "Fatal Python error" in own[index].text
    over = False  # its last line was there, which says what was raised
    for position in range(index + 1, len(own)):
        entry = own[position]
        text = entry.text.removeprefix(prefix)
        ours = entry.text.startswith(prefix)
        if fatal:
            if not (text == "" or text.startswith((" ", *_DUMP))):
                return position
        elif not ours:
            return position
        elif over:
            more = text.startswith(_CHAINED) or _START.match(text) or text == "" or text.startswith(" ")
            if entry.when - own[position - 1].when >= _TOGETHER or not (more or prefix):
                return position
            over = not text.startswith(" ") and not _START.match(text)
        else:
            over = bool(text) and not text.startswith((" ", "\t")) and not _START.match(text)
    return len(own)
