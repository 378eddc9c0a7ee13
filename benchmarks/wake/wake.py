"""How long a sleeping app's first visitor waits: connect() to the first byte of the
answer, by server. `make bench-wake` runs it.

We hold the listening socket, as systemd would, and start the server when somebody
connects: LISTEN_FDS and LISTEN_PID, no shell in between. Passenger, where it is
installed, runs all the time and starts the app for the first request. Every round wakes every server
once, in a new order, so that what else the machine does falls on all of them alike. The
first rounds, which write byte code and fill the page cache, do not count. Times vary
with the machine and its mood, ratios much less.

    PYTHON=/usr/bin/python3 make bench-wake ROUNDS=50
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from passenger import Passenger, missing, passenger  # noqa: E402
from servers import (  # noqa: E402
    BIN,
    GUNICORN,
    SPYGLASS,
    UWSGI,
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
BARE = [sys.executable, "-I", "-S", str(HERE / "bare.py")]
IMPORT = "bare Python that imports the app"
MINE = "Spyglass"
PASSENGER = "Passenger"
# What Passenger serves: it does not speak ASGI.
APPS = {"hello": "hello:app", "Flask": "flasky:app"}

# By table: by row, what to run. The first row is 1.0.
TABLES = {
    "hello": {
        "bare Python": BARE,
        MINE: serving(SPYGLASS, "hello:app"),
        "uWSGI": serving(UWSGI, "hello:app"),
        "gunicorn": serving(GUNICORN, "hello:app"),
    },
    "Flask": {
        # With site, for that is where Flask is found.
        IMPORT: [sys.executable, "-I", str(HERE / "bare.py"), "flasky"],
        MINE: serving(SPYGLASS, "flasky:app"),
        "uWSGI": serving(UWSGI, "flasky:app"),
        "gunicorn": serving(GUNICORN, "flasky:app"),
    },
    # uvicorn takes one descriptor and does not ask where it comes from.
    "FastAPI": {
        IMPORT: [sys.executable, "-I", str(HERE / "bare.py"), "fasty"],
        MINE: serving(SPYGLASS, "fasty:app"),
        "uvicorn": [str(BIN / "uvicorn"), "--fd=3", "--log-level=error", "fasty:app"],
        "gunicorn": serving([*GUNICORN, "--worker-class=asgi"], "fasty:app"),
    },
}


def wake(argv: list[str], directory: Path, log: int) -> tuple[float, bytes]:
    """Milliseconds to the first byte of the answer, and its body."""
    with listener() as sock:
        pid = asleep(argv, sock, directory, log)
        time.sleep(
            0.03
            # For it to be waiting, and for the end of the one before to be over; nothing
            # tells when it is
        )
        times = [time.perf_counter()]
        try:
            body = ask(sock.getsockname(), lambda: times.append(time.perf_counter()))
        finally:
            clear(pid)
    return (times[1] - times[0]) * 1000, body


def wake_passenger(server: Passenger) -> float:
    """The same of one that has no process of the app."""
    server.wait_for_apps(0)
    time.sleep(0.03)
    times = [time.perf_counter()]
    ask(server.address, lambda: times.append(time.perf_counter()))
    return (times[1] - times[0]) * 1000


def measure(
    rounds: int, tables: dict[str, dict[str, list[str]]], beside: bool
) -> dict[tuple[str, str], list[float]]:
    """Milliseconds by table and row; with Passenger's rows, if that is `beside`."""
    with workplace() as (directory, log), contextlib.ExitStack() as stack:
        standing = {}
        if beside:
            for table in tables.keys() & APPS:
                standing[table] = stack.enter_context(passenger(APPS[table], directory, log, 0))
        rows = [(table, row) for table, entries in tables.items() for row in entries]
        rows += [(table, PASSENGER) for table in standing]
        found: dict[tuple[str, str], list[float]] = {row: [] for row in rows}
        imports: dict[str, list[float]] = {}
        for number in range(-WARMING_UP, rounds):
            random.shuffle(rows)
            for table, row in rows:
                if row == PASSENGER:
                    took, body = wake_passenger(standing[table]), b""
                else:
                    took, body = wake(tables[table][row], directory, log)
                if number >= 0:
                    found[table, row].append(took)
                    if row == IMPORT:
                        imports.setdefault(table, []).append(float(body))
            print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for table, times in imports.items():
        found[table, "of which the import"] = times
    return found


def report(found: dict[tuple[str, str], list[float]]) -> None:
    for table in dict.fromkeys(table for table, _ in found):
        rows = {row: times for (group, row), times in found.items() if group == table}
        first = next(iter(rows.values()))
        print(
            f"\n| {table} | median, ms | to the first row | beyond it, ms | fastest, ms | to the first row | beyond it, ms |\n|---|---|---|---|---|---|---|"
        )
        for row, times in rows.items():
            cells = []
            # The fastest is the one nobody else got in the way of: on a busy machine it
            # is the steadier measure.
            for typical in (statistics.median, min):
                mine, measure = typical(times), typical(first)
                cells += [f"{mine:.1f}", f"{mine / measure:.2f}", f"{mine - measure:+.1f}"]
            print(f"| {row} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", action="append", choices=TABLES, help="one of the tables")
    given = parser.parse_args()
    adopt_orphans()
    prefer_us()
    if reason := missing():
        print(reason, file=sys.stderr)
    tables = {name: rows for name, rows in TABLES.items() if not given.only or name in given.only}
    report(measure(given.rounds, tables, beside=not reason))


if __name__ == "__main__":
    main()
