"""The processes of an app, and their memory: what the control group of its service
says.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spyglass.master.worker_memory import share
from spyglass.ops.output.untrusted_text import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    Properties = Mapping[str, str]

_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")


def memory(service: Properties) -> int | None:
    """Return the bytes of memory that the app's processes use, None if unknown: the
    unit's own count, else the sum of their shares.
    """
    current = number(service.get("MemoryCurrent"), -1)
    if 0 <= current < 1 << 62:
        return current
    pids = members(service)
    try:
        return sum(share(pid) for pid in pids) if pids else None
    except OSError:
        return None


def members(service: Properties) -> list[int]:
    """Return the pids of a service's processes, sorted."""
    for base in _CGROUPS:
        path = base + service.get("ControlGroup", "")
        if service.get("ControlGroup") and os.path.exists(f"{path}/cgroup.procs"):
            pids: list[int] = []
            for directory, _, _ in os.walk(path):
                try:
                    with open(f"{directory}/cgroup.procs") as stream:
                        pids += [int(line) for line in stream]
                except OSError:
                    pass  # the process exited meanwhile
            if pids:
                return sorted(pids)
    return []
