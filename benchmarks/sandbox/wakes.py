"""How long a client waits for a sleeping app through a real systemd, and what the
sandbox's share of it is. `make bench-systemd` runs it.

The first table: a bare Python service (interpreter, accept, one answer), Spyglass from
its package without a sandbox, and with the shipped one; all answer the first connection
to a socket unit. The second: the shipped sandbox without one of its parts, around the
small program of measure.py, so that a part that costs something shows here what it costs
in company. Its last columns count what systemd does before it runs the command; they are
the same on a busy machine.

    sudo .venv/bin/python benchmarks/sandbox/wakes.py --rounds 15 --release trixie
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests/system"))

from count import COLUMNS, count  # noqa: E402
from machine import Machine, boot, installed  # noqa: E402
from measure import (  # noqa: E402
    PROBE,
    RELEASES,
    SPYGLASS,
    Round,
    added,
    exposure,
    furnish,
    install,
    knock,
    prefer,
    units,
)
from options import PARTS, SHIPPED, Sets  # noqa: E402

BARE_PROGRAM = "/usr/local/lib/bare.py"
BARE, OPEN, CLOSED = "bare Python service", "Spyglass, no sandbox", "Spyglass, the shipped sandbox"
NONE, ALL = "all of it", "nothing: as shipped"
WAKES: Sets = {
    BARE: ["Type=exec", "ExecStart=", f"ExecStart=/usr/bin/python3 -I -S {BARE_PROGRAM}"],
    OPEN: ["ExecStart=", f"ExecStart={SPYGLASS}"],
    CLOSED: [*SHIPPED, "ExecStart=", f"ExecStart={SPYGLASS}"],
}
WITHOUT: Sets = {ALL: SHIPPED, **PARTS, NONE: []}
SETS = WAKES | WITHOUT
# Until the client closes, for the control group's processor time is gone with the group.
STAY = "\nconnection.recv(1)\n"


def report(
    release: str, exposures: dict[str, float], rounds: list[Round], counts: dict[str, Counter[str]]
) -> None:
    print(f"\n| {release} | median, ms | beyond the first row, ms | processor, ms |")
    print("|---|---|---|---|")
    for name in WAKES:
        wall = statistics.median(times[name][0] for times in rounds)
        used = statistics.median(times[name][1] for times in rounds)
        mean, error = added(rounds, name, BARE, 0)
        print(f"| {name} | {wall:.1f} | {mean:+.1f} ± {error:.1f} | {used:.1f} |")
    print(
        f"\n| {release}: the sandbox without | exposure | saves, ms | saves of the processor, ms |"
        + "".join(f" {column} |" for column in COLUMNS)
    )
    print("|---|---|---|---|" + "---|" * len(COLUMNS))
    for name in WITHOUT:
        saved = [added(rounds, ALL, name, clock) for clock in (0, 1)]
        cells = [
            f"{exposures[name]}",
            *("-" if name == ALL else f"{mean:.1f} ± {error:.1f}" for mean, error in saved),
            *(str(counts[name][column]) for column in COLUMNS),
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def measure(machine: Machine, rounds: int, gap: float, scratch: Path) -> None:
    prefer(machine)
    furnish(machine)
    bare = (HERE.parent / "wake/bare.py").read_text() + STAY
    machine.write(BARE_PROGRAM, bare)
    install(machine, SETS, PROBE)
    by_name = dict(zip(SETS, units(SETS), strict=True))
    exposures = {name: exposure(machine, f"{unit}.service")[0] for name, unit in by_name.items()}
    # The first round writes byte code and fills the page cache.
    found = knock(machine, SETS, rounds + 1, gap)[1:]
    mounts = len(machine.read("/proc/1/mountinfo").splitlines())
    counts = {
        name: count(machine, unit, PROBE, scratch)
        for name, unit in by_name.items()
        if name in WITHOUT
    }
    report(machine.release, exposures, found, counts)
    print(f"\n{machine.release}: {rounds} rounds on a machine with {mounts} mounts.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--gap", type=float, default=0.05, help="seconds of quiet between two knocks"
    )
    parser.add_argument("--release", choices=RELEASES, action="append")
    given = parser.parse_args()
    for release in given.release or RELEASES:
        with tempfile.TemporaryDirectory() as scratch:
            layer = Path(scratch, "layer")
            layer.mkdir()
            with boot(release, *installed(release, layer)) as machine:
                measure(machine, given.rounds, given.gap, Path(scratch))


if __name__ == "__main__":
    main()
