"""Apps without a file of settings: it was renamed or deleted, but systemd still listens
for the app, or its drop-ins are still there.

Such an app gets no settings at its next wake, so its clients get a 503. And its
addresses stay in use, for which a renamed app waits.
"""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.ops import apps, atomic_files, systemctl, unit_directives
from spyglass.ops.systemctl import service_of, socket_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    Properties = Mapping[str, str]

PROPERTIES = ("ActiveState", "UnitFileState", "ExecStart")


def query() -> dict[str, str]:
    """Ask systemd for the units of apps without a file, and return what `find` says of
    them.
    """
    try:
        known = systemctl.units("spyglass@*.s[oe]*")
    except systemctl.NoSystemdError:
        return find({})
    names = {unit.partition("@")[2].rpartition(".")[0] for unit in known} - set(apps.names())
    shown = systemctl.show(systemctl.units_of(names), PROPERTIES)
    return find({name: (shown[socket_of(name)], shown[service_of(name)]) for name in names})


def find(shown: Mapping[str, tuple[Properties, Properties]]) -> dict[str, str]:
    """Return what is left of each of these apps, by its name: the path of a drop-in
    that `spyglass apply` made, or a unit.

    `shown` are properties (PROPERTIES) of sockets and services by the app's name, as
    systemd has them.
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
    """Return a drop-in that `spyglass apply` made, by the name of each app that has
    one.
    """
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
    """Return True if the units of the app `name` are in use (properties as in
    PROPERTIES), and the file that they name is missing.
    """
    in_use = (
        socket.get("ActiveState") in ("active", "failed")
        or socket.get("UnitFileState") == "enabled"
    )
    in_use = in_use or service.get("ActiveState") in ("active", "reloading", "failed")
    # A drop-in with another ExecStart= may name another file.
    return (
        in_use
        and f"--name {name} " in service.get("ExecStart", "")
        and not os.path.lexists(_file(name))
    )


def describe(name: str, left: str = "") -> str:
    """Return one line about it, for people; `left` as from `find`."""
    there = f", but {left} is still there" if left else ""
    return f"there is no {_file(name)}{there}: spyglass remove {name}"


def _file(name: str) -> str:
    return os.path.join(settings.DIRECTORY, f"{name}.toml")
