"""Read from /proc what the Master of a running app was started with. Only root can.

The kernel and the Master are the sources, and none of this can be forged by the app:
the environment is that of execve(2) (the Master never imports the app), the settings
are in a sealed memory file of the Master's (master/settings_record.py), and the
credentials are files that the app cannot write.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field

from spyglass.master import settings_record
from spyglass.runtime import untrusted_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGEST = 2 << 20  # bytes of an environment, or of a credential (systemd allows 1 MiB)
# Seconds after READY=1. A Master makes its record in the second after it, so that no
# client waits (master/settings_recorder.py); on a busy machine it takes longer.
_RECORDED_WITHIN = 5.0
_LOOK_AGAIN = 0.05  # seconds
_MEMORY_FILE = f"/memfd:{settings_record.NAME} "


@dataclass
class Running:
    """What a Master was started with.

    `started` is when, by the wall clock as it is now. `record` is None if the Master
    has not written it yet, or is of a version that does not. `credentials` are digests
    by name: their texts are secrets, and only their equality matters.
    """

    started: float
    environ: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    record: settings_record.Record | None = None
    credentials: dict[str, str] = field(default_factory=dict)


def read(service: Mapping[str, str]) -> Running | None:
    """Return what the main process of a service was started with, or None if there is
    no such process.

    Of a Master that has just become ready, wait for the record. `service` are its
    properties MainPID, ControlGroup and ActiveEnterTimestampMonotonic. Raise
    PermissionError if this user may not see that.
    """
    found = _look(service)
    while found and found.record is None and _has_just_become_ready(service):
        time.sleep(_LOOK_AGAIN)
        found = _look(service)
    return found


def _has_just_become_ready(service: Mapping[str, str]) -> bool:
    ready = service.get("ActiveEnterTimestampMonotonic", "")  # microseconds; "0": it was not
    return ready.isdigit() and 0 < int(ready) > (time.monotonic() - _RECORDED_WITHIN) * 1e6


def _look(service: Mapping[str, str]) -> Running | None:
    pid = service.get("MainPID", "")
    if not pid.isdigit() or pid == "0":
        return None
    try:
        # Of this very process: once it has ended, every read below fails, even if
        # another process has the pid by then.
        fd = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _read(f"/proc/self/fd/{fd}", service.get("ControlGroup", ""))
        finally:
            os.close(fd)
    except PermissionError:
        raise
    except OSError:
        return None


def _read(proc: str, group: str) -> Running | None:
    groups = [line.split(":", 2)[2:] for line in _text(f"{proc}/cgroup").split("\n")]
    if not group or not any(f"{path}/".startswith(f"{group}/") for (path,) in filter(None, groups)):
        return None  # the pid has been given to another process
    found = Running(_started(_text(f"{proc}/stat")))
    for word in _text(f"{proc}/environ").split("\0"):
        name, equals, value = word.partition("=")
        if equals:
            found.environ[name] = value
    found.words = _text(f"{proc}/cmdline").split("\0")[:-1]
    found.record = _record(proc)
    directory = found.environ.get("CREDENTIALS_DIRECTORY", "")
    if directory.startswith("/"):
        found.credentials = _credentials(f"{proc}/root{directory}")
    return found


def _text(path: str) -> str:
    return untrusted_files.read(path, _LARGEST, links=True).decode(errors="surrogateescape")


def _started(stat: str) -> float:
    """Return when a process was started, from its /proc/PID/stat (proc_pid_stat(5))."""
    ticks = int(stat.rpartition(")")[2].split()[19])
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def _record(proc: str) -> settings_record.Record | None:
    for name in os.listdir(f"{proc}/fd"):
        path = f"{proc}/fd/{name}"
        try:
            if not os.readlink(path).startswith(_MEMORY_FILE):
                continue
            data = untrusted_files.read(path, settings_record.LARGEST, links=True)
            return settings_record.parse(data.decode(errors="surrogateescape"))
        except (OSError, ValueError):
            continue
    return None


def _credentials(directory: str) -> dict[str, str]:
    found = {}
    try:
        names = os.listdir(directory)
    except OSError:
        return {}
    for name in names:
        if made := digest(os.path.join(directory, name), links=False):
            found[name] = made
    return found


def digest(path: str, *, links: bool = True) -> str:
    """Return a digest of a file's content; "" if it cannot be read, or with `links`
    False is a symbolic link.
    """
    try:
        data = untrusted_files.read(path, _LARGEST, links=links)
    except OSError:
        return ""
    return hashlib.sha256(data).hexdigest()
