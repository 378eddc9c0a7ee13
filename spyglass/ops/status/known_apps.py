"""Refuse a command line that names an app that does not exist, before anything is done.

Every command does so with the same exit status.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.config.setting_errors import hint
from spyglass.errors import ConfigError
from spyglass.ops.app import apps, orphaned_apps
from spyglass.ops.status import app_status
from spyglass.ops.status.app_status import NoSuchAppError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def examine_name(name: str) -> None:
    """Raise ConfigError for what cannot be the name of an app."""
    try:
        settings.file_for(name)
    except ConfigError as error:
        raise ConfigError(f"not a valid app name: {str(error).partition(' ')[2]}") from None


def resolve(words: Sequence[str]) -> list[str]:
    """Return the names of the apps that `words` name, themselves or by their units,
    each once. Raise NoSuchAppError if one has no settings file.
    """
    names = list(dict.fromkeys(map(app_status.name_of, words)))
    refuse_unknown(names)
    return names


def refuse_unknown(names: Sequence[str]) -> None:
    """Raise NoSuchAppError if one of `names` has no settings file."""
    missing = [name for name in names if not _has_file(name)]
    if not missing:
        return
    orphans = orphaned_apps.query()
    known = dict.fromkeys(apps.names())
    lines = [
        f"{name}: {orphaned_apps.describe(name, orphans[name])}"
        if name in orphans
        else _unknown(name, known)
        for name in missing
    ]
    raise NoSuchAppError(lines[0], also=lines[1:])


def _has_file(name: str) -> bool:
    return app_status.is_name(name) and os.path.lexists(settings.file_for(name))


def _unknown(name: str, known: Iterable[str]) -> str:
    if name == app_status.DEFAULT:
        return (
            "the default app has no settings file: use systemctl with spyglass.socket and "
            "spyglass.service, or make an app of it: spyglass new NAME"
        )
    no_file = f", no {settings.file_for(name)}" if app_status.is_name(name) else ""
    return f"there is no app {name!r}{no_file}{hint(name, known)}"
