"""`spyglass status NAME`: everything about one app, without waking it.

Report collects the facts; it has one method for programs (facts) and one for people
(lines).
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from spyglass.config.setting_errors import place_in
from spyglass.config.setting_text import assignment
from spyglass.config.settings import SETTINGS
from spyglass.master.counter_record import one_line
from spyglass.ops.app import apps, effective_settings
from spyglass.ops.apply import older_settings
from spyglass.ops.check import import_costs
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.files import atomic_files
from spyglass.ops.output import terminal, untrusted_text
from spyglass.ops.output.terminal import Column, Row, ago, colourize, local_time
from spyglass.ops.status import app_status, process_roles
from spyglass.ops.systemd import journal
from spyglass.ops.units.exit_reasons import exit_reason

if TYPE_CHECKING:
    import argparse

    from spyglass.ops.app.effective_settings import EffectiveSettings
    from spyglass.ops.status.app_status import AppStatus
    from spyglass.ops.systemd.journal import Entry, Traceback

COMMAND = Command(
    "status",
    "show one app in detail: units, workers, settings, the last lines of its journal and its last "
    "traceback; does not wake it",
    operands=(Operand("NAME", "an app, as in 'spyglass list'"),),
    options=(
        Option("--json", help="print JSON; docs/looking.md has the keys"),
        Option(
            "-n", "--lines", value="N", help="number of journal lines (default: 10)", default=10
        ),
    ),
    more="exit status: 0 asleep or awake; 1 failing; 3 off; 4 there is no such app",
    group="Look",
    brief="show one app: workers, settings, journal, last traceback",
)

_STATUS = {app_status.FAILING: 1, app_status.OFF: 3}
_MORE = (
    "FragmentPath", "DropInPaths", "ExecStart", "Environment", "EnvironmentFiles",
    "SocketUser", "SocketGroup", "SocketMode", "User", "MemoryHigh", "MemoryMax",
)  # fmt: skip
_UNKNOWN = "only root can tell whether the saved settings are in force"
_SEARCHED = 2000  # entries of the journal in which the last traceback is looked for
_PROCESSES = (
    Column("PID", right=True), Column("IS"), Column("REQUESTS", right=True), Column("ERRORS", right=True), Column("OPEN", right=True),
    Column("MEMORY", right=True),
)  # fmt: skip


def run(options: argparse.Namespace) -> int:
    terminal.escape_unencodable()
    properties = dict.fromkeys((*app_status.PROPERTIES, *_MORE))
    [app] = app_status.query([app_status.resolve(options.name)], properties)
    report = Report(app, options.lines)
    if options.json:
        print(json.dumps(report.facts(), indent=2))
    else:
        coloured = terminal.is_coloured(sys.stdout, os.environ)
        for line in report.lines(coloured, terminal.width_limit(sys.stdout, os.environ)):
            print(line)
    return _STATUS.get(app.state, 0)


class Report:
    """What to print about `app`, with the last `count` (int) lines of its journal."""

    def __init__(self, app: AppStatus, count: int) -> None:
        self.app = app
        self.settings: EffectiveSettings = effective_settings.of_service(app.service)
        self.not_in_force = older_settings.look(app)  # None: it cannot be known
        self.processes = process_roles.processes(app)
        self.imports = import_costs.recorded(app.name)
        self.silence = ""  # why the journal cannot be read
        self.entries: list[Entry] = []
        self.traceback: Traceback | None = None
        unit = app_status.units_of(app.name)[1]
        try:
            searched = journal.entries(unit, max(_SEARCHED, count))
            self.entries = searched[len(searched) - count :]
            # A busy access log pushes the traceback out of these lines, so search by
            # priority, too.
            grave = (
                []
                if len(searched) < _SEARCHED
                else journal.entries(unit, _SEARCHED, "--priority=err")
            )
            self.traceback = journal.last_traceback(searched) or journal.last_traceback(grave)
        except journal.JournalError as error:
            self.silence = str(error)

    def facts(self) -> dict[str, object]:
        """Return the keys of `spyglass list --json`, and more."""
        app, last = self.app, self.traceback
        return app.facts() | {
            "socket": _unit(app.socket),
            "service": _unit(app.service),
            "processes": [vars(process) for process in self.processes],
            "settings": [_setting(setting) for setting in self.settings.differing],
            "settings_faults": self.settings.faults,
            "not_in_force": older_settings.facts(app, self.not_in_force),
            "imports": import_costs.facts(self.imports),
            "traceback": last and vars(last) | {"when": app_status.iso(last.when)},
            "journal": [vars(each) | {"when": app_status.iso(each.when)} for each in self.entries],
            "unread": [text for text in self._unread() if text],
        }

    def _unread(self) -> list[str]:
        unknown = _UNKNOWN if self.not_in_force is None else ""
        return [self.app.unread, *self.settings.hidden, unknown, self.silence]

    def lines(self, coloured: bool, limit: int | None = None) -> list[str]:
        """Return the same for people, in lines of at most `limit` letters (None: no
        limit). A traceback keeps its lines: they are code.
        """
        app = self.app
        state = colourize(app.state, app.state, coloured)
        made = [f"{colourize(app.name, 'title', coloured)}: {state}{_since(app)}"]
        for title, text in self._head():
            kind = {"problem": "fault", "changed": "hint"}.get(title, "")
            lines = terminal.wrapped(f"  {title:<10}{text}", limit, 12)
            made += [colourize(line, kind, coloured) for line in lines]
        made += self._processes(coloured)
        made += self._settings(coloured, limit)
        if self.traceback is not None:
            last = self.traceback
            title = f"Last traceback: {local_time(last.when)} ({ago(last.when)}), pid {last.pid}"
            made += ["", colourize(title, "title", coloured)]
            made += [f"  {line}" for line in (*([last.title] if last.title else []), *last.lines)]
        if self.entries or self.silence:
            made += ["", colourize("Journal", "title", coloured)]
            said = [f"{local_time(each.when)} [{each.pid}] {each.text}" for each in self.entries]
            for line in (*said, self.silence):
                made += terminal.wrapped(f"  {line}", limit, 4) if line else []
        return made

    def _head(self) -> list[tuple[str, str]]:
        app = self.app
        found = [
            ("status", _why_off(app) if app.state == app_status.OFF else app.status),
            *(("problem", text) for text in app.problems if text not in app.status),
            (
                "changed",
                _UNKNOWN
                if self.not_in_force is None
                else older_settings.sentence(app, self.not_in_force),
            ),
            ("listens" if _is_listening(app) else "address", _listens(app)),
        ]
        if app.record is not None and app.record.interface:
            found.append(("interface", app.record.interface.upper()))
        found += [("socket", _state(app.socket)), ("service", _state(app.service))]
        if app.memory is not None:
            found.append(("memory", terminal.size(app.memory) + _limits(app.service)))
        if app.woke:
            found.append(("last wake", _wake(app)))
        if self.imports:
            found.append(("imports", import_costs.sentence(self.imports)))
        if app.why:
            found.append(
                (
                    "last exit",
                    f"{app.why}{f', {local_time(app.left)} ({ago(app.left)})' if app.left else ''}",
                )
            )
        found.append(("counts", _unread_counts(app) or _counted(app)))
        for unit in (app.socket, app.service):
            found += [("drop-in", path) for path in unit.get("DropInPaths", "").split()]
            if unit.get("NeedDaemonReload") == "yes":
                found.append(
                    (
                        "changed",
                        f"{unit['Id']} on disk, but systemd has not read it: systemctl daemon-reload",
                    )
                )
        return [(title, text) for title, text in found if text]

    def _processes(self, coloured: bool) -> list[str]:
        if not self.processes:
            return []
        noted = f", as of {ago(self.app.noted)}" if self.app.noted else ""
        rows = [
            Row(
                [
                    str(each.pid),
                    each.what,
                    *(terminal.number(count) for count in (each.requests, each.errors, each.open)),
                    terminal.size(each.memory),
                ]
            )
            for each in self.processes
        ]
        made = terminal.table_lines(_PROCESSES, rows, coloured=coloured)
        return [
            "",
            colourize(f"Processes{noted}", "title", coloured),
            *(f"  {line}" for line in made),
        ]

    def _settings(self, coloured: bool, limit: int | None) -> list[str]:
        found = self.settings
        faults = (*found.faults, *(f"{path}: not read" for path in found.hidden))
        made = [line for fault in faults for line in terminal.wrapped(f"  {fault}", limit, 4)]
        wide = max((len(each.name) for each in found.differing), default=0)
        each_line = [
            (f"  {assignment(SETTINGS[each.name], each.value, wide)}", f"  # {each.place}")
            for each in found.differing
        ]
        # The places are a column for the lines that fit. Nothing is wrapped: the lines
        # can be copied into the file.
        widest = max((len(place) for _, place in each_line), default=0)
        fitting = [
            len(line) for line, _ in each_line if limit is None or len(line) <= limit - widest
        ]
        made += [f"{line:<{max(fitting, default=0)}}{place}" for line, place in each_line]
        title = colourize("Settings, where they are not the default", "title", coloured)
        return ["", title, *made] if made else []


# Formatting


def _why_off(app: AppStatus) -> str:
    """Return why an app does not listen, and what changes that."""
    socket, name = app.socket, app.name
    if name == app_status.DEFAULT:
        return "off; to turn it on: systemctl enable --now spyglass.socket"
    if socket.get("LoadState") != "masked":
        saved = apps.read(name)
        if not saved.faults and not saved.config.enabled:
            text = atomic_files.read_untrusted_or_empty(saved.file)
            return f"off (enabled = false, {place_in(saved.file, text, 'enabled')})"
        if not socket.get("DropInPaths") and not app.service.get("DropInPaths") and not app.woke:
            return f"not applied yet: spyglass apply {name}"
    return f"off; to turn it on: spyglass on {name}"


def _since(app: AppStatus) -> str:
    """Return " since ..." for the app's state, or ""."""
    unit = app.service if app.service.get("ActiveState") not in ("inactive", None) else app.socket
    when = _changed(unit)
    return f" since {local_time(when)} ({ago(when)})" if when else ""


