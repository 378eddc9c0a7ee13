"""Read the journal of a unit with journalctl(1): the last lines and the last traceback.

journald stores each line of a traceback as an entry of its own, with those of other
processes in between. So a traceback is put together again by process id: a line that
Spyglass wrote begins with the role of the process ("worker: "), a line of the app's own
does not.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spyglass.errors import StartError
from spyglass.ops.files import memory_file
from spyglass.ops.output.untrusted_text import number, sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import IO

_START = re.compile(r"((?:\w+: )?)(Traceback \(most recent call last\):|Fatal Python error: .*)$")
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_DUMP = ("Current thread 0x", "Thread 0x", "Extension modules:", "Python runtime state:", "<")
_FIELDS = "--output-fields=MESSAGE,PRIORITY,_PID"
# Bytes of an entry in JSON: three fields of 4 KiB, of which a byte takes 6 at the most.
_LONGEST = 256 << 10
# Seconds between two lines that were written at once: the message of an exception may
# have several.
_SAME_WRITE = 0.05
NO_RIGHT = "cannot read the journal: use sudo, or join the group systemd-journal or adm"


class JournalError(StartError):
    """The journal cannot be read; the message says why."""

    exit_status = 1


@dataclass
class Entry:
    """One line of the journal."""

    when: float  # wall clock, seconds
    pid: int
    priority: int
    text: str


@dataclass
class Traceback:
    """A traceback. `title` is the line before it: "master: failing:
    ModuleNotFoundError...".
    """

    when: float
    pid: int
    title: str
    lines: list[str]


def entries(unit: str, limit: int, *options: str) -> list[Entry]:
    """Return the last `limit` entries of `unit`, oldest first; `options` are more
    options of journalctl. Raise JournalError.
    """
    return read(["--unit", unit, *options], limit)


def read(options: Sequence[str], limit: int) -> list[Entry]:
    """Return the last `limit` entries that match `options`, oldest first.

    `options` are options and matches of journalctl(1). Raise JournalError if the
    journal cannot be read.

    Without --all journalctl omits fields longer than 4 KiB. An app can write entries of
    any size, so they are read one at a time.
    """
    options = ["--lines", str(limit), "--output", "json", "--no-pager", _FIELDS, *options]
    with memory_file.create() as errors:
        reader = start(options, errors)
        with reader:
            assert reader.stdout is not None
            found = parse(_lines(reader.stdout), limit)
        said = memory_file.text_of(errors)
    if not found and (
        "permission" in said.lower() or "not seeing messages" in said or reader.returncode
    ):
        raise JournalError(NO_RIGHT)
    return found


def start(options: Sequence[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start journalctl with `options`, its output a pipe. Raise JournalError if there
    is no journalctl.

    What it complains of goes to the file `errors`: an unread pipe that is full would
    block it.
    """
    try:
        return subprocess.Popen(  # noqa: S603, no shell
            ["journalctl", *options],  # noqa: S607, wherever PATH has it
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    except FileNotFoundError:
        raise JournalError("journalctl not found: this command needs systemd") from None


def sync() -> None:
    """Wait until journald has written everything that it has received so far.

    Raise JournalError if there is no journalctl.
    """
    try:
        subprocess.run(["journalctl", "--sync"], check=False, capture_output=True)  # noqa: S607
    except FileNotFoundError:
        raise JournalError("journalctl not found") from None


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of `stream` that have at most _LONGEST bytes. A longer one is
    skipped without ever being in memory as a whole.
    """
    whole = True
    while line := stream.readline(_LONGEST):
        ends = line.endswith(b"\n")
        if whole and ends:
            yield line
        whole = ends


def parse(lines: Iterable[bytes | str], limit: int = 1 << 20) -> list[Entry]:
    """Return the last `limit` entries of `journalctl --output=json` lines. Malformed
    lines are skipped; nothing is raised.
    """
    found: deque[Entry] = deque(maxlen=limit)
    for line in lines:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(fields, dict):
            continue
        pid, priority = number(fields.get("_PID"), 0), number(fields.get("PRIORITY"), 6)
        when = number(fields.get("__REALTIME_TIMESTAMP"), 0) / 1e6
        for text in sanitize(message_text(fields.get("MESSAGE", ""))).split("\n"):
            found.append(Entry(when, pid, priority, text))
    return list(found)


def message_text(value: object) -> str:
    """Return a MESSAGE field as text.

    In JSON it is null if it is too long, a list of bytes if it is not UTF-8, and a list
    of such values if the entry has the field twice.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        if all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
            return bytes(value).decode(errors="replace")
        return "\n".join(
            message_text(each)
            for each in value
            if not isinstance(each, list) or all(isinstance(byte, int) for byte in each)
        )
    return "(message longer than 4 KiB: see journalctl)"


def last_traceback(found: Sequence[Entry]) -> Traceback | None:
    """Return the traceback that began last, together with the ones it was chained to,
    or None.
    """
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
            title = (
                own[index - 1].text
                if index and _is_title(own[index - 1], own[index], start[1])
                else ""
            )
            if last is None or own[index].when >= last.when:
                last = Traceback(
                    own[index].when,
                    pid,
                    title,
                    [entry.text.removeprefix(start[1]) for entry in own[index:end]],
                )
            index = end
    return last


def _is_title(before: Entry, entry: Entry, prefix: str) -> bool:
    """Return True if the entry `before` was written together with the traceback that
    begins at `entry`.
    """
    return (
        before.text.startswith(prefix)
        and entry.when - before.when < _SAME_WRITE
        and before.text != prefix
    )


def _end(own: Sequence[Entry], index: int, prefix: str) -> int:
    """Return the index after the last line of the traceback that begins at `index`."""
    fatal = "Fatal Python error" in own[index].text
    over = False  # the line with the exception, which ends a traceback, was seen
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
            more = (
                text.startswith(_CHAINED)
                or _START.match(text)
                or text == ""
                or text.startswith(" ")
            )
            if entry.when - own[position - 1].when >= _SAME_WRITE or not (more or prefix):
                return position
            # The title of another one that was written at once. Between chained ones
            # there are empty lines.
            after = own[position + 1].text.removeprefix(prefix) if own[position + 1 :] else ""
            if text and _START.match(after):
                return position
            over = not text.startswith(" ") and not _START.match(text)
        else:
            over = bool(text) and not text.startswith((" ", "\t")) and not _START.match(text)
    return len(own)
