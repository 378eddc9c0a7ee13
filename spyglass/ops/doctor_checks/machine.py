"""What is wrong with the machine, or with what an app is made of, rather than with its
units: what systemd does not show.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import shlex
import sys
from typing import TYPE_CHECKING

import spyglass
from spyglass.config import settings as config
from spyglass.errors import ConfigError
from spyglass.ops import (
    address_conflicts,
    address_owners,
    apps,
    atomic_files,
    orphaned_apps,
    state_directory,
    unit_directives,
    user_access,
)
from spyglass.ops import app_status as views
from spyglass.ops.app_interpreter import packaged_version, version_in
from spyglass.ops.doctor_checks.units import FEWEST_WAITING, Finding, Properties, systemctl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from spyglass.ops.app_status import View
    from spyglass.ops.apps import App

MACHINE = "machine"
_NSSWITCH = "/etc/nsswitch.conf"
_LIBRARIES = (
    "/lib/*/libnss_systemd.so.2",
    "/lib64/libnss_systemd.so.2",
    "/usr/lib/libnss_systemd.so.2",
)
_SOMAXCONN = "/proc/sys/net/core/somaxconn"
_JOURNAL = "/var/log/journal"
_CACHE, _STATE = "/var/cache", "/var/lib"


# The machine


def of_the_machine(services: Iterable[Properties]) -> list[Finding]:
    """What concerns all apps; `services` are theirs, as systemd shows them."""
    services = list(services)
    dynamic = any(service.get("DynamicUser") == "yes" for service in services)
    return [
        *(_nss() if dynamic else []),
        *_namespaces(services),
        *_somaxconn(),
        *_byte_code(),
        *_room(),
        *_journal(),
        *_names(),
    ]


def _namespaces(services: Iterable[Properties]) -> list[Finding]:
    """hardening-runtime forbids what PrivateUsers= is made of."""
    if unit_directives.has_user_namespaces():
        return []
    private = [service["Id"] for service in services if service.get("PrivateUsers") == "yes"]
    what = "this machine allows no user namespaces (sysctl user.max_user_namespaces, which hardening-runtime sets to 0)"
    if not private:
        return [
            Finding(
                MACHINE,
                what,
                "apps run without PrivateUsers=, the rest of their sandbox is as always",
                [],
                grave=False,
            )
        ]
    why = f"systemd cannot start {', '.join(private)} (217/USER): without PrivateUsers= it can"
    cure = ["spyglass apply"] if any("@" in unit for unit in private) else []
    if "spyglass.service" in private:
        file = "/etc/systemd/system/spyglass.service.d/users.conf"
        cure += [
            f"mkdir -p {os.path.dirname(file)}",
            f"printf '[Service]\\nPrivateUsers=no\\n' >{file}",
            "systemctl daemon-reload",
        ]
    return [Finding(MACHINE, what, why, cure)]


def _nss() -> list[Finding]:
    """Users that systemd makes up are known to getpwuid(3) by nss-systemd(8) alone."""
    try:
        with open(_NSSWITCH, encoding="utf-8", errors="replace") as stream:
            named = any(line.startswith("passwd:") and "systemd" in line.split() for line in stream)
    except OSError:
        named = False
    there = any(glob.glob(pattern) for pattern in _LIBRARIES)
    if named and there:
        return []
    why = "the users of apps have no names: Python's getpass.getuser() and pwd.getpwuid() fail in them"
    if there:
        cure = [f"sed -i 's/^passwd:.*/& systemd/; s/^group:.*/& systemd/' {_NSSWITCH}"]
        return [
            Finding(
                MACHINE, f"{_NSSWITCH} does not name systemd for passwd", why, cure, grave=False
            )
        ]
    return [
        Finding(
            MACHINE,
            "libnss-systemd is not installed",
            why,
            ["apt-get install -y libnss-systemd"],
            grave=False,
        )
    ]


def _somaxconn() -> list[Finding]:
    try:
        with open(_SOMAXCONN) as stream:
            most = int(stream.read())
    except (OSError, ValueError):
        return []
    if most >= FEWEST_WAITING:
        return []
    why = "no more may wait at a socket while its app loads, whatever Backlog= says: others are refused, or late"
    cure = [
        "echo net.core.somaxconn=4096 >/etc/sysctl.d/60-spyglass.conf", "sysctl --quiet --load=/etc/sysctl.d/60-spyglass.conf",
        "systemctl restart 'spyglass*.socket'",
    ]  # fmt: skip
    return [Finding(MACHINE, f"net.core.somaxconn is {most}", why, cure)]


def _byte_code() -> list[Finding]:
    """Of our own: the package has it made when it is installed, and no service may
    write there.
    """
    specs = [
        importlib.util.find_spec(f"spyglass.{name}")
        for name in ("cli", "master.main", "worker.loop", "gateway.wsgi")
    ]
    missing = [
        spec.cached
        for spec in specs
        if spec is not None and spec.cached and not os.path.exists(spec.cached)
    ]
    if not missing:
        return []
    directory = os.path.dirname(spyglass.__file__)
    packaged = directory.startswith("/usr/lib/python3/")
    cure = (
        "py3compile -p spyglass"
        if packaged
        else f"{shlex.quote(sys.executable)} -m compileall -q {shlex.quote(directory)}"
    )
    return [
        Finding(
            MACHINE,
            f"Spyglass has no byte code: no {missing[0]}",
            "it is compiled anew at each wake of each app",
            [cure],
        )
    ]


def _room() -> list[Finding]:
    """Where services keep byte code and counters."""
    found = []
    for path in (_CACHE, _STATE):
        try:
            status = os.statvfs(path)
        except OSError:
            continue
        full = not status.f_bavail or (status.f_files and not status.f_favail)
        if full or status.f_flag & os.ST_RDONLY:
            why = "byte code cannot be kept, so apps wake slowly, and what they and their Masters write cannot either"
            found.append(
                Finding(
                    MACHINE,
                    f"{path} is {'full' if full else 'read-only'}",
                    why,
                    [f"df -h {path}; df -i {path}"],
                )
            )
    return found


def _journal() -> list[Finding]:
    if os.path.isdir(_JOURNAL) or not os.path.isdir("/run/log/journal"):
        return []
    why = "why an app failed is forgotten at the next boot"
    cure = [
        f"mkdir -p {_JOURNAL}",
        f"systemd-tmpfiles --create --prefix {_JOURNAL}",
        "journalctl --flush",
    ]
    return [Finding(MACHINE, "the journal is kept in memory only", why, cure, grave=False)]


def _names() -> list[Finding]:
    paths = {name: os.path.join(config.DIRECTORY, f"{name}.toml") for name in apps.names()}
    why = "a name has 1 to 22 of a-z, 0-9, - and _, the first a letter or digit, for it must fit a user's"
    return [
        Finding(
            MACHINE,
            f"{path} is of no app: that is no name for one",
            why,
            [f"mv {shlex.quote(path)} {config.DIRECTORY}/NAME.toml"],
        )
        for name, path in paths.items()
        if not views.is_name(name)
    ]


# An app


def of_the_app(view: View, others: Mapping[str, App]) -> list[Finding]:
    """What is wrong with what an app is made of; `others` are all apps that have a file
    of settings.
    """
    user = "" if view.service.get("DynamicUser") == "yes" else view.service.get("User", "")
    findings = [*_deaf(view.name, view.socket, view.service), *_absent(view.name, view.socket)]
    findings += [*state_directory.examine(view.name, user), *_cache(view)]
    if view.name in others:
        findings += [*_file(others[view.name], view, others), *_applied(others[view.name], view)]
    return findings


def _deaf(name: str, socket: Properties, service: Properties) -> list[Finding]:
    deaf = address_owners.deaf(socket)
    if not deaf and address_conflicts.is_deaf(address_conflicts.addresses_of(socket)):
        deaf = address_owners.addresses(socket)  # but for its service, as long as that is awake
    if not deaf or socket.get("ActiveState") != "active":
        return []
    why = "systemd has read that its addresses are others, and closed those that there were: until it is restarted all clients are refused"
    if service.get("ActiveState") in ("active", "reloading"):
        why += ", as soon as the app, which has them still, exits"
    if missing := address_owners.missing(socket):
        why = f"{missing[0]} was deleted, and no client finds the socket without its file: until it is restarted all connections fail"
    return [
        Finding(
            name,
            f"{socket['Id']} is active, but does not listen on {', '.join(deaf)}",
            why,
            [systemctl("restart", socket["Id"])],
        )
    ]


def _absent(name: str, socket: Properties) -> list[Finding]:
    """Addresses that this machine does not have now: no fault on the standby of another
    machine, but it may be a mistake.
    """
    absent = [
        address
        for address in address_conflicts.addresses_of(socket)
        if address_conflicts.is_absent(address)
    ]
    if not absent or socket.get("ActiveState") != "active":
        return []
    what = f"{socket['Id']} listens on {', '.join(map(str, absent))}, but this machine does not have that address now"
    why = "nothing arrives there until it does, as after a boot or a switch from another machine; then it works at once"
    return [Finding(name, what, why, ["ip address"], grave=False)]


_REFUSED = "'spyglass apply' refuses it; an app that cannot be loaded with it answers 503 from its next wake or reload on"


def _file(app: App, view: View, others: Mapping[str, App]) -> list[Finding]:
    """What `spyglass apply` would not take."""
    if any("Permission denied" in fault for fault in app.faults):
        return []  # we are not root and cannot know
    if os.geteuid() == 0 and not app.faults:
        active = view.socket.get("ActiveState") == "active"
        apps.examine(
            app, others.values(), address_conflicts.addresses_of(view.socket) if active else ()
        )
    findings = []
    for fault in app.faults:
        cure = (
            _let_in(app)
            if f"{app.file} is closed to " in fault
            else [f"${{EDITOR:-nano}} {shlex.quote(app.file)}"]
        )
        findings.append(Finding(app.name, fault, _REFUSED, cure))
    for note in app.notes:
        why = "what the line says is not in the app's environment, or not as it was meant"
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
    """Return the commands that let the app, and no other user, read its settings file:
    it was closed for a reason.
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
    """After an upgrade of the system an environment is one of the Python that was there
    before, though its links lead to the new one.
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
        f"/usr/bin/python3 -m venv --clear {shlex.quote(venv)}",
        f"{shlex.quote(venv)}/bin/pip install -r {requirements}",
    ]
    what = f"{venv} is for Python {theirs}, and Spyglass runs on {packaged_version()}"
    return [
        Finding(
            app.name,
            what,
            "the app cannot be loaded: it answers 503, if it is awake from its next wake or reload on",
            cure,
        )
    ]


def _applied(app: App, view: View) -> list[Finding]:
    """Whether its units are what the file says."""
    if app.faults or not (
        view.socket.get("ActiveState") == "active" or view.socket.get("UnitFileState") == "enabled"
    ):
        return []
    findings = []
    for path, text in unit_directives.drop_ins(app.name, app.config, app.program.command).items():
        there = atomic_files.read(path)
        if there and not unit_directives.is_untouched(there):
            why = "'spyglass apply' does not touch what others have written, so the file of settings does not count here"
            cure = [f"${{EDITOR:-nano}} {shlex.quote(path)}"]
            findings.append(
                Finding(
                    app.name,
                    f"{path} is not as 'spyglass apply' has made it",
                    why,
                    cure,
                    grave=False,
                )
            )
        elif there != text:
            why = "the app listens, or runs, as the file said before"
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


def left_over(views: Iterable[View], wanted: Sequence[str] = ()) -> list[Finding]:
    """Apps, only those in `wanted` if there are any, whose file of settings was renamed
    or deleted. `views` are of all with units.
    """
    findings = []
    for name, left in orphaned_apps.find(
        {view.name: (view.socket, view.service) for view in views}
    ).items():
        if wanted and name not in wanted:
            continue
        why = "an app of that name, made anew, would begin with them"
        if not left.startswith("/"):
            why = "its clients get a 503 at the next wake, and an app that was renamed does not get its addresses"
        what = f"{left} is left over: there is no {config.DIRECTORY}/{name}.toml"
        findings.append(Finding(name, what, why, [shlex.join(["spyglass", "remove", name])]))
    return findings


def _cache(view: View) -> list[Finding]:
    """Nothing is kept of an app that has been awake: another user owns the place, as a
    rule, after a change of its user.
    """
    directory = view.service.get("CacheDirectory", "").split()
    path = os.path.join(_CACHE, *directory[:1])
    if not directory or not view.counted("requests") or not os.path.isdir(path):
        return []
    if atomic_files.holds_files(os.path.join(path, "pycache")):
        return []
    why = "it is compiled anew at each wake; without the directory systemd makes another, for the right user"
    cure = [f"rm -rf {shlex.quote(os.path.realpath(path))}"]
    return [
        Finding(
            view.name,
            f"{path} holds no byte code, though the app has been awake",
            why,
            cure,
            grave=False,
        )
    ]
