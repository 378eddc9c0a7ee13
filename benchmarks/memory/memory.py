"""What an app costs while it is awake: proportional set size (PSS) of all processes of
a server, by server. `make bench-memory` runs it.

Each serves the same Flask app with two workers, has answered 200 requests, each on a
connection of its own, and is then at rest. PSS is the kernel's own account
(smaps_rollup, proc(5)): what is private counts whole, a page that n processes share
counts one n-th in each, so the sum is what the kernel would get back. As all servers
run on the same libpython, each is measured alone, and its own processes share it with
nobody but us: with a few processes more on the machine each figure would be a little
smaller.

    memory.py               the table
    memory.py --by-mapping  and where it is, by process and mapping
    memory.py --lookout     a waiting `spyglass lookout`
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from passenger import missing, passenger  # noqa: E402
from servers import (  # noqa: E402
    BIN,
    ENVIRONMENT,
    PATIENCE,
    SPYGLASS,
    UWSGI,
    adopt_orphans,
    ask,
    asleep,
    clear,
    listener,
    serving,
    session,
    workplace,
)

APP = "flasky:app"
REQUESTS = 200
GUNICORN = [str(BIN / "gunicorn"), "--workers=2", "--preload", "{app}"]
# It takes no socket from systemd, so it opens its own.
GRANIAN = [
    str(BIN / "granian"),
    "--interface=wsgi",
    "--workers=2",
    "--no-ws",
    "--host=127.0.0.1",
    "--port={port}",
    "{app}",
]
PASSENGER = "Passenger"
SERVERS: dict[str, list[str]] = {
    "Spyglass": SPYGLASS,
    "Spyglass, threads = 1": [*SPYGLASS, "--threads=1"],
    "uWSGI": UWSGI,
    "gunicorn --preload": GUNICORN,
    "granian": GRANIAN,
    PASSENGER: [],
}


def rollup(pid: int) -> dict[str, int]:
    """KiB by field: Rss, Pss, Private_Dirty..."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}


def by_mapping(pid: int) -> Counter[str]:
    """PSS in KiB by what is mapped."""
    found: Counter[str] = Counter()
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if head := re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)", line):
            name = os.path.basename(head[1]) or "anonymous"
        elif pss := re.match(r"Pss: +(\d+) kB", line):
            found[name] += int(pss[1])
    return found


def show_mappings(pid: int) -> None:
    for process in session(pid):
        facts = rollup(process)
        mappings = by_mapping(process).most_common(6)
        print(
            f"    {process}: Rss {facts['Rss']}, Pss {facts['Pss']}, private {facts['Private_Dirty'] + facts['Private_Clean']} KiB: ",
            end="",
        )
        print(", ".join(f"{name} {size}" for name, size in mappings))


