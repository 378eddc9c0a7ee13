"""Rules: which values of which unit directives break Spyglass, and how.

Each did harm on a real systemd; the comments in the units (packaging/systemd/) have the
reasons for the right values. A value without a rule here is the administrator's own
decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spyglass.ops.output.untrusted_text import number

Properties = Mapping[str, str]

# A loading app soon has more connections than this waiting. The kernel refuses or
# delays the rest.
FEWEST_WAITING = 1024


@dataclass(frozen=True)
class Rule:
    """A rule for the directive `key`.

    `bad(value)` returns True if the value that systemd shows breaks something; `why`
    says what. `grave` as in Finding.
    """

    key: str
    bad: Callable[[str], bool]
    why: str
    grave: bool = True

    def value(self, unit: Properties) -> str:
        """Return the value of the directive in these properties, "" if it is
        missing.
        """
        return unit.get(_SHOWN.get(self.key, self.key), "")


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value in values


def _none_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value not in values


def _below(value: str, least: int) -> bool:
    return number(value, least) < least


_HANG = "and clients wait for ever"
SERVICE = (
    Rule(
        "Restart",
        _one_of("always", "on-success"),
        "an app that exits on idle is restarted at once without any client: it never sleeps",
    ),
    Rule(
        "RemainAfterExit",
        _one_of("yes"),
        f"an app that has exited still counts as active: systemd does not watch its socket, {_HANG}",
    ),
    Rule(
        "ExitType",
        _one_of("cgroup"),
        f"systemd does not watch the socket until the last leftover process has ended, {_HANG}",
    ),
    Rule(
        "Type",
        _none_of("notify", "notify-reload"),
        "systemd does not learn when the app is ready, or that it needs more time",
    ),
    Rule(
        "NotifyAccess",
        _one_of("none"),
        "systemd does not learn that the app is ready, and kills it at its start timeout",
    ),
    Rule(
        "KillMode",
        _one_of("mixed"),
        "when the Master dies its workers are killed at once, with the requests that they have accepted",
    ),
    Rule(
        "KillMode",
        _one_of("process", "none"),
        "when the Master dies its workers keep running alongside those of the next one",
    ),
    Rule(
        "KillSignal",
        _none_of("15", "2", "3"),
        "a stop does not let running requests finish",
    ),
    Rule(
        "WatchdogSignal",
        _none_of("15"),
        "when a hung Master is killed, its workers' requests are lost",
    ),
    Rule(
        "OOMPolicy",
        _one_of("stop", "kill"),
        "one worker that runs out of memory stops the whole app",
    ),
    Rule(
        "StartLimitIntervalSec",
        _none_of("0"),
        "a service that is started too often fails its socket for good: all connections are refused",
    ),
    Rule(
        "RestartPreventExitStatus",
        lambda value: "78" not in value.split(),
        "a broken app is restarted without any client",
    ),
    Rule(
        "LimitNOFILE",
        lambda value: _below(value, 2048),
        "a worker needs descriptors for 1,000 connections and the app's own files",
        grave=False,
    ),
)
SOCKET = (
    Rule(
        "StartLimitIntervalSec",
        _none_of("0"),
        "a socket that is restarted too often fails for good: all connections are refused",
    ),
    Rule(
        "Accept",
        _one_of("yes"),
        "systemd starts a service of another name for each connection, which cannot serve it",
    ),
    Rule(
        "FlushPending",
        _one_of("yes"),
        "connections that arrive while the app exits are dropped",
    ),
    Rule(
        "ReusePort",
        _one_of("yes"),
        "another program can bind the same port unnoticed and receive part of the connections",
    ),
    Rule(
        "Backlog",
        lambda value: _below(value, FEWEST_WAITING),
        "connections beyond that are refused or delayed while the app loads",
    ),
)
_SHOWN = {
    "StartLimitIntervalSec": "StartLimitIntervalUSec",
    "LimitNOFILE": "LimitNOFILESoft",
}  # the property's name where it differs from the directive's
