"""Find what belongs to an app by its name: files, units, stored data, a socket.

`remove`, `rename`, `export` and `import` agree on it here. An app's name has no dot, so
every /etc/spyglass/NAME.SUFFIX is the app's: its settings, its variables, and the
secrets that the settings name.
"""

from __future__ import annotations

import glob
import grp
import os
import pwd
import re
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.ops.status import state_directory
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import service_of, socket_of
from spyglass.ops.units import unit_directives

if TYPE_CHECKING:
    from collections.abc import Callable

# Where systemd looks for an administrator's units and drop-ins, in the order in which
# they count (systemd.unit(5)); the first is for `systemctl set-property`.
UNIT_DIRECTORIES = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
SOCKETS = "/run/spyglass"


def files(name: str) -> list[str]:
    """Return the paths /etc/spyglass/NAME.* that exist, the settings first."""
    found = glob.glob(os.path.join(settings.DIRECTORY, f"{name}.*"))
    return sorted(found, key=lambda path: (not path.endswith(".toml"), path))


def drop_in_directories(name: str) -> list[str]:
    """Return the administrator's directories of drop-ins that exist: ours are in
    them.
    """
    paths = (
        os.path.join(unit_directives.DIRECTORY, f"{unit}.d") for unit in systemctl.app_units([name])
    )
    return [path for path in paths if os.path.lexists(path)]


def masks(name: str) -> list[str]:
    """Return the paths of the links by which the app's socket is masked: by `spyglass
    off`, and by `systemctl mask --runtime`.
    """
    directories = (unit_directives.DIRECTORY, systemctl.RUNTIME_UNITS)
    paths = (os.path.join(directory, socket_of(name)) for directory in directories)
    return [path for path in paths if os.path.islink(path) and os.readlink(path) == os.devnull]


def enabling(name: str) -> str:
    """Return the path of the link by which the app's socket is enabled."""
    wants = os.path.join(unit_directives.DIRECTORY, "sockets.target.wants")
    return os.path.join(wants, socket_of(name))


def other_unit_files(name: str) -> list[str]:
    """Return unit files of this one app, and drop-ins of it that are in other
    directories than `systemctl edit` uses.
    """
    units = systemctl.app_units([name])
    paths = [
        os.path.join(directory, f"{unit}{suffix}")
        for directory in UNIT_DIRECTORIES
        for unit in units
        for suffix in ("", ".d")
    ]
    usual = drop_in_directories(name)
    return [path for path in paths if os.path.lexists(path) and path not in usual]


def taken(name: str, *, dynamic: bool) -> list[str]:
    """Return what of an app `name` exists already, in any form (paths and phrases).

    `dynamic` (bool): it would have a dynamic user, spyglass-NAME. A user of that name
    in passwd(5) would be used in its place, with all that belongs to it.
    """
    found = [*files(name), *drop_in_directories(name), *other_unit_files(name)]
    found += state_directory.existing(name)
    if os.path.lexists(path := os.path.join(SOCKETS, f"{name}.sock")):
        found.append(path)
    shown = systemctl.show(systemctl.app_units([name]), ["ActiveState", "UnitFileState"])
    socket, service = shown[socket_of(name)], shown[service_of(name)]
    found += [
        f"{unit} ({state['ActiveState']})"
        for unit, state in ((socket_of(name), socket), (service_of(name), service))
        if state["ActiveState"] != "inactive"
    ]
    if socket["UnitFileState"] in ("enabled", "masked"):
        found.append(f"{socket_of(name)} ({socket['UnitFileState']})")
    user = f"spyglass-{name}"
    if dynamic and _exists(pwd.getpwnam, user):
        found.append(f"the user {user}")
    elif dynamic and _exists(grp.getgrnam, user):
        found.append(f"the group {user}")
    return found


def _exists(look: Callable[[str], object], name: str) -> bool:
    try:
        look(name)
    except KeyError:
        return False
    return True


def renamed(text: str, old: str, new: str) -> str:
    """Return `text` (settings, or a drop-in) with the paths, units and commands of the
    app `old` as those of the app `new`.

    Only what belongs to the app by its name is replaced: /etc/spyglass/OLD.*, its
    socket in /run/spyglass, its state and cache, its units, and commands in comments.
    """
    whole = rf"{re.escape(old)}(?![A-Za-z0-9_-])"
    paths = r"/etc/spyglass/|/run/spyglass/|/var/(?:lib|cache)/(?:private/)?spyglass/|spyglass@"
    text = re.sub(rf"(?<![A-Za-z0-9_./-])({paths}){whole}", rf"\g<1>{new}", text)
    return re.sub(rf"(?<![A-Za-z0-9_./-])(spyglass [a-z]+ |the app ){whole}", rf"\g<1>{new}", text)
