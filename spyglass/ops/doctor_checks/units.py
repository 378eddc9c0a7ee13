"""Check an app's units and their state, with nothing but their properties.

The values of single directives are judged by the rules in unit_rules.py; here is what
takes more than one directive, or the state of the units.
"""

from __future__ import annotations

import re
import shlex
import sys

from spyglass.master.counter_record import one_line
from spyglass.ops.addresses import address_owners
from spyglass.ops.doctor_checks.unit_rules import SERVICE, SOCKET, Properties
from spyglass.ops.output.finding import Finding, systemctl
from spyglass.ops.output.untrusted_text import number
from spyglass.ops.status.app_status import BROKEN, FAILING
from spyglass.ops.systemd.systemctl import unmask_command
from spyglass.ops.units import pip_units, unit_files
from spyglass.ops.units.exit_reasons import exit_reason

PROPERTIES = (
    "Id", "LoadState", "ActiveState", "SubState", "Result", "UnitFileState", "FragmentPath",
    "DropInPaths", "NeedDaemonReload", "Listen", "Type", "NotifyAccess", "ExitType",
    "RemainAfterExit", "Restart", "RestartPreventExitStatus", "KillMode", "KillSignal",
    "OOMPolicy", "WatchdogSignal", "StartLimitIntervalUSec", "StartLimitBurst", "Requires",
    "WantedBy", "RequiredBy", "UpheldBy", "LimitNOFILESoft", "DynamicUser", "User",
    "RuntimeDirectory", "RuntimeDirectoryPreserve", "CacheDirectory", "StateDirectory",
    "ExecMainStatus", "ExecMainCode", "ExecStart", "Environment", "EnvironmentFiles",
    "StatusText", "PrivateUsers", "Accept", "FlushPending", "ReusePort", "Backlog",
    "Triggers", "TriggerLimitIntervalUSec", "TriggerLimitBurst",
)  # fmt: skip
# Starts per second that a trigger limit must allow: a service that gets a request while
# it exits is started again at once.
_SLOWEST = 100.0
_MUST_BE = re.compile(r"(Condition|Assert)\w+$|ExecCondition$|Requires$|Requisite$|BindsTo$")
_SPANS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(span: str) -> float:
    """Return the seconds in a time span of systemctl: "1min 30s", "500ms", "0",
    "infinity".
    """
    if span == "infinity":
        return float("inf")
    return sum(
        float(number) * _SPANS.get(unit or "us", 1.0)
        for number, unit in re.findall(r"([\d.]+)([a-z]*)", span)
    )


def examine(
    name: str, socket: Properties, service: Properties, obstacle: str = ""
) -> list[Finding]:
    """Return the findings about the units of the app `name`, from their properties
    (PROPERTIES). `obstacle` is what keeps a failed socket from listening now.
    """
    return _Examination(name, socket, service, obstacle).findings


