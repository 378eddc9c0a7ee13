"""What a disturbance is given: the app or the machine, dice, and the means to say what
it permits.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from ledger import BROKEN, CROSSED, LOSS, REPLACED, Ledger
from machine import Machine
from sites import Site


@dataclass
class Scene:
    """One disturbance of one app."""

    name: str
    site: Site
    ledger: Ledger
    dice: random.Random

    @property
    def machine(self) -> Machine:
        return self.site.machine

    def systemctl(self, *argv: str, check: bool = True) -> int:
        return self.machine.run(
            "systemctl", *argv, self.site.instance.service, check=check, timeout=120
        ).returncode

    def hup(self) -> None:
        self.systemctl("kill", "--kill-who=main", "--signal=HUP", check=False)

    def reload(self, *, fails: bool = False) -> None:
        """`systemctl reload` of an app that is awake, and told how it went."""
        status = self.systemctl("reload", check=False)
        assert bool(status) is fails, f"systemctl reload exited {status}; that it fails: {fails}"
        if not fails:
            self.site.deployed.append((time.monotonic(), self.site.version))

    def permits(self, kinds: Iterable[str], after: float = 0.0, **more: Any) -> Any:
        return self.ledger.permitted(self.name, self.site.name, kinds, after, **more)

    def loses(self, pids: Iterable[int], **more: Any) -> Any:
        """What these workers (host pids) hold in the block is lost with them."""
        return self.permits(
            LOSS | CROSSED | self.recycling,
            pids=frozenset(self.site.machine_pid(pid) for pid in pids),
            **more,
        )

    @contextmanager
    def leaving(self, how: frozenset[str]) -> Iterator[None]:
        """Workers leave in an orderly way, STOPPED or REPLACED, during the block and for
        a while: kept-alive connections end between two requests.
        """
        with self.permits(CROSSED | how | self.recycling, after=25):
            yield

    @property
    def recycling(self) -> frozenset[str]:
        """What a worker does that is being replaced already."""
        return REPLACED if self.site.recycles else frozenset()

    def loses_what_the_master_has(self, master: int) -> Any:
        """The same for a Master (host pid): until lately it may have answered for a
        broken app, and still wait for the rest of a head.
        """
        lately = time.monotonic() < self.site.broken_until + self.site.header_timeout + 2
        return self.loses([master]) if lately else nullcontext()

    @contextmanager
    def told_to_come_again(self) -> Iterator[None]:
        """A zygote is killed in the block. While an app wakes nobody else is there yet:
        who waits gets 503, as from any that cannot be loaded.
        """
        if self.site.of_role("worker"):
            yield
            return
        with self.site.busy(), self.permits(BROKEN, after=1):
            yield
            self.site.mended()
            self.site.broken_until = time.monotonic()

    def wait(self, least: float, most: float) -> None:
        self.site.over.wait(self.dice.uniform(least, most))

    def one(self, role: str) -> int | None:
        pids = self.site.of_role(role)
        return self.dice.choice(pids) if pids else None

    def until_gone(self, victim: int, what: str, seconds: float) -> None:
        """Waits until somebody has ended a process that is stopped (host pid); goes on
        with it if nobody has.
        """
        gone = f"{what} is ended"
        try:
            self.machine.wait_until(
                lambda: victim not in self.site.roles() or self.site.over.is_set(), seconds, gone
            )
        finally:
            self.site.kill(victim, signal.SIGCONT)

    @contextmanager
    def company(self) -> Iterator[None]:
        """Somebody has been served, and comes again often enough that the app cannot
        fall asleep.
        """
        home = threading.Event()

        def come() -> None:
            while not home.wait(0.2):
                self.site.serves()

        with self.site.busy(), self.machine.network():
            self.site.mended()
            companion = threading.Thread(target=come, daemon=True)
            companion.start()
            try:
                yield
            finally:
                home.set()
                companion.join()


@dataclass
class Whole:
    """One disturbance of the machine."""

    name: str
    machine: Machine
    sites: list[Site]
    ledger: Ledger
    dice: random.Random
    over: threading.Event

    def permits(self, kinds: Iterable[str], after: float = 0.0, **more: Any) -> Any:
        return self.ledger.permitted(self.name, None, kinds, after, **more)

    def wait(self, least: float, most: float) -> None:
        self.over.wait(self.dice.uniform(least, most))
