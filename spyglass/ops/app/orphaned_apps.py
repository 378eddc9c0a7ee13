"""Find apps whose settings file is gone, but whose units or drop-ins are still there.

The file was renamed or deleted without `spyglass remove`. systemd still listens for the
app. Its next wake fails, because there are no settings, and clients get a 503. Its
addresses stay in use, so the renamed app cannot have them.
"""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.ops.app import apps
from spyglass.ops.files import atomic_files
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import service_of, socket_of
from spyglass.ops.units import unit_directives

if TYPE_CHECKING:
    from collections.abc import Mapping

    Properties = Mapping[str, str]

PROPERTIES = ("ActiveState", "UnitFileState", "ExecStart")


def query() -> dict[str, str]:
    """Ask systemd for the units of all apps and return the orphans as `find` does."""
    try:
        known = systemctl.units("spyglass@*.s[oe]*")
    except systemctl.NoSystemdError:
        return find({})
    names = {unit.partition("@")[2].rpartition(".")[0] for unit in known} - set(apps.names())
    shown = systemctl.show(systemctl.app_units(names), PROPERTIES)
    return find({name: (shown[socket_of(name)], shown[service_of(name)]) for name in names})


def find(shown: Mapping[str, tuple[Properties, Properties]]) -> dict[str, str]:
    """Return {name: unit or drop-in that is left} of each orphan.

    `shown` has the properties (PROPERTIES) of the socket and service of each app that
    systemd knows, by name. Apps that have a settings file are not orphans.
    """
    left = _drop_ins()
    found = {}
    for name in sorted({*left, *shown} - set(apps.names())):
        if name in shown and is_orphan(name, *shown[name]):
            found[name] = socket_of(name)
        elif name in left:
            found[name] = left[name]
    return found


def _drop_ins() -> dict[str, str]:
    """Return {name: path} of the drop-ins that `spyglass apply` made."""
    paths = sorted(glob.glob(unit_directives.path_of("spyglass@*")))
    names = [
        os.path.basename(os.path.dirname(path))
        .removeprefix("spyglass@")
        .removesuffix(".d")
        .rpartition(".")[0]
        for path in paths
    ]
    return {
        name: path
        for name, path in zip(names, paths, strict=True)
        if unit_directives.is_ours(atomic_files.read(path))
    }


def is_orphan(name: str, socket: Properties, service: Properties) -> bool:
    """Return True if the units of the app `name` are in use while its settings file is
    missing.

    `socket` and `service` have the properties of PROPERTIES.
    """
    in_use = (
        socket.get("ActiveState") in ("active", "failed")
        or socket.get("UnitFileState") == "enabled"
    )
    in_use = in_use or service.get("ActiveState") in ("active", "reloading", "failed")
    # An administrator's drop-in with another ExecStart= may name another settings file.
    return (
        in_use
        and f"--name {name} " in service.get("ExecStart", "")
        and not os.path.lexists(_file(name))
    )


def describe(name: str, left: str = "") -> str:
    """Return a line about the orphan `name`, with what to do; `left` as from `find`."""
    rest = f", but {left} still exists" if left else ""
    return f"there is no {_file(name)}{rest}: spyglass remove {name}"


def _file(name: str) -> str:
    return os.path.join(settings.DIRECTORY, f"{name}.toml")