class _Examination:
    """Collect the findings about one app's units."""

    def __init__(self, name: str, socket: Properties, service: Properties, obstacle: str) -> None:
        self.findings: list[Finding] = []
        self._name, self._socket, self._service = name, socket, service
        self._obstacle = obstacle
        self._state()
        self._failures()
        for unit, rules in ((service, SERVICE), (socket, SOCKET)):
            if unit.get("LoadState") == "loaded":
                self._replaced(unit)
                for rule in rules:
                    if rule.bad(rule.value(unit)):
                        self._setting(
                            unit,
                            f"{rule.key}={rule.value(unit)}",
                            rule.why,
                            rule.key,
                            grave=rule.grave,
                        )
                self._conditions(unit)
        if socket.get("LoadState") == "loaded":
            self._triggers()
        if service.get("LoadState") == "loaded":
            self._dependencies()
            self._directories()

    def _add(self, what: str, why: str, cure: list[str], *, grave: bool = True) -> None:
        self.findings.append(Finding(self._name, what, why, cure, grave))

    def _setting(
        self, unit: Properties, what: str, why: str, *keys: str, grave: bool = True
    ) -> None:
        """Add a finding about directives of `unit`. Its cure removes the
        administrator's lines for `keys`.

        A socket applies most changes only when it is restarted, so the cure restarts
        it.
        """
        cure = unit_files.removal_commands(unit, *keys)
        self._add(
            f"{unit['Id']}: {what}",
            why,
            [*cure, *self._reload_commands(unit is self._socket)] if cure else [],
            grave=grave,
        )

    def _reload_commands(self, again: bool) -> list[str]:
        """Return the commands that make systemd read the units; `again` (bool) restarts
        a listening socket.
        """
        restart = (
            [systemctl("restart", self._socket["Id"])]
            if again and self._socket.get("ActiveState") == "active"
            else []
        )
        return ["systemctl daemon-reload", *restart]

    # The units

    def _replaced(self, unit: Properties) -> None:
        """Find a unit file that replaces the package's. Those of a Spyglass that pip
        installed are looked at as a whole (pip_units.py in this directory).
        """
        if unit_files.is_replaced(unit) and not pip_units.of_fragment(unit):
            why = "package updates do not reach it; make changes in a drop-in instead (systemctl edit)"
            self._setting(
                unit,
                f"{unit['FragmentPath']} replaces the package's unit",
                why,
                grave=False,
            )

    def _conditions(self, unit: Properties) -> None:
        """Find conditions for a start. While one is not met, the waiting connection
        triggers the service again and again.
        """
        own = [
            line
            for line in unit_files.assignments(unit)
            if line.file.startswith(unit_files.ADMIN_DIRECTORIES)
            and line.file != unit.get("FragmentPath")
        ]
        for key in dict.fromkeys(line.key for line in own if _MUST_BE.match(line.key)):
            values = [
                line.value
                for line in own
                if line.key == key and line.value and line.value != self._socket.get("Id")
            ]
            if values:
                why = "while it is not met, each waiting connection triggers another attempt, and soon the socket fails"
                self._setting(unit, f"{key}={' '.join(values)}", why, key)

    def _triggers(self) -> None:
        """Check what the socket starts, and how often it may."""
        socket = self._socket
        interval, burst = (
            seconds(socket.get("TriggerLimitIntervalUSec", "0")),
            number(socket.get("TriggerLimitBurst")),
        )
        if interval and burst and burst / interval < _SLOWEST:
            what = f"TriggerLimitBurst={burst} in TriggerLimitIntervalSec={socket['TriggerLimitIntervalUSec']}"
            why = "a busy app is started again whenever a request arrives while it exits; beyond this limit the socket fails for good"
            self._setting(socket, what, why, "TriggerLimitIntervalSec", "TriggerLimitBurst")
        if socket.get("Accept") != "yes" and socket.get("Triggers") != self._service.get("Id"):
            why = "a connection starts something other than the app"
            self._setting(
                socket, f"it starts {socket.get('Triggers') or 'nothing'}", why, "Service"
            )

    def _dependencies(self) -> None:
        """Check what starts and stops the service besides its socket."""
        service, socket = self._service["Id"], self._socket.get("Id", "")
        for key in ("WantedBy", "RequiredBy", "UpheldBy"):
            if self._service.get(key):
                again = " (and restarts it whenever it exits)" if key == "UpheldBy" else ""
                why = f"it starts the app{again} without any client"
                self._add(
                    f"{service}: {key}={self._service[key]}",
                    why,
                    [systemctl("disable", service), "systemctl daemon-reload"],
                )
        if socket and socket not in self._service.get("Requires", "").split():
            why = "stopping the socket leaves the app listening, and restarting it fails while the app is awake"
            self._setting(self._service, f"it does not require {socket}", why)

    def _directories(self) -> None:
        """Check the directories that systemd makes for the service."""
        service = self._service
        for directory in service.get("RuntimeDirectory", "").split():
            inside = [
                address
                for address in address_owners.addresses(self._socket)
                if address.startswith(f"/run/{directory}/")
            ]
            if inside and service.get("RuntimeDirectoryPreserve") != "yes":
                why = f"systemd deletes that directory when the app exits, and {inside[0]} with it: clients cannot connect"
                self._setting(service, f"RuntimeDirectory={directory}", why, "RuntimeDirectory")
                if self.findings[-1].cure and self._socket.get("ActiveState") == "active":
                    self.findings[-1].cure.append(
                        systemctl("restart", self._socket["Id"])
                    )  # the file may already be gone
        if not service.get("CacheDirectory"):
            why = "byte code cannot be stored: the app is compiled again at each wake"
            self._setting(service, "no CacheDirectory=", why, "CacheDirectory", grave=False)
        if service.get("DynamicUser") == "yes" and not service.get("User"):
            why = "all apps without a User= share one user and can read each other's data"
            self._setting(service, "DynamicUser=yes, but no User=", why, "User")

    # Their state

    def _state(self) -> None:
        """Check that the units can be loaded, are up to date and listen."""
        socket, service = self._socket, self._service
        if service.get("LoadState") not in ("loaded", None):
            masked = service["LoadState"] == "masked"
            why = "it cannot be started, and the next connection makes systemd fail the socket for good"
            cure = {
                "masked": unmask_command(service["Id"]),
                "not-found": _bring_units(),
            }.get(service["LoadState"], shlex.join(["systemd-analyze", "verify", service["Id"]]))
            self._add(
                f"{service['Id']} {'is masked' if masked else 'cannot be loaded: ' + service['LoadState']}",
                why,
                [cure],
            )
        if "yes" in (socket.get("NeedDaemonReload"), service.get("NeedDaemonReload")):
            why = "systemd still uses the old files; restart a listening socket together with the reload"
            self._add(
                f"the units of {self._name} have changed on disk",
                why,
                self._reload_commands(socket.get("NeedDaemonReload") == "yes"),
            )
        enabled, active = socket.get("UnitFileState"), socket.get("ActiveState")
        if active in ("active", "failed") and enabled == "disabled":
            why = "it will not listen after the next boot"
            self._add(
                f"{socket['Id']} {'listens' if active == 'active' else 'was started'}, but is not enabled",
                why,
                [systemctl("enable", socket["Id"])],
                grave=False,
            )
        elif active not in ("active", "failed") and enabled in ("enabled", "enabled-runtime"):
            why = "connections are refused until it is started, or until the next boot"
            self._add(
                f"{socket['Id']} is enabled, but stopped", why, [systemctl("start", socket["Id"])]
            )

    def _failures(self) -> None:
        """Report units that have failed or are restarting."""
        socket, service = self._socket, self._service
        failed = service.get("ActiveState") == "failed"
        if socket.get("ActiveState") == "failed":
            cure = [
                *([systemctl("reset-failed", service["Id"])] if failed else []),
                systemctl("restart", socket["Id"]),
            ]
            why = self._why_socket_failed()
            self._add(
                f"{socket['Id']} has failed ({socket.get('Result')}): all connections are refused",
                why,
                cure,
            )
        says, _, reason = one_line(service.get("StatusText", "")).partition(": ")
        if service.get("ActiveState") in ("active", "reloading") and says == FAILING:
            why = "clients get a 503; it retries while requests arrive, and when a file in the traceback changes"
            self._add(f"{service['Id']} is failing: {reason}", why, [self._status()])
        elif _is_restarting(service):
            what = f"{service['Id']} ended: {exit_reason(service)}"
            # While it runs, systemd does not show how it ended before.
            if service.get("SubState") != "auto-restart":
                what = f"{service['Id']} was started again {service.get('NRestarts')} times"
            self._add(
                what,
                "systemd keeps restarting it; clients wait until it stays up",
                [self._status()],
            )
        elif failed:
            self._failed()

    def _why_socket_failed(self) -> str:
        """Return why the socket has failed, and what to do before it is started."""
        result = self._socket.get("Result", "")
        if self._obstacle:
            rest = "stop that, or change `listen`"
            return f"it could not listen: {self._obstacle}; {rest}, then start it again"
        if result == "resources" and self._service.get("LoadState") == "loaded":
            return "its address was in use, or its service could not be loaded; neither is so now"
        return _RESULTS.get(result, f"journalctl -u {self._socket['Id']} shows why")

    def _failed(self) -> None:
        """Report a failed service: the next connection starts it, if its socket
        listens.
        """
        service, active = self._service, self._socket.get("ActiveState")
        broken = service.get("ExecMainStatus") == "78" and service.get("Result") == "exit-code"
        what = (
            f"{service['Id']}: {BROKEN}"
            if broken
            else f"{service['Id']} ended: {exit_reason(service)}"
        )
        if active == "failed":
            why = "its socket has failed, too: nothing retries, and connections are refused"
        elif active != "active":
            why = "its socket does not listen, so nothing starts it"
        elif broken:
            why = (
                "clients get a 503 until it is fixed; the next connection triggers the next attempt"
            )
        else:
            why = "systemd starts it again at the next connection, which waits until it stays up"
        self._add(
            what, why, [self._status()], grave=active == "active"
        )  # the failed socket has its own finding

    def _status(self) -> str:
        return shlex.join(["spyglass", "status", self._name])


def _is_restarting(service: Properties) -> bool:
    """Return True if systemd restarts a service repeatedly. A first restart, as after a
    crash, does not count.
    """
    again = service.get("NRestarts", "")
    often = again.isascii() and again.isdigit() and int(again) > 1
    return service.get("ActiveState") == "activating" and (
        service.get("SubState") == "auto-restart" or often
    )


_RESULTS = {
    "trigger-limit-hit": "it was triggered too often: its service could not start, or exited without accepting a connection",
    "start-limit-hit": "it was restarted too often",
    "service-start-limit-hit": "its service was started too often",
    "resources": "its service could not be loaded, or its address was in use; fix that first",
}


def _bring_units() -> str:
    """Return the command that installs the units of this Spyglass: of the package's, or
    of one that pip has put into a virtual environment.
    """
    packaged = sys.prefix == sys.base_prefix
    return "apt install --reinstall spyglass" if packaged else "spyglass units install"
