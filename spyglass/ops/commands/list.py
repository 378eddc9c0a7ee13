"""`spyglass list`: all apps in a table, awake or not. It wakes none of them."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from spyglass.ops import app_status, terminal
from spyglass.ops.command_declaration import Command, Option
from spyglass.ops.terminal import Column

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from spyglass.ops.app_status import AppStatus

COMMAND = Command(
    "list",
    "show all apps: asleep, awake, failing or off, their addresses, and why they last exited; "
    "wakes none of them",
    options=(
        Option("--json", help="print JSON, with all that is known; docs/looking.md has the keys"),
    ),
    group="Look",
    brief="show all apps: asleep, awake, failing or off",
)

_COLUMNS = (
    Column("NAME", min_width=10), Column("STATE"), Column("ADDRESS", min_width=7), Column("WORKERS", "WRK", right=True),
    Column("REQUESTS", "REQ", right=True), Column("MEMORY", "MEM", right=True), Column("LAST WAKE", "WOKE", right=True),
    Column("TOOK", right=True), Column("LEFT", min_width=7),
)  # fmt: skip


def run(options: argparse.Namespace) -> int:
    terminal.escape_unencodable()
    found = all_apps()
    if options.json:
        print(json.dumps([app.facts() for app in found], indent=2))
        return 0
    if not found:
        print("there is no app on this machine; create one with 'spyglass new'")
        return 0
    coloured = terminal.is_coloured(sys.stdout, os.environ)
    for line in render(found, terminal.width_limit(sys.stdout, os.environ), coloured=coloured):
        print(line)
    if hidden := unread(found):
        sys.stdout.flush()
        print(hidden, file=sys.stderr)
    return 0


def all_apps() -> list[AppStatus]:
    """Return all apps. The default app is included if it was ever used."""
    found = app_status.query([*app_status.names(), app_status.DEFAULT])
    *apps, default = found
    return found if default.state != app_status.OFF or default.facts()["enabled"] else apps


def render(
    found: Sequence[AppStatus],
    limit: int | None,
    *,
    coloured: bool = False,
    now: float | None = None,
) -> list[str]:
    """Return the table as lines of at most `limit` letters (None: no limit)."""
    return terminal.table_lines(
        _COLUMNS, [_row(app, now) for app in found], limit, coloured=coloured, kind=1
    )


def _row(app: AppStatus, now: float | None) -> list[str]:
    """Return the cells of an app's row."""
    return [
        app.name,
        app.state,
        where(app),
        terminal.number(app.workers),
        terminal.number(app.counted("requests")),
        terminal.size(app.memory),
        terminal.ago(app.woke, now),
        terminal.duration(app.wake_ms),
        app.trouble or app.why or terminal.UNKNOWN,
    ]


def where(app: AppStatus) -> str:
    """Return the app's addresses in a few letters.

    "unix" is the default socket, /run/spyglass/NAME.sock. "*:80" is any address.
    """
    usual = f"/run/spyglass/{app.name}.sock"
    short = [
        "unix" if each == usual else each.replace("[::]:", "*:").replace("0.0.0.0:", "*:")
        for each in app.addresses
    ]
    more = f" +{len(short) - 2}" if len(short) > 2 else ""
    return " ".join(short[:2]) + more if short else terminal.UNKNOWN


def unread(found: Sequence[AppStatus]) -> str:
    """Return why some values are unknown, or ""."""
    hidden = [app for app in found if app.unread]
    if not hidden:
        return ""
    if os.geteuid() and all("Permission denied" in app.unread for app in hidden):
        return "-: only root can read the counts"
    return "\n".join(f"{app.name}: {app.unread}" for app in hidden)
