"""`spyglass logs NAME`: the journal of one app, as lines for people, across its wakes.

What systemd says of the app's units, what Spyglass says and what the app prints are one
story, in the order in which journald got it. The access log is left out, or shown
alone. There is no pager: the last lines are what is asked for most, and `| less` is
there for the rest.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from spyglass.errors import UsageError
from spyglass.log import ACCESS_LOG, ERROR, WARNING
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.guards.termination_signals import exit_on_termination_signals
from spyglass.ops.output import terminal
from spyglass.ops.output.terminal import colourize, local_time
from spyglass.ops.status import app_status
from spyglass.ops.systemd import journal_reader

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from spyglass.ops.systemd.journal_reader import Message

COMMAND = Command(
    "logs",
    "show the journal of one app across its wakes: what systemd says of it, what the server "
    "says, and what the app prints",
    operands=(Operand("NAME", "an app, as in 'spyglass list'"),),
    options=(
        Option("-f", "--follow", help="go on with new lines as they arrive, until Ctrl-C"),
        Option("--access", help="show the lines of the access log, and nothing else"),
        Option(
            "--since",
            value="WHEN",
            help='begin there: a span (2h, 30min), today, yesterday, 08:30, "2026-11-30 08:30"',
        ),
        Option(
            "-n",
            "--lines",
            value="N",
            help="number of lines, or all (default: 50; all with --since)",
        ),
    ),
    more="exit status: 0; 1 the journal cannot be read; 4 there is no such app; 130 Ctrl-C",
    group="Look",
    brief="show the journal of one app across its wakes",
)

_LINES = 50
_SPAN = re.compile(r"[0-9]+ ?[a-zA-Z]+")
_OURS = ("", "spyglass", ACCESS_LOG)  # sources that are not worth a word on every line


def run(options: argparse.Namespace) -> int:
    terminal.escape_unencodable()
    count, since = _count(options.lines, since=options.since), _since(options.since)
    name = app_status.name_of(options.name)
    if name != app_status.DEFAULT and not app_status.is_name(name):
        raise app_status.no_such_app(name, app_status.names())
    coloured = terminal.is_coloured(sys.stdout, os.environ)
    units = [word for unit in app_status.units_of(name) for word in ("--unit", unit)]

    def wanted(message: Message) -> bool:
        return (message.source == ACCESS_LOG) == bool(options.access)

    shown = 0

    def show(messages: list[Message]) -> None:
        nonlocal shown
        found = list(filter(wanted, messages))
        shown += len(found)
        _print(lines(found, coloured))

    if count is None:
        after = journal_reader.whole([*units, *since], show)
    else:
        found, after = journal_reader.tail([*units, *since], count, wanted)
        show(found)
    if not shown:
        # A removed app has no units and no file, but its lines may still be there.
        app_status.resolve(name)
        if count != 0 and not options.follow:
            print(_nothing(name, options), file=sys.stderr)
    if options.follow:
        with exit_on_termination_signals():
            for messages in journal_reader.follow([*units, *after]):
                show(messages)
    return 0


def _count(text: str | None, *, since: str | None) -> int | None:
    """Return the number of messages to show, None for all. Raise UsageError."""
    if text is None:
        return None if since is not None else _LINES
    if text == "all":
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise UsageError(f"--lines {text!r}: expected a number, or all")


def _since(text: str | None) -> list[str]:
    """Return the option of journalctl for the time `text`."""
    if text is None:
        return []
    # journalctl wants "-2h" or "2h ago" for what people write as 2h.
    return [f"--since={'-' if _SPAN.fullmatch(text) else ''}{text}"]


def lines(messages: Iterable[Message], coloured: bool) -> Iterator[str]:
    """Yield the lines of these messages: time, process id, and text."""
    for message in messages:
        program = "" if message.source in _OURS else f"{message.source}: "
        kind = "off" if message.source == "systemd" else ""
        if message.priority <= WARNING:
            kind = "fault" if message.priority <= ERROR else "hint"
        head = f"{local_time(message.when)} [{message.pid}] " if message.when else ""
        for text in message.text.split("\n"):
            yield f"{head}{colourize(f'{program}{text}', kind, coloured)}"


def _print(found: Iterable[str]) -> None:
    for line in found:
        print(line)
    sys.stdout.flush()


def _nothing(name: str, options: argparse.Namespace) -> str:
    """Return the line for a journal that has no such lines."""
    when = f" since {options.since}" if options.since else ""
    if options.access:
        return (
            f"{name}: no lines of an access log in the journal{when}; it is written with "
            "access_log = true"
        )
    return f"{name}: no lines in the journal{when}"
