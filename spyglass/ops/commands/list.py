"""`spyglass list`: every app of the machine in a line, whether it is awake or not; none
is woken by it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from spyglass.ops import app_status, terminal
from spyglass.ops.terminal import Column

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from spyglass.ops.app_status import View

HELP = "show every app: asleep, awake, failing or off, where it listens, when it woke and why it left; wakes none"

_COLUMNS = (
    Column("NAME", min_width=10), Column("STATE"), Column("ADDRESS", min_width=7), Column("WORKERS", "WRK", right=True),
    Column("REQUESTS", "REQ", right=True), Column("MEMORY", "MEM", right=True), Column("LAST WAKE", "WOKE", right=True),
    Column("TOOK", right=True), Column("LEFT", min_width=7),
)  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        action="store_true",
        help="for programs: all that is known; docs/looking.md has the keys",
    )


def run(options: argparse.Namespace) -> int:
    terminal.escape_unencodable()
    found = all_apps()
    if options.json:
        print(json.dumps([view.facts() for view in found], indent=2))
        return 0
    if not found:
        print("there is no app on this machine; 'spyglass new' makes one")
        return 0
    coloured = terminal.is_coloured(sys.stdout, os.environ)
    for line in render(found, terminal.width_limit(sys.stdout, os.environ), coloured=coloured):
        print(line)
    if hidden := unread(found):
        sys.stdout.flush()
        print(hidden, file=sys.stderr)
    return 0


def all_apps() -> list[View]:
    """Return all apps, and the default one if it was ever used."""
    found = app_status.look([*app_status.names(), app_status.DEFAULT])
    *apps, default = found
    return found if default.state != app_status.OFF or default.facts()["enabled"] else apps


def render(
    found: Sequence[View], limit: int | None, *, coloured: bool = False, now: float | None = None
) -> list[str]:
    """The table, in lines of `limit` letters."""
    return terminal.table_lines(
        _COLUMNS, [_row(view, now) for view in found], limit, coloured=coloured, kind=1
    )


def _row(view: View, now: float | None) -> list[str]:
    return [
        view.name,
        view.state,
        where(view),
        terminal.number(view.workers),
        terminal.number(view.counted("requests")),
        terminal.size(view.memory),
        terminal.ago(view.woke, now),
        terminal.duration(view.wake_ms),
        view.trouble or view.why or terminal.UNKNOWN,
    ]


def where(view: View) -> str:
    """Its address in a word: "unix" is the socket that every app has by itself,
    /run/spyglass/NAME.sock.
    """
    usual = f"/run/spyglass/{view.name}.sock"
    short = [
        "unix" if each == usual else each.replace("[::]:", "*:").replace("0.0.0.0:", "*:")
        for each in view.addresses
    ]
    more = f" +{len(short) - 2}" if len(short) > 2 else ""
    return " ".join(short[:2]) + more if short else terminal.UNKNOWN


def unread(found: Sequence[View]) -> str:
    """Why some of it is not known, or ""."""
    hidden = [view for view in found if view.unread]
    if not hidden:
        return ""
    if os.geteuid() and all("Permission denied" in view.unread for view in hidden):
        return "-: only root may read what is counted"
    return "\n".join(f"{view.name}: {view.unread}" for view in hidden)
