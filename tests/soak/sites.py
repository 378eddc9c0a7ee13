"""An app under load: its instance on the machine, the gate through which visitors come,
and what disturbances take hold of.

Each has a rhythm: visitors come for a while, then the gate is closed and the app is
left alone, for about as long as it takes to leave (the race that nobody may lose) or
for long enough to be asleep. In between it is looked at while nobody is there: then it
is known to a process and a descriptor what there should be.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from instance import Instance
from ledger import Ledger
from live_visitors import LIVE_KINDS
from machine import Machine
from visitors import KINDS, Caller, Kinds
from wire import STATIC, Answer, Failure, Request, Wire, check

WATCHDOG = 8  # seconds, so that a run sees more of it than of the unit's own

APPS = Path(__file__).with_name("apps")
# Seconds until all that a disturbance has set going is over: graceful_timeout and
# systemd's own delays
SETTLES = 40.0
MENDED = 15.0  # seconds until an app that was mended serves again
PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(
    [192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 80]
)

# Short enough that a run sees each of them, long enough that a busy machine does not.
DEFAULTS: dict[str, Any] = {
    "start_timeout": 8, "request_timeout": 8, "graceful_timeout": 20, "header_timeout": 6, "body_timeout": 12, "body_memory": 200_000,
    "keepalive_timeout": 1,
}  # fmt: skip


class Site:
    """`name` on `machine`. `framework`: the file of its app in apps/. `steady`: it
    never leaves, and its Master is never ended.
    """

    def __init__(
        self, machine: Machine, ledger: Ledger, name: str, *, port: int = 0, framework: str = "plain", steady: bool = False, visitors: int = 6, **settings: Any
    ) -> None:  # fmt: skip
        self.machine = machine
        self.ledger = ledger
        self.name = name
        self.framework = framework
        self.steady = steady
        self.visitors = visitors
        self.settings = DEFAULTS | settings
        self.version = 0
        self.deployed: list[
            tuple[float, int]
        ] = []  # when a reload had succeeded, and of which version of the code
        self.instance = Instance(
            machine, name, source=self.source(), port=port, settings=self.settings
        )
        self.broken_until = 0.0  # when a Master answered for it last
        self.lock = threading.RLock()  # one disturbance, or one look, at a time
        self.over = threading.Event()
        self.rounds = (
            0  # of the rhythm: how often it was left alone until it was asleep, or looked at
        )
        self._gate = threading.Condition()
        self._open = True
        self._inside = 0
        self._wanted = 0  # by disturbances, to be under load

    # What visitors know

    @property
    def body_memory(self) -> int:
        return int(self.settings["body_memory"])

    @property
    def header_timeout(self) -> float:
        return float(self.settings["header_timeout"])

    @property
    def keepalive(self) -> float:
        return float(self.settings["keepalive_timeout"])

    @property
    def idle(self) -> float:
        return float(self.settings["idle_timeout"])

    @property
    def workers(self) -> int:
        return int(self.settings["workers"])

    @property
    def threads(self) -> int:
        return int(self.settings["threads"])

    @property
    def asgi(self) -> bool:
        return self.framework in ("coroutines", "fast")

    @property
    def kinds(self) -> Kinds:
        """Who comes."""
        return KINDS | LIVE_KINDS if self.asgi else KINDS

    @property
    def recycles(self) -> bool:
        return bool(self.settings.get("max_requests") or self.settings.get("max_memory"))

    @property
    def doors(self) -> list[Any]:
        return self.instance.addresses

    def preface(self) -> bytes:
        return PROXY_2 if self.settings.get("proxy_protocol") else b""

    # What is deployed

    def source(self, before: str = "") -> str:
        return before + (APPS / f"{self.framework}.py").read_text().replace(
            'VERSION = "0"', f'VERSION = "{self.version}"'
        )

    def deploy(self, before: str = "") -> None:
        """Another version of its code, `before` in front of it."""
        self.version += 1
        self.machine.write(self.instance.code, self.source(before))

    def configure(self, **settings: Any) -> None:
        self.settings |= settings
        self.instance.settings = self.settings
        self.machine.write(self.instance.configuration, self.instance.toml())

    def start(self) -> None:
        for deeds in APPS.glob("*deeds.py"):
            self.machine.copy(deeds, str(Path(self.instance.code).with_name(deeds.name)))
        self.machine.write(str(Path(self.instance.code).with_name("static")), STATIC.decode())
        self.machine.write(
            f"/etc/systemd/system/{self.instance.service}.d/soak.conf",
            f"[Service]\nWatchdogSec={WATCHDOG}\n",
        )
        self.instance.start()
        self.listening = self.instance.unbroken()

    # The gate

    def come(self, caller: Caller) -> None:
        """The life of one visitor, until it is over."""
        kinds, weights = list(self.kinds), [weight for _, weight in self.kinds.values()]
        while not self.over.is_set():
            with self._gate:
                if (
                    not self._gate.wait_for(lambda: self._open or self.over.is_set(), 1)
                    or self.over.is_set()
                ):
                    continue
                self._inside += 1
            try:
                [caller.kind] = caller.dice.choices(kinds, weights)
                self.kinds[caller.kind][0](caller)
            except Failure:
                pass  # it stands in the ledger
            except Exception as error:
                self.ledger.complain(
                    self.name, caller.kind, f"the visitor itself failed: {error!r}"
                )
            finally:
                with self._gate:
                    self._inside -= 1
                    self._gate.notify_all()
            self.over.wait(caller.dice.expovariate(2.0))

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Visitors come throughout the block."""
        with self._gate:
            self._wanted += 1
            self._gate.wait_for(lambda: self._open or self.over.is_set())
        try:
            yield
        finally:
            with self._gate:
                self._wanted -= 1

    def close_gate(self) -> bool:
        """Waits until the last visitor has gone; False when somebody wants it open."""
        with self._gate:
            if self._wanted:
                return False
            self._open = False
            self._gate.wait_for(lambda: not self._inside or self.over.is_set())
        return True

    def open_gate(self) -> None:
        with self._gate:
            self._open = True
            self._gate.notify_all()

    # Processes

    def roles(self) -> dict[int, str]:
        """Host pid to "master", "zygote", "worker" or "stranger"."""
        found = {
            process.host_pid: _parent_and_start(process.host_pid)
            for process in self.machine.processes(f"spyglass@{self.name}")
        }
        ours = [
            (start, pid) for pid, (parent, start) in found.items() if parent == self.machine.leader
        ]
        if not ours:
            return dict.fromkeys(found, "stranger")
        master = min(ours)[1]
        roles = {master: "master"}
        for pid, (parent, _) in found.items():
            if parent == master:
                roles[pid] = "zygote"
        for pid, (parent, _) in found.items():
            if pid not in roles:
                # A worker whose zygote was killed is init's.
                roles[pid] = (
                    "worker"
                    if roles.get(parent) == "zygote" or parent == self.machine.leader
                    else "stranger"
                )
        return roles

    def of_role(self, role: str) -> list[int]:
        return [pid for pid, its in self.roles().items() if its == role]

    def complete(self) -> bool:
        """One Master, one zygote, and the workers that there should be: nobody missing,
        nobody left over.
        """
        roles = list(self.roles().values())
        spare = 1 if self.recycles else 0
        return (
            (roles.count("master"), roles.count("zygote"), roles.count("stranger")) == (1, 1, 0)
            and self.workers <= roles.count("worker") <= self.workers + spare
        )  # fmt: skip

    def settled(self, about: str) -> None:
        """Complains unless, within SETTLES, there are all processes and no others, or
        none because it is asleep.
        """
        try:
            self.machine.wait_until(
                lambda: self.over.is_set() or self.complete() or not self.roles(), SETTLES
            )
        except AssertionError:
            roles = list(self.roles().values())
            counted = ", ".join(f"{roles.count(role)} {role}" for role in sorted(set(roles)))
            self.ledger.complain(
                self.name,
                about,
                f"after {SETTLES:g} s there are still {counted}, of {self.workers} workers",
            )

    def machine_pid(self, host_pid: int) -> int:
        """As the machine, its journal and the app count; 0 when it has gone."""
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{host_pid}/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("NSpid")).split()[-1])
        return 0

    def kill(self, host_pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
        with suppress(ProcessLookupError):
            os.kill(host_pid, number)
            return True
        return False

    # Visits of our own

    def visit(
        self, what: str = "echo", name: str = "probe", patience: float = 20, **query: Any
    ) -> Answer:
        """One request, by us; it is not in the ledger. Raises Failure."""
        request = Request(name, what, query=query, keep=False)
        with Wire(self.instance.unix, self.preface()) as wire:
            wire.open().settimeout(patience)
            wire.send(request.whole())
            answer = wire.answer("GET")
            if what == "echo":
                check(request, answer)
            return answer

    def serves(self) -> Answer | None:
        with suppress(Failure):
            return self.visit()
        return None

    def mended(self) -> None:
        """Waits until a visit is answered by the app; AssertionError when that takes
        too long.
        """
        self.machine.wait_until(self.serves, MENDED, "it serves again")

    def seen(self) -> dict[str, int]:
        """What the app has written down: visit to the (last) worker that began it, as
        the machine counts.
        """
        path = self.machine.path(f"/var/lib/private/spyglass/{self.name}/seen")
        with suppress(FileNotFoundError):
            return {
                visit: int(pid)
                for visit, pid in (line.split() for line in Path(path).read_text().splitlines())
            }
        return {}


def _parent_and_start(pid: int) -> tuple[int, int]:
    """(parent's pid, when it was started), (0, 0) when it has gone:
    proc_pid_stat(5).
    """
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[1]), int(fields[19])
    return 0, 0


def rhythm(site: Site, dice: random.Random, look: Any) -> None:
    """Opens and closes the gate until it is over; `look(site)` is called while nobody
    is there and nothing is being done to it.
    """
    while not site.over.wait(dice.uniform(5, 25)):
        if not site.steady and dice.random() < 0.5:
            # About when it leaves, and whatever else is being done to it.
            if site.close_gate():
                site.over.wait(site.idle + dice.uniform(-0.3, 0.4))
                site.open_gate()
            continue
        if not site.lock.acquire(blocking=False):
            continue
        try:
            if not site.close_gate():
                continue
            site.over.wait(0.3)  # for what visitors left behind in the middle of it
            with site.ledger.disturbance("left alone", site.name):
                look(site)
        finally:
            site.lock.release()
        # Asleep, but for what disturbances do to it.
        site.over.wait(dice.uniform(0, 4))
        site.open_gate()
