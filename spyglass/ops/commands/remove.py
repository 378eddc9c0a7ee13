"""`spyglass remove`: systemd forgets an app. What people have written stays, its file
included, unless --purge says otherwise.
"""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.errors import ConfigError
from spyglass.ops import atomic_files, locks, systemctl, unit_directives
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.systemctl import RefusedError, service_of, socket_of

if TYPE_CHECKING:
    import argparse

COMMAND = Command(
    "remove",
    "stop an app and remove it from systemd; its file and its data are kept, unless --purge is "
    "given",
    operands=(Operand("NAME", "an app", many=True),),
    options=(
        Option(
            "--purge", help="also delete its file, its secrets in NAME.env, and all of its data"
        ),
    ),
    changes=True,
)

# Where systemd keeps what StateDirectory= and CacheDirectory= name, first for a user of
# one's own, then behind a link for DynamicUser=.
_STORED = (
    "/var/lib/spyglass",
    "/var/lib/private/spyglass",
    "/var/cache/spyglass",
    "/var/cache/private/spyglass",
)


def run(options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(options.names))
    paths = {name: settings.file_for(name) for name in names}
    if os.geteuid() != 0:
        raise ConfigError("only root may do that: sudo spyglass remove")
    with locks.held("units", "changing units"):
        _run(names, paths, purge=options.purge)
    return 0


def _run(names: list[str], paths: dict[str, str], *, purge: bool) -> None:
    properties = systemctl.show(systemctl.units_of(names), ["ActiveState", "UnitFileState"])
    for name in names:
        here = [*_drop_ins(name), *_left(name, paths[name])]
        socket, service = properties[socket_of(name)], properties[service_of(name)]
        idle = socket["ActiveState"] == service["ActiveState"] == "inactive"
        if not here and idle and socket["UnitFileState"] != "enabled":
            raise ConfigError(f"nothing is known of an app {name!r}")
    said: list[str] = []
    try:
        for name in names:
            _remove(name)
            if purge:
                said += _purge(name, paths[name])
            said.append(_what_is_left(name, _left(name, paths[name])))
    finally:
        # Last: a reader that is slow, or does not read at all, must not hold up the
        # work.
        for line in said:
            print(line)


def _remove(name: str) -> None:
    """The socket first, or the next visitor would start what has just been stopped.

    Not `disable --now`: that has systemd read the units before it stops the socket, and
    where an address has changed in a file, it closes the socket then and leaves its own
    file behind.
    """
    systemctl.ask("stop", socket_of(name))
    systemctl.ask("disable", socket_of(name))
    systemctl.ask("stop", service_of(name))
    for path in _drop_ins(name):
        if unit_directives.is_untouched(atomic_files.read(path)):
            atomic_files.write(path, "")
    systemctl.ask("daemon-reload")
    # One that has failed would be shown until the next boot; one that has not is not
    # known any more, which is as well.
    systemctl.run("reset-failed", socket_of(name), service_of(name))


def _drop_ins(name: str) -> list[str]:
    paths = (unit_directives.path_of(unit) for unit in systemctl.units_of([name]))
    return [path for path in paths if os.path.lexists(path)]


def _purge(name: str, file: str) -> list[str]:
    """Delete what the app has stored, its file and its secrets; returns what to say of
    it, in lines.
    """
    doomed = [path for path in (file, _secrets(name)) if os.path.lexists(path)]
    stored = _stored(name)
    said = [f"{name}: deleting {', '.join([*doomed, *stored]) or 'nothing'}"]
    if stored:
        try:
            # systemd knows where it has put what, with whichever user.
            systemctl.ask("clean", "--what=state", "--what=cache", service_of(name))
        except RefusedError as error:
            said.append(f"{name}: {error}")
    for path in doomed:
        os.unlink(path)
    return said


def _secrets(name: str) -> str:
    return os.path.join(settings.DIRECTORY, f"{name}.env")  # EnvironmentFile= of the template


def _stored(name: str) -> list[str]:
    return [
        path
        for path in (os.path.join(directory, name) for directory in _STORED)
        if os.path.lexists(path)
    ]


def _left(name: str, file: str) -> list[str]:
    """What there is of the app outside of systemd: files of the administrator's, and
    what it has stored.
    """
    written = [path for path in (file, _secrets(name)) if os.path.lexists(path)]
    for unit in systemctl.units_of([name]):
        written += sorted(glob.glob(os.path.join(unit_directives.DIRECTORY, f"{unit}.d", "*")))
    return written + _stored(name)


def _what_is_left(name: str, left: list[str]) -> str:
    return (
        f"{name}: stopped and removed; {'left: ' + ', '.join(left) if left else 'nothing is left'}"
    )
