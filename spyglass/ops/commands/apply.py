"""`spyglass apply`: make systemd follow the settings files in /etc/spyglass.

Nothing is written before all files have been validated. If a later step fails, every
file and socket is restored; what cannot be restored is reported. A second run has
nothing to do.

The diff is printed after the work, not during it: a reader that is slow, or has closed
the pipe, must not hold up systemd or the lock.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.errors import ConfigError, StartError
from spyglass.ops import (
    address_conflicts,
    address_owners,
    apps,
    atomic_files,
    locks,
    orphaned_apps,
    state_directory,
    systemctl,
    unit_directives,
)
from spyglass.ops.apply_plan import Step, plan
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.systemctl import RefusedError, service_of, socket_of
from spyglass.ops.termination_signals import exit_on_termination_signals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping


COMMAND = Command(
    "apply",
    "make systemd follow the files in /etc/spyglass: write the units' drop-ins, show what "
    "changes, and start listening",
    operands=(
        Operand("NAME", "an app, /etc/spyglass/NAME.toml (default: all)", optional=True, many=True),
    ),
    options=(Option("-n", "--dry-run", help="only show what would change"),),
    changes=True,
    group="Set up",
    brief="put what the files in /etc/spyglass say into force",
)


class ApplyError(StartError):
    """Applying failed half-way; the message says what the state is now."""

    exit_status = 1


def run(options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(options.names)) or apps.names()
    if not names:
        print(
            f"nothing to do: there is no app in {settings.DIRECTORY}; create one with 'spyglass new'"
        )
        _print_orphans(orphaned_apps.query())
        return 0
    if not options.dry_run and os.geteuid() != 0:
        raise ConfigError(
            "only root may change units: sudo spyglass apply, or --dry-run to see what would change"
        )
    changes: list[str] = []
    try:
        steps, orphans = _apply(names, options.dry_run, changes)
    finally:
        atomic_files.print_diff(changes)  # the lock is released: a reader may be slow
    if any(step.has_work for step in steps):
        _print_steps(steps, "would be " if options.dry_run else "")
    else:
        print("nothing to do")
    for step in steps:
        for note in step.app.remarks if step.has_work else step.app.notes:
            print(f"{step.name}: {note}")
        for finding in state_directory.examine(step.name, step.app.config.user):
            print(f"{finding.where}: {finding.what}: {'; '.join(finding.cure)}")
    _print_orphans(orphans)
    return 0


def _apply(names: list[str], dry: bool, changes: list[str]) -> tuple[list[Step], dict[str, str]]:
    """Apply the settings of these apps; with `dry` (bool) only find out what to do.

    Return the steps, and the orphans (orphaned_apps.query()). The lines of the diff are
    added to `changes`, also if this raises ConfigError, ApplyError or LockedError.
    """
    # A dry run only reads, so ordinary users, who cannot take a lock, may do it.
    with nullcontext() if dry else locks.held("units", "changing units"):
        steps, faults = plan(names)
        orphans = orphaned_apps.query()
        if faults:
            # Say which orphans there are: one may hold the address that the new name
            # asks for.
            raise ConfigError(
                faults[0], also=[*faults[1:], *_orphan_lines(orphans), "nothing was changed"]
            )
        changes += [line for step in steps for line in atomic_files.unified_diff(step.changes)]
        if not dry and any(step.has_work for step in steps):
            # A terminal that is closed half-way must not leave sockets stopped.
            with exit_on_termination_signals():
                _Transaction(steps).run()
    return steps, orphans


# Applying


class _Transaction:
    """Write the drop-ins and make systemd follow, or restore everything."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = [step for step in steps if step.has_work]
        self._written: list[tuple[str, str]] = []  # path, and what was there
        self._touched: list[str] = []  # sockets that were started, stopped or restarted

    def run(self) -> None:
        """Apply the steps. Raise ApplyError or RefusedError after everything is
        restored.
        """
        try:
            self._write()
            self._verify()
            self._follow()
        except BaseException as error:
            self._roll_back(error)
            raise

    def _write(self) -> None:
        """Write the drop-ins. Raise ApplyError."""
        for step in self._steps:
            for path, text in step.changes.items():
                self._written.append((path, step.before[path]))
                try:
                    atomic_files.write(path, text)
                except OSError as error:
                    raise ApplyError(f"{path}: cannot be written: {error.strerror}") from None

    def _verify(self) -> None:
        """Let systemd-analyze read the changed units; nothing takes effect yet. Raise
        ApplyError.

        Only complaints about files that we wrote count: others concern other units.
        """
        changed = [step.name for step in self._steps if step.changes]
        if not changed:
            return
        said = systemctl.verify(systemctl.app_units(changed))
        paths = [path for path, _ in self._written]
        complaints = [line for line in said if any(path in line for path in paths)]
        if complaints:
            raise ApplyError(f"systemd rejects the new drop-ins: {complaints[0]}")

    def _follow(self) -> None:
        """Reload systemd, restart what has changed, start and enable the rest. Raise
        RefusedError.

        Sockets whose addresses change are stopped before the reload. systemd would
        close the old addresses at the reload, but leave the files of unix sockets
        behind, which it no longer considers its own.
        """
        moving = [socket_of(step.name) for step in self._steps if step.restarts_socket]
        starting = [socket_of(step.name) for step in self._steps if step.starts_socket]
        self._touched = [*moving, *starting]
        if moving:
            systemctl.ask("stop", *moving)
        systemctl.ask("daemon-reload")
        if moving:
            systemctl.ask("start", *moving)
        self._restart_silent_sockets()
        if starting:
            systemctl.ask("start", *starting)
        if enabling := [socket_of(step.name) for step in self._steps if step.enables_socket]:
            systemctl.ask("enable", *enabling)
        if restarting := [service_of(step.name) for step in self._steps if step.restarts_service]:
            systemctl.ask("try-restart", *restarting)

    def _restart_silent_sockets(self) -> None:
        """Restart sockets that the reload has closed.

        The reload reads the administrator's own drop-ins as well, which may change
        addresses.
        """
        unmoved = {
            socket_of(step.name): step
            for step in self._steps
            if step.is_listening and not step.restarts_socket
        }
        for name, properties in systemctl.show(unmoved, ["Listen"]).items():
            if address_conflicts.not_held_by_systemd(address_conflicts.addresses_of(properties)):
                self._touched.append(name)
                systemctl.ask("restart", name)
                for address in set(address_owners.addresses(unmoved[name].socket)) - set(
                    address_owners.addresses(properties)
                ):
                    if address.startswith("/"):
                        address_owners.remove_stale(address)

    def _roll_back(self, error: BaseException) -> None:
        """Restore files and sockets, and raise ApplyError from `error`, unless that
        ends the process.
        """
        done: list[str] = []
        for path, text in reversed(self._written):
            try:
                atomic_files.write(path, text)
            except OSError as second:
                done.append(f"{path} could not be restored: {second.strerror}")
        if self._touched:
            done += self._restore_sockets()
        why = str(error) or "interrupted"
        if not isinstance(error, Exception) and not isinstance(error, KeyboardInterrupt):
            return
        raise ApplyError(
            f"{why}; {'; '.join(done) if done else 'all changes were undone'}"
        ) from error

    def _restore_sockets(self) -> list[str]:
        """Make the same sockets listen as before. Return what failed (lines)."""
        before = {socket_of(step.name): step.is_listening for step in self._steps}
        lines = []
        for words in (
            ["stop", *self._touched],
            ["daemon-reload"],
            ["start", *(name for name in self._touched if before[name])],
            ["disable", *(socket_of(step.name) for step in self._steps if step.enables_socket)],
        ):
            if words == ["daemon-reload"] or len(words) > 1:
                try:
                    systemctl.ask(*words)
                except RefusedError as second:
                    lines.append(str(second))
        return lines


