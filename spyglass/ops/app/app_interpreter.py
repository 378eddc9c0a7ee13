"""Choose which Spyglass runs an app: the units', or the one in the app's virtualenv.

The units run the package's Spyglass, or the one that `spyglass units install` named. An
environment made by the Python of that one, or by another of the same version, only
contributes its packages. One for another Python version cannot: compiled extensions fit
one version only. Then the unit starts the Spyglass installed in the environment.
`apply` decides this and writes the path into the unit, so no wake pays for it.

Nothing in an environment is executed here: it may belong to a user, and root must not
run that user's programs.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from dataclasses import dataclass

from spyglass import __version__
from spyglass.errors import ConfigError
from spyglass.ops.files import atomic_files
from spyglass.ops.units.pip_units import PACKAGED_PYTHON, server_python
from spyglass.printable import one_line

_VERSION = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3})?(?![0-9])")


@dataclass(frozen=True)
class Program:
    """How to run an app. `command` is the path of spyglass, "" for the template's.

    `python` is the interpreter it runs on. `version` is that Spyglass's version if it
    differs from ours.
    """

    command: str = ""
    python: str = PACKAGED_PYTHON
    version: str = ""


def program_for(venv: str) -> Program:
    """Return the program that runs an app with the virtual environment `venv` (absolute
    path). Raise ConfigError, which says what to install.
    """
    theirs = version_in(venv)
    python = os.path.join(venv, "bin", "python")
    if not os.path.exists(python):
        where = f", {os.readlink(python)}," if os.path.islink(python) else ""
        raise ConfigError(
            f"the Python{where} of the virtual environment {venv} does not exist: create the environment again"
        )
    if os.path.realpath(python) == os.path.realpath(server_python()):
        return Program()
    command = os.path.join(venv, "bin", "spyglass")
    if os.access(command, os.X_OK):
        return Program(command, python, _version(venv))
    if theirs == packaged_version() and os.path.isdir(
        os.path.join(venv, "lib", f"python{theirs}", "site-packages")
    ):
        return Program()
    raise ConfigError(
        f"{venv} is for Python {theirs}, but Spyglass runs on {packaged_version()}: "
        f"install Spyglass in the environment: {_install(venv)}"
    )


def version_in(venv: str) -> str:
    """Return the Python version that a virtual environment was made for, "3.11"; "?" if
    it does not say. Raise ConfigError if it is not one.
    """
    path = os.path.join(venv, "pyvenv.cfg")
    try:
        # The environment's owner could make this a link; a line of the target would
        # then be shown as the version.
        pairs = [
            line.partition("=")[::2]
            for line in atomic_files.read_untrusted(path, links=False).split("\n")
        ]
    except OSError as error:
        raise ConfigError(
            f"{venv} is not a virtual environment: {path}: {error.strerror}"
        ) from None
    settings = {key.strip(): value.strip() for key, value in pairs}
    # venv writes "version", virtualenv and uv write "version_info".
    found = _VERSION.match(settings.get("version") or settings.get("version_info") or "")
    return found[0] if found else "?"


def packaged_version() -> str:
    """Return the Python version that the units run Spyglass on, "3.11". It need not be
    the one that runs this.
    """
    real = os.path.realpath(server_python())
    named = os.path.basename(real).removeprefix("python")
    if real == os.path.realpath(sys.executable) or "." not in named:
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    return named


def _version(venv: str) -> str:
    """Return the version of the Spyglass in an environment, "" if it is ours or
    unknown.
    """
    found = glob.glob(
        os.path.join(glob.escape(venv), "lib", "python3*", "site-packages", "spyglass-*.dist-info")
    )
    version = (
        one_line(
            os.path.basename(found[0]).removeprefix("spyglass-").removesuffix(".dist-info"), 40
        )
        if found
        else ""
    )
    return "" if version == __version__ else version


def _install(venv: str) -> str:
    """Return the command that installs Spyglass in an environment."""
    if os.path.exists(os.path.join(venv, "bin", "pip")):
        return f"{venv}/bin/pip install spyglass=={__version__}"
    return f"uv pip install --python {venv} spyglass=={__version__}"
