"""What became of every request, what was done to the apps meanwhile, and whether the
one explains the other.

A disturbance permits what it must: 503 while the app is broken, the loss of what was in
the hands of the worker that it kills, and nothing else. Each failure is held against
these permits when all is over, with what the app itself wrote down of whose work it
was. A failure that no permit covers, and a promise that a disturbance found broken,
make the run fail.

Pure but for the clock: tests/soak/test_ledger.py says what counts as explained.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Seconds until a visitor has noticed that his connection has gone, on a machine that is
# busy
AT_ONCE = 3.0
LOSS = frozenset({"reset", "no answer", "cut", "undone"})
# A kept-alive connection may end between two requests when its worker leaves; a request
# that crosses the end is not begun, and is the client's to send again (RFC 9112 9.3.1).
# Only where something makes workers leave, and never after the app has seen it.
CROSSED = frozenset({"crossed"})
# The Master answers for a broken app, and reads no more of a request than its head:
# garbage may look unfinished to it.
BROKEN = frozenset({"status 503", "status 408"})
# What has no end of its own is ended by a worker that leaves: an event stream, and a
# WebSocket, with a code that says whether to come again at once. Its app is told.
STOPPED = frozenset({"ended", "closed 1001"})
REPLACED = frozenset({"ended", "closed 1012"})
# Behind the last answer of its connection, or after the time for which one is kept:
# nobody's fault, if it has not been begun.
UNASKED = {
    "left over": "an answer with Connection: close",
    "too late": "a visitor who came after keepalive_timeout",
}
FOREVER = float("inf")


@dataclass(slots=True)
class Entry:
    """One request. Times are monotonic seconds; `quick` is what the app had to do for
    it, and not to be called waiting.
    """

    site: str
    kind: str
    visit: str
    began: float
    quick: float = 0.0
    sent: float = 0.0  # when the last of it had left
    first: float = 0.0  # when the first of the answer came
    ended: float = 0.0
    since: float = 0.0  # since when it can have failed: the connection was there before the request
    failure: str = ""
    detail: str = ""
    pid: int = 0  # who answered, or who has the connection
    life: str = ""
    version: int = 0
    big: bool = False  # its body needs a temporary file
    connection: int = 0  # those that share one have the same number
    owed: str = ""  # what the app has to write down about it,
    after: float = 0.0  # within so many seconds of its end
    ignored: bool = False  # a WebSocket that does not keep its app awake (idle_ignore)
    permit: Permit | None = None  # what explains the failure

    @property
    def wait(self) -> float:
        """Seconds from the last byte of the request to the first of the answer, without
        the app's own.
        """
        return max(0.0, self.first - self.sent - self.quick) if self.first and self.sent else 0.0


@dataclass(eq=False)
class Permit:
    """`why` (a disturbance's name) explains failures of these kinds at `site` (None: at
    each) in this time.

    `pids`: only of what these workers had. `big`: only of requests whose body needs a
    temporary file. `least`: only of requests that have lasted so many seconds.
    """

    why: str
    site: str | None
    kinds: frozenset[str]
    began: float
    ended: float = FOREVER
    pids: frozenset[int] | None = None
    big: bool = False
    least: float = 0.0
    count: int = 0
    connections: set[int] = field(default_factory=set)

    def covers(self, entry: Entry, pid: int) -> bool:
        """`pid`: whose work it was, 0 where nobody knows."""
        if (
            self.site not in (None, entry.site)
            or entry.failure not in self.kinds
            or (self.big and not entry.big)
        ):
            return False
        if (
            entry.ended + entry.after < self.began
            or entry.since > self.ended
            or entry.ended - entry.began < self.least
        ):
            return False
        return self.pids is None or (
            (not pid or pid in self.pids) and entry.ended <= self.ended + AT_ONCE
        )


@dataclass
class Complaint:
    """A promise that was not kept, beyond single requests."""

    when: float
    site: str
    about: str
    text: str


@dataclass
class Done:
    """A disturbance that took place."""

    name: str
    site: str
    began: float
    ended: float


@dataclass
class Ledger:
    began: float = field(default_factory=time.monotonic)
    entries: list[Entry] = field(default_factory=list)
    permits: list[Permit] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    crossed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, entry: Entry) -> None:
        with self._lock:
            self.entries.append(entry)

    def complain(self, site: str, about: str, text: str) -> None:
        with self._lock:
            self.complaints.append(Complaint(time.monotonic(), site, about, text))

    def permit(self, why: str, site: str | None, kinds: Iterable[str], **more: object) -> Permit:
        """From now on, until its `ended` is set."""
        with self._lock:
            permit = Permit(why, site, frozenset(kinds), time.monotonic(), **more)  # type: ignore[arg-type]
            self.permits.append(permit)
        return permit

    @contextmanager
    def permitted(
        self, why: str, site: str | None, kinds: Iterable[str], after: float = 0.0, **more: object
    ) -> Iterator[Permit]:
        """For the block, and `after` seconds beyond it."""
        permit = self.permit(why, site, kinds, **more)
        try:
            yield permit
        finally:
            permit.ended = min(permit.ended, time.monotonic() + after)

    @contextmanager
    def disturbance(self, name: str, site: str) -> Iterator[None]:
        """Notes that it takes place. What it raises is a complaint, and the run goes
        on.
        """
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            self.complain(site, name, f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self.done.append(Done(name, site, began, time.monotonic()))

    def at(self, when: float) -> str:
        """A time as people read it: minutes and seconds of the run."""
        seconds = when - self.began
        return f"{int(seconds // 60)}:{seconds % 60:05.2f}"

    def told(self, complaint: Complaint) -> str:
        return f"{self.at(complaint.when)} {complaint.site or 'machine'}, {complaint.about}: {complaint.text}"

    def meanwhile(self, entry: Entry) -> list[str]:
        """What was going on at its site, or everywhere, while it was under way."""
        return [
            f"{done.name} ({self.at(done.began)} to {self.at(done.ended)})"
            for done in self.done
            if done.site in ("", entry.site)
            and done.began <= entry.ended
            and done.ended + AT_ONCE >= entry.since
        ]


def judge(ledger: Ledger, seen: dict[str, dict[str, int]]) -> list[Entry]:
    """The failures that nothing explains. `seen`: site to visit to the pid of the
    worker that began it.
    """
    unexplained = []
    for entry in ledger.entries:
        written = seen.get(entry.site, {})
        begun_by = written.get(entry.visit, 0)
        due = not entry.failure or entry.failure in STOPPED | REPLACED
        if due and begun_by and entry.owed and entry.owed not in written:
            entry.failure, entry.detail = "undone", f"{entry.owed} {entry.detail}"
        if not entry.failure:
            continue
        if entry.failure in UNASKED and not begun_by:
            continue
        if entry.failure in STOPPED and entry.ignored:
            continue
        if entry.failure in CROSSED and begun_by:
            entry.failure = "no answer"  # it was begun: no mere crossing
        pid = begun_by or entry.pid
        entry.pid = pid
        entry.permit = next(
            (permit for permit in ledger.permits if permit.covers(entry, pid)), None
        )
        if entry.permit is None:
            unexplained.append(entry)
        else:
            entry.permit.count += 1
            if entry.failure != "undone":  # its connection may have ended before
                entry.permit.connections.add(entry.connection)
    return unexplained


def unfinished(ledger: Ledger, written: dict[str, int]) -> list[str]:
    """Complaints: lifespans that have begun and not ended, though their worker has
    served, and nothing has killed it. A generation that loads may be given up.
    """
    served = {pid for line, pid in written.items() if line not in (f"up-{pid}", f"down-{pid}")}
    killed = {pid for permit in ledger.permits if permit.kinds & LOSS for pid in permit.pids or ()}
    return [
        f"the lifespan in worker {pid} has not ended"
        for pid in sorted(served - killed)
        if f"up-{pid}" in written and f"down-{pid}" not in written
    ]


DEATH = re.compile(r"worker (\d+) (?:was killed by|exited with).*; (\d+) connections? open")


def beyond_what_was_open(ledger: Ledger, messages: Iterable[str]) -> list[str]:
    """Complaints: workers whose death is said to have cost more connections than they
    had.
    """
    had = {int(death[1]): int(death[2]) for message in messages if (death := DEATH.search(message))}
    cost: Counter[int] = Counter()
    for permit in ledger.permits:
        if permit.pids is not None and len(permit.pids) == 1 and permit.kinds & LOSS:
            cost[next(iter(permit.pids))] += len(permit.connections)
    # One may have been accepted and not be counted yet.
    return [
        f"worker {pid} had {had[pid]} connections, and {lost} were lost"
        for pid, lost in cost.items()
        if pid in had and lost > had[pid] + 1
    ]