# Reporting


def _print_steps(steps: Iterable[Step], be: str) -> None:
    """Print what was done for each app, or would be: `be` is "" or "would be "."""
    for step in steps:
        if not step.has_work:
            continue
        where = ", ".join(
            str(each) if each.path or each.host else f"port {each}" for each in step.app.addresses
        )
        actions = ", ".join(_actions(step, be)) or f"{be}reloaded"
        print(f"{step.name}: {actions}; {'would listen' if be else 'listens'} on {where}")
        for address in step.app.addresses:
            if address_conflicts.is_unassigned(address):
                print(
                    f"{step.name}: no interface of this machine has {address.host} now; {address} works as soon as one does"
                )
        if not unit_directives.has_user_namespaces():
            print(
                f"{step.name}: runs without PrivateUsers=: this machine allows no user namespaces (sysctl user.max_user_namespaces)"
            )
        if step.app.program.version:
            print(
                f"{step.name}: runs on Spyglass {step.app.program.version} from its environment, not on the package's version"
            )
        if step.is_masked:
            print(
                f"{step.name}: its socket is masked and was not started; to unmask it: systemctl unmask {socket_of(step.name)}"
            )


def _print_orphans(orphans: Mapping[str, str]) -> None:
    """Print a line about each orphan."""
    for line in _orphan_lines(orphans):
        print(line)


def _orphan_lines(orphans: Mapping[str, str]) -> list[str]:
    """Return a line about each orphan, with its name."""
    return [f"{name}: {orphaned_apps.describe(name, what)}" for name, what in orphans.items()]


def _actions(step: Step, be: str) -> list[str]:
    """Return what was done, or would be (`be` as in _print_steps), in words."""
    actions = []
    if step.changes:
        actions.append(f"{be}written")
    if step.enables_socket:
        actions.append(f"{be}enabled")
    if step.starts_socket:
        actions.append(f"{be}started")
    if step.restarts_socket:
        actions.append(
            f"{be}restarted, because {'the file of its socket was deleted' if step.file_missing else 'its addresses have changed'}"
        )
    if step.restarts_service:
        actions.append(
            f"{be}restarted, because its service has changed (running requests finish first)"
        )
    return actions
