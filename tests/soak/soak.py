"""Everything that can happen to running apps, at random and at the same time, for as
long as one likes: `make soak MINUTES=30`.

    make soak [MINUTES=30] [RELEASE=bookworm|trixie] [SEED=4711]

boots a Debian with the package installed (tests/system/machine.py) and a few apps with
different settings on it (APPS), and then

    visits them       tests/soak/visitors.py: polite and rude, quick and slow visitors; each checks the answer to the last byte;
    those that come to ASGI apps alone are in live_visitors.py: WebSockets, event streams
    leaves them alone tests/soak/sites.py: for about as long as they take to leave, or
    until they are asleep
    disturbs them     tests/soak/disturbances.py and machinewide.py: tables of what an administrator does and of what goes wrong
    looks at them     tests/soak/watch.py: processes, descriptors, temporary files, memory, and the journal at the end

The ledger (tests/soak/ledger.py) has each request, what was permitted when, and whose
work each request was. The report at the end is a table. The exit status is 1 when a
request failed that nothing explains, when something was left behind or grew, when a
promise was broken or the journal has a line that nobody expects; else 0. The seed
decides who comes and what is done when; not how the machine's processes take turns, so
a run with the same seed is alike and not equal.

To have another disturbance is a function and a row in one of the tables. Nothing of
this runs in CI: `make test` only tries the ledger.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from disturbances import DISTURBANCES
from ledger import Ledger
from machine import PREFIX, Machine, boot, installed, package
from machinewide import DEB, WHOLE_MACHINE
from report import Report
from scene import Scene, Whole
from sites import Site, rhythm
from visitors import Caller
from watch import Watch

VENV = "/srv/venv"
# One disturbance of an app at a time, and of different apps at the same time: a mean
# pause of so many seconds for each.
APP_EVERY, MACHINE_EVERY = 8.0, 25.0

APPS: dict[str, dict[str, Any]] = {
    # Its Master lives as long as the run: what grows, grows there.
    "steady": dict(port=9001, steady=True, workers=2, threads=4, idle_timeout=0),
    "usual": dict(port=9002, workers=2, threads=4, idle_timeout=2, idle_ignore=["/health"]),
    "alone": dict(port=9003, workers=1, threads=1, idle_timeout=1.5, visitors=3),
    "flask": dict(port=9004, framework="flasked", venv=VENV, workers=2, threads=4, idle_timeout=3),
    "recycled": dict(
        port=9005, workers=3, threads=4, idle_timeout=3, max_requests=60, max_memory="64M"
    ),
    "async": dict(
        port=9006,
        framework="coroutines",
        workers=2,
        threads=4,
        idle_timeout=2,
        idle_ignore=["/health", "websocket:/watch"],
        websocket_ping=5,
    ),
    "fastapi": dict(
        port=9007,
        framework="fast",
        venv=VENV,
        workers=2,
        threads=4,
        idle_timeout=3,
        max_requests=60,
        access_log="json",
    ),
    "loop": dict(
        framework="coroutines", workers=2, threads=1, preload=False, idle_timeout=1.5, visitors=4
    ),
    "each": dict(workers=2, threads=1, preload=False, idle_timeout=2),
    "proxied": dict(
        workers=2, threads=4, idle_timeout=2, proxy_protocol=True, access_log="combined", visitors=4
    ),
}


class Soak:
    """A run on a booted machine."""

    def __init__(self, machine: Machine, minutes: float, seed: int) -> None:
        self.machine = machine
        self.seconds = minutes * 60
        self.seed = seed
        self.over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.ledger = Ledger()
        self.sites = [
            Site(machine, self.ledger, name, **settings) for name, settings in APPS.items()
        ]
        self.watch = Watch(machine, self.sites, self.ledger)

    def dice(self, *whose: Any) -> random.Random:
        return random.Random(f"{self.seed} {whose}")

    def prepare(self) -> None:
        """All apps are there, were awake once, and sleep."""
        for site in self.sites:
            site.start()
            site.mended()
        for site in self.sites:
            if site.steady:
                self.machine.systemctl("stop", site.instance.service)
            site.machine.wait_until(site.instance.asleep, 30, f"{site.name} is asleep")
        self.watch.begin()

    def run(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._end)
            stack.enter_context(self.machine.network())
            for site in self.sites:
                for number in range(site.visitors):
                    caller = Caller(
                        site, self.ledger, self.dice(site.name, number), f"{site.name}{number}"
                    )
                    self._start(site.come, caller)
                self._start(rhythm, site, self.dice(site.name, "rhythm"), self.watch.look)
                self._start(self._disturb, site, self.dice(site.name, "disturbances"))
            self._start(self._disturb_machine, self.dice("machine"))
            self._start(self.watch.run, self.over)
            self._progress()

    def _start(self, what: Any, *arguments: Any) -> None:
        def run() -> None:
            try:
                what(*arguments)
            except Exception as error:
                self.ledger.complain("", "the soak itself", f"{what}: {error!r}")

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def _pause(self, dice: random.Random, mean: float) -> bool:
        return self.over.wait(min(dice.expovariate(1 / mean), 3 * mean))

    def _disturb(self, site: Site, dice: random.Random) -> None:
        names = [name for name, each in DISTURBANCES.items() if each.fits(site)]
        weights = [DISTURBANCES[name].weight for name in names]
        while names and not self._pause(dice, APP_EVERY):
            [name] = dice.choices(names, weights)
            with site.lock, self.ledger.disturbance(name, site.name):
                DISTURBANCES[name].do(Scene(name, site, self.ledger, dice))
                site.settled(name)

    def _disturb_machine(self, dice: random.Random) -> None:
        names, weights = list(WHOLE_MACHINE), [each.weight for each in WHOLE_MACHINE.values()]
        while names and not self._pause(dice, MACHINE_EVERY):
            [name] = dice.choices(names, weights)
            if (
                WHOLE_MACHINE[name].early
                and time.monotonic() > self.ledger.began + self.seconds / 3
            ):
                continue
            with self.ledger.disturbance(name, ""):
                WHOLE_MACHINE[name].do(
                    Whole(name, self.machine, self.sites, self.ledger, dice, self.over)
                )

    def _progress(self) -> None:
        """Waits until it is over, and tells from time to time that it still lives."""
        self.ledger.began = time.monotonic()
        ends = self.ledger.began + self.seconds
        told = 0
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, 60))
            entries, complaints = list(self.ledger.entries), list(self.ledger.complaints)
            failed = sum(bool(entry.failure) for entry in entries)
            print(
                f"{self.ledger.at(time.monotonic())}: {len(entries)} requests, {failed} failed, {len(self.ledger.done)} disturbances, "
                f"{len(complaints)} complaints", *map(self.ledger.told, complaints[told:]), sep="\n  ", flush=True,
            )  # fmt: skip
            told = len(complaints)

    def _end(self) -> None:
        """Disturbances end first, then visits; then everything falls asleep."""
        self.over.set()
        for site in self.sites:
            site.over.set()
            site.open_gate()
        for thread in self._threads:
            thread.join(120)
            if thread.is_alive():
                self.ledger.complain("", "the soak itself", f"{thread} does not end")

    def close(self) -> Report:
        for site in self.sites:
            with self.ledger.disturbance("at the end", site.name):
                if site.steady:
                    site.mended()
                    self.machine.systemctl("stop", site.instance.service)
                self.machine.wait_until(site.instance.asleep, 60, "it is asleep")
                self.watch.traces(site)
        self.watch.end()
        return Report(
            self.ledger,
            self.sites,
            self.watch,
            self.machine.records(
                None, "--output-fields=MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER,_PID"
            ),
        )


class Manners:
    """How the soak talks to PID 1: not while it executes itself anew (daemon-reexec),
    when jobs that were asked for may be forgotten.

    That is systemd's own, and visitors know nothing of it: they come throughout.
    """

    def __init__(self, machine: Machine) -> None:
        self._run = machine.run
        self._turn = threading.Condition()
        self._talking = 0

    def run(self, *argv: str, check: bool = True, **options: Any) -> Any:
        """In the place of Machine.run()."""
        alone = argv[:2] == ("systemctl", "daemon-reexec")
        with self._turn:
            self._turn.wait_for(lambda: self._talking == 0 if alone else self._talking >= 0)
            self._talking = -1 if alone else self._talking + 1
        try:
            done = self._patiently(argv, options)
        finally:
            with self._turn:
                self._talking = 0 if alone else self._talking - 1
                self._turn.notify_all()
        assert not check or done.returncode == 0, (
            f"{argv} exited {done.returncode}: {done.stdout}{done.stderr}"
        )
        return done

    def _patiently(self, argv: tuple[str, ...], options: dict[str, Any]) -> Any:
        for _ in range(100):
            done = self._run(*argv, check=False, **options)
            if done.returncode == 0 or "Failed to connect to" not in done.stderr:
                break
            time.sleep(0.1)
        return done


@contextlib.contextmanager
def booted(release: str) -> Iterator[Machine]:
    with (
        tempfile.TemporaryDirectory(prefix=f"{PREFIX}-soak-") as layer,
        boot(release, *installed(release, Path(layer))) as machine,
    ):
        machine.run = Manners(machine).run  # type: ignore[method-assign]
        machine.copy(package(release), DEB)
        yield machine


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--release", default="trixie")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 100_000))
    parser.add_argument(
        "--keep", type=Path, help="a directory, for the journal and a line for each request"
    )
    parser.add_argument(
        "--only", nargs="*", metavar="DISTURBANCE", help="these and no others; without a name: none"
    )
    parser.add_argument("--without", nargs="*", metavar="DISTURBANCE", default=[])
    arguments = parser.parse_args()
    for each in (DISTURBANCES, WHOLE_MACHINE):
        for name in list(each):
            if name in arguments.without or (
                arguments.only is not None and name not in arguments.only
            ):
                del each[name]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(
        f"soak on {arguments.release}: {arguments.minutes:g} minutes, seed {arguments.seed}",
        flush=True,
    )
    with booted(arguments.release) as machine:
        systemd = machine.systemctl("--version").split("\n")[0]
        soak = Soak(machine, arguments.minutes, arguments.seed)
        soak.prepare()
        soak.run()
        report = soak.close()
        print(
            f"\nsoak on {arguments.release}, {systemd}, {arguments.minutes:g} minutes, seed {arguments.seed}\n\n{report}\n"
        )
        if arguments.keep:
            report.keep(arguments.keep)
    print("PASSED" if report.passed else "FAILED")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
