"""Counts what systemd does for the sandbox of one wake, with strace on the machine's
PID 1.

Counts do not depend on what else the machine does, so they tell two sets of options
apart where times cannot.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

from machine import Machine

CALLS = "read,mount,move_mount,mount_setattr,umount2,clone,clone3,fork,vfork,seccomp,execve"
COLUMNS = {
    "mount table read": re.compile(r'read\(\d+</proc/[^>]*mountinfo>, *"", .* = 0'),
    "mount calls": re.compile(r"(mount|move_mount|mount_setattr|umount2)\(.* = 0"),
    "forks": re.compile(r"(clone|clone3|fork|vfork)\(.* = \d+"),
    "filters": re.compile(r"seccomp\(SECCOMP_SET_MODE_FILTER, .* = 0"),
}
UNFINISHED, RESUMED = "<unfinished ...>", re.compile(r"<\.\.\. \w+ resumed>")


def count(machine: Machine, name: str, program: str, scratch: Path) -> Counter[str]:
    """Return {column: how often} of one wake of the unit, until it runs `program`."""
    trace = scratch / "trace"
    leader = str(machine.leader)
    argv = ["strace", "-f", "-y", "-e", f"trace={CALLS}", "-o", str(trace), "-p", leader]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        if "attached" not in (said := strace.stderr.readline()):
            raise SystemExit(f"strace: {said.strip()}")
        # The pause is for what the service before has left behind to be gone.
        machine.run("python3", "-I", "/root/knock.py", "1", "0", "0.3", name)
        strace.terminate()
        strace.communicate()
    return _counted(trace.read_text(errors="replace"), leader, program)


def _counted(trace: str, leader: str, program: str) -> Counter[str]:
    begun: dict[str, str] = {}
    found: Counter[str] = Counter()
    for line in trace.splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith(UNFINISHED):
            begun[pid] = call.removesuffix(UNFINISHED)
            continue
        if resumed := RESUMED.match(call):
            call = begun.pop(pid, "") + call[resumed.end() :]
        if pid == leader:
            continue
        if call.startswith(f'execve("{program}"'):
            return found
        found.update(column for column, shape in COLUMNS.items() if shape.match(call))
    raise SystemExit(f"{program} was not started:\n{trace[-2000:]}")
