"""What `spyglass apply` would do for each app: the difference between its settings file
and what systemd has. Nothing is changed here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.ops import (
    address_conflicts,
    address_owners,
    apps,
    atomic_files,
    systemctl,
    unit_directives,
)
from spyglass.ops.systemctl import service_of, socket_of
from spyglass.ops.untrusted_text import lines_of

if TYPE_CHECKING:
    from spyglass.ops.apps import App

_PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "Listen")


@dataclass
class Step:
    """What is to be done for one app. `changes` are texts by path, of the drop-ins that
    differ, `before` what stands there now.
    """

    app: App
    socket: dict[str, str]  # properties
    service: dict[str, str]
    changes: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    service_changed: bool = False  # of the service's drop-in more than the limits changes
    file_missing: bool = False  # its socket listens, but the file of it was deleted
    restarts_socket: bool = False  # its socket listens, and not where it should or not as it should

    @property
    def name(self) -> str:
        return self.app.name

    @property
    def is_listening(self) -> bool:
        return self.socket["ActiveState"] == "active"

    @property
    def starts_socket(self) -> bool:
        return not self.is_listening and not self.is_masked

    @property
    def enables_socket(self) -> bool:
        return self.socket["UnitFileState"] != "enabled" and not self.is_masked

    @property
    def is_masked(self) -> bool:
        return self.socket["LoadState"] == "masked"

    @property
    def restarts_service(self) -> bool:
        """Its service is awake, and its unit says something else now. A socket that
        moves takes it along anyway.
        """
        return (
            self.service_changed
            and not self.restarts_socket
            and self.service["ActiveState"] in ("active", "activating", "reloading")
        )

    @property
    def has_work(self) -> bool:
        return (
            bool(self.changes)
            or self.restarts_socket
            or self.starts_socket
            or self.enables_socket
            or "yes"
            in (
                self.socket["NeedDaemonReload"],
                self.service["NeedDaemonReload"],
            )
        )


def plan(names: list[str]) -> tuple[list[Step], list[str]]:
    """What is to be done for those of these apps whose files can be read, and all that
    is wrong with any of them, in lines.
    """
    known = {name: apps.read(name) for name in dict.fromkeys([*names, *apps.names()])}
    valid = [name for name in names if not known[name].faults]
    shown = systemctl.show(systemctl.units_of(valid), _PROPERTIES)
    steps = [Step(known[name], shown[socket_of(name)], shown[service_of(name)]) for name in valid]
    # An app whose addresses change in this run gives up the old ones: others may take
    # them.
    free = [
        each
        for step in steps
        if step.is_listening
        for each in address_conflicts.addresses_of(step.socket)
    ]
    for step in steps:
        apps.examine(step.app, known.values(), free)
        if not step.app.faults:
            _compare(step)
    return steps, [line for name in names for line in known[name].faults]


def _compare(step: Step) -> None:
    app = step.app
    if step.socket["LoadState"] == "not-found":
        app.faults.append(
            f"{app.file}: systemd knows no {socket_of(app.name)}: is the package installed?"
        )
        return
    missing = address_owners.missing(step.socket)
    step.file_missing = bool(missing)
    # A restart of the socket would fail, and take its other addresses along.
    app.faults += [
        f"{app.file}: listen: {path}: {address_owners.NOT_A_SOCKET}"
        for path in missing
        if os.path.exists(path)
    ]
    for path, text in unit_directives.drop_ins(app.name, app.config, app.program.command).items():
        current = atomic_files.read(path)
        if current and not unit_directives.is_untouched(current):
            app.faults.append(_edited(path, unit_directives.is_ours(current)))
        elif current != text:
            step.changes[path] = text
            step.before[path] = current
    socket, service = (
        unit_directives.path_of(socket_of(app.name)),
        unit_directives.path_of(service_of(app.name)),
    )
    # Limits are followed by a service that runs, as soon as systemd has read them.
    step.service_changed = _lines(step.before.get(service, ""), unit_directives.LIMITS) != _lines(
        step.changes.get(service, ""), unit_directives.LIMITS
    )
    step.restarts_socket = step.is_listening and (
        _lines(step.before.get(socket, "")) != _lines(step.changes.get(socket, ""))
        or address_conflicts.is_not_listening(address_conflicts.addresses_of(step.socket))
    )


def _edited(path: str, ours: bool) -> str:
    what = "has been edited since it was made" if ours else "was not made by 'spyglass apply'"
    unit = os.path.basename(os.path.dirname(path)).removesuffix(".d")
    return f"{path}: {what}: move its lines to a drop-in of your own (systemctl edit {unit}) or to the TOML file, then delete it"


def _lines(text: str, less: tuple[str, ...] = ()) -> list[str]:
    """What counts in a drop-in."""
    return [
        line
        for line in lines_of(text)
        if line and line[0] not in "#[" and line.partition("=")[0] not in less
    ]
