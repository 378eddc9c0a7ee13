"""The journal of a run: its lines at "warning" and graver, by kind, and which
disturbance explains each of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ledger import REPLACED, Done, Permit

WARNING = 4
FLOOD = 100  # lines of one kind in one second: somebody does not pause

MANY = 1000
LATE = 6.0  # seconds: journald may have been stopped, or be on its way back
# Without preloading it is the workers who meet what is broken.
BROKEN = dict.fromkeys(("broken code, reload", "broken code, restart"), MANY)
LEFT_BROKEN = {"broken settings, restart": 1, "broken code, restart": 1}
# Signals that end a process, some of them as if it wanted to, before Spyglass has begun
# to heed them.
EARLY = dict.fromkeys(
    (
        "several reloads",
        "reload and restart",
        "reload, kill -9 zygote",
        "no descriptors, Master",
        "USR2",
    ),
    MANY,
)
NO_DESCRIPTORS = {"no descriptors, worker": MANY}
SOMETHING = None  # so many disturbances may be the reason that it would say nothing to list them

# What Spyglass and systemd say of what was done to them, and what explains it:
# disturbances of that app at that time, and how many such lines each may bring about.
# Everything else at this priority is a complaint.
EXPECTED: dict[str, dict[str, int] | None] = {
    # Spyglass
    r"worker \d+ was killed by SIGKILL after .*": {
        "kill -9 worker": 1,
        "no processes": 1,
        "kill -9 everybody": MANY,
    },
    r"worker \d+ was killed by SIGSEGV after .*": {"segfault": 1, **BROKEN},
    r"worker \d+ was killed by SIGABRT after .*": {"abort": 1},
    # As it leaves: threads that end need a library of the C compiler's, and there is no
    # descriptor to load it with.
    r"worker \d+ was killed by SIGABRT after .*; 0 connections open": {"no descriptors, worker": 1},
    # One that loads the app itself, and for a reload: `systemctl restart` ends it, and
    # who hears of it first says so.
    r"worker \d+ was killed by SIGTERM after \S+ s and 0 requests; 0 connections open": {
        "reload and restart": MANY
    },
    r"reload failed, the old generation keeps serving: the app's process was killed by SIGTERM .*": {
        "reload and restart": 1
    },
    r"worker \d+ exited with status 3 after .*": {"os._exit": 1, **BROKEN},
    r"worker \d+ exited with status \d+ after .*": BROKEN,
    r"worker \d+ killed: a request has been running for \d+ s \(request_timeout\)": {
        "a call that hangs": 1,
        "a call that computes": 1,
        "a call that disobeys": 1,
        "STOP worker for good": 1,
    },
    r"GET \S+: cancelled: it took longer than \d+ s \(request_timeout\) without a response": {
        "a call that waits": 1,
        "a call that disobeys": 1,
    },
    # One that does not listen, as it was asked not to
    r"GET /events\S+&deaf=1: cancelled: it took longer than \d+ s \(request_timeout\) after its client had gone": SOMETHING,
    r"lifespan: the app raised RuntimeError while it serves": {"a lifespan that ends": 1},
    r"worker \d+ killed: unresponsive for \d+ s": {
        "STOP worker for good": 1,
        "a call that computes": 1,
    },
    r"worker \d+ killed: not ready within \d+ s \(start_timeout\)": {
        "STOP worker for good": 1,
        **BROKEN,
    },
    r"the zygote was killed by (SIGKILL|signal 9); its workers serve until a new generation takes over": {
        "kill -9 zygote": 1,
        "reload, kill -9 zygote": 2,
        "kill -9 everybody": 1,
        "no descriptors, Master": 1,
    },
    r"reload failed, the old generation keeps serving: .*": {
        "broken settings, reload": 1,
        "reload, kill -9 zygote": 1,
        "no descriptors, Master": 1,
        **BROKEN,
    },
    r"the zygote could not be replaced, its workers keep serving: .*": {
        "reload, kill -9 zygote": 1,
        "no descriptors, Master": MANY,
    },
    r"failing: the app's process was killed by SIGKILL while it was being loaded": {
        "kill -9 zygote": 1,
        "reload, kill -9 zygote": 2,
    },
    r"failing: .*": {"broken settings, restart": MANY, "broken code, restart": MANY},
    # Says the command: it has been told so by the Master, or that has ended
    r"failed: .*": SOMETHING,
    r"a worker cannot start: .*": BROKEN,
    r"cannot fork a worker: Resource temporarily unavailable": {"no processes": 1},
    r"cannot accept on .*: Too many open files; trying again in [\d.]+ s": NO_DESCRIPTORS,
    r"request body: temporary file: Too many open files": NO_DESCRIPTORS,
    r"request body: temporary file: No space left on device": {"/tmp is full": MANY},
    r"(GET|POST|HEAD) \S+: Too many open files": NO_DESCRIPTORS,
    # A framework answers with 500 before it lets it through.
    r"(GET|POST|HEAD) \S+: the app raised OSError(, after its response)?": NO_DESCRIPTORS,
    r"counters are not saved: \S+ cannot be written: Too many open files": {
        "no descriptors, Master": 1
    },
    r"cannot import what requests may need: .*Too many open files.*": NO_DESCRIPTORS,
    # By a framework that has a log of its own
    r"Traceback \(most recent call last\):": NO_DESCRIPTORS,
    # systemd
    r"\S+: Watchdog timeout \(limit \d+s\)!": {"STOP Master for good": 1},
    r"\S+: Failed with result 'watchdog'\.": {"STOP Master for good": 1},
    r"\S+: Main process exited, code=killed, status=9/KILL": {
        "kill -9 Master": 1,
        "kill -9 everybody": 1,
        "STOP Master for good": 1,
    },
    r"\S+: Main process exited, code=killed, status=\d+/(HUP|USR2)": EARLY,
    r"\S+: Main process exited, code=exited, status=78/CONFIG": LEFT_BROKEN,
    r"\S+: Failed with result 'signal'\.": {"kill -9 Master": 1, "kill -9 everybody": 1},
    # It cannot even read its own program, and another begins.
    r"\S+: Failed with result 'exit-code'\.": {"no descriptors, Master": 1, **LEFT_BROKEN},
    r"\S+: Failed with result '(protocol|signal)'\.": EARLY,
    r"\S+: Failed with result 'resources'\.": {"/tmp is full": MANY},
    # Its Master was killed before it was awake
    r"Failed to start spyglass@\w+\.service - .*": SOMETHING,
    r"Stopping .*, but it can still be activated by:": SOMETHING,
    # A reload that failed; the line of the Master is accounted for
    r"\S+: Control process exited, .*": SOMETHING,
    r"Reload failed for spyglass@\w+\.service - .*": SOMETHING,
    r"\S+: Unit cannot be reloaded because it is inactive\.": SOMETHING,
    r"\S+: Failed to (set up|run|spawn) .*No space left on device": {"/tmp is full": MANY},
}
# The lines of a traceback, and of what faulthandler says, belong to the line before.
_ROLE = re.compile("^(master|zygote|worker|child|reload): ")
_CONTINUED = re.compile(
    r"^( |Traceback |Fatal Python error|Current thread|Thread |Extension modules|$|[\w.]+(Error|Exit|Exception)(: |$)|<)"
)
# Not of the app's, whose are told by a worker or a zygote, with its role in front: the
# interpreter's own, of what nobody has caught.
_UNCAUGHT = re.compile(r"Traceback \(most recent call last\):|Exception (ignored )?in ")


def said(record: dict[str, Any]) -> str:
    """The line, or the first of several, without the role of who says it."""
    return _ROLE.sub("", record["MESSAGE"].split("\n")[0])


def kind_of(record: dict[str, Any]) -> str:
    """The same for all lines that say the same of others."""
    return re.sub(r"\d+(\.\d+)?", "N", said(record))


def grave(record: dict[str, Any]) -> bool:
    """At warning or graver, and not a line of a traceback that follows."""
    return int(record.get("PRIORITY", 6)) <= WARNING and not _CONTINUED.match(said(record))


def unit_of(record: dict[str, Any]) -> str:
    """Whom a line is about: of PID 1's, the unit that it speaks of."""
    return str(
        record.get("UNIT") or record.get("_SYSTEMD_UNIT") or record.get("SYSLOG_IDENTIFIER", "")
    )


