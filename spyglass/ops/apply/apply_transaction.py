"""Write the drop-ins of a plan's steps and make systemd follow, or restore everything.

Only what concerns units is here. Reloads and restarts for other reasons come after it,
one app at a time (commands/apply.py): there is nothing to restore for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.ops.addresses import address_conflicts, address_owners
from spyglass.ops.apply.running_settings import Action
from spyglass.ops.guards.undo import UndoneError, undone_on_failure
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import RefusedError, service_of, socket_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spyglass.ops.apply.apply_plan import Step


def apply_units(steps: Iterable[Step]) -> None:
    """Do the steps that change units, all of them or none. Raise UndoneError after
    everything is restored.
    """
    changing = [step for step in steps if step.changes_units]
    if not changing:
        return
    units = _Units(changing)
    with undone_on_failure() as undo:
        # Begun first, so undone last: systemd reads the files when they are back.
        undo.begin("the units could not be restored", units.restore)
        for step in changing:
            for path, text in step.changes.items():
                undo.write(path, text)
        _verify(changing)
        units.follow()


def _verify(steps: Iterable[Step]) -> None:
    """Let systemd-analyze read the changed units; nothing takes effect yet. Raise
    UndoneError.

    Only complaints about files that we wrote count: others concern other units.
    """
    changed = [step for step in steps if step.changes and not step.is_masked]
    if not changed:
        return
    said = systemctl.verify(systemctl.app_units([step.name for step in changed]))
    paths = [path for step in changed for path in step.changes]
    complaints = [line for line in said if any(path in line for path in paths)]
    if complaints:
        raise UndoneError(f"systemd rejects the new drop-ins: {complaints[0]}")


class _Units:
    """The units of apps whose files have changed."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps
        self._touched: list[str] = []  # sockets that were started, stopped or restarted
        self._follows = False  # systemd may have read what was written

    def follow(self) -> None:
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

    def restore(self) -> None:
        """Make the same sockets listen as before. Raise RefusedError with all that
        failed.
        """
        if not self._follows:
            return
        before = {socket_of(step.name): step.is_listening for step in self._steps}
        failed = []
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
                except RefusedError as error:
                    failed.append(str(error))
        if failed:
            raise RefusedError("; ".join(failed))


def restarts(step: Step) -> bool:
    """Return True if the service is restarted because its drop-in has changed: with the
    units, so that it is undone with them.
    """
    return bool(step.changes) and step.action is Action.RESTART
