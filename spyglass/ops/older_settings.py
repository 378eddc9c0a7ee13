"""Which saved settings of an app are not in force, in words for `list`, `status`,
`doctor` and `reload`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.ops import running_settings
from spyglass.ops.app_status import DEFAULT

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


def in_words(found: Sequence[Difference] | None) -> list[str] | None:
    """Return what look() has found for programs."""
    return None if found is None else [each.what for each in found]


def describe(app: AppStatus) -> str:
    """Return the same as one line for people, "" if there is nothing to say."""
    return sentence(app.name, look(app) or ())


def sentence(name: str, found: Sequence[Difference]) -> str:
    """Return that the app `name` runs with older settings; "" without any `found`."""
    if not found:
        return ""
    said = running_settings.summary(found)
    return f"running with older settings: {said}; 'spyglass apply {name}' brings them into force"
