"""Which Spyglass runs an app: the package's, or the one in the app's own virtual
environment.

An environment that is made by the Python the package runs on, or by another of the same
version, only lends its packages. One for another version cannot: what is compiled in it
fits no other interpreter. Then the Spyglass that is installed there is what the unit
starts, at `apply` time and by name, so that no wake pays for finding out. Nothing of an
environment is run here: it may belong to a user whose programs root had better not run
of.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from dataclasses import dataclass

from spyglass import __version__
from spyglass.errors import ConfigError
from spyglass.ops import atomic_files
from spyglass.runtime.printable import one_line

PACKAGED = "/usr/bin/spyglass"
PACKAGED_PYTHON = "/usr/bin/python3"
_VERSION = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3})?(?![0-9])")


@dataclass(frozen=True)
class Program:
    """`command` is a path, "" for the one in the template; `python` what it runs on;
    `version` is Spyglass's, if it is not ours.
    """

    command: str = ""
    python: str = PACKAGED_PYTHON
    version: str = ""


def program_for(venv: str) -> Program:
    """What runs an app whose virtual environment is at `venv` (an absolute path).
    Raises ConfigError with what to install.
    """
    theirs = version_in(venv)
    python = os.path.join(venv, "bin", "python")
    if not os.path.exists(python):
        where = f", {os.readlink(python)}," if os.path.islink(python) else ""
        raise ConfigError(
            f"the Python{where} of the virtual environment {venv} is not there (any more): make it anew"
        )
    if os.path.realpath(python) == os.path.realpath(PACKAGED_PYTHON):
        return Program()
    command = os.path.join(venv, "bin", "spyglass")
    if os.access(command, os.X_OK):
        return Program(command, python, _version(venv))
    if theirs == packaged_version() and os.path.isdir(
        os.path.join(venv, "lib", f"python{theirs}", "site-packages")
    ):
        return Program()
    raise ConfigError(
        f"{venv} is for Python {theirs}, the package's Spyglass runs on {packaged_version()}, and there is none in it; "
        f"install it there: {_install(venv)}"
    )


def version_in(venv: str) -> str:
    """ "3.11": of the Python that a virtual environment says it was made for, "?" if it
    does not say. Raises ConfigError if it is none.
    """
    path = os.path.join(venv, "pyvenv.cfg")
    try:
        # Its owner's: not followed, for a line of another file would be shown as the
        # version.
        pairs = [
            line.partition("=")[::2]
            for line in atomic_files.read_untrusted(path, links=False).split("\n")
        ]
    except OSError as error:
        raise ConfigError(
            f"{venv} is not a virtual environment: {path}: {error.strerror}"
        ) from None
    settings = {key.strip(): value.strip() for key, value in pairs}
    # venv writes the one, virtualenv and uv the other.
    found = _VERSION.match(settings.get("version") or settings.get("version_info") or "")
    return found[0] if found else "?"


def packaged_version() -> str:
    """ "3.11": of the Python that /usr/bin/spyglass runs on, which need not be ours."""
    real = os.path.realpath(PACKAGED_PYTHON)
    named = os.path.basename(real).removeprefix("python")
    if real == os.path.realpath(sys.executable) or "." not in named:
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    return named


def _version(venv: str) -> str:
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
    if os.path.exists(os.path.join(venv, "bin", "pip")):
        return f"{venv}/bin/pip install spyglass=={__version__}"
    return f"uv pip install --python {venv} spyglass=={__version__}"