def _changed(unit: app_status.Properties) -> float | None:
    """Return when the unit's state changed last (wall clock), None if never."""
    monotonic = untrusted_text.number(unit.get("StateChangeTimestampMonotonic")) / 1e6
    return time.time() - time.monotonic() + monotonic if monotonic else None


def _state(unit: app_status.Properties) -> str:
    """Return the line about a unit's state."""
    parts = [f"{unit.get('ActiveState')} ({unit.get('SubState')})", unit.get("UnitFileState", "")]
    if unit.get("Result", "success") != "success":
        parts.append(
            f"result {unit['Result']}"
            + (f", {exit_reason(unit)}" if unit.get("ExecMainStatus", "0") != "0" else "")
        )
    if unit.get("NRestarts", "0") != "0":
        parts.append(f"restarted by systemd {unit['NRestarts']} times")
    when = _changed(unit)
    return f"{unit.get('Id')}: {', '.join(part for part in parts if part)}" + (
        f", since {local_time(when)}" if when else ""
    )


def _is_listening(app: AppStatus) -> bool:
    """Return False for an app that is off, and for one whose socket has failed."""
    return app.state != app_status.OFF and app.socket.get("ActiveState") != "failed"


def _listens(app: AppStatus) -> str:
    """Return the addresses, those of unix sockets with owner, group and mode."""
    access = (
        " ".join(app.socket.get(name) or "root" for name in ("SocketUser", "SocketGroup"))
        + f" {app.socket.get('SocketMode', '')}"
    )
    return ", ".join(
        f"{each} ({access.rstrip()})" if each.startswith("/") else each for each in app.addresses
    )


