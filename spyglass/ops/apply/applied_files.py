"""Remember the state of each app's files at the last `spyglass apply`.

An app that is asleep reads its files at its next wake. So `apply` tries it with them
and says so, and nothing in the units shows that it has done that. Without a memory,
each `apply` until that wake would try the app again.

The memory is a file in /run: after a boot, each app may be tried once more. It has a
digest of the contents, so that a file that was touched, or changed and changed back, is
no difference. Some of these files are secrets: only root can read the memory, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import TYPE_CHECKING

from spyglass.ops.app import apps
from spyglass.ops.apply import running_process
from spyglass.ops.apply.saved_settings import touched
from spyglass.ops.files import atomic_files
from spyglass.ops.guards import locks
from spyglass.ops.output.untrusted_text import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spyglass.ops.app.apps import App

_NAME = "applied.json"  # {app: state}


def state(app: App) -> str:
    """Return the state of the app's files in a few letters; any change makes it
    another. The app must have no faults: only root can replace these files then.
    """
    found = [(path, running_process.digest(path)) for path in _paths(app)]
    return hashlib.sha256(repr(found).encode(errors="surrogateescape")).hexdigest()


def are_newer(app: App, current: str, service: Mapping[str, str]) -> bool:
    """Return True if something of an app that is asleep was saved since it was last
    started in this boot, and since the last apply.

    `current` is the state of its files; `service` has InactiveExitTimestampMonotonic.
    """
    last = _read().get(app.name)
    if last == current:
        return False
    started = number(service.get("InactiveExitTimestampMonotonic")) / 1e6
    if not started:
        return last is not None
    when = time.time() - time.monotonic() + started
    return any(touched(path) > when for path in _paths(app))


def remember(states: Mapping[str, str]) -> None:
    """Note these states of apps' files as applied. The lock "units" must be held."""
    known = apps.names()
    kept = {name: each for name, each in (_read() | {**states}).items() if name in known}
    try:
        atomic_files.write(_path(), json.dumps(kept), 0o600)
    except OSError:
        pass  # everything is applied; all that is lost is that the next apply tries again


def _paths(app: App) -> list[str]:
    """Return the files that an app reads when it wakes, code apart."""
    files = (os.path.join(app.base, path) for path in app.config.environment_file)
    paths = (app.file, apps.variables_file(app.name), *files, *app.config.credentials.values())
    return [path for path in paths if path]


def _path() -> str:
    return os.path.join(locks.DIRECTORY, _NAME)


def _read() -> dict[str, str]:
    """Return what is remembered; {} for an ordinary user, who may not read it."""
    try:
        found = json.loads(atomic_files.read(_path()))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
