"""Processes as /proc(5) shows them.

A session is what a control group is to systemd: whatever a Master starts belongs to it,
also after its parent has died.
"""

import os
import resource
from contextlib import contextmanager


class Process:
    """A line of /proc/PID/stat. `ticks` is the processor time used, in clock ticks."""

    def __init__(self, pid, name, fields):
        self.pid = pid
        self.name = name
        self.state = fields[0]
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.ticks = int(fields[11]) + int(fields[12])

    def __repr__(self):
        return f"{self.name} {self.pid} (state {self.state}, parent {self.parent})"


def look_at(pid):
    """The process `pid`, or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may hold any character.
    name, _, rest = text.partition("(")[2].rpartition(")")
    return Process(pid, name, rest.split())


def everybody():
    found = [look_at(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return [process for process in found if process is not None]


def members(session, but=0):
    """The living processes of `session`, without `but`. A zombie is dead: that somebody
    has yet to look at it is not its fault.
    """
    return [
        each
        for each in everybody()
        if each.session == session and each.pid != but and each.state not in "ZX"
    ]


def children(pid):
    return [each for each in everybody() if each.parent == pid and each.state not in "ZX"]


def workers(master):
    """The pids of a Master's workers: the children of its zygotes."""
    return sorted(worker.pid for zygote in children(master) for worker in children(zygote.pid))


def cpu_seconds(pid):
    process = look_at(pid)
    return process.ticks / os.sysconf("SC_CLK_TCK") if process else 0.0


@contextmanager
def no_descriptors(pid):
    """What the process has open it keeps, and it gets no more (getrlimit(2))."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
