"""Check the units of a Spyglass that pip installed: that they run, and that they are
those of the Spyglass in their environment.
"""

from __future__ import annotations

import os
import shlex
import sys

import spyglass
from spyglass.ops.output.finding import Finding
from spyglass.ops.units import pip_units


def examine(where: str) -> list[Finding]:
    """Return the findings about the units that `spyglass units install` made; `where`
    as in Finding.
    """
    try:
        ours = [file for file in pip_units.installed().values() if file.is_ours]
    except OSError:
        return []  # only root may read them
    if not ours:
        return []
    command = next((file.command for file in reversed(ours) if file.command), "")
    again = f"{shlex.quote(command)} units install"
    if package := pip_units.packaged():
        why = (
            "apps run the Spyglass that pip installed, and updates of the package do not reach them"
        )
        what = f"{ours[0].path} hides the package's {package[0]}"
        return [Finding(where, what, why, [f"{shlex.quote(command)} units remove"], grave=False)]
    if not os.access(command, os.X_OK):
        what = f"the units run {command}, which does not exist"
        why = (
            "no app can be started: clients wait until it is there again, and soon the sockets fail"
        )
        cure = ["python3 -m venv /opt/spyglass", "/opt/spyglass/bin/pip install spyglass"]
        return [Finding(where, what, why, [*cure, "/opt/spyglass/bin/spyglass units install"])]
    edited = [
        Finding(
            where,
            f"{file.path} was edited after 'spyglass units install' made it",
            "it is not updated any more; make changes in a drop-in instead (systemctl edit)",
            [f"rm {shlex.quote(file.path)}", again],
            grave=False,
        )
        for file in ours
        if not file.is_untouched
    ]
    if os.path.dirname(os.path.dirname(command)) != sys.prefix:
        return edited  # it is another Spyglass's to say which version it is
    outdated = sorted({file.version for file in ours} - {spyglass.__version__})
    if not outdated and len(ours) == len(pip_units.NAMES):
        return edited
    what = f"{pip_units.DIRECTORY} does not have all units of Spyglass"
    why = "an app whose unit is missing cannot be started, and its socket fails"
    if outdated:
        what = f"the units are those of Spyglass {', '.join(outdated)}, but {spyglass.__version__} is installed"
        why = "apps that were awake at the upgrade still run the previous version"
    return [*edited, Finding(where, what, why, [again])]
