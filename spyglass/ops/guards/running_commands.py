"""Keep commands that run as an app apart from those that copy, move or delete its data.

`spyglass run`, `shell` and `check` run beside the service, and may write to the same
data while the app itself is asleep. An export would then hold half a database, a rename
would move a directory under a command that has it open. So both sides hold one lock:
the former until its unit has started, the latter until it is done. Whatever is running
then shows as an active unit, and is waited for by a person: a shell may be open for
days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.errors import ConfigError
from spyglass.ops.guards import locks
from spyglass.ops.systemd import systemctl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

_PATTERNS = ("spyglass-run-*@{}.service", "spyglass-check@{}.service")


def data_locked(name: str) -> AbstractContextManager[None]:
    """Return a context manager that holds the lock of the app's data. Raise as
    locks.held() does.
    """
    return locks.held(lock_of(name), f"using the data of {name}")


def lock_of(name: str) -> str:
    """Return the name of the lock of the app's data."""
    return f"stored-{name}"


def refuse_running(names: Sequence[str], doing: str) -> None:
    """Raise ConfigError if a command runs as one of these apps, whose data_locked() is
    held. `doing` names what is refused ("exported").
    """
    units = [
        unit
        for name in names
        for pattern in _PATTERNS
        for unit in systemctl.units(pattern.format(name))
    ]
    for unit, state in systemctl.show(units, ["ActiveState"]).items():
        if state["ActiveState"] not in ("inactive", "failed"):
            name = unit.partition("@")[2].removesuffix(".service")
            raise ConfigError(
                f"a command runs as {name} and may change its data, so it is not {doing}: wait until "
                f"that has ended, or end it: systemctl stop {unit}"
            )
