"""Which saved settings of an app are not in force, in words for `list`, `status`,
`doctor` and `reload`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.ops.app import apps
from spyglass.ops.apply import running_settings
from spyglass.ops.status.app_status import DEFAULT, OFF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spyglass.ops.apply.running_settings import Difference
    from spyglass.ops.status.app_status import AppStatus


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


def unapplied(app: AppStatus) -> list[Difference]:
    """Return what is saved of an app that sleeps, and not applied to its units. Its
    next wake reads everything else.
    """
    file = os.path.join(settings.DIRECTORY, f"{app.name}.toml")
    if app.state == OFF or app.service.get("ActiveState") in running_settings.AWAKE:
        return []
    if not os.path.exists(file):
        return []
    return running_settings.pending(apps.read(app.name), app.socket, app.service)


def facts(app: AppStatus, found: Sequence[Difference] | None) -> list[str] | None:
    """Return the same for programs, with what look() has `found`."""
    if found is None:
        return None
    return [*(each.what for each in [*found, *unapplied(app)]), *_faults(app)]


def _faults(app: AppStatus) -> list[str]:
    """Return the first fault of the app's settings file, which keeps all of it from
    being applied; [] if there is none, this user may not read it, or it is known as the
    reason why the app is failing.
    """
    file = os.path.join(settings.DIRECTORY, f"{app.name}.toml")
    if app.state == OFF or app.name == DEFAULT or not os.path.exists(file):
        return []
    faults = apps.read(app.name).faults[:1]
    return [each for each in faults if each not in app.trouble and "Permission denied" not in each]


def describe(app: AppStatus) -> str:
    """Return what is not in force as one line for people, "" if there is nothing to
    say, or it cannot be known.
    """
    return sentence(app, look(app) or ())


def sentence(app: AppStatus, found: Sequence[Difference]) -> str:
    """Return the same, with what look() has `found`."""
    if faults := _faults(app):
        return f"saved, but cannot be applied: {faults[0]}"
    cure = f"'spyglass apply {app.name}' brings them into force"
    if found:
        return f"running with older settings: {running_settings.summary(found)}; {cure}"
    if left := unapplied(app):
        return f"saved, but not applied: {running_settings.summary(left)}; {cure}"
    return ""
