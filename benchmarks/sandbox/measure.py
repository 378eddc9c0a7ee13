"""What each sandbox option costs a wake, and how much exposure it takes away, on real
systemds of both releases.

    sudo .venv/bin/python benchmarks/sandbox/measure.py single      each option alone
    ... measure.py without | with                                   what is shipped, with one thing less or more
    ... measure.py sets                                             whole sets that were weighed against each other
    ... measure.py shipped --spyglass                               what is shipped, waking the welcome page of `make deb`

wakes.py repeats the table of docs/performance.md (`make bench-systemd`).

Each candidate is a socket unit and a service unit of the same small static program
(wake.c); they differ in nothing but the options. knock.py visits all of them in rounds.
Reported is the mean over the rounds of what a candidate took longer than the bare
service in the same round, the most extreme tenth at either end left out, with the
standard error of that mean: a wake waits for the kernel to pass a grace period
(attaching to a cgroup does), so single times jump by as much as most options cost, and
a median jumps along. The same for the processor time that the service's control group
has used by then: it leaves out what a wake waits for, and so what other programs do.
Exposure and points are what `systemd-analyze security` of that very machine says of the
loaded unit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests/system"))

from machine import Machine, boot, installed, root  # noqa: E402
from options import LIFE, TABLES, Sets  # noqa: E402

BARE = "no sandbox"
AGAIN = "no sandbox, again"  # shows what this machine's moods are worth
RELEASES = ("bookworm", "trixie")
Round = dict[str, tuple[float, float]]  # wall and processor time, ms

SOCKET = """[Socket]
ListenStream=/run/wake/{name}.sock
TriggerLimitIntervalSec=0
"""
SERVICE = """[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart={program}
{lines}
"""
PROBE = "/usr/local/bin/wake"
UNCOVER = r"""
awk '$5 ~ "^/(proc|run/host)/" { print $5 }' /proc/self/mountinfo | sort -r | while read -r path; do
    umount "$path" || true
done
"""
# What findmnt shows on a Debian server besides.
MOUNTED = {
    "bookworm": ("/boot/efi", "/run/user/1000"),
    "trixie": (
        *("/boot/efi", "/run/user/1000"),
        *(
            f"/run/credentials/{unit}.service"
            for unit in ("getty@tty1", "serial-getty@ttyS0", "systemd-networkd", "systemd-resolved")
        ),
    ),
}
SPYGLASS = "/usr/bin/spyglass serve --idle-timeout 0.2"


def furnish(machine: Machine) -> None:
    """Make of the container what a machine is, as far as it changes what systemd does
    for a sandbox.
    """
    # A dynamic user's directories are id-mapped where the file system can do that; an
    # overlay cannot, a tmpfs can.
    for base in ("/var/lib", "/var/cache"):
        machine.run("mkdir", "-p", "-m", "0700", f"{base}/private")
        machine.run("mount", "-t", "tmpfs", "-o", "mode=0700", "private", f"{base}/private")
    # ProtectKernelModules= hides it, but only what is there.
    machine.run("mkdir", "-p", "/usr/lib/modules")
    # systemd reads the table of mounts again for nearly each mount that it makes, and
    # takes each mount below a path away singly. nspawn covers a dozen paths in /proc
    # and /run, which no machine does; a machine has others.
    machine.run("sh", "-c", UNCOVER)
    for path in MOUNTED[machine.release]:
        machine.run("mkdir", "-p", path)
        machine.run("mount", "-t", "tmpfs", "-o", "size=4k", "machine", path)


def prefer(machine: Machine) -> None:
    """Let what else runs here wait: niceness is inherited by all that the machine's PID
    1 and knock.py start.
    """
    os.setpriority(os.PRIO_PROCESS, machine.leader, -15)


def units(sets: Sets) -> list[str]:
    """Numbers, for the names of sets may have what names of units and users must
    not.
    """
    return [f"wake-{number}" for number in range(len(sets))]


def install(machine: Machine, sets: Sets, program: str) -> None:
    machine.copy(HERE / "knock.py", "/root/knock.py")
    with tempfile.TemporaryDirectory() as scratch:
        if program == PROBE:
            probe = Path(scratch, "wake")
            subprocess.run(
                ["cc", "-O2", "-static", "-o", str(probe), str(HERE / "wake.c")], check=True
            )
            machine.copy(probe, PROBE)
        directory = Path(scratch, "system")
        directory.mkdir(mode=0o755)
        for name, lines in zip(units(sets), sets.values(), strict=True):
            (directory / f"{name}.socket").write_text(SOCKET.format(name=name))
            text = "\n".join([*LIFE, *lines]).replace("{name}", name)
            (directory / f"{name}.service").write_text(SERVICE.format(program=program, lines=text))
        machine.copy(directory, "/run/systemd/system")
    machine.systemctl("daemon-reload")
    machine.systemctl("start", *[f"{name}.socket" for name in units(sets)])


def exposure(machine: Machine, unit: str) -> tuple[float, int]:
    """Overall exposure, and the sum of weighted badness behind it."""
    # SYSTEMD_ANALYZE_DEBUG adds the weights, of which the exposure of a single row is
    # only the rounding.
    said = machine.run(
        "systemd-analyze", "security", "--json=short", unit, env={"SYSTEMD_ANALYZE_DEBUG": "1"}
    ).stdout
    rated = [
        row
        for row in json.loads(said)
        if row["badness"] is not None and row["badness"] <= row["range"]
    ]
    bad = sum(-(-row["badness"] * row["weight"] // row["range"]) for row in rated)
    return -(-bad * 100 // sum(row["weight"] for row in rated)) / 10, bad


def knock(machine: Machine, sets: Sets, rounds: int, gap: float) -> list[Round]:
    client = machine.popen(
        *(
            "nice",
            "-n",
            "-15",
            "python3",
            "-I",
            "/root/knock.py",
            str(rounds),
            "4222",
            str(gap),
            *units(sets),
        ),
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None
    found: list[Round] = []
    for line in client.stdout:
        times = json.loads(line)
        found.append(
            {name: tuple(times[unit]) for name, unit in zip(sets, units(sets), strict=True)}
        )
        print(
            f"\r{machine.release}: round {len(found)} of {rounds}",
            end="",
            file=sys.stderr,
            flush=True,
        )
    print(file=sys.stderr)
    if client.wait():
        raise SystemExit("knock.py failed\n" + "\n".join(machine.journal()[-40:]))
    return found


def added(rounds: list[Round], name: str, base: str, clock: int) -> tuple[float, float]:
    """Milliseconds more than `base`: trimmed mean and its standard error. `clock` is 0
    for wall time, 1 for processor time.
    """
    differences = sorted(times[name][clock] - times[base][clock] for times in rounds)
    trim = len(differences) // 10
    kept = differences[trim : len(differences) - trim]
    return statistics.fmean(kept), statistics.stdev(kept) / len(kept) ** 0.5


def report(
    sets: Sets, rated: dict[str, dict[str, tuple[float, int]]], found: dict[str, list[Round]]
) -> None:
    print(
        "| |"
        + "".join(f" {release}: exposure, points | added ms | processor ms |" for release in found)
    )
    print("|---|" + "---|---|---|" * len(found))
    for name in sets:
        cells = []
        for release, rounds in found.items():
            score, bad = rated[release][name]
            times = [added(rounds, name, BARE, clock) for clock in (0, 1)]
            cells.append(f" {score}, {rated[release][BARE][1] - bad} |")
            cells += [f" {mean:+.1f} ± {error:.1f} |" for mean, error in times]
        print(f"| {name.format(name='NAME')} |" + "".join(cells))
    for release, rounds in found.items():
        wake = statistics.median(times[BARE][0] for times in rounds)
        print(f"\n{release}: no sandbox takes {wake:.1f} ms (median of {len(rounds)} rounds)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument(
        "--gap", type=float, default=0.02, help="seconds of quiet between two knocks"
    )
    parser.add_argument("--release", choices=RELEASES, action="append")
    parser.add_argument(
        "--spyglass", action="store_true", help="wake the packaged Spyglass instead of wake.c"
    )
    parser.add_argument("--raw", type=Path, help="write all times there, as JSON")
    given = parser.parse_args()
    sets: Sets = {BARE: [], AGAIN: [], **TABLES[given.table]}
    rated, found = {}, {}
    for release in given.release or RELEASES:
        with tempfile.TemporaryDirectory() as layer:
            layers = installed(release, Path(layer)) if given.spyglass else [root("tests", release)]
            with boot(release, *layers) as machine:
                prefer(machine)
                furnish(machine)
                install(machine, sets, SPYGLASS if given.spyglass else PROBE)
                rated[release] = {
                    n: exposure(machine, f"{u}.service")
                    for n, u in zip(sets, units(sets), strict=True)
                }
                found[release] = knock(machine, sets, given.rounds, given.gap)
    if given.raw:
        given.raw.write_text(json.dumps(found))
    report(sets, rated, found)


if __name__ == "__main__":
    main()