def site_of(record: dict[str, Any]) -> str:
    return unit_of(record).removeprefix("spyglass@").removesuffix(".service")


def when(record: dict[str, Any]) -> float:
    """Monotonic seconds."""
    return int(record["__MONOTONIC_TIMESTAMP"]) / 1e6


def floods(records: Iterable[dict[str, Any]]) -> dict[str, int]:
    """The kinds of lines that came faster than anybody could want to read them, and how
    many in the worst second.
    """
    seconds: Counter[tuple[str, int]] = Counter()
    for record in records:
        if unit_of(record).startswith("spyglass") and int(record.get("PRIORITY", 6)) <= WARNING:
            seconds[kind_of(record), int(when(record))] += 1
    worst: dict[str, int] = {}
    for (kind, _), lines in seconds.items():
        if lines > FLOOD:
            worst[kind] = max(worst.get(kind, 0), lines)
    return worst


class Accounts:
    """What explains the lines of EXPECTED, of what was `done`; each as often as it may,
    and no oftener.
    """

    def __init__(self, done: Iterable[Done]) -> None:
        self._done = list(done)
        self._left = {
            pattern: [explained.get(each.name, 0) for each in self._done]
            if explained is not SOMETHING
            else None
            for pattern, explained in EXPECTED.items()
        }

    def explain(self, record: dict[str, Any]) -> bool:
        return any(
            re.match(f"{pattern}$", said(record)) and self._take(left, record)
            for pattern, left in self._left.items()
        )

    def _take(self, left: list[int] | None, record: dict[str, Any]) -> bool:
        if left is None:
            return True
        site = site_of(record)
        for index in sorted(range(len(left)), key=lambda index: self._done[index].ended):
            done = self._done[index]
            if (
                left[index]
                and done.site in ("", site)
                and done.began <= when(record) <= done.ended + LATE
            ):
                left[index] -= 1
                return True
        return False


