"""What can be known of an app without waking it: what systemd says of its units, and
what its last Master has left behind.

Nothing here connects to a socket, for that is what wakes. What an ordinary user may not
read is None, and so is what was not reported yet.
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

DEFAULT = "_default"  # the app of spyglass.service, which has no name; no app can have this one
_STATE = "/var/lib"
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")

# For which a Master leaves with status 78, and the next visitor is the next try
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
    *(
        "Id",
        "LoadState",
        "ActiveState",
        "SubState",
        "Result",
        "UnitFileState",
        "StatusText",
        "MainPID",
        "NRestarts",
        "Listen",
    ),
    *(
        "StateDirectory",
        "ControlGroup",
        "MemoryCurrent",
        "ExecMainCode",
        "ExecMainStatus",
        "InvocationID",
        "NAccepted",
    ),
    "ExecStart",
    *(
        "InactiveExitTimestampMonotonic",
        "ActiveEnterTimestampMonotonic",
        "InactiveEnterTimestampMonotonic",
    ),
    "StateChangeTimestampMonotonic",
)


@dataclass
class AppStatus:
    """One app. `state` is one of those above, `trouble` what is wrong, if it is
    failing; times are the wall clock's seconds.

    `woke` and `wake_ms` are of the last wake: from the connection that caused it, where
    systemd remembers that, to the first worker that accepted. Of the rest see
    counters.Record; what is there None cannot be read, and `unread` says why.
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
        """What the Master says of itself; "" where there is none."""
        gone = self.service.get("ActiveState") in ("inactive", "failed")
        return "" if gone else counters.one_line(self.service.get("StatusText", ""))

    @property
    def workers(self) -> int | None:
        """So many accept, if it is awake."""
        first = self.status.partition("awake: ")[2].partition(" ")[0]
        return number(first, -1) if number(first, -1) >= 0 else None

    def counted(self, name: str) -> int | None:
        """A count of counters.Record: 0 for an app that has never been awake."""
        if self.record is None:
            return None if self.unread else 0
        count: int = getattr(self.record, name)
        return count

    def facts(self) -> dict[str, object]:
        """For programs: docs/looking.md says what each of them means, and they mean it
        in later versions, too.
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
    """A time for programs, "2026-11-24T22:13:11Z" (RFC 3339)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when)) if when else None


class NoSuchAppError(ConfigError):
    exit_status = 4  # as that of `systemctl status` for a unit that there is not

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no app {name!r}; 'spyglass list' shows those that there are")


# Asking


def units_of(name: str) -> tuple[str, str]:
    """Its socket and its service."""
    if name == DEFAULT:
        return "spyglass.socket", "spyglass.service"
    return systemctl.socket_of(name), systemctl.service_of(name)


def names() -> list[str]:
    """All apps there are: with a file of settings, or units that systemd knows, or
    both.
    """
    found = {name for name in apps.names() if is_name(name)}
    for unit in systemctl.units("spyglass@*.s[oe]*"):
        found.add(unit.partition("@")[2].rpartition(".")[0])
    return sorted(found)


def is_name(text: str) -> bool:
    try:
        settings.file_for(text)
    except ConfigError:
        return False
    return True


def query(wanted: Iterable[str], properties: Iterable[str] = PROPERTIES) -> list[AppStatus]:
    """What is known of these apps now: systemd is asked once for all of them."""
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
    """Fill in what is wrong with files that systemd does not watch: a socket's, which
    clients need, and that of the settings.
    """
    if missing := address_owners.missing(app.socket):
        app.state, app.trouble = (
            FAILING,
            f"{missing[0]} was deleted, so no client can connect: spyglass apply {app.name}",
        )
    elif orphaned_apps.is_orphan(app.name, app.socket, app.service):
        app.trouble = orphaned_apps.describe(app.name)
        if app.state == ASLEEP:  # the next client gets a 503; while it is awake, it serves
            app.state = FAILING


def _read_record(app: AppStatus) -> None:
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
        app.unread = f"{os.path.join(directory, counters.NAME)} is damaged, or not Spyglass's; the next wake counts anew"


# Understanding what was said


def state(socket: Properties, service: Properties) -> tuple[str, str]:
    """The state of an app, and what is wrong if it is failing."""
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
        return FAILING, f"its socket has failed ({socket.get('Result')}): all clients are refused"
    if active == "activating":
        return (
            (FAILING, f"it ended ({exit_reason(service)}) and is started again")
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
    """How the last process of a service ended that has not ended well: "signal
    SIGKILL", "status 217".
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
    """Fills in when it woke and why it left last. `boot` is the wall clock's time at
    which the monotonic one was 0.
    """
    record = app.record
    there = app.service.get("ActiveState") in ("active", "reloading", "deactivating")
    began, ready, dead = (
        number(app.service.get(f"{name}TimestampMonotonic")) / 1e6
        for name in ("InactiveExit", "ActiveEnter", "InactiveEnter")
    )
    if ready:  # since the machine has been up
        app.woke = boot + ready
        # What it is started by itself later is another matter (Restart=).
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
    """Bytes that the app's processes take: as the kernel counts them for the unit, else
    the sum of their shares (worker_memory.py).
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
    """The pids of a service's processes."""
    for base in _CGROUPS:
        path = base + service.get("ControlGroup", "")
        if service.get("ControlGroup") and os.path.exists(f"{path}/cgroup.procs"):
            pids: list[int] = []
            for directory, _, _ in os.walk(path):
                try:
                    with open(f"{directory}/cgroup.procs") as stream:
                        pids += [int(line) for line in stream]
                except OSError:
                    pass  # it ends just now
            if pids:
                return sorted(pids)
    return []
