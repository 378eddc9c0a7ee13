"""Plan what `spyglass apply` does for each app: what is saved against what is in force.

Nothing is changed here, so `apply --dry-run`, `check` and `doctor` use the same plan.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.master import counters
from spyglass.ops.addresses import address_conflicts, address_owners
from spyglass.ops.app import apps
from spyglass.ops.apply import applied_files, running_settings
from spyglass.ops.apply.running_settings import Action, Difference
from spyglass.ops.files import atomic_files
from spyglass.ops.status import app_status
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import service_of, socket_of
from spyglass.ops.units import directive_changes, unit_directives
from spyglass.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.config.unit_settings import Address
    from spyglass.ops.app.apps import App

_PROPERTIES = (*running_settings.PROPERTIES, "InactiveExitTimestampMonotonic", "StatusText")

_LEFT_ALONE = ("masked", "disabled")  # why an app is off that no file turns off


@dataclass
class Step:
    """What to do for one app.

    `changes` are the new texts of the drop-ins that differ, by path; `before` their
    current texts. `socket` and `service` are properties (_PROPERTIES). `differences`
    are what is saved and not in force: of an app that is asleep only what differs in
    its units. `is_named` (bool): the administrator has named this app.
    """

    app: App
    socket: dict[str, str]
    service: dict[str, str]
    is_named: bool = True
    changes: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    file_missing: bool = False  # the file of a listening unix socket was deleted
    restarts_socket: bool = False  # it listens, but with other addresses or options
    files: str = ""  # the state of its files (applied_files.state); "" if it is left alone
    is_newer: bool = False  # asleep, and something is saved that no apply has tried
    why_off: str = ""  # it is not to listen: "masked", "setting", "disabled" (_why_off)

    @property
    def name(self) -> str:
        return self.app.name

    @property
    def is_listening(self) -> bool:
        return self.socket["ActiveState"] == "active"

    @property
    def is_awake(self) -> bool:
        return self.service["ActiveState"] in running_settings.AWAKE

    @property
    def is_enabled(self) -> bool:
        return self.socket["UnitFileState"] == "enabled"

    @property
    def is_masked(self) -> bool:
        return self.socket["LoadState"] == "masked"

    @property
    def is_new(self) -> bool:
        """True if it has never been applied, as far as its units show."""
        return not (self.is_listening or self.is_enabled or any(self.before.values()))

    @property
    def turns_off(self) -> bool:
        """True if the app is on, and its file says that it is to be off."""
        on = self.is_listening or self.is_enabled or self.is_awake
        return self.why_off == "setting" and on

    @property
    def starts_socket(self) -> bool:
        return not self.is_listening and not self.why_off

    @property
    def enables_socket(self) -> bool:
        return not self.is_enabled and not self.why_off

    @property
    def action(self) -> Action:
        """What the service needs. Restarting the socket, or turning the app off, ends
        the service anyway.
        """
        if not self.is_awake or self.restarts_socket or self.turns_off:
            return Action.UNITS
        needed = max((each.action for each in self.differences), default=Action.UNITS)
        if needed is Action.RELOAD and self.service["ActiveState"] == "activating":
            # To systemd, a start that is under way does for a reload as well. Nothing
            # serves yet, and clients wait in the socket's queue.
            return Action.RESTART
        return needed

    @property
    def trouble(self) -> str:
        """Why the app is failing, "" if it is not. It may be the app's words."""
        status = one_line(self.service.get("StatusText", ""))
        failing, found, why = status.partition(f"{app_status.FAILING}: ")
        return why if self.is_awake and found and not failing else ""

    @property
    def changes_units(self) -> bool:
        return self.why_off not in _LEFT_ALONE and (
            bool(self.changes)
            or self.restarts_socket
            or self.starts_socket
            or self.enables_socket
            or self.turns_off
            or "yes"
            in (
                self.socket["NeedDaemonReload"],
                self.service["NeedDaemonReload"],
            )
        )

    @property
    def only_enables(self) -> bool:
        """True if it listens as it is to, and only the next boot would change that."""
        return self.enables_socket and self.is_listening and not self.changes

    @property
    def has_work(self) -> bool:
        return self.changes_units or self.action > Action.UNITS

    @property
    def activates(self) -> bool:
        """True if code or settings of the app take effect now, or at its next wake for
        the first time.
        """
        return not self.why_off and (self.has_work or self.is_newer)


def _why_off(step: Step) -> str:
    """Return why the app is not to listen, "" if it is.

    `systemctl disable` is respected unless the app is named. An app that was never
    applied is disabled, too: it is told by what an applied one leaves behind.
    """
    if step.is_masked:
        return "masked"
    if not step.app.config.enabled:
        return "setting"
    if step.is_named or step.is_listening or step.socket["UnitFileState"] != "disabled":
        return ""
    socket, service = map(unit_directives.path_of, systemctl.app_units([step.name]))
    if unit_directives.is_off(atomic_files.read_untrusted_or_empty(socket)):
        return ""  # the file had turned it off, and does so no longer
    record = os.path.join(unit_directives.STATE, step.name, counters.NAME)
    return "disabled" if any(map(os.path.lexists, (socket, service, record))) else ""


