"""Find out the state of an app without waking it.

Three sources: what systemd says of its units, the record that its last Master left in
the state directory (master/counters.py), and what a Master that runs reports
(master_report.py). Nothing here connects to an app's socket, which would wake it. A
value that an ordinary user may not read, or that was never recorded, is None.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.config.setting_errors import hint
from spyglass.errors import ConfigError
from spyglass.master import counters
from spyglass.master.counter_record import KILLED, Record, one_line
from spyglass.ops.addresses import address_owners
from spyglass.ops.app import apps, orphaned_apps
from spyglass.ops.output.untrusted_text import number
from spyglass.ops.status import master_report
from spyglass.ops.status.app_processes import memory
from spyglass.ops.systemd import systemctl
from spyglass.ops.units.exit_reasons import exit_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spyglass.master.reload_socket import Outcome

    Properties = Mapping[str, str]

DEFAULT = "_default"  # the nameless app of spyglass.service; not a valid app name
_STATE = "/var/lib"

# A Master that cannot load its app exits with status 78; the next connection is the
# next try.
BROKEN = "it could not be loaded"
ASLEEP, WAKING, AWAKE = "asleep", "waking", "awake"
LEAVING, FAILING, OFF = "leaving", "failing", "off"

PROPERTIES = (
    "Id", "LoadState", "ActiveState", "SubState", "Result", "UnitFileState", "StatusText",
    "MainPID", "NRestarts", "Listen", "StateDirectory", "ControlGroup", "MemoryCurrent",
    "ExecMainCode", "ExecMainStatus", "InvocationID", "NAccepted", "ExecStart",
    "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic",
    "InactiveEnterTimestampMonotonic", "StateChangeTimestampMonotonic", "NeedDaemonReload",
    "FragmentPath", "DropInPaths", "BindIPv6Only", "FreeBind",
)  # fmt: skip


@dataclass
class AppStatus:
    """The state of one app at one moment. Times are wall-clock seconds.

    `state` is one of the words above; `trouble` says what is wrong if it is failing,
    and `obstacle` what keeps a failed socket from listening now.
    `woke` and `wake_ms` are about the last wake: from the connection that caused it,
    where systemd remembers it, to the first worker that accepted. `record` is None if
    it cannot be read (`unread` says why) or does not exist. `is_fresh` (bool): it is
    from the running Master, which has ended its last reload as `reloaded` says.
    """

    name: str
    socket: Properties
    service: Properties
    state: str = OFF
    trouble: str = ""
    obstacle: str = ""
    addresses: list[str] = field(default_factory=list)
    record: Record | None = None
    unread: str = ""
    is_fresh: bool = False
    reloaded: Outcome | None = None
    memory: int | None = None
    woke: float | None = None
    wake_ms: float | None = None
    left: float | None = None
    why: str | None = None

    @property
    def status(self) -> str:
        """The Master's status line; "" if it does not run."""
        gone = self.service.get("ActiveState") in ("inactive", "failed")
        return "" if gone else one_line(self.service.get("StatusText", ""))

    @property
    def workers(self) -> int | None:
        """How many workers accept, if the app is awake."""
        first = self.status.partition("awake: ")[2].partition(" ")[0]
        return number(first, -1) if number(first, -1) >= 0 else None

    def counted(self, name: str) -> int | None:
        """Return a count of Record; 0 for an app that was never awake, None if
        it cannot be read.
        """
        if self.record is None:
            return None if self.unread else 0
        count: int = getattr(self.record, name)
        return count

    @property
    def noted(self) -> float | None:
        """When the counts of a running app were written, if that is not now."""
        record = self.record
        return record.written if record and record.awake and not self.is_fresh else None

    @property
    def problems(self) -> list[str]:
        """What is wrong, the worst first: `trouble`, and that no request succeeds."""
        useless = "" if self.state == OFF else all_fail(self.record)
        return [line for line in (self.trouble, useless) if line]

    def facts(self) -> dict[str, object]:
        """Return the keys of `--json`. docs/looking.md documents them.

        They are an interface: later versions add keys, but do not change these.
        """
        record = self.record
        return {
            "name": self.name,
            "state": self.state,
            "trouble": self.trouble or None,
            "problems": self.problems,
            "status": self.status or None,
            "enabled": self.socket.get("UnitFileState") in ("enabled", "enabled-runtime"),
            "addresses": self.addresses,
            "interface": (record and record.interface) or None,
            "workers": self.workers,
            "memory": self.memory,
            **{
                name: self.counted(name)
                for name in ("wakes", "requests", "errors", "failures", "crashes", "reloads")
            },
            "counted_since": iso(record.since) if record else None,
            "counted_at": iso(record.written) if record else None,
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


def no_such_app(name: str, known: Iterable[str]) -> NoSuchAppError:
    """Return the error for `name`, where `known` are the names that there are."""
    more = hint(name, dict.fromkeys(known)) or "; 'spyglass list' shows all apps"
    return NoSuchAppError(f"there is no app {name!r}{more}")


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


def name_of(text: str) -> str:
    """Return the name that `text` would be: `blog` for spyglass@blog.service."""
    name = text.removesuffix(".service").removesuffix(".socket")
    return DEFAULT if name == "spyglass" != text else name.removeprefix("spyglass@")


def resolve(text: str) -> str:
    """Return the name of the app that `text` names, itself or by one of its units.
    Raise NoSuchAppError.
    """
    name, known = name_of(text), names()
    if name != DEFAULT and name not in known:
        raise no_such_app(text, known)
    return name


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
        found.append(AppStatus(name, shown[socket], shown[service]))
        _read_record(found[-1])
    _ask_masters(found)
    for app in found:
        app.state, app.trouble = state(app.socket, app.service)
        app.addresses = _addresses(app)
        _fill_times(app, now - monotonic)
        _check_files(app)
        if app.service.get("ControlGroup"):
            app.memory = memory(app.service)
    return found


def _addresses(app: AppStatus) -> list[str]:
    """Return the addresses on which the app listens or, if it is off, would listen by
    its file: systemd knows none of a masked socket, and those of the template before
    the first apply.
    """
    if app.state == OFF and is_name(app.name) and os.path.exists(settings.file_for(app.name)):
        saved = apps.read(app.name)
        if not saved.faults:
            return [each.stream for each in saved.addresses]
    return address_owners.addresses(app.socket)


def _ask_masters(found: Iterable[AppStatus]) -> None:
    """Have the Masters that run report what is true now. One that does not answer, or
    is of an older version, has left its record.
    """
    running = [app for app in found if number(app.service.get("MainPID"))]
    masters = [(directory(app), number(app.service.get("MainPID"))) for app in running]
    for app, report in zip(running, master_report.ask(masters), strict=True):
        if report is not None:
            app.service = {**app.service, "StatusText": report.status}
            app.reloaded = report.outcome
            if report.record is not None:
                app.record, app.unread, app.is_fresh = report.record, "", True


def _check_files(app: AppStatus) -> None:
    """Report what systemd does not say: what holds the addresses of a socket that
    could not listen, and missing files, a socket's, which clients need, or the
    settings.
    """
    if app.trouble and address_owners.could_not_listen(app.socket):
        app.obstacle = address_owners.why_failed(app.socket)
        if app.obstacle:
            app.trouble = (
                f"its socket could not listen, all connections are refused: {app.obstacle}"
            )
        elif app.service.get("LoadState") == "loaded":
            app.trouble += f"; it can listen now: spyglass apply {app.name}"
    if missing := address_owners.missing(app.socket):
        app.state, app.trouble = (
            FAILING,
            f"{missing[0]} was deleted, so no client can connect: spyglass apply {app.name}",
        )
    elif orphaned_apps.is_orphan(app.name, app.socket, app.service):
        app.trouble = orphaned_apps.describe(app.name)
        if app.state == ASLEEP:  # an app that is awake still serves; its next wake fails
            app.state = FAILING


def directory(app: AppStatus) -> str:
    """Return the app's state directory."""
    return os.path.join(
        _STATE, (app.service.get("StateDirectory") or f"spyglass/{app.name}").split()[0]
    )


def _read_record(app: AppStatus) -> None:
    """Read what the last Master has recorded, or why that cannot be read."""
    where = directory(app)
    try:
        app.record = counters.read(where)
    except FileNotFoundError:
        pass
    except OSError as error:
        app.unread = f"{where}: {error.strerror}"
    except ValueError:
        app.unread = f"{os.path.join(where, counters.NAME)} is damaged or not Spyglass's; the next wake restarts the counts"


# From systemd's properties to a state


def state(socket: Properties, service: Properties) -> tuple[str, str]:
    """Return the state of an app and, if it is failing or off, why."""
    active, sub = service.get("ActiveState", ""), service.get("SubState", "")
    says = one_line(service.get("StatusText", ""))
    if active in ("active", "reloading"):
        word, _, rest = says.partition(": ")
        return (
            (FAILING, rest)
            if word == FAILING
            else (word if word in (WAKING, LEAVING) else AWAKE, "")
        )
    if socket.get("ActiveState") == "failed":
        masked = service.get("LoadState") == "masked"
        why = f"{service.get('Id')} is masked" if masked else socket.get("Result")
        return FAILING, f"its socket has failed ({why}): all connections are refused"
    if active == "activating":
        return (
            (FAILING, f"it ended ({exit_reason(service)}) and is being restarted")
            if sub == "auto-restart"
            else (WAKING, "")
        )
    if active == "deactivating":
        return LEAVING, ""
    if socket.get("LoadState") in ("not-found", "bad-setting", "error"):
        return OFF, f"{socket.get('Id')}: {socket['LoadState']}"
    if socket.get("ActiveState") not in ("active", "activating"):
        return OFF, ""
    if service.get("LoadState") == "masked":
        # Its socket listens until the next client comes, and then fails.
        unit = service.get("Id", "")
        return FAILING, f"{unit} is masked: {systemctl.unmask_command(unit)}"
    if active == "failed":
        broken = service.get("ExecMainStatus") == "78" and service.get("Result") == "exit-code"
        return FAILING, BROKEN if broken else f"it ended: {exit_reason(service)}"
    return ASLEEP, ""


def all_fail(record: Record | None) -> str:
    """Return that each request since the last wake, or of the present code's workers,
    has failed; "" if one has not, or there was none.
    """
    if record is None:
        return ""
    served, failed = (
        sum(getattr(each, name) for each in record.workers) for name in ("served", "errors")
    )
    for requests, errors, since in (
        (record.recent_requests, record.recent_errors, "since the last wake"),
        (served, failed, "of its present workers"),
    ):
        if 0 < requests <= errors:
            many = f"all {requests} requests" if requests > 1 else "the only request"
            return f"{many} {since} failed (status 5xx, or an incomplete response)"
    return ""


def _fill_times(app: AppStatus, boot: float) -> None:
    """Fill in when the app woke, when it left last, and why.

    systemd's timestamps are newer than the record's, but monotonic: `boot` is the wall
    clock's time at which they were 0.
    """
    record = app.record
    state = app.service.get("ActiveState")
    # A Master that wakes has begun a record of its own.
    wakes = state == "activating" and number(app.service.get("MainPID")) > 0
    there = wakes or state in ("active", "reloading", "deactivating")
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
            app.left, app.why = None, KILLED
    if not there and dead:
        app.left = boot + dead
        if app.service.get("Result") not in ("success", "", None) and not (
            record is not None and record.why.startswith(FAILING)
        ):
            app.why = (
                FAILING if app.service.get("ExecMainStatus") == "78" else exit_reason(app.service)
            )
