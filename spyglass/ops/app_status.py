"""Find out the state of an app without waking it.

Two sources: what systemd says of its units, and the record that its last Master left in
the state directory (master/counters.py). Nothing here connects to a socket: that is
what wakes an app. A value that an ordinary user may not read, or that was never
recorded, is None.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.errors import ConfigError
from spyglass.master import counters
from spyglass.master.worker_memory import share
from spyglass.ops import address_owners, apps, orphaned_apps, systemctl
from spyglass.ops.untrusted_text import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Properties = Mapping[str, str]

DEFAULT = "_default"  # the nameless app of spyglass.service; not a valid app name
_STATE = "/var/lib"
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")

# A Master that cannot load its app exits with status 78; the next connection is the
# next try.
BROKEN = "it could not be loaded"
ASLEEP, WAKING, AWAKE, LEAVING, FAILING, OFF = (
    "asleep",
    "waking",
    "awake",
    "leaving",
    "failing",
    "off",
)

PROPERTIES = (
    "Id", "LoadState", "ActiveState", "SubState", "Result", "UnitFileState", "StatusText",
    "MainPID", "NRestarts", "Listen", "StateDirectory", "ControlGroup", "MemoryCurrent",
    "ExecMainCode", "ExecMainStatus", "InvocationID", "NAccepted", "ExecStart",
    "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic",
    "InactiveEnterTimestampMonotonic", "StateChangeTimestampMonotonic",
)  # fmt: skip


@dataclass
class AppStatus:
    """The state of one app at one moment. Times are wall-clock seconds.

    `state` is one of the words above; `trouble` says what is wrong if it is failing.
    `woke` and `wake_ms` are about the last wake: from the connection that caused it,
    where systemd remembers it, to the first worker that accepted. `record` is None if
    it cannot be read (`unread` says why) or does not exist.
    """

    name: str
    socket: Properties
    service: Properties
    state: str = OFF
    trouble: str = ""
    addresses: list[str] = field(default_factory=list)
    record: counters.Record | None = None
    unread: str = ""
    memory: int | None = None
    woke: float | None = None
    wake_ms: float | None = None
    left: float | None = None
    why: str | None = None

    @property
    def status(self) -> str:
        """The Master's status line; "" if it does not run."""
        gone = self.service.get("ActiveState") in ("inactive", "failed")
        return "" if gone else counters.one_line(self.service.get("StatusText", ""))

    @property
    def workers(self) -> int | None:
        """How many workers accept, if the app is awake."""
        first = self.status.partition("awake: ")[2].partition(" ")[0]
        return number(first, -1) if number(first, -1) >= 0 else None

    def counted(self, name: str) -> int | None:
        """Return a count of counters.Record; 0 for an app that was never awake, None if
        it cannot be read.
        """
        if self.record is None:
            return None if self.unread else 0
        count: int = getattr(self.record, name)
        return count

    def facts(self) -> dict[str, object]:
        """Return the keys of `--json`. docs/looking.md documents them.

        They are an interface: later versions add keys, but do not change these.
        """
        record = self.record
        return {
            "name": self.name,
            "state": self.state,
            "trouble": self.trouble or None,
            "status": self.status or None,
            "enabled": self.socket.get("UnitFileState") in ("enabled", "enabled-runtime"),
            "addresses": self.addresses,
            "workers": self.workers,
            "memory": self.memory,
            **{
                name: self.counted(name)
                for name in ("wakes", "requests", "errors", "failures", "crashes", "reloads")
            },
            "counted_since": iso(record.since) if record else None,
            "woke": iso(self.woke),
            "wake_ms": self.wake_ms and round(self.wake_ms, 1),
            "load_ms": round(record.load_ms, 1) if record and record.load_ms else None,
            "left": iso(self.left),
            "why_left": self.why,
        }


def iso(when: float | None) -> str | None:
    """Return a time for programs: "2026-11-24T22:13:11Z" (RFC 3339)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when)) if when else None


class NoSuchAppError(ConfigError):
    """There is no app with this name."""

    exit_status = 4  # as of `systemctl status` for an unknown unit

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no app {name!r}; 'spyglass list' shows all apps")


# Queries


def units_of(name: str) -> tuple[str, str]:
    """Return the names of the app's socket and service; `name` may be DEFAULT."""
    if name == DEFAULT:
        return "spyglass.socket", "spyglass.service"
    return systemctl.socket_of(name), systemctl.service_of(name)


def names() -> list[str]:
    """Return the names of all apps that have a settings file or units that systemd
    knows, sorted.
    """
    found = {name for name in apps.names() if is_name(name)}
    for unit in systemctl.units("spyglass@*.s[oe]*"):
        found.add(unit.partition("@")[2].rpartition(".")[0])
    return sorted(found)


def is_name(text: str) -> bool:
    """Return True if `text` is a valid name of an app."""
    try:
        settings.file_for(text)
    except ConfigError:
        return False
    return True


