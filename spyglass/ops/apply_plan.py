"""Plan what `spyglass apply` does for each app: settings file against systemd's state.

Nothing is changed here, so `apply --dry-run`, `check` and `doctor` use the same plan.
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
    """What to do for one app.

    `changes` are the new texts of the drop-ins that differ, by path; `before` their
    current texts. `socket` and `service` are properties (_PROPERTIES).
    """

    app: App
    socket: dict[str, str]
    service: dict[str, str]
    changes: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    service_changed: bool = False  # beyond the limits, which apply to running processes
    file_missing: bool = False  # the file of a listening unix socket was deleted
    restarts_socket: bool = False  # it listens, but with other addresses or options

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
        """True if the service is awake with an outdated unit. Restarting the socket
        restarts it anyway.
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
    """Return a step for each of these apps whose file can be read, and the faults of
    all of them (lines).

    Raise NoSystemdError, RefusedError.
    """
    known = {name: apps.read(name) for name in dict.fromkeys([*names, *apps.names()])}
    valid = [name for name in names if not known[name].faults]
    shown = systemctl.show(systemctl.app_units(valid), _PROPERTIES)
    steps = [Step(known[name], shown[socket_of(name)], shown[service_of(name)]) for name in valid]
    # An app whose addresses change in this run releases the old ones: other apps may
    # take them.
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
    """Compare the app with what systemd has; fill in the step and the app's faults."""
    app = step.app
    if step.socket["LoadState"] == "not-found":
        app.faults.append(
            f"{app.file}: systemd has no {socket_of(app.name)}: install the package, or run 'spyglass units install'"
        )
        return
    missing = address_owners.missing(step.socket)
    step.file_missing = bool(missing)
    # Restarting the socket would fail, and its other addresses would be lost with it.
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
    # systemd applies the limits to a running service at a daemon-reload: no restart.
    step.service_changed = _lines(step.before.get(service, ""), unit_directives.LIMITS) != _lines(
        step.changes.get(service, ""), unit_directives.LIMITS
    )
    step.restarts_socket = step.is_listening and (
        _lines(step.before.get(socket, "")) != _lines(step.changes.get(socket, ""))
        or address_conflicts.not_held_by_systemd(address_conflicts.addresses_of(step.socket))
    )


def _edited(path: str, ours: bool) -> str:
    """Return the fault about a drop-in that apply must not overwrite. `ours` (bool):
    apply made it.
    """
    what = "has been edited since it was made" if ours else "was not made by 'spyglass apply'"
    unit = os.path.basename(os.path.dirname(path)).removesuffix(".d")
    return f"{path}: {what}: move its lines to your own drop-in (systemctl edit {unit}) or to the TOML file, then delete it"


def _lines(text: str, less: tuple[str, ...] = ()) -> list[str]:
    """Return the directives of a drop-in, without those in `less`."""
    return [
        line
        for line in lines_of(text)
        if line and line[0] not in "#[" and line.partition("=")[0] not in less
    ]
