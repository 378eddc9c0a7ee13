"""The journal of a run: its lines at "warning" and graver, by kind, and which of them a disturbance explains."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

WARNING = 4
FLOOD = 100  # lines of one kind in one second: somebody does not pause

# What Spyglass and systemd say of what was done to them. Everything else at this priority is a complaint.
EXPECTED = [
    # Spyglass
    r"worker N was killed by SIG\w+ after .*",
    r"worker N exited with status N after .*",
    r"worker N: killed, a call has been running for N s \(request_timeout\)",
    r"the zygote was killed by SIG\w+; its workers go on until others have taken over",
    r"(reload failed, the old generation goes on|failing|the zygote is not replaced, its workers go on|failed): .*",
    r"a worker cannot begin to work: .*",  # broken code, without preloading
    r"cannot fork a worker: Resource temporarily unavailable",
    r"cannot accept on .*: Too many open files; trying again in N s",
    r"request body: temporary file: (No space left on device|Too many open files)",
    r"(GET|POST|HEAD) \S+: Too many open files",
    r"cannot have threads: Too many open files",
    r"(GET|POST|HEAD) \S+: the app raised OSError",  # it has no descriptors
    r"worker N: killed, nothing has been heard of it for N s",
    # systemd
    r"Failed to start spyglass@\w+\.service - .*",  # its Master was killed before it was awake
    r"Stopping .*, but it can still be activated by:",
    r"spyglass@\w+\.service: (Main|Control) process exited, .*",
    # "protocol": by a signal that ends a process as if it wanted to (SIGHUP), before Spyglass has begun to heed it.
    r"spyglass@\w+\.service: Failed with result '(signal|exit-code|core-dump|resources|protocol)'\.",
    r"spyglass@\w+\.service: (Watchdog timeout \(limit Ns\)!|Failed with result 'watchdog'\.)",
    r"spyglass@\w+\.service: Killing process N \(.*\) with signal SIG\w+\.",
    r"Reload failed for spyglass@\w+\.service - .*",
    r"spyglass@\w+\.service: Unit cannot be reloaded because it is inactive\.",
    r"spyglass@\w+\.service: Failed to (set up|run|spawn) .*No space left on device",
]
_EXPECTED = re.compile("|".join(f"(?:{each})" for each in EXPECTED), re.DOTALL)
# A pattern, and the disturbances that explain it: as often as those, and no oftener.
ACCOUNTED = {
    r"service: Watchdog timeout": ["STOP Master for good"],
    r"worker \d+: killed, nothing has been heard": ["STOP worker for good", "a call that computes"],
    r"worker \d+: killed, a call has been running": ["a call that hangs", "a call that computes", "STOP worker for good"],
}
# The lines of a traceback, and of what faulthandler says, belong to the line before.
_ROLE = re.compile("^(master|zygote|worker|child|reload): ")
_CONTINUED = re.compile(r"^( |Traceback |Fatal Python error|Current thread|Thread |Extension modules|$|\w+(Error|Exit|Exception)?: |<)")


def kind_of(message: str) -> str:
    """The same for all lines that say the same of others."""
    return re.sub(r"\d+(\.\d+)?", "N", _ROLE.sub("", message.split("\n")[0]))


def grave(records: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """(who, message) of those at warning or graver, without the lines of tracebacks."""
    found = []
    for record in records:
        message = record.get("MESSAGE")
        if int(record.get("PRIORITY", 6)) <= WARNING and isinstance(message, str) and not _CONTINUED.match(_ROLE.sub("", message)):
            found.append((_unit(record), message))
    return found


def _unit(record: dict[str, Any]) -> str:
    """Whom a line is about: of PID 1's, the unit that it speaks of."""
    return str(record.get("UNIT") or record.get("_SYSTEMD_UNIT") or record.get("SYSLOG_IDENTIFIER", ""))


def floods(records: Iterable[dict[str, Any]]) -> dict[str, int]:
    """The kinds of lines that came faster than anybody could want to read them, and how many in the worst second."""
    seconds: Counter[tuple[str, int]] = Counter()
    for record in records:
        if _unit(record).startswith("spyglass") and int(record.get("PRIORITY", 6)) <= WARNING:
            seconds[kind_of(record["MESSAGE"]), int(record["__MONOTONIC_TIMESTAMP"]) // 1_000_000] += 1
    worst: dict[str, int] = {}
    for (kind, _), lines in seconds.items():
        if lines > FLOOD:
            worst[kind] = max(worst.get(kind, 0), lines)
    return worst


def kinds(records: Iterable[dict[str, Any]]) -> tuple[Counter[str], Counter[str]]:
    """How often each kind of line was said: those that disturbances explain, and others."""
    expected: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for who, message in grave(records):
        kind = kind_of(message)
        if not who.startswith("spyglass"):
            expected[f"({who}) {kind}"] += 1  # Debian's own, in a container
        elif _EXPECTED.match(kind):
            expected[kind] += 1
        else:
            others[kind] += 1
    return expected, others


def count(records: Iterable[dict[str, Any]], pattern: str) -> int:
    matches = re.compile(pattern)
    return sum(bool(matches.search(record["MESSAGE"])) for record in records if isinstance(record.get("MESSAGE"), str))
