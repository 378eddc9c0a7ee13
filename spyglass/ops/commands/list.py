"""`spyglass list`: all apps in a table, awake or not. It wakes none of them."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from spyglass.ops.apply import older_settings
from spyglass.ops.command_declaration import Command, Option
from spyglass.ops.output import terminal
from spyglass.ops.output.terminal import Column, Row
from spyglass.ops.status import all_apps

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from spyglass.ops.status.app_status import AppStatus

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
    Column("NAME"), Column("STATE"), Column("ADDRESS"), Column("WORKERS", right=True, drop=3), Column("REQUESTS", right=True, drop=6),
    Column("MEMORY", right=True, drop=4), Column("LAST WAKE", right=True, drop=5), Column("TOOK", right=True, drop=1),
    Column("LAST EXIT", drop=2),
)  # fmt: skip
_SHORT = len("255.255.255.255:65535")  # an address that fits into every table


def run(options: argparse.Namespace) -> int:
    terminal.escape_unencodable()
    found = all_apps.query()
    if options.json:
        print(json.dumps([facts(app) for app in found], indent=2))
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


def facts(app: AppStatus) -> dict[str, object]:
    """Return the keys of `--json` about one app."""
    return app.facts() | {"not_in_force": older_settings.facts(app, older_settings.look(app))}


def render(
    found: Sequence[AppStatus],
    limit: int | None,
    *,
    coloured: bool = False,
    now: float | None = None,
) -> list[str]:
    """Return the table as lines of at most `limit` letters (None: no limit).

    No name and no address is ever cut. If the lines would be too long, several
    addresses get a line each, long ones are printed below the row, and at last columns
    are dropped.
    """
    below = {app.name: remarks(app, limit, coloured) for app in found}

    def rows(arrange: Callable[[list[str]], tuple[list[str], str]]) -> list[Row]:
        made = []
        for app in found:
            inside, outside = arrange(addresses(app))
            listens = terminal.wrapped(f"    listens on {outside}", limit, 8) if outside else []
            made.append(Row(_cells(app, "\n".join(inside), now), [*listens, *below[app.name]]))
        return made

    made = rows(lambda each: ([" ".join(each)], ""))
    if limit is not None:
        for arrange in (_one_each, _long_ones_below):
            if terminal.table_width(_COLUMNS, made) > limit:
                made = rows(arrange)
    return terminal.table_lines(_COLUMNS, made, limit, coloured=coloured, kind=1)


def _one_each(each: list[str]) -> tuple[list[str], str]:
    return each, ""


def _long_ones_below(each: list[str]) -> tuple[list[str], str]:
    inside = [address for address in each if len(address) <= _SHORT]
    return inside, ", ".join(address for address in each if len(address) > _SHORT)


def remarks(app: AppStatus, limit: int | None, coloured: bool) -> list[str]:
    """Return the lines below an app's row: what is wrong with it, what is not in
    force.
    """
    said = [(line, "fault") for line in app.problems]
    said += [(line, "hint") for line in (older_settings.describe(app),) if line]
    return [
        terminal.colourize(line, kind, coloured)
        for text, kind in said
        for line in terminal.wrapped(f"    {text}", limit, 8)
    ]


def _cells(app: AppStatus, listens: str, now: float | None) -> list[str]:
    """Return the cells of an app's row."""
    return [
        app.name,
        app.state,
        listens,
        terminal.number(app.workers),
        terminal.number(app.counted("requests")),
        terminal.size(app.memory),
        terminal.ago(app.woke, now),
        terminal.duration(app.wake_ms),
        (app.why or terminal.UNKNOWN).partition(": ")[0],
    ]


def addresses(app: AppStatus) -> list[str]:
    """Return the app's addresses, the usual ones in a few letters.

    "unix" is the default socket, /run/spyglass/NAME.sock. "*:80" is any address.
    """
    usual = f"/run/spyglass/{app.name}.sock"
    return [
        "unix" if each == usual else each.replace("[::]:", "*:").replace("0.0.0.0:", "*:")
        for each in app.addresses
    ] or [terminal.UNKNOWN]


def unread(found: Sequence[AppStatus]) -> str:
    """Return which values are unknown or old, and why, or ""."""
    lines = []
    hidden = [app for app in found if app.unread]
    if hidden and os.geteuid() and all("Permission denied" in app.unread for app in hidden):
        lines.append("-: only root can read the counts, and which settings are in force")
    else:
        lines += [f"{app.name}: {app.unread}" for app in hidden]
    lines += [
        f"{app.name}: its counts are of {terminal.ago(app.noted)}, because its Master did not answer"
        for app in found
        if app.noted
    ]
    return "\n".join(lines)