def visit(address: tuple[str, int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            ask(address)
            break
        except ConnectionRefusedError:  # granian is not there yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    for _ in range(REQUESTS - 1):
        ask(address)


def measure(command: list[str], directory: Path, log: int, show: bool) -> tuple[float, int]:
    """MiB of PSS, and the number of processes."""
    with listener() as sock:
        if command == GRANIAN:
            with listener() as free:
                target = free.getsockname()
            argv = [word.format(app=APP, port=target[1]) for word in command]
            pid = asleep(argv, sock, directory, log)
            socket.create_connection(sock.getsockname()).close()  # `sock` only starts it
        else:
            target = sock.getsockname()
            pid = asleep(serving(command, APP), sock, directory, log)
        try:
            visit(target)
            time.sleep(1.0)  # at rest
            processes = session(pid)
            size = total(processes)
            if show:
                show_mappings(pid)
        finally:
            clear(pid)
    return size, len(processes)


def total(processes: list[int]) -> float:
    """MiB of PSS."""
    return sum(rollup(process)["Pss"] for process in processes) / 1024


def measure_passenger(directory: Path, log: int, show: bool) -> tuple[float, int]:
    """MiB of PSS, and the number of processes; its own two processes included, which
    serve all apps of a machine.
    """
    with passenger(APP, directory, log, instances=2) as server:
        visit(server.address)
        server.wait_for_apps(2)
        time.sleep(1.0)  # at rest
        processes = server.processes()
        if show:
            show_mappings(server.pid)
        return total(processes), len(processes)


def asleep_passenger(directory: Path, log: int) -> tuple[float, int]:
    """The same while the app, which has been visited, sleeps."""
    with passenger(APP, directory, log, instances=0) as server:
        visit(server.address)
        server.wait_for_apps(0)
        time.sleep(1.0)  # at rest
        processes = server.processes()
        return total(processes), len(processes)


def lookout(directory: Path, log: int) -> None:
    """Resident memory of one that waits, before the first visit and after the first
    Master has left.
    """
    with listener() as free:
        where = free.getsockname()
    pid = os.fork()
    if not pid:
        os.setsid()
        os.chdir(directory)
        os.dup2(log, 1)
        os.dup2(log, 2)
        words = ["lookout", APP, f"--bind=127.0.0.1:{where[1]}", "--idle-timeout=0.5"]
        os.execve(str(BIN / "spyglass"), ["spyglass", *words], ENVIRONMENT)
    try:
        time.sleep(1.0)
        before = rollup(pid)
        visit(where)
        deadline = time.monotonic() + PATIENCE
        while Path(f"/proc/{pid}/task/{pid}/children").read_text():
            if time.monotonic() > deadline:
                raise RuntimeError("the Master has not left")
            time.sleep(0.05)
        after = rollup(pid)
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    print(
        "| a waiting lookout | resident (RSS), MiB | its share (PSS), MiB | of which private, MiB |\n|---|---|---|---|"
    )
    for when, facts in (("before the first visit", before), ("after a Master has left", after)):
        sizes = (facts["Rss"], facts["Pss"], facts["Private_Dirty"] + facts["Private_Clean"])
        print(f"| {when} | " + " | ".join(f"{size / 1024:.1f}" for size in sizes) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--by-mapping", action="store_true")
    parser.add_argument("--only", action="append", choices=SERVERS)
    parser.add_argument("--lookout", action="store_true", help="measure that instead")
    given = parser.parse_args()
    adopt_orphans()
    names = given.only or list(SERVERS)
    if reason := missing():
        print(reason, file=sys.stderr)
        names = [name for name in names if name != PASSENGER]
    with workplace() as (directory, log):
        if given.lookout:
            lookout(directory, log)
            return
        compare(names, given.rounds, given.by_mapping, directory, log)


def compare(names: list[str], rounds: int, mappings: bool, directory: Path, log: int) -> None:
    """Measure each server once in a round, and print the tables."""
    found: dict[str, list[float]] = {name: [] for name in names}
    asleep_sizes: list[float] = []
    processes = {}
    for number in range(rounds + 1):
        for name in names:
            show = mappings and number == rounds
            if show:
                print(f"  {name}")
            if name == PASSENGER:
                size, processes[name] = measure_passenger(directory, log, show)
                sleeping, waiting = asleep_passenger(directory, log)
            else:
                size, processes[name] = measure(SERVERS[name], directory, log, show)
            if number:  # the first writes byte code
                found[name].append(size)
                if name == PASSENGER:
                    asleep_sizes.append(sleeping)
    rival = statistics.median(found.get("uWSGI") or next(iter(found.values())))
    print("\n| awake, Flask, 2 workers | processes | PSS, MiB | to uWSGI |\n|---|---|---|---|")
    for name, sizes in found.items():
        size = statistics.median(sizes)
        print(f"| {name} | {processes[name]} | {size:.1f} | {size / rival:.2f} |")
    if asleep_sizes:
        size = statistics.median(asleep_sizes)
        print(f"\n{PASSENGER} with the app asleep: {waiting} processes, {size:.1f} MiB")


if __name__ == "__main__":
    main()
