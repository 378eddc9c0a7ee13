"""Say why systemd could not start a copy of an app's service (service_copy.py)."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

from spyglass.ops.systemd import journal
from spyglass.ops.units import unit_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Exit statuses of a command that systemd could not start (systemd.exec(5), "Process
# Exit Codes"), and the step that failed.
_STEPS = {
    200: "cannot enter WorkingDirectory=",
    203: "cannot run its program",
    205: "cannot set its limits",
    213: "cannot set its priority",
    214: "cannot set its priority",
    216: "cannot become its group",
    217: "cannot become its user",
    219: "cannot be put into its control group",
    226: "cannot be given its view of the file system: most likely a path in a drop-in does not exist",
    228: "cannot be given its system call filter",
    233: "cannot be given its runtime directory",
    238: "cannot be given its state directory",
    239: "cannot be given its cache directory",
    240: "cannot be given its log directory",
    243: "cannot be given its credentials",
}
_PATHS = (
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
)
_JOURNAL_LINES = 100


def step(status: int) -> str:
    """Return the step that failed, for an exit status of systemd (200 or more)."""
    return _STEPS.get(status, f"cannot be started, status {status}")


def missing_files(texts: Sequence[str]) -> Iterator[str]:
    """Yield a line for each file that the unit names and that does not exist."""
    for text in texts:
        for line in unit_files.parse(text):
            key, value = line.key, line.raw_value
            if line.section != "Service" or "%" in value:
                continue
            if key in ("LoadCredential", "LoadCredentialEncrypted"):
                name, _, path = value.partition(":")
                if path.startswith("/") and not os.path.exists(path):
                    yield f"credential {name}: there is no {path}"
            elif key == "EnvironmentFile" and value.startswith("/") and not glob.glob(value):
                yield f"environment_file: there is no {value}"
            elif key in _PATHS:
                for path in value.split():
                    where = path.strip('"').lstrip("+").partition(":")[0]
                    if where.startswith("/") and not os.path.exists(where):
                        yield f"{key}: there is no {where}"


def messages(invocation: str) -> list[str]:
    """Return the warnings of systemd and of the unit's processes for one invocation of
    it (lines).
    """
    if not invocation:
        return []
    match = [f"INVOCATION_ID={invocation}", "+", f"_SYSTEMD_INVOCATION_ID={invocation}"]
    try:
        journal.sync()
        told = [
            entry.text for entry in journal.read(["--priority=warning", *match], _JOURNAL_LINES)
        ]
    except journal.JournalError:
        return []
    return list(
        dict.fromkeys(
            line
            for line in told
            if "Main process exited" not in line and "Failed with result" not in line
        )
    )
