"""`spyglass metrics`: metrics of all apps, for Prometheus. It wakes none of them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.output.openmetrics import CONTENT_TYPES, OPENMETRICS, render
from spyglass.ops.status import all_apps, app_metrics, app_status

if TYPE_CHECKING:
    import argparse

    from spyglass.ops.status.app_status import AppStatus

COMMAND = Command(
    "metrics",
    "print the metrics of all apps as OpenMetrics text, for Prometheus: states, wakes, requests, "
    "durations, memory; wakes none of them",
    operands=(Operand("NAME", "an app (default: all apps)", optional=True, many=True),),
    options=(
        Option(
            "--format",
            value="FORMAT",
            choices=tuple(CONTENT_TYPES),
            default=OPENMETRICS,
            help="openmetrics (the default), or prometheus: the older text format, which "
            "node_exporter's textfile collector reads",
        ),
    ),
    group="",
    more="Only root sees the counters of apps: they are in private directories. docs/metrics.md "
    "explains each metric, and how Prometheus gets them.",
)


def run(options: argparse.Namespace) -> int:
    # Always UTF-8 (OpenMetrics 1.0, "Overall Structure"), whatever the locale says.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    found = _apps(options.names)
    print(render(app_metrics.families(found), options.format), end="")
    if hidden := unread(found):
        sys.stdout.flush()
        print(hidden, file=sys.stderr)
    return 0


def _apps(words: list[str]) -> list[AppStatus]:
    if not words:
        return all_apps.query()
    return app_status.query(dict.fromkeys(map(app_status.resolve, words)))


def unread(found: list[AppStatus]) -> str:
    """Return whose counters are missing, and why, or ""."""
    hidden = [app for app in found if app.unread]
    if hidden and os.geteuid() and all("Permission denied" in app.unread for app in hidden):
        return "only root can read the counters: the output is without them"
    return "\n".join(f"{app.name}: {app.unread}" for app in hidden)