def query(wanted: Iterable[str], properties: Iterable[str] = PROPERTIES) -> list[AppStatus]:
    """Return the state of each of these apps now. systemd is asked once for all of
    them.
    """
    wanted = list(wanted)
    shown = systemctl.show([unit for name in wanted for unit in units_of(name)], list(properties))
    now, monotonic = time.time(), time.monotonic()
    found = []
    for name in wanted:
        socket, service = units_of(name)
        app = AppStatus(name, shown[socket], shown[service])
        app.addresses = address_owners.addresses(app.socket)
        app.state, app.trouble = state(app.socket, app.service)
        _read_record(app)
        _fill_times(app, now - monotonic)
        _check_files(app)
        if app.service.get("ControlGroup"):
            app.memory = memory(app.service)
        found.append(app)
    return found


def _check_files(app: AppStatus) -> None:
    """Report missing files that systemd does not watch: a socket's, which clients need,
    and the settings.
    """
    if missing := address_owners.missing(app.socket):
        app.state, app.trouble = (
            FAILING,
            f"{missing[0]} was deleted, so no client can connect: spyglass apply {app.name}",
        )
    elif orphaned_apps.is_orphan(app.name, app.socket, app.service):
        app.trouble = orphaned_apps.describe(app.name)
        if app.state == ASLEEP:  # an app that is awake still serves; its next wake fails
            app.state = FAILING


def _read_record(app: AppStatus) -> None:
    """Read what the last Master has recorded, or why that cannot be read."""
    directory = os.path.join(
        _STATE, (app.service.get("StateDirectory") or f"spyglass/{app.name}").split()[0]
    )
    try:
        app.record = counters.read(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        app.unread = f"{directory}: {error.strerror}"
    except ValueError:
        app.unread = f"{os.path.join(directory, counters.NAME)} is damaged or not Spyglass's; the next wake restarts the counts"


# From systemd's properties to a state


def state(socket: Properties, service: Properties) -> tuple[str, str]:
    """Return the state of an app and, if it is failing or off, why."""
    active, sub = service.get("ActiveState", ""), service.get("SubState", "")
    says = counters.one_line(service.get("StatusText", ""))
    if active in ("active", "reloading"):
        word, _, rest = says.partition(": ")
        return (
            (FAILING, rest)
            if word == FAILING
            else (word if word in (WAKING, LEAVING) else AWAKE, "")
        )
    if socket.get("ActiveState") == "failed":
        return (
            FAILING,
            f"its socket has failed ({socket.get('Result')}): all connections are refused",
        )
    if active == "activating":
        return (
            (FAILING, f"it ended ({exit_reason(service)}) and is being restarted")
            if sub == "auto-restart"
            else (WAKING, "")
        )
    if active == "deactivating":
        return LEAVING, ""
    if socket.get("LoadState") in ("masked", "not-found", "bad-setting", "error"):
        return OFF, f"{socket.get('Id')}: {socket['LoadState']}"
    if socket.get("ActiveState") not in ("active", "activating"):
        return OFF, ""
    if active == "failed":
        broken = service.get("ExecMainStatus") == "78" and service.get("Result") == "exit-code"
        return FAILING, BROKEN if broken else f"it ended: {exit_reason(service)}"
    return ASLEEP, ""


def exit_reason(service: Properties) -> str:
    """Return how the last process of a failed service ended: "killed by SIGKILL",
    "status 217".
    """
    result, code, status = (
        service.get(name, "") for name in ("Result", "ExecMainCode", "ExecMainStatus")
    )
    if result in ("signal", "core-dump") and code in ("2", "3"):
        import signal

        try:
            return f"killed by {signal.Signals(number(status)).name}"
        except ValueError:
            return f"killed by signal {status}"
    return f"status {status}" if result == "exit-code" else result


def _fill_times(app: AppStatus, boot: float) -> None:
    """Fill in when the app woke, when it left last, and why.

    systemd's timestamps are newer than the record's, but monotonic: `boot` is the wall
    clock's time at which they were 0.
    """
    record = app.record
    there = app.service.get("ActiveState") in ("active", "reloading", "deactivating")
    began, ready, dead = (
        number(app.service.get(f"{name}TimestampMonotonic")) / 1e6
        for name in ("InactiveExit", "ActiveEnter", "InactiveEnter")
    )
    if ready:  # the app was awake since the last boot
        app.woke = boot + ready
        # A restart by systemd after a crash (Restart=) is not a wake.
        app.wake_ms = (ready - began) * 1000 if 0 < began < ready else None
    if record is not None:
        app.woke = app.woke or record.woke
        app.wake_ms = app.wake_ms or record.wake_ms or None
        app.left, app.why = record.left or None, record.why or None
        if app.trouble == BROKEN and record.why.startswith(f"{FAILING}: "):
            app.trouble = record.why.partition(": ")[2]
        if record.awake and not there:
            app.left, app.why = None, counters.KILLED
    if not there and dead:
        app.left = boot + dead
        if app.service.get("Result") not in ("success", "", None) and not (
            record is not None and record.why.startswith(FAILING)
        ):
            app.why = (
                FAILING if app.service.get("ExecMainStatus") == "78" else exit_reason(app.service)
            )


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