def plan(names: list[str]) -> tuple[list[Step], list[str]]:
    """Return a step for each of these apps whose file can be read, and the faults of
    all of them (lines).

    Raise NoSystemdError, RefusedError.
    """
    steps, faults = _plan(names, named=True)
    return steps, [line for lines in faults.values() for line in lines]


def plan_applicable(names: list[str], *, named: bool) -> tuple[list[Step], dict[str, list[str]]]:
    """Return a step for each of these apps that can be applied, and {name: faults} of
    the others. `named` (bool): the administrator has named them.

    Raise NoSystemdError, RefusedError.
    """
    steps, faults = _plan(names, named)
    return [step for step in steps if step.name not in faults], faults


def _plan(names: list[str], named: bool) -> tuple[list[Step], dict[str, list[str]]]:
    known = {name: apps.read(name) for name in dict.fromkeys([*names, *apps.names()])}
    valid = [name for name in known if not known[name].faults]
    shown = systemctl.show(systemctl.app_units(valid), _PROPERTIES)
    steps = {
        name: Step(
            known[name], shown[socket_of(name)], shown[service_of(name)], named and name in names
        )
        for name in valid
    }
    for name, step in steps.items():
        step.why_off = _why_off(step)
        if name in names:
            apps.examine_machine(step.app)
            if not step.app.faults:
                _compare(step)
    wanted = [steps[name] for name in names if name in steps]
    _examine_addresses(wanted, steps)
    return wanted, {name: known[name].faults for name in names if known[name].faults}


def _examine_addresses(wanted: list[Step], steps: dict[str, Step]) -> None:
    """Fill in the faults of addresses that an app cannot have.

    An app whose addresses change in this run releases the old ones: another app may
    take them. If a fault keeps it from being applied, it does not, and so all others
    are examined again.
    """
    others = [step.app for step in steps.values() if not step.why_off]
    while True:
        healthy = [step for step in wanted if not step.app.faults and not step.why_off]
        leaving = [step for step in wanted if not step.app.faults]
        free = [each for step in leaving for each in _held(step)]
        for step in healthy:
            apps.examine_addresses(step.app, others, free, _held(step))
            if step.app.faults:
                step.app.faults += _swaps(step, wanted, steps.values())
        if not any(step.app.faults for step in healthy):
            return


def _swaps(step: Step, wanted: list[Step], known: Iterable[Step]) -> list[str]:
    """Return a line for each app that holds an address of the step's app, would leave
    it by its file, and is not applied now.
    """
    return [
        f"{other.app.file}: {other.name} no longer asks for {address}: apply both, spyglass apply {step.name} {other.name}"
        for other in known
        for address in step.app.addresses
        if other not in wanted
        and any(address_conflicts.conflicts(address, each) for each in _held(other))
        and not any(address_conflicts.conflicts(address, each) for each in other.app.addresses)
    ]


def _held(step: Step) -> list[Address]:
    return address_conflicts.addresses_of(step.socket) if step.is_listening else []


def _compare(step: Step) -> None:
    """Compare the app with what systemd has; fill in the step and the app's faults."""
    app = step.app
    if step.socket["LoadState"] == "not-found":
        app.faults.append(
            f"{app.file}: systemd has no {socket_of(app.name)}: install the package, or run 'spyglass units install'"
        )
        return
    if step.why_off in _LEFT_ALONE:
        return  # it is left as it is, and turning it on applies the rest
    if step.service["LoadState"] == "masked" and not step.why_off:
        service = service_of(app.name)
        app.faults.append(f"{service}: it is masked: {systemctl.unmask_command(service)}")
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
    ours = unit_directives.path_of(socket_of(app.name))
    changed = _directives(step.before.get(ours, "")) != _directives(step.changes.get(ours, ""))
    step.restarts_socket = (
        step.is_listening
        and not step.turns_off
        and (
            changed
            or address_conflicts.not_held_by_systemd(address_conflicts.addresses_of(step.socket))
        )
    )
    step.differences = _differences(step)
    step.files = applied_files.state(app)
    if not step.is_awake:
        step.is_newer = applied_files.are_newer(app, step.files, step.service)


def _differences(step: Step) -> list[Difference]:
    if step.is_awake and os.geteuid() == 0:
        return running_settings.differences(step.name, step.app, step.socket, step.service)
    return running_settings.pending(step.app, step.socket, step.service)


def _directives(text: str) -> list[str]:
    return directive_changes.without_comments(text)


def _edited(path: str, ours: bool) -> str:
    """Return the fault about a drop-in that apply must not overwrite. `ours` (bool):
    apply made it.
    """
    what = "has been edited since it was made" if ours else "was not made by 'spyglass apply'"
    unit = os.path.basename(os.path.dirname(path)).removesuffix(".d")
    return f"{path}: {what}: move its lines to your own drop-in (systemctl edit {unit}) or to the TOML file, then delete it"
