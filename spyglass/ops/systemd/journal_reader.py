"""Read the journal of units as it is and as it grows, for `spyglass logs`.

Messages are never in memory as a whole file: journalctl writes one a line, and reading
ends as soon as there are enough. An app may write messages of any size, so a line that
is too long is skipped, and a message says so in its place.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spyglass.errors import UsageError
from spyglass.ops.files import memory_file
from spyglass.ops.output.untrusted_text import number
from spyglass.ops.systemd import journal
from spyglass.ops.systemd.journal import NO_RIGHT, JournalError, message_text
from spyglass.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import IO

_FIELDS = "--output-fields=MESSAGE,PRIORITY,_PID,SYSLOG_IDENTIFIER"
_PIECE = 64 << 10
# Bytes of a message in JSON. journald cuts a line of a program's output at 48 KiB
# (LineMax=), of which a byte takes 6 at the most.
_LONGEST = 512 << 10
_TOO_LONG = "(a message too long to show here: see journalctl)"
_LONGEST_SOURCE = 40


@dataclass
class Message:
    """One message of the journal: `source` is the program's name as the journal has it,
    `cursor` its place in the journal.
    """

    when: float  # wall clock, seconds
    pid: int
    priority: int
    source: str
    text: str
    cursor: str = ""


def tail(
    options: Sequence[str], count: int, wanted: Callable[[Message], bool]
) -> tuple[list[Message], list[str]]:
    """Return the last `count` messages that match `options` and are `wanted`, oldest
    first, and the options with which follow() continues.

    `options` are options and matches of journalctl(1). Raise JournalError, and
    UsageError for a time that journalctl does not understand.
    """
    found: list[Message] = []
    newest, now = "", int(time.time())
    # From the newest back: a busy app has millions of messages.
    with _journalctl(["--reverse", *options]) as reader:
        for messages in reader.batches():
            newest = newest or next((each.cursor for each in messages if each.cursor), "")
            found += [each for each in messages if wanted(each)]
            if len(found) >= count:
                break
        else:
            reader.finish()
    return found[:count][::-1], _after(newest, now)


def whole(options: Sequence[str], show: Callable[[list[Message]], object]) -> list[str]:
    """Call `show` with all messages that match `options`, oldest first, some at a time:
    together they may be larger than memory. Return the options with which follow()
    continues. Raise as tail() does.
    """
    newest, now = "", int(time.time())
    with _journalctl(options) as reader:
        for messages in reader.batches(while_open=1):
            newest = next((each.cursor for each in reversed(messages) if each.cursor), newest)
            show(messages)
        if reader.ended:
            reader.finish()
    return _after(newest, now)


def _after(cursor: str, now: int) -> list[str]:
    return [f"--after-cursor={cursor}" if cursor else f"--since=@{now}"]


def follow(options: Sequence[str]) -> Iterator[list[Message]]:
    """Yield messages as they arrive, until the reader of our stdout has closed it.
    Raise JournalError if journalctl ends.
    """
    with _journalctl(["--follow", "--no-tail", *options]) as reader:
        yield from reader.batches(while_open=1)
        if reader.ended:
            reader.finish()
            raise JournalError("journalctl has ended: is journald running?")


class _Reader:
    """Reads the output of journalctl; what it writes to stderr is in `errors`."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors
        self.ended = False

    def batches(self, while_open: int | None = None) -> Iterator[list[Message]]:
        """Yield lists of messages until journalctl ends, or until the descriptor
        `while_open` has no reader any more (POLLERR, poll(2)).
        """
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if while_open is not None:
            poll.register(while_open, 0)
        rest, skipping = b"", False
        while True:
            ready = dict(poll.poll())
            if while_open is not None and while_open in ready:
                return
            piece = os.read(fd, _PIECE)
            if not piece:
                self.ended = True
                return
            *lines, rest = (rest + piece).split(b"\n")
            messages = []
            for line in lines:
                messages.append(_too_long() if skipping else parse(line))
                skipping = False
            if len(rest) > _LONGEST or skipping:
                rest, skipping = b"", True
            if found := [each for each in messages if each is not None]:
                yield found

    def finish(self) -> None:
        """Wait for the end of journalctl. Raise JournalError or UsageError if it has
        failed.
        """
        self._process.wait()
        said = memory_file.text_of(self._errors)
        if "Failed to parse timestamp" in said:
            when = one_line(said.partition("timestamp: ")[2].strip(), 100)
            raise UsageError(
                f"--since {when!r} is not a time: write a span (2h, 30min), today, yesterday, "
                '08:30 or "2026-11-30 08:30"'
            )
        if "not seeing messages" in said or "permission" in said.lower():
            raise JournalError(NO_RIGHT)
        if self._process.returncode:
            raise JournalError(f"journalctl: {one_line(said.strip()) or 'failed'}")


def _too_long() -> Message:
    return Message(0.0, 0, 6, "", _TOO_LONG)


@contextmanager
def _journalctl(options: Sequence[str]) -> Iterator[_Reader]:
    """Run journalctl with `options` for the block, and end it afterwards."""
    # --all: without it journalctl omits messages of more than 4 KiB.
    arguments = ["--all", "--output=json", "--no-pager", _FIELDS, *options]
    with memory_file.create() as errors:
        process = journal.start(arguments, errors)
        try:
            yield _Reader(process, errors)
        finally:
            process.kill()
            with process:
                pass


def parse(line: bytes) -> Message | None:
    """Return the message of a line of `journalctl --output=json`, None if it has
    none.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    return Message(
        when=number(fields.get("__REALTIME_TIMESTAMP")) / 1e6,
        pid=number(fields.get("_PID")),
        priority=number(fields.get("PRIORITY"), 6),
        source=one_line(str(fields.get("SYSLOG_IDENTIFIER", "")), _LONGEST_SOURCE),
        text=message_text(fields.get("MESSAGE", "")),
        cursor=str(fields.get("__CURSOR", "")),
    )
