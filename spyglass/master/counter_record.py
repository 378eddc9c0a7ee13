"""What is remembered of an app, as a value, and as the lines of a file (counters.py) or
a report (report_socket.py).

The app may write to that file. So whatever it holds is either a record or refused, and
no text in it can control a terminal.
"""

from __future__ import annotations

from spyglass import printable
from spyglass.policy.durations import REQUESTS, WAKES, Durations
from spyglass.runtime.scoreboard import INTERFACES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = "spyglass 1"
_END = "end"
_COUNTS = (
    "awake", "wakes", "requests", "errors", "failures", "crashes", "reloads", "recent_requests",
    "recent_errors",
)  # fmt: skip
_TIMES = ("since", "woke", "wake_ms", "load_ms", "written", "left")
_LONGEST = 200  # characters of a reason
_MOST = 1 << 53
KILLED = "killed"  # or its machine: nothing could note why

# Counts by a key; "cut": the response was not sent completely.
CODES = ("1xx", "2xx", "3xx", "4xx", "5xx", "cut")
REFUSALS = ("4xx", "5xx")
RESTARTS = ("crash", "hung", "max_requests", "max_memory", "signal")
EXITS = ("idle", "stopped", "failing", "killed")
_TABLES = {"codes": CODES, "refusals": REFUSALS, "restarts": RESTARTS, "exits": EXITS}
_HISTOGRAMS = {"requests_took": REQUESTS, "wakes_took": WAKES}


class Process:
    """A worker as of the last write: `pid`, requests `served`, `errors` among them,
    connections `open` (int each).
    """

    __slots__ = ("errors", "open", "pid", "served")

    def __init__(self, pid: int, served: int, errors: int, open: int) -> None:
        self.pid = pid
        self.served = served
        self.errors = errors
        self.open = open


class Record:
    """The contents of the file. Counts (int) cover the time since `since`; that,
    `woke`, `written` and `left` are wall clock (float).

    `by` is the listener at which a client woke it, as in last_wake(). `errors` of the
    requests were answered with a status of 5xx, or cut short. `recent_requests` and
    `recent_errors` are those of the last wake. `failures` are attempts
    to load the app that failed, `crashes` workers that ended without an order.
    `wake_ms` is from the start of the process to the first worker that accepted,
    `load_ms` the app's part of it (of the latest generation). `left` is when this
    Master, or the one before it, exited, and `why`; 0 and "" if none has. `awake` (0 or
    1): this Master has not exited, or was killed. `workers` are those of the last
    write, `interface` ("wsgi", "asgi"; "": not known) is how they call the app.

    More than 15 attributes: each is a fact of its own. Four are counts by a key:
    `codes`, requests by the class of their status; `refusals`, those that the server
    itself answered; `restarts` of workers and `exits` by their reason. Two are
    histograms: how long `requests_took`, and `wakes_took`.
    """

    def __init__(self) -> None:
        self.awake = 0
        self.wakes = self.requests = self.errors = self.failures = self.crashes = self.reloads = 0
        self.recent_requests = self.recent_errors = 0
        self.since = self.woke = self.wake_ms = self.load_ms = self.written = self.left = 0.0
        self.why = self.by = self.interface = ""
        self.workers: list[Process] = []
        self.codes, self.refusals = dict.fromkeys(CODES, 0), dict.fromkeys(REFUSALS, 0)
        self.restarts, self.exits = dict.fromkeys(RESTARTS, 0), dict.fromkeys(EXITS, 0)
        self.requests_took, self.wakes_took = Durations(REQUESTS), Durations(WAKES)

    def text(self) -> str:
        """The file's contents."""
        lines = [HEAD]
        lines += [f"{name} {getattr(self, name)}" for name in _COUNTS]
        lines += [f"{name} {getattr(self, name):.3f}" for name in _TIMES]
        lines += [
            f"worker {each.pid} {each.served} {each.errors} {each.open}" for each in self.workers
        ]
        lines += [f"interface {self.interface}"] if self.interface else []
        for name in _TABLES:
            table = getattr(self, name)
            pairs = [f"{key}={count}" for key, count in table.items() if count]
            lines += [f"{name} {' '.join(pairs)}"] if pairs else []
        for name in _HISTOGRAMS:
            durations = getattr(self, name)
            lines += [f"{name} {durations.text()}"] if durations.total else []
        return "\n".join([*lines, f"by {one_line(self.by)}", f"why {one_line(self.why)}", _END, ""])


def one_line(text: str) -> str:
    """Return the beginning of `text`, without what could control a terminal."""
    return printable.one_line(text, _LONGEST)


def parse(text: str) -> Record:
    """Return the record in `text`. Raises ValueError if it is incomplete, or in an
    unknown format; facts of a later version are skipped.
    """
    lines = text.split("\n")
    if lines[0] != HEAD or lines[-2:] != [_END, ""]:
        raise ValueError("incomplete, or in an unknown format")
    record = Record()
    for line in lines[1:-2]:
        name, _, value = line.partition(" ")
        if name in _COUNTS:
            setattr(record, name, _count(value))
        elif name in _TIMES:
            setattr(record, name, seconds(value))
        elif name == "worker":
            pid, served, errors, open = (_count(number) for number in value.split(" "))
            record.workers.append(Process(pid, served, errors, open))
        elif name == "interface" and value in INTERFACES:
            record.interface = value
        elif name in ("by", "why"):
            setattr(record, name, one_line(value))
        elif name in _TABLES:
            getattr(record, name).update(_table(value, _TABLES[name]))
        elif name in _HISTOGRAMS:
            setattr(record, name, _histogram(value, _HISTOGRAMS[name]))
    return record


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise ValueError(f"not a count: {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Return a time in `text`. Raise ValueError for what cannot be one."""
    value = float(text)
    if not 0 <= value < _MOST:  # nor inf, nor nan
        raise ValueError(f"not a time: {text!r}")
    return value


def _table(text: str, keys: Sequence[str]) -> dict[str, int]:
    """Return the counts by those of `keys` that `text` has; others are skipped."""
    pairs = [pair.partition("=") for pair in text.split(" ")]
    return {key: _count(count) for key, _, count in pairs if key in keys}


def _histogram(text: str, bounds: Sequence[float]) -> Durations:
    """Return the histogram in `text`, an empty one if that has other bounds: those of
    another version.
    """
    total, _, rest = text.partition(" ")
    keys = [*map(str, bounds), "inf"]
    pairs = [pair.partition("=") for pair in rest.split(" ")] if rest else []
    durations = Durations(bounds)
    if all(key in keys for key, _, _ in pairs):
        durations.seconds = seconds(total)
        for key, _, count in pairs:
            durations.counts[keys.index(key)] = _count(count)
    return durations
