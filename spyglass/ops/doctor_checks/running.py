"""Check how an app fares: whether its requests succeed, whether it runs with the saved
settings, and that nothing `spyglass list` complains of is missing here.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from spyglass.ops.apply import older_settings, running_settings
from spyglass.ops.output.finding import Finding, not_inspected
from spyglass.ops.status.app_status import AWAKE, FAILING, OFF, all_fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spyglass.ops.app.apps import App
    from spyglass.ops.status.app_status import AppStatus

ONLY_ROOT = "only root can"


def examine(status: AppStatus) -> list[Finding]:
    """Return the findings about an app that was or is awake."""
    name, findings = status.name, []
    if status.state != OFF and (failures := all_fail(status.record)):
        why = "clients get errors; the journal has the tracebacks"
        findings.append(Finding(name, failures, why, [shlex.join(["spyglass", "status", name])]))
    found = older_settings.look(status)
    if found:
        what = f"it runs with older settings: {running_settings.summary(found, most=10)}"
        why = "what is saved has no effect until it is applied"
        findings.append(Finding(name, what, why, [shlex.join(["spyglass", "apply", name])]))
    elif found is None:
        findings.append(not_inspected(name, "whether the saved settings are in force", ONLY_ROOT))
    return findings


def unexplained(status: AppStatus, findings: Sequence[Finding]) -> list[Finding]:
    """Return what `list` shows in red, if no other check has found a reason."""
    if status.state != FAILING or any(each.grave for each in findings):
        return []
    cure = [shlex.join(["spyglass", "status", status.name])]
    return [Finding(status.name, f"it is failing: {status.trouble}", "clients get errors", cure)]


def uninspected(status: AppStatus, app: App | None) -> list[Finding]:
    """Return what could not be looked at, besides files of variables (secrets.py)."""
    name, found = status.name, []
    if status.unread:
        denied = "Permission denied" in status.unread
        what = "counts, stored files and byte code" if denied else "counts"
        found.append(not_inspected(name, what, ONLY_ROOT if denied else status.unread))
    elif status.noted and status.state == AWAKE:
        why = "the Master did not answer"
        found.append(not_inspected(name, "how its requests went in the last seconds", why))
    if app is None or status.state == OFF:
        return found
    if any("Permission denied" in fault for fault in app.faults):
        found.append(not_inspected(name, f"{app.file} and what it names", ONLY_ROOT))
    elif app.faults:
        why = f"{app.file} has errors"
        found.append(not_inspected(name, "environment files, credentials and paths", why))
    elif os.geteuid():
        found.append(not_inspected(name, "users, addresses and paths of its settings", ONLY_ROOT))
    return found
