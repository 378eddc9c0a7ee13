"""`spyglass rename OLD NEW`: give an app another name, with everything that has it.

Its files, drop-ins, stored data, units and unix socket follow. All that could fail is
looked at before the first change; what fails later is undone. The files on disk keep
their owner: systemd gives the app's user the stored data at the next start, by whatever
number it has then (status/state_directory.py).
"""

from __future__ import annotations

import difflib
import os
import stat
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.ops.app import apps
from spyglass.ops.check import import_costs
from spyglass.ops.command_declaration import Command, Operand
from spyglass.ops.files import atomic_files
from spyglass.ops.guards import locks, running_commands
from spyglass.ops.guards.privileges import require_root
from spyglass.ops.guards.undo import UndoneError, undone_on_failure
from spyglass.ops.move import rename_plan
from spyglass.ops.status import known_apps
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import service_of, socket_of

if TYPE_CHECKING:
    import argparse

    from spyglass.ops.guards.undo import Steps
    from spyglass.ops.move.rename_plan import Rename

COMMAND = Command(
    "rename",
    "give an app another name: its files, its units and drop-ins, its stored data, and its socket "
    "in /run/spyglass",
    operands=(
        Operand("OLD", "an app"),
        Operand("NEW", "its new name: 1 to 22 of a-z, 0-9, - and _"),
    ),
    changes=True,
    more="requests in progress are finished first; new connections are refused meanwhile, which "
    "usually takes less than a second for an app that is asleep. Exit status: 0; 1 a step failed, and all "
    "was undone; 4 there is no such app; 78 it cannot be renamed, and nothing was changed",
    group="Move",
    brief="give an app another name, with all that it has",
)

_ROUNDS = 3


def run(options: argparse.Namespace) -> int:
    old, new = options.old, options.new
    require_root("rename apps", "rename", old, new)
    with locks.held("units", "changing units"):
        known_apps.examine_name(old)  # it becomes part of a file's name
        with running_commands.data_locked(old):
            made = rename_plan.plan(old, new)
            running_commands.refuse_running([old], "renamed")
            with undone_on_failure() as steps:
                _Renaming(made, steps).run()
    _report(made)
    return 0


class _Renaming:
    """Does what is planned, one step after the other."""

    def __init__(self, made: Rename, steps: Steps) -> None:
        self._made = made
        self._steps = steps

    def run(self) -> None:
        """Do everything. Raise OSError, RefusedError, UndoneError."""
        self._stop()
        for source, target in self._made.moves:
            self._steps.move(source, target)
        for source, target, destination in self._made.links:
            self._link(source, target, destination)
        for path, _, text in self._made.texts:
            self._steps.write(path, text, stat.S_IMODE(os.stat(path).st_mode))
        for path, text in self._made.drop_ins.items():
            self._steps.write(path, text)
        self._start()
        import_costs.forget(self._made.old)

    def _stop(self) -> None:
        """Let the app finish its requests, then stop listening."""
        made = self._made
        units = [socket_of(made.old)]
        if made.listens:
            self._steps.begin(
                f"{units[0]} could not be started again", lambda: systemctl.ask("start", *units)
            )
            self._finish_requests()
        systemctl.ask("stop", socket_of(made.old), service_of(made.old))
        # After a failure this is undone last but one: once the files are back.
        self._steps.begin("systemd could not be reloaded", lambda: systemctl.ask("daemon-reload"))
        if made.enabled:
            self._steps.begin(
                f"{units[0]} could not be enabled again", lambda: systemctl.ask("enable", *units)
            )
            systemctl.ask("disable", *units)

    def _finish_requests(self) -> None:
        """Stop the service until no client waits any more.

        The socket listens meanwhile. Closed at once, it would refuse clients for as
        long as the longest request takes, and reset those in its queue. For a client
        that has come meanwhile systemd starts the app again, which is waited for. A
        busy app never has an empty queue, so this ends after a few rounds.
        """
        unit, service = socket_of(self._made.old), service_of(self._made.old)
        for _ in range(_ROUNDS):
            systemctl.ask("stop", service)
            if systemctl.show([unit], ["SubState"])[unit]["SubState"] == "listening":
                return
            systemctl.run("start", service)

    def _link(self, source: str, target: str, destination: str) -> None:
        """Replace the link at `source` by one at `target`."""
        before = os.readlink(source)

        def back() -> None:
            if os.path.islink(target):
                os.unlink(target)
            if not os.path.lexists(source):
                os.symlink(before, source)

        self._steps.begin(f"the link {source} could not be restored", back)
        os.symlink(destination, target)
        os.unlink(source)

    def _stop_new(self) -> None:
        units = systemctl.app_units([self._made.new])
        systemctl.ask("stop", *units)
        systemctl.run("reset-failed", *units)

    def _start(self) -> None:
        """Have systemd read the new drop-ins, and listen as before."""
        made = self._made
        said = systemctl.verify(systemctl.app_units([made.new]))
        if wrong := [line for line in said if any(path in line for path in made.drop_ins)]:
            raise UndoneError(f"systemd rejects the new drop-ins: {wrong[0]}")
        unit = socket_of(made.new)
        if made.listens:
            # Undone before the files move back.
            self._steps.begin(f"{unit} could not be stopped", self._stop_new)
        systemctl.ask("daemon-reload")
        if made.listens:
            systemctl.ask("start", unit)
        if made.enabled:
            self._steps.begin(
                f"{unit} could not be disabled", lambda: systemctl.ask("disable", unit)
            )
            systemctl.ask("enable", unit)
        # A failed unit would be listed until the next boot; one that has not failed is
        # unknown by now, which is an error to ignore.
        systemctl.run("reset-failed", socket_of(made.old), service_of(made.old))


def _report(made: Rename) -> None:
    """Print what was done, and what remains to be done elsewhere."""
    changes: list[str] = []
    for path, before, text in made.texts:
        if path == apps.variables_file(made.new):
            continue  # it may have secrets on the same lines
        changes += difflib.unified_diff(
            before.splitlines(), text.splitlines(), path, path, lineterm=""
        )
    atomic_files.print_diff(changes)
    for path, _, _ in made.texts:
        if path == apps.variables_file(made.new):
            print(f"{path}: paths of {made.old} are those of {made.new} now")
    moved = [target for _, target in made.moves] + [target for _, target, _ in made.links]
    print(f"{made.old} is now {made.new}:")
    for target in moved:
        if "/private/" not in target:  # there is a link to it
            print(f"  {target}")
    app = apps.App(made.new, settings.file_for(made.new), made.app.config)
    if made.listens:
        print(f"{made.new}: listens on {', '.join(map(str, app.addresses))}")
    else:
        verb = "on" if made.is_masked else "apply"
        print(f"{made.new}: does not listen, as before; to start it: spyglass {verb} {made.new}")
    for path in made.gone:
        print(
            f"{made.new}: the socket {path} is gone: change the web server in front that names it"
        )
    print(
        f"{made.new}: code and web servers were not searched for the old name; an app finds its "
        "data in $STATE_DIRECTORY"
    )
