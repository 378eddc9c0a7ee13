"""Check the machine as a whole: what affects every app and does not show in its
units.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import shlex
import sys
from typing import TYPE_CHECKING

import spyglass
from spyglass.config import settings
from spyglass.ops.app import apps
from spyglass.ops.doctor_checks import pip_units
from spyglass.ops.doctor_checks.unit_rules import FEWEST_WAITING, Properties
from spyglass.ops.output.finding import Finding
from spyglass.ops.status import app_status
from spyglass.ops.units import unit_directives

if TYPE_CHECKING:
    from collections.abc import Iterable


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


def examine(services: Iterable[Properties]) -> list[Finding]:
    """Return the findings about the machine. `services` are the properties of all apps'
    services.
    """
    services = list(services)
    dynamic = any(service.get("DynamicUser") == "yes" for service in services)
    return [
        *(_nss() if dynamic else []),
        *_user_namespaces(services),
        *_somaxconn(),
        *_byte_code(),
        *pip_units.examine(MACHINE),
        *_disk_space(),
        *_journal(),
        *_file_names(),
    ]


def _user_namespaces(services: Iterable[Properties]) -> list[Finding]:
    """Check for user namespaces, which PrivateUsers= needs. The package
    hardening-runtime turns them off.
    """
    if unit_directives.has_user_namespaces():
        return []
    private = [service["Id"] for service in services if service.get("PrivateUsers") == "yes"]
    what = "this machine allows no user namespaces (sysctl user.max_user_namespaces, which hardening-runtime sets to 0)"
    if not private:
        return [
            Finding(
                MACHINE,
                what,
                "apps run without PrivateUsers=; the rest of their sandbox is unchanged",
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
    """Check nss-systemd(8): without it getpwuid(3) does not know dynamic users."""
    try:
        with open(_NSSWITCH, encoding="utf-8", errors="replace") as stream:
            named = any(line.startswith("passwd:") and "systemd" in line.split() for line in stream)
    except OSError:
        named = False
    there = any(glob.glob(pattern) for pattern in _LIBRARIES)
    if named and there:
        return []
    why = "the apps' users have no names: getpass.getuser() and pwd.getpwuid() fail in the apps"
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
    """Check the kernel's limit of waiting connections."""
    try:
        with open(_SOMAXCONN) as stream:
            most = int(stream.read())
    except (OSError, ValueError):
        return []
    if most >= FEWEST_WAITING:
        return []
    why = "it limits Backlog=: further connections are refused or delayed while an app loads"
    cure = [
        "echo net.core.somaxconn=4096 >/etc/sysctl.d/60-spyglass.conf", "sysctl --quiet --load=/etc/sysctl.d/60-spyglass.conf",
        "systemctl restart 'spyglass*.socket'",
    ]  # fmt: skip
    return [Finding(MACHINE, f"net.core.somaxconn is {most}", why, cure)]


def _byte_code() -> list[Finding]:
    """Check Spyglass's own byte code. The package compiles it at installation; services
    cannot write there.
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
            "Spyglass is compiled again at each wake of each app",
            [cure],
        )
    ]


def _disk_space() -> list[Finding]:
    """Check the file systems on which services store byte code and counters."""
    found = []
    for path in (_CACHE, _STATE):
        try:
            status = os.statvfs(path)
        except OSError:
            continue
        full = not status.f_bavail or (status.f_files and not status.f_favail)
        if full or status.f_flag & os.ST_RDONLY:
            why = "byte code cannot be stored, so apps wake slowly; apps and their Masters cannot store data either"
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
    """Check that the journal survives a reboot."""
    if os.path.isdir(_JOURNAL) or not os.path.isdir("/run/log/journal"):
        return []
    why = "messages of failed apps are lost at the next boot"
    cure = [
        f"mkdir -p {_JOURNAL}",
        f"systemd-tmpfiles --create --prefix {_JOURNAL}",
        "journalctl --flush",
    ]
    return [Finding(MACHINE, "the journal is kept in memory only", why, cure, grave=False)]


def _file_names() -> list[Finding]:
    """Find settings files whose names are not valid names of apps."""
    paths = {name: os.path.join(settings.DIRECTORY, f"{name}.toml") for name in apps.names()}
    why = "a name has 1 to 22 of a-z, 0-9, - and _ and begins with a letter or digit: it is part of a user's name"
    return [
        Finding(
            MACHINE,
            f"{path} is ignored: its name is not a valid app name",
            why,
            [f"mv {shlex.quote(path)} {settings.DIRECTORY}/NAME.toml"],
        )
        for name, path in paths.items()
        if not app_status.is_name(name)
    ]
