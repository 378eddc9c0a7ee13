"""`spyglass remove`: stop an app and make systemd forget it.

What people have written stays, the settings file included, unless --purge is given.
"""

from __future__ import annotations

import glob
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from spyglass.ops.app import apps
from spyglass.ops.check import import_costs
from spyglass.ops.command_declaration import APPS, Command, Option
from spyglass.ops.files import atomic_files
from spyglass.ops.guards import locks, running_commands
from spyglass.ops.guards.privileges import require_root
from spyglass.ops.move import app_footprint
from spyglass.ops.status import app_status, known_apps, state_directory
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import RefusedError, service_of, socket_of
from spyglass.ops.units import unit_directives

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Mapping

COMMAND = Command(
    "remove",
    "stop an app and remove it from systemd; its file and its data are kept, unless --purge is "
    "given",
    operands=(APPS,),
    options=(
        Option(
            "--purge",
            help="also delete its files in /etc/spyglass, secrets included, and all of its data",
        ),
    ),
    changes=True,
    group="Set up",
    brief="stop an app and remove it from systemd",
    more="'spyglass export NAME' first keeps all of that in one file, for 'spyglass import'",
)


def run(options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(options.names))
    for name in names:
        known_apps.examine_name(name)  # it becomes part of files' names
    require_root("remove apps", "remove", *(["--purge"] if options.purge else []), *names)
    with ExitStack() as held:
        held.enter_context(locks.held("units", "changing units"))
        for name in sorted(names):
            held.enter_context(running_commands.data_locked(name))
        _run(names, purge=options.purge)
    return 0


def _run(names: list[str], *, purge: bool) -> None:
    """Remove these apps and print what was done. Raise NoSuchAppError if one of them
    does not exist.
    """
    shown = ["LoadState", "ActiveState", "UnitFileState"]
    properties = systemctl.show(systemctl.app_units(names), shown)
    for name in names:
        here = [*_drop_ins(name), *_left(name)]
        socket, service = properties[socket_of(name)], properties[service_of(name)]
        idle = socket["ActiveState"] == service["ActiveState"] == "inactive"
        if not here and idle and socket["UnitFileState"] != "enabled":
            raise app_status.no_such_app(name, apps.names())
    if purge:
        running_commands.refuse_running(names, "removed")
    said: list[str] = []
    try:
        for name in names:
            units = {unit: properties[unit] for unit in systemctl.app_units([name])}
            _remove(name, [unit for unit in units if _is_known(units[unit])])
            if purge:
                said += _purge(name)
            said.append(_what_is_left(name, _left(name)))
    finally:
        # Printed last: a slow reader must not hold up the work.
        for line in said:
            print(line)


def _is_known(unit: Mapping[str, str]) -> bool:
    """Return True if systemd has the unit: not without the package, or its units."""
    return unit["LoadState"] != "not-found" or unit["ActiveState"] != "inactive"


def _remove(name: str, known: Collection[str]) -> None:
    """Stop and disable the app, and delete its drop-ins. `known` are those of its units
    that systemd has.

    The socket is stopped first: with it listening, the next connection would start the
    service again. Not `disable --now`: that reloads the units before it stops the
    socket. If an address has changed in a file, the reload closes the socket and leaves
    the file of a unix socket behind.
    """
    socket, service = socket_of(name), service_of(name)
    if socket in known:
        systemctl.ask("stop", socket)
    systemctl.run("unmask", socket)  # `spyglass off` has masked it
    systemctl.run("unmask", "--runtime", socket)
    if socket in known:
        systemctl.ask("disable", socket)
    else:
        systemctl.run("disable", socket)  # a link may be left
    if service in known:
        systemctl.ask("stop", service)
    for path in _drop_ins(name):
        if unit_directives.is_untouched(atomic_files.read(path)):
            atomic_files.write(path, "")
    systemctl.ask("daemon-reload")
    # A failed unit would be listed until the next boot. A unit that has not failed is
    # unknown by now, and the error is ignored.
    systemctl.run("reset-failed", socket, service)
    import_costs.forget(name)


def _drop_ins(name: str) -> list[str]:
    """Return the drop-ins of the app that exist."""
    paths = (unit_directives.path_of(unit) for unit in systemctl.app_units([name]))
    return [path for path in paths if os.path.lexists(path)]


def _purge(name: str) -> list[str]:
    """Delete what the app has stored, its settings and its secrets. Return what was
    done (lines).
    """
    doomed = app_footprint.files(name)
    stored = state_directory.existing(name)
    said = [f"{name}: deleting {', '.join([*doomed, *stored]) or 'nothing'}"]
    if stored:
        try:
            # systemd knows where it has put the data, for any kind of user.
            systemctl.ask("clean", "--what=state", "--what=cache", service_of(name))
        except RefusedError as error:
            said.append(f"{name}: {error}")
    for path in doomed:
        if os.path.isdir(path) and not os.path.islink(path):
            said.append(f"{name}: {path} is a directory, and was not deleted")
        else:
            os.unlink(path)
    return said


def _left(name: str) -> list[str]:
    """Return the files of the app outside of systemd: the administrator's, and what the
    app has stored.
    """
    written = app_footprint.files(name)
    for unit in systemctl.app_units([name]):
        written += sorted(glob.glob(os.path.join(unit_directives.DIRECTORY, f"{unit}.d", "*")))
    return written + state_directory.existing(name)


def _what_is_left(name: str, left: list[str]) -> str:
    """Return a line that says what is left of the app."""
    return (
        f"{name}: stopped and removed; {'left: ' + ', '.join(left) if left else 'nothing is left'}"
    )
