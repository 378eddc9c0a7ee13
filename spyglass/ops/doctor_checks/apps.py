"""Check what an app is made of: settings file, virtual environment, directories,
addresses.

What systemd does not show, or does not know to be wrong.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.errors import ConfigError
from spyglass.ops.addresses import address_conflicts, address_owners
from spyglass.ops.app import apps, orphaned_apps
from spyglass.ops.app.app_interpreter import packaged_version, version_in
from spyglass.ops.apply import older_settings
from spyglass.ops.doctor_checks.unit_rules import Properties
from spyglass.ops.files import atomic_files, user_access
from spyglass.ops.output.finding import Finding, systemctl
from spyglass.ops.status import app_status, state_directory
from spyglass.ops.units import unit_directives
from spyglass.ops.units.pip_units import server_python

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from spyglass.ops.app.apps import App
    from spyglass.ops.status.app_status import AppStatus

_CACHE = "/var/cache"


def examine(status: AppStatus, others: Mapping[str, App]) -> list[Finding]:
    """Return the findings about one app. `others` are all apps with a settings file, by
    name.
    """
    user = "" if status.service.get("DynamicUser") == "yes" else status.service.get("User", "")
    findings = [
        *_not_listening(status.name, status.socket, status.service),
        *_unassigned(status.name, status.socket),
    ]
    findings += [*state_directory.examine(status.name, user), *_cache(status)]
    if status.name in others:
        findings += [
            *_settings_file(others[status.name], status, others),
            *_drop_ins(others[status.name], status),
        ]
    return findings


def _not_listening(name: str, socket: Properties, service: Properties) -> list[Finding]:
    """Find an active socket that does not listen on all of its addresses."""
    silent = address_owners.not_listening(socket)
    if not silent and address_conflicts.not_held_by_systemd(address_conflicts.addresses_of(socket)):
        silent = address_owners.addresses(socket)  # only its service still listens, until it exits
    if not silent or socket.get("ActiveState") != "active":
        return []
    why = "systemd has read other addresses from its unit and closed the old ones: all connections are refused until it is restarted"
    if service.get("ActiveState") in ("active", "reloading"):
        why += ", as soon as the app exits, which still listens there"
    if missing := address_owners.missing(socket):
        why = f"{missing[0]} was deleted: clients cannot find the socket, and all connections fail until it is restarted"
    return [
        Finding(
            name,
            f"{socket['Id']} is active, but does not listen on {', '.join(silent)}",
            why,
            [systemctl("restart", socket["Id"])],
        )
    ]


def _unassigned(name: str, socket: Properties) -> list[Finding]:
    """Find addresses that no interface of this machine has now.

    Right on a standby of another machine, otherwise probably a mistake.
    """
    unassigned = [
        address
        for address in address_conflicts.addresses_of(socket)
        if address_conflicts.is_unassigned(address)
    ]
    if not unassigned or socket.get("ActiveState") != "active":
        return []
    what = f"{socket['Id']} listens on {', '.join(map(str, unassigned))}, but no interface of this machine has that address now"
    why = "no connection arrives until one does, for example after a boot or a failover; then it works at once"
    return [Finding(name, what, why, ["ip address"], grave=False)]


_REFUSED = "'spyglass apply' rejects it; if the app cannot be loaded with it, clients get a 503 from its next wake or reload on"


def _settings_file(app: App, status: AppStatus, others: Mapping[str, App]) -> list[Finding]:
    """Report what `spyglass apply` would reject, and notes."""
    if any("Permission denied" in fault for fault in app.faults):
        return []  # only root can know
    if os.geteuid() == 0 and not app.faults:
        # What keeps its socket from listening has a finding of its own.
        known = status.obstacle or status.socket.get("ActiveState") == "active"
        apps.examine(
            app, others.values(), address_conflicts.addresses_of(status.socket) if known else ()
        )
    findings = []
    for fault in app.faults:
        cure = (
            _let_in(app)
            if f"{app.file} is not accessible to " in fault
            else [f"${{EDITOR:-nano}} {shlex.quote(app.file)}"]
        )
        findings.append(Finding(app.name, fault, _REFUSED, cure))
    for note in app.notes:
        why = (
            "the variable is missing from the app's environment, or has another value than intended"
        )
        findings.append(
            Finding(
                app.name,
                note,
                why,
                [f"${{EDITOR:-nano}} {shlex.quote(note.partition(':')[0])}"],
                grave=False,
            )
        )
    return [*findings, *([] if app.faults else _venv(app))]


def _let_in(app: App) -> list[str]:
    """Return the commands that let the app read its settings file, and no other user.

    The administrator closed it for a reason, so it is not made world-readable.
    """
    group = user_access.account(app.config.user, app.config.group).group
    made = (
        []
        if group
        else [
            f"addgroup --quiet --system {app.name}",
            f"sed -i '1i group = \"{app.name}\"' {app.file}",
        ]
    )
    return [
        *made,
        f"chgrp {group or app.name} {app.file}",
        f"chmod g+r {app.file}",
        *([f"spyglass apply {app.name}"] if made else []),
    ]


def _venv(app: App) -> list[Finding]:
    """Find an environment for another Python. After an upgrade of the system its links
    lead to the new Python, but its packages are for the old one.
    """
    venv = os.path.normpath(os.path.join(app.base, app.config.venv))
    if not app.config.venv or os.access(os.path.join(venv, "bin", "spyglass"), os.X_OK):
        return []
    try:
        theirs = version_in(venv)
    except ConfigError:
        return []
    if theirs == packaged_version():
        return []
    requirements = shlex.quote(os.path.join(os.path.dirname(venv), "requirements.txt"))
    cure = [
        f"{server_python()} -m venv --clear {shlex.quote(venv)}",
        f"{shlex.quote(venv)}/bin/pip install -r {requirements}",
    ]
    what = f"{venv} is for Python {theirs}, but Spyglass runs on {packaged_version()}"
    return [
        Finding(
            app.name,
            what,
            "the app cannot be loaded: clients get a 503; if it is awake, from its next wake or reload on",
            cure,
        )
    ]


def _drop_ins(app: App, status: AppStatus) -> list[Finding]:
    """Compare the drop-ins with what `spyglass apply` would write."""
    if app.faults or not (
        status.socket.get("ActiveState") == "active"
        or status.socket.get("UnitFileState") == "enabled"
    ):
        return []
    findings = []
    for path, text in unit_directives.drop_ins(app.name, app.config, app.program.command).items():
        there = atomic_files.read(path)
        if there and not unit_directives.is_untouched(there):
            why = "'spyglass apply' does not overwrite edited files, so the settings file has no effect here"
            cure = [f"${{EDITOR:-nano}} {shlex.quote(path)}"]
            findings.append(
                Finding(
                    app.name,
                    f"{path} was edited after 'spyglass apply' made it",
                    why,
                    cure,
                    grave=False,
                )
            )
        elif there != text and not older_settings.look(status):  # which is another finding
            why = "the app uses the settings that were applied last"
            findings.append(
                Finding(
                    app.name,
                    f"{app.file} has changed since it was applied",
                    why,
                    [f"spyglass apply {app.name}"],
                )
            )
            break
    return findings


def leftovers(statuses: Iterable[AppStatus], wanted: Sequence[str] = ()) -> list[Finding]:
    """Report apps whose settings file was renamed or deleted.

    `statuses` are of all apps that have units. With `wanted` report these apps only.
    """
    findings = []
    for name, left in orphaned_apps.find(
        {status.name: (status.socket, status.service) for status in statuses}
    ).items():
        if wanted and name not in wanted:
            continue
        why = "a new app of that name would start with them"
        if not left.startswith("/"):
            why = "clients get a 503 at the next wake, and a renamed app cannot have its addresses"
        what = f"{left} is left over: there is no {settings.DIRECTORY}/{name}.toml"
        findings.append(Finding(name, what, why, [shlex.join(["spyglass", "remove", name])]))
    return findings


def _cache(status: AppStatus) -> list[Finding]:
    """Find an app that was awake but has no byte code. Usually its user has changed,
    and the directory belongs to the old one.
    """
    if status.name == app_status.DEFAULT:
        return []  # the welcome page is Spyglass's own, and so is its byte code
    directory = status.service.get("CacheDirectory", "").split()
    path = os.path.join(_CACHE, *directory[:1])
    if not directory or not status.counted("requests") or not os.path.isdir(path):
        return []
    if atomic_files.contains_files(os.path.join(path, "pycache")):
        return []
    why = "the app is compiled again at each wake; delete the directory, and systemd makes it for the right user"
    cure = [f"rm -rf {shlex.quote(os.path.realpath(path))}"]
    return [
        Finding(
            status.name,
            f"{path} has no byte code, although the app was awake",
            why,
            cure,
            grave=False,
        )
    ]
