"""The metrics of all apps, those included that are asleep. Pure: states in, metrics
out.

An app that sleeps has no process to ask. Its counts are in its record, which goes on
when it wakes, so a counter never begins again because of a sleep. What only exists
while an app is awake (workers, connections, memory) is 0 while it is not: Prometheus
would take a series that is absent for unknown.

docs/metrics.md explains each metric; tests/unit/test_metrics.py compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass import __version__
from spyglass.master.counter_record import Record
from spyglass.ops.output.openmetrics import COUNTER, GAUGE, HISTOGRAM, INFO, Family
from spyglass.ops.output.untrusted_text import number
from spyglass.ops.status import app_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spyglass.ops.status.app_status import AppStatus

    Labels = Mapping[str, str]

STATES = (
    app_status.ASLEEP, app_status.WAKING, app_status.AWAKE, app_status.LEAVING, app_status.FAILING,
    app_status.OFF,
)  # fmt: skip

# name, type, unit, help
_ABOUT = (
    ("spyglass_build", INFO, "", "The version of Spyglass on this machine."),
    ("spyglass_app_state", GAUGE, "", "1 for the state that the app is in, 0 for all others."),
    ("spyglass_app_enabled", GAUGE, "", "1 if the app's socket listens after the next boot, too."),
    ("spyglass_app_counters_readable", GAUGE, "", "0 if the app's counts cannot be read, and are absent therefore."),
    ("spyglass_app_counters_timestamp_seconds", GAUGE, "seconds", "When the app's counts were taken."),
    ("spyglass_app_workers", GAUGE, "", "Workers that accept connections."),
    ("spyglass_app_connections", GAUGE, "", "Connections that are open."),
    ("spyglass_app_memory_bytes", GAUGE, "bytes", "Memory that the app's processes use."),
    ("spyglass_app_wakes", COUNTER, "", "How many times the app was woken or started."),
    ("spyglass_app_wake_duration_seconds", HISTOGRAM, "seconds", "Time from the start of the Master to the first worker that accepts."),
    ("spyglass_app_last_wake_timestamp_seconds", GAUGE, "seconds", "When the app woke last."),
    ("spyglass_app_last_exit_timestamp_seconds", GAUGE, "seconds", "When the app exited last."),
    ("spyglass_app_exits", COUNTER, "", "How many times the app exited, by reason."),
    ("spyglass_app_requests", COUNTER, "", "Requests that the app has answered, by the class of their status; cut: not completely."),
    ("spyglass_app_request_duration_seconds", HISTOGRAM, "seconds", "Time from when a worker had the request until its response was sent."),
    ("spyglass_app_request_errors", COUNTER, "", "Requests that the app has answered with a 5xx status, or not completely."),
    ("spyglass_app_refused_requests", COUNTER, "", "Requests that the server itself has refused, by the class of the status."),
    ("spyglass_app_load_failures", COUNTER, "", "Attempts to load the app that failed."),
    ("spyglass_app_reloads", COUNTER, "", "Generations that have replaced another one."),
    ("spyglass_app_worker_restarts", COUNTER, "", "Workers that were replaced, by reason."),
)  # fmt: skip


def families(found: Iterable[AppStatus]) -> list[Family]:
    """Return the metrics of the apps `found`, for openmetrics.render()."""
    made = {name: Family(name, type_, help_, unit) for name, type_, unit, help_ in _ABOUT}
    made["spyglass_build"].add({"version": __version__}, 1)
    for app in found:
        labels = {"app": app.name}
        _add_state(made, app, labels)
        made["spyglass_app_counters_readable"].add(labels, 0 if app.unread else 1)
        if record := app.record or (None if app.unread else Record()):
            # An app that was never awake has counted nothing: it counts from 0, so that
            # its first request is seen as an increase.
            _add_counts(made, record, labels)
    return list(made.values())


def _add_state(made: Mapping[str, Family], app: AppStatus, labels: Labels) -> None:
    """Add what is known of an app now."""
    for state in STATES:
        made["spyglass_app_state"].add({**labels, "state": state}, int(app.state == state))
    enabled = app.socket.get("UnitFileState") in ("enabled", "enabled-runtime")
    made["spyglass_app_enabled"].add(labels, int(enabled))
    gone = not number(app.service.get("MainPID"))
    now = {
        "spyglass_app_workers": app.workers or 0,
        "spyglass_app_connections": 0 if gone else _connections(app),
        "spyglass_app_memory_bytes": 0 if gone else app.memory,
        "spyglass_app_last_wake_timestamp_seconds": app.woke,
        "spyglass_app_last_exit_timestamp_seconds": app.left,
    }
    for name, value in now.items():
        if value is not None:
            made[name].add(labels, value)


def _connections(app: AppStatus) -> int | None:
    """Return how many connections are open, None if that cannot be known."""
    if app.record is None:
        return None if app.unread else 0
    return sum(each.open for each in app.record.workers) if app.record.awake else 0


def _add_counts(made: Mapping[str, Family], record: Record, labels: Labels) -> None:
    """Add what the app's Masters have counted."""
    if record.written:
        made["spyglass_app_counters_timestamp_seconds"].add(labels, record.written)
    counts = {
        "spyglass_app_wakes": record.wakes,
        "spyglass_app_request_errors": record.errors,
        "spyglass_app_load_failures": record.failures,
        "spyglass_app_reloads": record.reloads,
    }
    for name, count in counts.items():
        made[name].add(labels, count)
    tables = {
        "spyglass_app_requests": ("code", record.codes),
        "spyglass_app_refused_requests": ("code", record.refusals),
        "spyglass_app_exits": ("reason", record.exits),
        "spyglass_app_worker_restarts": ("reason", record.restarts),
    }
    for name, (label, table) in tables.items():
        # Those that are 0, too: an increase is seen only where there was a value.
        for key, count in table.items():
            made[name].add({**labels, label: key}, count)
    histograms = {
        "spyglass_app_wake_duration_seconds": record.wakes_took,
        "spyglass_app_request_duration_seconds": record.requests_took,
    }
    for name, durations in histograms.items():
        made[name].add_histogram(labels, durations.bounds, durations.counts, durations.seconds)
