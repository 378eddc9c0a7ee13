"""What a run has shown, as a table that a reviewer can read; and whether it has
failed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import journal
from ledger import UNASKED, Entry, Ledger, beyond_what_was_open, judge, unfinished
from sites import Site
from watch import MIN_LIFE, Watch

PATIENT = 20.0  # seconds: whoever waits longer has been forgotten, whatever was done meanwhile
SHOWN = 40  # failures and complaints, one by one


def table(rows: Iterable[Sequence[Any]]) -> str:
    """Columns, the first to the left and the others to the right, as wide as what they
    hold.
    """
    text = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in text) for column in range(max(map(len, text)))]
    lines = []
    for row in text:
        cells = [
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def mib(size: float) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def waits(entries: Sequence[Entry]) -> tuple[str, str, str]:
    found = sorted(entry.wait for entry in entries if not entry.failure)
    return (
        (ms(median(found)), ms(found[len(found) * 99 // 100]), ms(found[-1]))
        if found
        else ("-", "-", "-")
    )


class Report:
    """Judges, once; then tells."""

    def __init__(
        self, ledger: Ledger, sites: list[Site], watch: Watch, records: list[dict[str, Any]]
    ) -> None:
        self.ledger = ledger
        self.sites = sites
        self.watch = watch
        self.records = [
            record for record in records if isinstance(record.get("MESSAGE"), str)
        ]  # the others are bytes
        ledger.permits += journal.recycled(self.records)
        seen = {site.name: site.seen() for site in sites}
        self.unexplained = judge(ledger, seen)
        self.expected, others = journal.judge(self.records, ledger.done)
        for record in others:
            text = f"{ledger.at(journal.when(record))} {journal.unit_of(record)} {record['MESSAGE'].splitlines()[0]}"
            ledger.complain("", "journal", f"nothing explains {text}")
        for kind, lines in journal.floods(self.records).items():
            ledger.complain("", "journal", f"{lines} lines in one second: {kind}")
        for name, written in seen.items():
            for text in unfinished(ledger, written):
                ledger.complain(name, "lifespan", text)
        for text in self._outdated():
            ledger.complain("", "old code", text)
        for entry in ledger.entries:
            if not entry.failure and entry.wait > PATIENT:
                ledger.complain(
                    entry.site,
                    "waiting",
                    f"{entry.kind} {entry.visit} waited for {ms(entry.wait)}, from {ledger.at(entry.began)}",
                )
        for text in beyond_what_was_open(ledger, (record["MESSAGE"] for record in self.records)):
            ledger.complain("", "more than was open", text)

    def _outdated(self) -> Iterator[str]:
        """Answers of old code to who came after `systemctl reload` had said that the
        new one serves.

        A worker whose only thread is busy cannot stop accepting at once, and is not
        waited for.
        """
        for site in self.sites:
            if site.threads > 1:
                for entry in self.ledger.entries:
                    due = max(
                        (version for when, version in site.deployed if when < entry.began),
                        default=0,
                    )
                    if (
                        entry.site == site.name
                        and entry.life
                        and entry.version < due
                        and entry.since == entry.began
                    ):
                        yield f"{entry.site}, {entry.kind} at {self.ledger.at(entry.began)}: version {entry.version} instead of {due}"

    def keep(self, directory: Path) -> None:
        """Everything, for who wants to know what happened: the journal and the
        requests, with the times of the run.
        """
        directory.mkdir(parents=True, exist_ok=True)
        with open(directory / "journal", "w") as file:
            for record in self.records:
                when = self.ledger.at(int(record["__MONOTONIC_TIMESTAMP"]) / 1e6)
                unit = record.get("UNIT") or record.get("_SYSTEMD_UNIT") or ""
                print(
                    when,
                    unit,
                    record.get("_PID"),
                    f"<{record.get('PRIORITY')}>",
                    record["MESSAGE"],
                    file=file,
                )
        with open(directory / "requests", "w") as file:
            for entry in sorted(self.ledger.entries, key=lambda entry: entry.began):
                times = " ".join(
                    self.ledger.at(when) if when else "-"
                    for when in (entry.began, entry.sent, entry.first, entry.ended)
                )
                print(
                    times,
                    entry.site,
                    entry.kind,
                    entry.visit,
                    entry.pid,
                    entry.life[:8],
                    entry.failure,
                    entry.detail,
                    file=file,
                )
        with open(directory / "disturbances", "w") as file:
            for done in sorted(self.ledger.done, key=lambda done: done.began):
                print(
                    self.ledger.at(done.began),
                    self.ledger.at(done.ended),
                    done.site,
                    done.name,
                    file=file,
                )

    @property
    def passed(self) -> bool:
        return not self.unexplained and not self.ledger.complaints and len(self.ledger.entries) > 0

    def __str__(self) -> str:
        parts = [
            self._visitors(), self._failures(), self._sites(), self._disturbances(), self._longest(), self._machine(), self._journal(), self._wrong(),
        ]  # fmt: skip
        return "\n\n".join(parts)

    def _visitors(self) -> str:
        rows: list[Sequence[Any]] = [
            (
                "visitors",
                "requests",
                "answered",
                "explained",
                "UNEXPLAINED",
                "wait: median",
                "99 %",
                "longest",
            )
        ]
        by_kind = defaultdict(list)
        for entry in self.ledger.entries:
            by_kind[entry.kind].append(entry)
        bad = Counter(entry.kind for entry in self.unexplained)
        for kind, entries in [*sorted(by_kind.items()), ("all", self.ledger.entries)]:
            failed = sum(bool(entry.failure) for entry in entries)
            wrong = bad[kind] if kind != "all" else len(self.unexplained)
            rows.append(
                (kind, len(entries), len(entries) - failed, failed - wrong, wrong, *waits(entries))
            )
        return table(rows)

    def _failures(self) -> str:
        found = Counter(
            (entry.failure, self._explanation(entry))
            for entry in self.ledger.entries
            if entry.failure
        )
        rows: list[Sequence[Any]] = [("failures by kind", "because of", "requests")]
        rows += [(kind, why, times) for (kind, why), times in sorted(found.items())]
        return table(rows)

    def _explanation(self, entry: Entry) -> str:
        if entry.permit is not None:
            return entry.permit.why
        if entry in self.unexplained:
            return "NOTHING"
        return UNASKED.get(entry.failure, "an app that falls asleep (idle_ignore)")

    def _sites(self) -> str:
        rows: list[Sequence[Any]] = [
            (
                "apps",
                "requests",
                "lives",
                "wakes",
                "asleep",
                "generations",
                "workers died",
                "recycled",
                "failing",
            )
        ]
        for site in self.sites:
            records = [
                record
                for record in self.records
                if site.instance.service in (record.get("_SYSTEMD_UNIT"), record.get("UNIT"))
            ]
            entries = [entry for entry in self.ledger.entries if entry.site == site.name]
            rows.append((
                site.name, len(entries), len({entry.life for entry in entries} - {""}), journal.count(records, "^master: awake after"), site.rounds,
                journal.count(records, "^master: (awake after|another generation)"), journal.count(records, r"^master: worker \d+ (was killed|exited)"),
                journal.count(records, r"^master: worker \d+ recycled"), journal.count(records, "^master: failing: "),
            ))  # fmt: skip
        return table(rows)

    def _disturbances(self) -> str:
        rows: list[Sequence[Any]] = [
            (
                "disturbances",
                "times",
                "requests meanwhile",
                "failures it explains",
                "longest wait meanwhile",
                "complaints",
            )
        ]
        explained = Counter(
            entry.permit.why for entry in self.ledger.entries if entry.permit is not None
        )
        complaints = Counter(complaint.about for complaint in self.ledger.complaints)
        for name in sorted({done.name for done in self.ledger.done}):
            times = [done for done in self.ledger.done if done.name == name]
            meanwhile = [
                entry for done in times for entry in self.ledger.entries
                if done.site in ("", entry.site) and entry.began <= done.ended and entry.ended >= done.began
            ]  # fmt: skip
            rows.append(
                (
                    name,
                    len(times),
                    len(meanwhile),
                    explained[name],
                    waits(meanwhile)[2],
                    complaints[name],
                )
            )
        return table(rows)

    def _longest(self) -> str:
        longest = sorted(
            (entry for entry in self.ledger.entries if not entry.failure),
            key=lambda entry: entry.wait,
        )[-5:]
        rows: list[Sequence[Any]] = [("longest waits", "", "at", "meanwhile")]
        for entry in reversed(longest):
            rows.append(
                (
                    f"{entry.site}, {entry.kind}",
                    ms(entry.wait),
                    self.ledger.at(entry.began),
                    "; ".join(self.ledger.meanwhile(entry)[-4:]),
                )
            )
        return table(rows)

    def _machine(self) -> str:
        rows: list[Sequence[Any]] = [
            ("memory", "minutes", "first", "last", "largest", "gained (slope x time)")
        ]
        lives = sorted(self.watch.masters.items(), key=lambda item: -item[1].seconds)
        series = [
            *self.watch.system.items(),
            *(
                (f"{name}'s Master (PSS)", each)
                for (name, _), each in lives
                if each.seconds > MIN_LIFE
            ),
        ]
        for name, each in series[:12]:
            values = [value for _, value in each.points]
            rows.append(
                (
                    name,
                    f"{each.seconds / 60:.1f}",
                    mib(values[0]),
                    mib(values[-1]),
                    mib(max(values)),
                    mib(each.gain()),
                )
            )
        fds: list[Sequence[Any]] = [
            ("descriptors while nobody is there", "looks", "fewest", "most")
        ]
        for (name, role), looks in sorted(self.watch.rest.items()):
            totals = [look.total() for look in looks]
            fds.append((f"{name}, {role}", len(totals), min(totals), max(totals)))
        for who, at_end in self.watch.at_end.items():
            fds.append(
                (
                    f"{who}, at the end and at first",
                    1,
                    self.watch.at_begin[who].total(),
                    at_end.total(),
                )
            )
        left: list[Sequence[Any]] = [("left behind", "looks", "found")]
        complaints = Counter(complaint.about for complaint in self.ledger.complaints)
        left.append(
            (
                "processes, after a disturbance, asleep, at the end",
                len(self.ledger.done),
                complaints["processes"]
                + sum("there are still" in complaint.text for complaint in self.ledger.complaints),
            )
        )
        left.append(
            (
                "temporary files, while nobody is there, asleep, at the end",
                sum(map(len, self.watch.rest.values())),
                complaints["temporary files"],
            )
        )
        return f"{table(rows)}\n\n{table(fds)}\n\n{table(left)}"

    def _journal(self) -> str:
        rows: list[Sequence[Any]] = [("journal, warnings and graver", "lines")]
        return table([*rows, *((kind[:110], times) for kind, times in self.expected.most_common())])

    def _wrong(self) -> str:
        lines = [f"UNEXPLAINED FAILURES: {len(self.unexplained)}"]
        for entry in self.unexplained[:SHOWN]:
            lines.append(
                f"  {self.ledger.at(entry.began)} to {self.ledger.at(entry.ended)} {entry.site}, {entry.kind} {entry.visit} (worker {entry.pid}): "
                f"{entry.detail.splitlines()[0]}\n      meanwhile: {'; '.join(self.ledger.meanwhile(entry)) or 'nothing'}"
            )
        lines.append(f"COMPLAINTS: {len(self.ledger.complaints)}")
        lines += [
            f"  {self.ledger.told(complaint)}" for complaint in self.ledger.complaints[:SHOWN]
        ]
        return "\n".join(lines)