def _limits(service: app_status.Properties) -> str:
    """Return the memory limits in parentheses, or ""."""
    limits = [
        f"{title} {terminal.size(value)}"
        for title, name in (("high", "MemoryHigh"), ("max", "MemoryMax"))
        if 0 < (value := untrusted_text.number(service.get(name))) < 1 << 62
    ]
    return f" ({', '.join(limits)})" if limits else ""


def _wake(app: AppStatus) -> str:
    """Return the line about the last wake."""
    record = app.record
    # Of the last load: a reload may have come after the wake.
    loading = (
        f", the app loads in {terminal.duration(record.load_ms)}"
        if record is not None and record.load_ms
        else ""
    )
    by = f", woken at {record.by}" if record is not None and record.by else ""
    return f"{local_time(app.woke)} ({ago(app.woke)}){f', took {terminal.duration(app.wake_ms)}' if app.wake_ms else ''}{loading}{by}"


def _unread_counts(app: AppStatus) -> str:
    """Return why the counts cannot be read, or ""."""
    denied = os.geteuid() and "Permission denied" in app.unread
    return "only root can read them" if denied else app.unread


def _counted(app: AppStatus) -> str:
    """Return the line with the counts."""
    record = app.record
    if record is None:
        return "nothing yet"
    names = ("wakes", "requests", "errors", "failures", "crashes", "reloads")
    counts = ", ".join(
        f"{getattr(record, name)} {name if getattr(record, name) != 1 else _singular(name)}"
        for name in names
    )
    noted = f"; as of {ago(app.noted)}, because its Master did not answer" if app.noted else ""
    return one_line(f"{counts}, since {local_time(record.since)}{noted}")


def _singular(name: str) -> str:
    return name.removesuffix("es") if name == "crashes" else name.removesuffix("s")


def _setting(setting: effective_settings.Setting) -> dict[str, object]:
    """Return the facts about a setting for `--json`."""
    value = setting.value
    if setting.name == "listen" and isinstance(value, tuple):
        value = [str(address) for address in value]
    return {"name": setting.name, "value": value, "place": setting.place}


def _unit(unit: app_status.Properties) -> dict[str, object]:
    """Return the facts about a unit for `--json`."""
    return {
        "id": unit.get("Id"), "active": unit.get("ActiveState"), "sub": unit.get("SubState"), "result": unit.get("Result"),
        "enabled": unit.get("UnitFileState"), "since": app_status.iso(_changed(unit)), "drop_ins": unit.get("DropInPaths", "").split(),
    }  # fmt: skip
