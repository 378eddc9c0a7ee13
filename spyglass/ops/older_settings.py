"""Which saved settings of an app are not in force, in words for `list`, `status`,
`doctor` and `reload`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.ops import (
    apps,
    atomic_files,
    directive_changes,
    running_settings,
    saved_settings,
    unit_directives,
)
from spyglass.ops.app_status import DEFAULT, OFF
from spyglass.ops.systemctl import socket_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spyglass.ops.app_status import AppStatus
    from spyglass.ops.running_settings import Difference


def look(app: AppStatus) -> list[Difference] | None:
    """Return what is saved of `app` and not in force, None if this user may not look.

    Its units need the properties running_settings.PROPERTIES.
    """
    if app.name == DEFAULT:
        return []  # it has no settings file
    try:
        return running_settings.differences(app.name, None, app.socket, app.service)
    except PermissionError:
        return None


def unapplied(app: AppStatus) -> list[str]:
    """Return the directives of an app without a process that `apply` would change, in
    words. Its next wake reads everything else.
    """
    file = os.path.join(settings.DIRECTORY, f"{app.name}.toml")
    if app.state == OFF or app.service.get("ActiveState") in running_settings.AWAKE:
        return []
    if not os.path.exists(file):
        return []
    found = []
    for path, text in saved_settings.drop_ins(apps.read(app.name)).items():
        section = "Socket" if path == unit_directives.path_of(socket_of(app.name)) else "Service"
        current = atomic_files.read_untrusted_or_empty(path)
        found += directive_changes.of_drop_in(current, text, section)
    return found


def facts(app: AppStatus, found: Sequence[Difference] | None) -> list[str] | None:
    """Return the same for programs, with what look() has `found`."""
    return None if found is None else [each.what for each in found] or unapplied(app)


def describe(app: AppStatus) -> str:
    """Return what is not in force as one line for people, "" if there is nothing to
    say, or it cannot be known.
    """
    return sentence(app, look(app) or ())


def sentence(app: AppStatus, found: Sequence[Difference]) -> str:
    """Return the same, with what look() has `found`."""
    cure = f"'spyglass apply {app.name}' brings them into force"
    if found:
        return f"running with older settings: {running_settings.summary(found)}; {cure}"
    if left := unapplied(app):
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        return f"saved, but not applied: {left[0]}{more}; {cure}"
    return ""
