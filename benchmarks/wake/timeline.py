"""Where the time of a wake goes: what each process has reached, and when, on one clock.

    make bench-timeline ROUNDS=30
    .../python benchmarks/wake/timeline.py --app flasky:app --svg timeline.svg

marked.py reports what shows it: forks, and the first import of what comes next. The
client's own clock adds when it connected and when it had the first byte. Each figure is
a median over the rounds, in milliseconds since the client connected.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from servers import (  # noqa: E402
    SPYGLASS,
    adopt_orphans,
    ask,
    asleep,
    clear,
    listener,
    prefer_us,
    serving,
    workplace,
)

WARMING_UP = 2
PATIENCE = 10.0  # seconds
MASTER, ZYGOTE, WORKER = range(3)
PROCESSES = ("Master", "zygote", "worker")
FIRST_BYTE = "first byte"
ORDERED = "import spyglass.master.first_answer"
WAITED = "import spyglass.master.counters"  # the Master does nothing until then
LAST = "import spyglass.master.systemd_watchdog"

# By which process, what shows it in the log of marked.py (APP: the import of the app),
# and what it has reached by then.
MARKS = [
    (MASTER, "begin", "the interpreter is there"),
    (MASTER, "os.fork", "what both need is imported, the zygote is forked"),
    (MASTER, "import systemd", "the settings are read and sent"),
    (MASTER, ORDERED, "the listeners are known, a worker is ordered"),
    (ZYGOTE, "import spyglass.zygote", "it is a process of its own"),
    (ZYGOTE, "import spyglass.worker.main", "its modules are imported, site is run"),
    (ZYGOTE, "os.chdir", "the worker's modules are imported, the settings are known"),
    (ZYGOTE, "APP", "the environment is prepared for the app"),
    (ZYGOTE, "os.fork", "the app is loaded, a worker is forked"),
    (WORKER, FIRST_BYTE, "the client has its answer"),
    (WORKER, "import spyglass.worker.slow_clients", "the rest begins to be imported"),
    (MASTER, WAITED, "it knows of the answer"),
    (MASTER, LAST, "its other parts are imported; systemd is told next"),
]


def wake(argv: list[str], directory: Path, report: Path, log: int) -> dict[str, float]:
    """Wake it once; return when what was reached, in seconds after the connect. The
    keys begin with the number of the process, in the order of their first reports.
    """
    report.write_bytes(b"")
    with listener() as sock:
        pid = asleep(argv, sock, directory, log)
        time.sleep(0.03)  # as in wake.py
        began = time.monotonic()
        first: list[float] = []
        try:
            ask(sock.getsockname(), lambda: first.append(time.monotonic()))
            until = time.monotonic() + PATIENCE
            while LAST not in report.read_text() and time.monotonic() < until:
                time.sleep(0.01)
        finally:
            clear(pid)
    found = {f"{WORKER} {FIRST_BYTE}": first[0] - began}
    pids: list[str] = []
    for line in report.read_text().splitlines():
        process, when, what = line.split(" ", 2)
        if process not in pids:
            pids.append(process)
        found.setdefault(f"{pids.index(process)} {what}", float(when) - began)
    return found


def measure(app: str, rounds: int) -> tuple[list[list[float]], list[float]]:
    """By mark, when it was reached, in milliseconds; and whole wakes without marks."""
    times: list[list[float]] = [[] for _ in MARKS]
    alone = []
    module = app.partition(":")[0]
    python, *rest = serving(SPYGLASS, app)
    with workplace() as (directory, log):
        report = directory.with_name("report")
        options = list(itertools.takewhile(lambda word: word.startswith("-"), rest))
        marked = [python, *options, str(HERE / "marked.py"), str(report), *rest[len(options) :]]
        for number in range(-WARMING_UP, rounds):
            found = wake(marked, directory, report, log)
            bare = bare_wake([python, *rest], directory, log)
            if number >= 0:
                alone.append(bare * 1000)
                for mark, (process, what, _) in enumerate(MARKS):
                    key = f"{process} {what.replace('APP', f'import {module}')}"
                    if key in found:
                        times[mark].append(found[key] * 1000)
            print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return times, alone


def bare_wake(argv: list[str], directory: Path, log: int) -> float:
    """Seconds to the first byte, without marks."""
    with listener() as sock:
        pid = asleep(argv, sock, directory, log)
        time.sleep(0.03)
        times = [time.monotonic()]
        try:
            ask(sock.getsockname(), lambda: times.append(time.monotonic()))
        finally:
            clear(pid)
    return times[1] - times[0]


def steps(times: list[list[float]]) -> list[tuple[str, str, float, float]]:
    """(process, what, from, to) of each mark, in milliseconds. A process begins when it
    is forked.
    """
    found = []
    last = [0.0, 0.0, 0.0]
    for (process, mark, what), reached in zip(MARKS, times, strict=True):
        if not reached:
            continue
        when = statistics.median(reached)
        since = when if mark == WAITED else last[process]
        found.append((PROCESSES[process], what, since, when))
        last[process] = when
        if mark == "os.fork":
            last[process + 1] = when
    return found


def text(rows: list[tuple[str, str, float, float]]) -> str:
    """The steps as a table."""
    lines = ["| process | reached | at, ms | took, ms |", "|---|---|---|---|"]
    lines += [f"| {who} | {what} | {to:.1f} | {to - since:.1f} |" for who, what, since, to in rows]
    return "\n".join(lines)


COLORS = {"Master": "#4c78a8", "zygote": "#e0893a", "worker": "#54a24b"}
ROW, LABELS, CHART, NUMBERS = 24, 430, 420, 60


def svg(rows: list[tuple[str, str, float, float]], title: str) -> str:
    """The steps as bars below each other, one row for each."""
    scale = CHART / max(to for *_, to in rows)
    height = ROW * (len(rows) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABELS + CHART + NUMBERS} {height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f"<title>{escape(title)}</title>",
        f'<text x="{LABELS}" y="16" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (who, what, since, to) in enumerate(rows, 1):
        y = number * ROW
        x, width = LABELS + since * scale, max(1.5, (to - since) * scale)
        parts += [
            f'<text x="{LABELS - 8}" y="{y + 16}" text-anchor="end">{escape(f"{who}: {what}")}</text>',
            f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}" fill="{COLORS[who]}"/>',
            f'<text x="{x + width + 4:.1f}" y="{y + 16}" font-size="11">{to:.1f}</text>',
        ]
    parts.append(
        f'<text x="{LABELS}" y="{height - 6}" font-size="11">milliseconds since the client connected</text></svg>'
    )
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--app", default="hello:app", help="one in benchmarks/apps (hello:app)")
    parser.add_argument("--svg", type=Path, help="a file for the diagram")
    given = parser.parse_args()
    adopt_orphans()
    prefer_us()
    times, alone = measure(given.app, given.rounds)
    rows = steps(times)
    print(text(rows))
    print(f"\nWithout marks, the client has its answer after {statistics.median(alone):.1f} ms.")
    if given.svg:
        given.svg.write_text(svg(rows, f"A wake of {given.app}"))


if __name__ == "__main__":
    main()
