"""Tell the processes of an app's service apart: Master, zygote, workers, and others.

What a process is, its place in the tree says, and the Master's record of its workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spyglass.master.worker_memory import share
from spyglass.ops.output import untrusted_text
from spyglass.ops.status.app_processes import members

if TYPE_CHECKING:
    from spyglass.ops.status.app_status import AppStatus


@dataclass
class Process:
    """One process of a service. Values that cannot be read are None; memory is in
    bytes.

    `what` is "master", "zygote", "worker", or "process" if that is unknown.
    """

    pid: int
    what: str
    requests: int | None = None
    errors: int | None = None
    open: int | None = None
    memory: int | None = None


def processes(app: AppStatus) -> list[Process]:
    """Return the processes of the app's service, with what the Master's record says of
    the workers.
    """
    noted = (
        {each.pid: each for each in app.record.workers}
        if app.record is not None and app.record.awake
        else {}
    )
    master = untrusted_text.number(app.service.get("MainPID"))
    found: list[Process] = []
    for pid in members(app.service):
        try:
            parent = _parent(pid)
            memory: int | None = share(pid)
        except PermissionError:
            memory = None
        except OSError:
            continue
        worker = noted.get(pid)
        found.append(
            Process(
                pid,
                "worker" if worker is not None else _role(pid, parent, master, found),
                memory=memory,
            )
        )
        if worker is not None:
            found[-1].requests, found[-1].errors, found[-1].open = (
                worker.served,
                worker.errors,
                worker.open,
            )
    return found


def _role(pid: int, parent: int, master: int, found: list[Process]) -> str:
    """Return the role of a process that is not a recorded worker."""
    if master in (pid, parent):
        return "master" if pid == master else "zygote"
    # It is not in the record, or we cannot read that.
    return (
        "worker"
        if any(each.pid == parent and each.what == "zygote" for each in found)
        else "process"
    )


def _parent(pid: int) -> int:
    """Return the pid of a process's parent."""
    with open(f"/proc/{pid}/stat", "rb") as stream:
        return int(stream.read().rpartition(b")")[2].split()[1])