def judge(
    records: Iterable[dict[str, Any]], done: Iterable[Done]
) -> tuple[Counter[str], list[dict[str, Any]]]:
    """How often each kind of line was said that something explains; and the lines that
    nothing does.
    """
    accounts = Accounts(done)
    expected: Counter[str] = Counter()
    unexplained = []
    for record in records:
        ours = unit_of(record).startswith("spyglass")
        if not grave(record) and not (ours and _UNCAUGHT.match(record["MESSAGE"])):
            continue
        if not ours:
            expected[f"({unit_of(record)}) {kind_of(record)}"] += 1  # Debian's own, in a container
        elif accounts.explain(record):
            expected[kind_of(record)] += 1
        else:
            unexplained.append(record)
    return expected, unexplained


def recycled(records: Iterable[dict[str, Any]]) -> list[Permit]:
    """What the workers had to end that were recycled, as the Master says when they have
    gone.
    """
    gone = re.compile(r"worker (\d+) recycled after ")
    return [
        Permit("recycled", site_of(record), REPLACED, 0.0, when(record), frozenset({int(found[1])}))
        for record in records
        if (found := gone.match(said(record)))
    ]


def count(records: Iterable[dict[str, Any]], pattern: str) -> int:
    matches = re.compile(pattern)
    return sum(bool(matches.search(record["MESSAGE"])) for record in records)
