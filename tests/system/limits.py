"""Limits for a service that is running: memory, and the number of its tasks. Enforced
also where the machine's systemd cannot.

Where cgroup2 has the controllers, systemd sets its own properties. On a hybrid machine
it has none of them; there the service's processes are put into a group of our own below
the old hierarchies, beside systemd's.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instance import Instance
from machine import PREFIX
from waiting import wait_until

OLD = Path("/sys/fs/cgroup")
_FILES = {"memory": "memory.limit_in_bytes", "pids": "pids.max"}
_PROPERTIES = {"memory": "MemoryMax", "pids": "TasksMax"}
_UNLIMITED = {"memory": "-1", "pids": "max"}

_serial = itertools.count(1)


@contextmanager
def limited(instance: Instance, controller: str) -> Iterator[Callable[[int | None], None]]:
    """Gives a function that sets the limit, or takes it away (None). Holds for all that
    live now, and what they fork.
    """
    if not (OLD / controller).is_dir():

        def set_property(limit: int | None) -> None:
            value = "infinity" if limit is None else str(limit)
            instance.machine.systemctl(
                "set-property", "--runtime", instance.service, f"{_PROPERTIES[controller]}={value}"
            )

        yield set_property
        set_property(None)
        return
    group = OLD / controller / f"{PREFIX}-{os.getpid()}-limit-{next(_serial)}"
    group.mkdir()
    try:
        for pid in instance.processes():
            with suppress(OSError):  # it has ended
                (group / "cgroup.procs").write_text(str(pid))
        yield (
            lambda limit: (
                (group / _FILES[controller]).write_text(
                    _UNLIMITED[controller] if limit is None else str(limit)
                )
                and None
            )
        )
    finally:
        wait_until(lambda: _remove(group), 10, "its control group is empty")


def _remove(group: Path) -> bool:
    """Move the group's processes out of it, and try to remove it. One that forks
    meanwhile has a child there: then it is tried again.
    """
    with suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()
    return not group.exists()
