"""Which values of which unit settings break what Spyglass promises, and what breaks.

Each of them was seen to do harm on a real systemd; the reasons stand in the comments of
the units (packaging/systemd/). The unit files say what is right, these rules what is
not: everything else is the administrator's own decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spyglass.ops.untrusted_text import number

Properties = Mapping[str, str]

# Fewer connections are soon there while an app loads, and the rest is refused or waits
# for seconds
FEWEST_WAITING = 1024


@dataclass(frozen=True)
class Rule:
    """Of the setting `key`: `bad(value)` says whether what systemd shows of it breaks
    something, `why` what.
    """

    key: str
    bad: Callable[[str], bool]
    why: str
    grave: bool = True

    def value(self, unit: Properties) -> str:
        return unit.get(_SHOWN.get(self.key, self.key), "")


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value in values


def _none_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value not in values


def _below(value: str, least: int) -> bool:
    return number(value, least) < least


_HANG = "and clients wait in vain"
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
        "systemd cannot see when the app is ready, nor that it needs more time",
    ),
    Rule(
        "NotifyAccess",
        _one_of("none"),
        "systemd cannot see when the app is ready, and kills it when its start timeout expires",
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
        "a hung Master takes the requests of its workers with it",
    ),
    Rule(
        "OOMPolicy",
        _one_of("stop", "kill"),
        "one worker killed for its memory stops the whole app",
    ),
    Rule(
        "StartLimitIntervalSec",
        _none_of("0"),
        "a service that is started too often fails its socket for good: all clients are refused",
    ),
    Rule(
        "RestartPreventExitStatus",
        lambda value: "78" not in value.split(),
        "a broken app is restarted without any client",
    ),
    Rule(
        "LimitNOFILE",
        lambda value: _below(value, 2048),
        "a worker may have 1,000 connections, and the app its files",
        grave=False,
    ),
)
SOCKET = (
    Rule(
        "StartLimitIntervalSec",
        _none_of("0"),
        "a socket that is restarted too often fails for good: all clients are refused",
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
        "another program on the same port goes unnoticed, and gets part of the connections",
    ),
    Rule(
        "Backlog",
        lambda value: _below(value, FEWEST_WAITING),
        "no more connections can wait while the app loads: others are refused or delayed",
    ),
)
_SHOWN = {
    "StartLimitIntervalSec": "StartLimitIntervalUSec",
    "LimitNOFILE": "LimitNOFILESoft",
}  # where systemd says it in another name
