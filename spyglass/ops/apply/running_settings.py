"""What is saved and not in force: the differences between the files of an app, as they
are now, and what its running generation was started with.

`differences` looks, `compare` decides. An app that is asleep has none: its next wake
reads everything. Where only the kernel's view is compared (environment, credentials,
unit files), a file counts as changed only if it was also touched since the start. So
nothing that this module misjudges can make `apply` restart an app again and again.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import spyglass
from spyglass.config import setting_text, settings
from spyglass.ops.addresses import address_conflicts
from spyglass.ops.app import apps
from spyglass.ops.apply import running_process, saved_settings
from spyglass.ops.files import atomic_files
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import service_of, socket_of
from spyglass.ops.units import directive_changes, unit_directives
from spyglass.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spyglass.ops.app.apps import App
    from spyglass.ops.apply.running_process import Running
    from spyglass.ops.apply.saved_settings import Saved

    Properties = Mapping[str, str]

PROPERTIES = (
    "LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "Listen", "MainPID",
    "ControlGroup", "FragmentPath", "DropInPaths", "ActiveEnterTimestampMonotonic",
)  # fmt: skip
AWAKE = ("active", "activating", "reloading")
_LONGEST = 40  # characters of a setting's value
# Seconds before the process was started, in which systemd may have read its files.
_EARLIER = 2.0


class Action(enum.IntEnum):
    """The least that brings a difference into force; the greatest of several does for
    all of them. UNITS: systemd reads the units again, and no process notices.
    """

    UNITS = 0
    RELOAD = 1
    RESTART = 2
    RESTART_SOCKET = 3


@dataclass(frozen=True)
class Difference:
    """One thing that is saved and not in force: `what` in words ("workers 2 -> 3",
    "hello.env changed"), and the least `action` that changes it.
    """

    what: str
    action: Action


def differences(
    name: str,
    app: App | None = None,
    socket: Properties | None = None,
    service: Properties | None = None,
) -> list[Difference]:
    """Return what is saved of the app `name` and not in force; [] if it is asleep.

    `app` is as apps.read() returns it; `socket` and `service` are the properties
    (PROPERTIES) of its units. What is not given is looked up. Raise PermissionError if
    this user may not look at the app's process: only root may.
    """
    if socket is None or service is None:
        shown = systemctl.show(systemctl.app_units([name]), PROPERTIES)
        socket, service = shown[socket_of(name)], shown[service_of(name)]
    if service.get("ActiveState") not in AWAKE:
        return []
    running = running_process.read(service)
    return _differences(app or apps.read(name), socket, service, running)


def pending(app: App, socket: Properties, service: Properties) -> list[Difference]:
    """Return what is saved and not applied: only the units are compared, and no process
    is looked at.
    """
    return _differences(app, socket, service, None)


def _differences(
    app: App, socket: Properties, service: Properties, running: Running | None
) -> list[Difference]:
    # Of a process that has ended nothing is known, and no file is newer.
    running = running or running_process.Running(float("inf"))
    wanted = saved_settings.drop_ins(app)
    saved = saved_settings.look(app, service, running, wanted)
    return [
        *_socket_differences(app.name, socket, wanted),
        *compare(app.name, saved, running),
    ]


def summary(found: Iterable[Difference], most: int = 3) -> str:
    """Return the differences in one line: "workers: 2 -> 3, hello.env changed"."""
    what = list(dict.fromkeys(each.what for each in found))
    more = f" and {len(what) - most} more" if len(what) > most else ""
    return ", ".join(what[:most]) + more


# Comparing


def compare(name: str, saved: Saved, running: Running) -> list[Difference]:
    """Return the differences between what is saved of the app `name` and what it was
    started with.
    """
    since = running.started - _EARLIER
    return [
        *_server_differences(saved, running),
        *_variable_differences(saved, running, since),
        *_credential_differences(saved, running, since),
        *_unit_differences(name, saved, running, since),
        *_version_differences(running),
    ]


def _server_differences(saved: Saved, running: Running) -> list[Difference]:
    if running.record is None:
        # It is loading its app, has no descriptor left for one, or is of a version
        # without records.
        # A reload reads the file again, whatever has changed.
        newer = saved.file.touched > running.started
        return [Difference(f"{_label(saved.file.path)} changed", Action.RELOAD)] if newer else []
    if saved.settings is None:
        return []
    return [
        Difference(f"{key} {shown(key, value)} -> {shown(key, saved.settings[key])}", Action.RELOAD)
        for key, value in running.record.settings.items()
        if key in saved.settings and saved.settings[key] != value
    ]


def shown(name: str, value: object) -> str:
    """Return the value of a setting as people say it: "2G", "30s", "true"."""
    text = setting_text.spoken(settings.SETTINGS.get(name), value)
    return one_line(text, _LONGEST) or "unset"


def _variable_differences(saved: Saved, running: Running, since: float) -> list[Difference]:
    last = {name: source for source in saved.environment_files for name in source.variables}
    removed = running.environ.keys() - last.keys() - saved.other_variables
    found = []
    for source in saved.environment_files:
        # A file that is missing may have been deleted when its directory was changed.
        when = source.touched or saved_settings.touched(os.path.dirname(source.path))
        changed = any(
            running.environ.get(name) != value
            for name, value in source.variables.items()
            if last[name] is source
        )
        if when > since and (changed or removed):
            found.append(Difference(f"{_label(source.path)} changed", Action.RESTART))
    return found


def _label(path: str) -> str:
    """Return a short name for a file: without the directory, if that is ours."""
    directory, name = os.path.split(path)
    return one_line(name if directory == settings.DIRECTORY else path, 200)


def _credential_differences(saved: Saved, running: Running, since: float) -> list[Difference]:
    return [
        Difference(f"credential {one_line(name)} changed", Action.RESTART)
        for name, source in saved.credentials.items()
        if source.touched > since
        and name in running.credentials
        and source.digest != running.credentials[name]
    ]


def _unit_differences(name: str, saved: Saved, running: Running, since: float) -> list[Difference]:
    """Return the directives that differ. Those that need no restart count until systemd
    has read them.
    """
    after = directive_changes.directives(saved.units.values(), "Service")
    current = directive_changes.directives(saved.current.values(), "Service")
    ours = unit_directives.path_of(service_of(name))

    def from_settings(texts: Mapping[str, str]) -> dict[str, list[str]]:
        return directive_changes.directives([texts.get(ours, "")], "Service")

    pending = directive_changes.changes(
        current, after, (from_settings(saved.current), from_settings(saved.units))
    )
    found = [
        Difference(line, Action.UNITS if key in directive_changes.AT_ONCE else Action.RESTART)
        for key, line in pending
    ]
    if running.record is None or max(saved.times.values(), default=0.0) <= since:
        return found
    started = _started_with(name, saved, running)
    before = directive_changes.directives(started.values(), "Service")
    own = from_settings(started), from_settings(saved.units)
    return [
        *(each for each in found if each.action is Action.UNITS),
        *(
            Difference(line, Action.RESTART)
            for key, line in directive_changes.changes(before, after, own)
            if key not in directive_changes.AT_ONCE
        ),
    ]


def _started_with(name: str, saved: Saved, running: Running) -> dict[str, str]:
    """Return the texts of the unit file and the drop-ins that were in force at the
    start.
    """
    units = dict(running.record.units) if running.record else {}
    for path, text in saved.current.items():
        if saved.times.get(path, 0.0) <= running.started - _EARLIER:
            units.setdefault(path, text)  # which the Master was not allowed to read
    return saved_settings.effective(service_of(name), units)


def _version_differences(running: Running) -> list[Difference]:
    """Return whether another version is installed where the app's Spyglass is from."""
    record = running.record
    here = os.path.dirname(os.path.abspath(spyglass.__file__))
    if record is None or record.package != here or record.version == spyglass.__version__:
        return []
    text = f"Spyglass {one_line(record.version)} -> {spyglass.__version__}"
    return [Difference(text, Action.RESTART)]


def _socket_differences(
    name: str, socket: Properties, wanted: Mapping[str, str]
) -> list[Difference]:
    path = unit_directives.path_of(socket_of(name))
    if path in wanted:
        current = atomic_files.read_untrusted_or_empty(path)
        if lines := directive_changes.of_drop_in(current, wanted[path], "Socket"):
            return [Difference(line, Action.RESTART_SOCKET) for line in lines]
    addresses = address_conflicts.addresses_of(socket)
    if socket.get("ActiveState") == "active" and address_conflicts.not_held_by_systemd(addresses):
        return [Difference("its addresses have changed", Action.RESTART_SOCKET)]
    return []
