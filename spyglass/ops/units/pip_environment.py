"""Judge whether the virtual environment that this Spyglass runs in can serve apps.

Root runs its commands, and the services run as users that own no files. So it must be
replaceable by root only, and readable by all. Nothing is changed here but byte code.
"""

from __future__ import annotations

import compileall
import contextlib
import importlib.util
import os
import shlex
import site
import sys

import spyglass
from spyglass.errors import ConfigError
from spyglass.ops.files import path_ownership, user_access
from spyglass.ops.units import pip_units

_PRIVATE = ("/tmp", "/var/tmp")  # noqa: S108, the units have directories of their own there
_DEPENDENCIES = {"httptools": "httptools", "systemd": "systemd-python"}  # module: project
_WEB_SERVER_GROUPS = (pip_units.WEB_SERVER_GROUP, "nginx", "apache", "http", "caddy")


def command() -> list[str]:
    """Return the words that run this Spyglass. Raise ConfigError if it is not in a
    virtual environment.
    """
    script = os.path.join(sys.prefix, "bin", "spyglass")
    if sys.prefix == sys.base_prefix or not os.access(script, os.X_OK):
        raise ConfigError(
            f"{sys.prefix}: this Spyglass is not in a virtual environment, so an upgrade of the "
            "system could break it: python3 -m venv /opt/spyglass, and "
            "/opt/spyglass/bin/pip install spyglass"
        )
    if site.ENABLE_USER_SITE is False:
        return [script]
    # With the system's packages, Python reads those in the user's home, too. An app's
    # home is its state directory: what it writes there would run in the next Master.
    return [os.path.join(sys.prefix, "bin", "python3"), "-s", script]


def refuse_unknown_group(group: str) -> None:
    """Raise ConfigError if there is no group `group`: no socket would start."""
    try:
        user_access.group_id(group)
    except KeyError:
        there = []
        for name in _WEB_SERVER_GROUPS:
            with contextlib.suppress(KeyError):
                user_access.group_id(name)
                there.append(name)
        advice = f"--socket-group {there[0]}" if there else "--socket-group GROUP"
        raise ConfigError(
            f"there is no group {group!r} for the web server to connect with: name its group: {advice}"
        ) from None


def refuse_unsafe() -> None:
    """Raise ConfigError if another user could replace the program, which root runs, or
    if the apps' users cannot read it.
    """
    python = os.path.realpath(sys.executable)
    script = os.path.join(sys.prefix, "bin", "spyglass")
    settings = os.path.join(sys.prefix, "pyvenv.cfg")
    packages = _packages()
    for path in (sys.executable, python, os.path.dirname(os.__file__), script, settings, *packages):
        if why := path_ownership.weakness(os.path.abspath(path)):
            raise ConfigError(
                f"{why}. Root runs it: install Spyglass where only root may write, such as /opt/spyglass"
            )
    if sys.prefix.startswith(tuple(f"{directory}/" for directory in _PRIVATE)):
        raise ConfigError(
            f"{sys.prefix}: the services have a {os.path.dirname(sys.prefix)} of their own and would not find it: "
            "install Spyglass elsewhere, such as in /opt/spyglass"
        )
    wanted = [
        (script, os.R_OK | os.X_OK),
        (settings, os.R_OK),
        (python, os.X_OK),
        (os.__file__, os.R_OK),
        *((os.path.join(directory, "__init__.py"), os.R_OK) for directory in packages),
    ]
    for path, where in user_access.inaccessible(user_access.account(""), wanted).items():
        own = os.path.commonpath((where, sys.prefix)) == sys.prefix
        advice = (
            f"chmod -R go+rX {shlex.quote(sys.prefix)}"
            if own
            else "install Spyglass where every user may read, such as in /opt/spyglass, with a Python in /usr"
        )
        mode = os.stat(where).st_mode & 0o7777
        raise ConfigError(
            f"{path} is not accessible to the apps' users ({where} has mode {mode:04o}): {advice}"
        )


def _packages() -> list[str]:
    """Return the directories of what a Master imports from the environment. Raise
    ConfigError if one is missing.
    """
    found = [os.path.dirname(os.path.abspath(spyglass.__file__))]
    for name, project in _DEPENDENCIES.items():
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin:
            raise ConfigError(
                f"{project} is not installed in {sys.prefix}: {sys.prefix}/bin/pip install {project}"
            )
        found.append(os.path.dirname(spec.origin))
    return found


def compile_packages() -> None:
    """Make byte code where an installer has made none (uv does not): the services may
    not write it, and would compile Spyglass at each wake.
    """
    for directory in _packages():
        compileall.compile_dir(directory, quiet=2)
