"""The state of all apps of this machine. It wakes none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.ops.status import app_status

if TYPE_CHECKING:
    from spyglass.ops.status.app_status import AppStatus


def query() -> list[AppStatus]:
    """Return the state of all apps, by name. The default app is the last, and included
    if it was ever used.
    """
    found = app_status.query([*app_status.names(), app_status.DEFAULT])
    *apps, default = found
    return found if default.state != app_status.OFF or default.facts()["enabled"] else apps
