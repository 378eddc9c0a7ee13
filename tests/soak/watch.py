"""What is left behind: processes, descriptors, temporary files and memory, looked at
from outside while visitors come, and while none do.

A process, a descriptor or a file too many is a complaint. Memory is a matter of trend:
a line through what each Master, PID 1 and journald took at each look, and how steep it
is.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ledger import Ledger
from machine import Machine
from sites import SETTLES, Site
from wire import Failure

# So many more than the fewest are not taken for a leak: an import or a log line may be
# under way
SPARE_FDS = 2
SPARE_PID1 = 4
MIN_LIFE = 120.0  # seconds a process must have been looked at for its slope to mean anything
STEEP = 4 << 20  # bytes that a Master, PID 1 or journald may gain over a run


def descriptors(pid: int) -> Counter[str]:
    """What a process has open, by kind: "socket", "/dev/null",
    "anon_inode:[eventpoll]"...
    """
    found: Counter[str] = Counter()
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                found[re.sub(r"(?<=[a-z]:)\[\d+\]$|(?<=/)[#\d]+(?= |$)", "", target)] += 1
    return found


def memory(pid: int, what: str) -> int:
    """Bytes: "Pss" of smaps_rollup, "VmRSS" or "RssAnon" of status; 0 when it has gone
    (proc(5)).
    """
    file = "status" if what.startswith(("Vm", "Rss")) else "smaps_rollup"
    with suppress(OSError, StopIteration):
        line = next(
            line
            for line in Path(f"/proc/{pid}/{file}").read_text().splitlines()
            if line.startswith(f"{what}:")
        )
        return int(line.split()[1]) << 10
    return 0


@dataclass
class Series:
    """Looks at one process: (monotonic seconds, bytes)."""

    points: list[tuple[float, int]] = field(default_factory=list)

    def add(self, value: int) -> None:
        if value:
            self.points.append((time.monotonic(), value))

    @property
    def seconds(self) -> float:
        return self.points[-1][0] - self.points[0][0] if self.points else 0.0

    def gain(self) -> float:
        """Bytes gained between the first look and the last, by the line of least
        squares; without the first sixth, in which all settle.
        """
        points = [
            (when, value)
            for when, value in self.points
            if when >= self.points[0][0] + self.seconds / 6
        ]
        if len(points) < 5:
            return 0.0
        middle = sum(when for when, _ in points) / len(points)
        mean = sum(value for _, value in points) / len(points)
        spread = sum((when - middle) ** 2 for when, _ in points)
        slope = (
            sum((when - middle) * (value - mean) for when, value in points) / spread
            if spread
            else 0.0
        )
        return slope * (points[-1][0] - points[0][0])


class Watch:
    """Looks at everything on `machine`: regularly in a thread of its own, and at a site
    when its rhythm says that nobody is there.
    """

    def __init__(self, machine: Machine, sites: list[Site], ledger: Ledger) -> None:
        self.machine = machine
        self.sites = sites
        self.ledger = ledger
        self.masters: dict[tuple[str, int], Series] = defaultdict(Series)
        self.system: dict[str, Series] = defaultdict(Series)  # "PID 1", "journald"
        self.rest: dict[tuple[str, str], list[Counter[str]]] = defaultdict(
            list
        )  # by site and role: descriptors while nobody is there
        self.asleep = 0
        self.at_begin: dict[str, Counter[str]] = {}  # what PID 1 and journald have open
        self.at_end: dict[str, Counter[str]] = {}

    def run(self, over: threading.Event) -> None:
        while not over.wait(5):
            self.system["PID 1"].add(memory(self.machine.leader, "VmRSS"))
            for pid in self._journald():
                self.system["journald"].add(
                    memory(pid, "RssAnon")
                )  # beside it the journal is mapped
            for site in self.sites:
                for pid in site.of_role("master"):
                    self.masters[site.name, pid].add(memory(pid, "Pss"))

    def _journald(self) -> list[int]:
        return [process.host_pid for process in self.machine.processes("systemd-journald")]

    def look(self, site: Site) -> None:
        """Nobody is there: what its processes have open, and whether it leaves without
        a trace.
        """
        site.settled("while nobody came")
        if site.complete():
            for pid, role in site.roles().items():
                # It may end in between, and then shows the half of what it had.
                open_ = descriptors(pid)
                if os.path.exists(f"/proc/{pid}/fd/0"):
                    self.rest[site.name, role].append(open_)
                left = [
                    name
                    for name in open_
                    if name.endswith("(deleted)") and "/memfd:" not in name and "/dev/" not in name
                ]
                if left:
                    self.ledger.complain(
                        site.name,
                        "temporary files",
                        f"a {role} to which nobody is connected has {left} open",
                    )
        if not site.steady:
            self._checked(site)
            site.machine.wait_until(site.instance.asleep, site.idle + SETTLES, "it is asleep")
            self.asleep += 1
            self.traces(site)
        site.rounds += 1

    def _checked(self, site: Site) -> None:
        """Health checks do not put off the leaving of who is awake. (One that comes as
        it leaves wakes the next.)
        """
        there = site.of_role("master")
        if not site.settings.get("idle_ignore") or not there:
            return

        def left() -> bool:
            with suppress(Failure):
                site.visit("health")
            return there != site.of_role("master")

        site.machine.wait_until(left, site.idle + 10, "it has left, while only health checks came")

    def traces(self, site: Site) -> None:
        """Of one that is asleep, on disk."""
        temporary = self._listing(f"/tmp/systemd-private-*-spyglass@{site.name}.service-*")
        if temporary:
            self.ledger.complain(site.name, "temporary files", f"asleep, it has left {temporary}")

    def _listing(self, pattern: str) -> list[str]:
        return [str(path) for path in Path(self.machine.path("/")).glob(pattern.lstrip("/"))]

    def _held(self) -> dict[str, Counter[str]]:
        held = {"PID 1": descriptors(self.machine.leader)}
        held["journald"] = sum((descriptors(pid) for pid in self._journald()), Counter())
        return held

    def begin(self) -> None:
        """Everybody has been awake once and is asleep again: this is what there should
        be at the end, too.
        """
        self.at_begin = self._held()

    def end(self) -> None:
        """Everybody is asleep, or has been stopped."""
        for process in self.machine.processes():
            self.ledger.complain(process.unit, "processes", f"left behind: {process}")
        self.at_end = self._held()
        for who, now in self.at_end.items():
            more = now - self.at_begin[who]
            if now.total() > self.at_begin[who].total() + SPARE_PID1:
                self.ledger.complain(
                    "",
                    "descriptors",
                    f"{who} has {now.total()}, not {self.at_begin[who].total()} as at first: {dict(more)}",
                )
        for (site, role), looks in self.rest.items():
            # Without it, it has just begun, or ends.
            loops = max(look["anon_inode:[eventpoll]"] for look in looks)
            looks = [look for look in looks if look["anon_inode:[eventpoll]"] == loops]
            fewest, most = min(looks, key=Counter.total), max(looks, key=Counter.total)
            if most.total() > fewest.total() + SPARE_FDS:
                self.ledger.complain(
                    site,
                    "descriptors",
                    f"a {role} had from {fewest.total()} to {most.total()}: {dict(most - fewest)}",
                )
        for name, series in (
            *self.system.items(),
            *((f"{site}'s Master", series) for (site, _), series in self.masters.items()),
        ):
            if series.seconds > MIN_LIFE and series.gain() > STEEP:
                self.ledger.complain(
                    name,
                    "memory",
                    f"{series.gain() / (1 << 20):.1f} MiB gained in {series.seconds / 60:.0f} minutes",
                )
        upgrades = sum(done.name == "upgrade" for done in self.ledger.done)
        for site in self.sites:
            lives = sum(name == site.name for name, _ in self.masters)
            if site.steady and lives > 1 + upgrades:
                self.ledger.complain(
                    site.name,
                    "processes",
                    f"it never leaves, and has had {lives} Masters in spite of only {upgrades} upgrades",
                )
            try:
                listening = site.instance.unbroken()
            except AssertionError as error:
                self.ledger.complain(site.name, "socket", f"the socket unit failed: {error}")
                continue
            if listening != site.listening:
                self.ledger.complain(
                    site.name,
                    "socket",
                    f"it has not listened throughout: {listening}, at first {site.listening}",
                )
