"""What an app's command is run with: the texts of the app's service, as systemd has
them or as `spyglass apply` would make them.

A command of an app that listens runs with what its service has: the next wake has no
other. Before that, as in `spyglass new`, `spyglass run blog manage.py migrate`,
`spyglass apply`, it runs with what the settings file says.
"""

from __future__ import annotations

import os
import sys

from spyglass.config.unit_settings import unfit
from spyglass.errors import ConfigError, StartError
from spyglass.ops.app import apps
from spyglass.ops.apply import saved_settings
from spyglass.ops.files import atomic_files, path_ownership
from spyglass.ops.status import known_apps
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import service_copy, unit_directives

_PROPERTIES = (
    "LoadState", "LoadError", "ActiveState", "FragmentPath", "DropInPaths", "NeedDaemonReload",
)  # fmt: skip


def find_app(name: str) -> apps.App:
    """Return the app `name`. Raise NoSuchAppError, or ConfigError if its file is
    wrong.
    """
    known_apps.refuse_unknown([name])
    app = apps.read(name)
    if app.faults:
        raise ConfigError(app.faults[0], also=app.faults[1:])
    return app


def require_systemd() -> None:
    """Raise StartError where systemd is not running (sd_booted(3))."""
    if not os.path.isdir("/run/systemd/system"):
        raise systemctl.NoSystemdError(
            "systemd is not running here, and only it can make the app's sandbox"
        )


def service_texts(app: apps.App) -> list[str]:
    """Return the texts of the app's unit file and drop-ins in order. Warn on stderr if
    the settings file has other settings. Raise StartError.
    """
    socket, service = systemctl.app_units([app.name])
    states = systemctl.show([socket, service], _PROPERTIES)
    service_copy.refuse_unloaded(service, states[service])
    if states[service]["NeedDaemonReload"] == "yes":
        _warn(f"{service} has changed on disk and systemd has not read it: systemctl daemon-reload")
    listens = states[socket]["ActiveState"] == "active"
    pending = _pending(app, listens=listens)
    if pending and listens:
        _warn(
            f"{app.file} has settings that are not in force; the command runs without them: "
            f"spyglass apply {app.name}"
        )
        pending = {}
    found = saved_settings.unit_texts(app.name, states[service], pending)
    return list(found.values())


def _pending(app: apps.App, *, listens: bool) -> dict[str, str]:
    """Return {path: text} of the service's drop-in if `apply` would change it. Raise
    ConfigError for what `apply` would refuse, unless the app `listens` already.
    """
    path = unit_directives.path_of(systemctl.service_of(app.name))
    # A command uses no addresses.
    apps.examine(app, [], app.addresses)
    if app.faults and not listens:
        raise ConfigError(app.faults[0], also=app.faults[1:])
    current = atomic_files.read(path)
    if app.faults or (current and not unit_directives.is_untouched(current)):
        return {}
    text = unit_directives.drop_ins(app.name, app.config, app.program.command)[path]
    return {} if text == current else {path: text}


def writable_paths(app: apps.App, paths: list[str]) -> list[str]:
    """Return `paths` as absolute ones; a relative one begins at the app's directory.
    Raise ConfigError for what systemd could not or must not make writable.
    """
    found = []
    for path in paths:
        where = os.path.normpath(os.path.join(app.base, path))
        if why := unfit(where):
            raise StartError(f"--writable {path}: {why}")
        if not os.path.exists(where):
            raise StartError(f"--writable {path}: there is no {where}")
        if link := path_ownership.foreign_link(where):
            raise StartError(
                f"--writable {path}: {link} is a symbolic link that another user can redirect: "
                "name the directory itself"
            )
        found.append(where)
    return found


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
