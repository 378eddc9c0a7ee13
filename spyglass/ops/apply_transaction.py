"""Write the drop-ins of a plan's steps and make systemd follow, or restore everything.

Only what concerns units is here. Reloads and restarts for other reasons come after it,
one app at a time (commands/apply.py): there is nothing to restore for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.errors import StartError
from spyglass.ops import address_conflicts, address_owners, atomic_files, systemctl
from spyglass.ops.running_settings import Action
from spyglass.ops.systemctl import RefusedError, service_of, socket_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spyglass.ops.apply_plan import Step


class ApplyError(StartError):
    """Applying failed half-way; the message says what the state is now."""

    exit_status = 1


class Transaction:
    """The steps that change units, all of them or none."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = [step for step in steps if step.changes_units]
        self._written: list[tuple[str, str]] = []  # path, and what was there
        self._touched: list[str] = []  # sockets that were started, stopped or restarted
        self._follows = False  # systemd may have read what was written

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
        changed = [step.name for step in self._steps if step.changes and not step.is_masked]
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
        moving = self._sockets(lambda step: step.restarts_socket)
        starting = self._sockets(lambda step: step.starts_socket)
        ending = self._sockets(lambda step: step.turns_off)
        self._touched = [*moving, *starting, *ending]
        self._follows = True
        if moving or ending:
            systemctl.ask("stop", *moving, *ending)
        systemctl.ask("daemon-reload")
        if moving:
            systemctl.ask("start", *moving)
        self._restart_silent_sockets()
        if starting:
            systemctl.ask("start", *starting)
        if enabling := self._sockets(lambda step: step.enables_socket):
            systemctl.ask("enable", *enabling)
        if ending:
            systemctl.ask("disable", *ending)
        if restarting := [service_of(step.name) for step in self._steps if restarts(step)]:
            systemctl.ask("try-restart", *restarting)

    def _sockets(self, condition: Callable[[Step], bool]) -> list[str]:
        return [socket_of(step.name) for step in self._steps if condition(step)]

    def _restart_silent_sockets(self) -> None:
        """Restart sockets that the reload has closed.

        The reload reads the administrator's own drop-ins as well, which may change
        addresses.
        """
        unmoved = {
            socket_of(step.name): step
            for step in self._steps
            if step.is_listening and not step.restarts_socket and not step.turns_off
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
        if self._follows:
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
            ["disable", *self._sockets(lambda step: step.enables_socket)],
            ["enable", *self._sockets(lambda step: step.turns_off and step.is_enabled)],
        ):
            if words == ["daemon-reload"] or len(words) > 1:
                try:
                    systemctl.ask(*words)
                except RefusedError as second:
                    lines.append(str(second))
        return lines


def restarts(step: Step) -> bool:
    """Return True if the service is restarted because its drop-in has changed: with the
    units, so that it is undone with them.
    """
    return bool(step.changes) and step.action is Action.RESTART
