"""Constant load on an instance: visitors of every kind that a restart must not be
noticed by.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

from instance import Instance, lives, worker
from process import visitor
from process.visitor import Answer, Crowd, Lost


class Regulars(visitor.Regulars):
    """Each asks for its worker first, and then for `target`: so it is known whose work
    was lost.
    """

    def targets(self) -> Iterator[str]:
        return itertools.chain(["/"], itertools.repeat(self.target))


class Load:
    """All kinds at the same time, on all addresses of `instance`: quick ones, slow
    ones, kept-alive ones, streams.
    """

    def __init__(self, instance: Instance) -> None:
        unix, tcp = instance.addresses
        self.instance = instance
        self.regulars = [Regulars(tcp, "/", 2, 0.02), Regulars(unix, "/sleep/0.1", 2, 0.02)]
        self.crowds = [
            Crowd(tcp, count=2, pause=0.01), Crowd(unix, count=1, pause=0.01),
            Crowd(tcp, "/sleep/0.3", count=1), Crowd(unix, "/stream/0.3", count=1),
        ]  # fmt: skip

    def __enter__(self) -> Load:
        # Threads stay in the network in which they were started.
        with self.instance.machine.network():
            for each in (*self.regulars, *self.crowds):
                each.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self.regulars, *self.crowds):
            each.__exit__()

    @property
    def answers(self) -> list[Answer]:
        return [answer for each in (*self.regulars, *self.crowds) for answer in list(each.answers)]

    @property
    def lost(self) -> list[tuple[int, Lost]]:
        """Who got no whole answer, each with the worker that had taken it, or 0 where
        nobody knows.
        """
        lost = [error for each in (*self.regulars, *self.crowds) for error in each.lost]
        return [(worker(error.after) if error.after else 0, error) for error in lost]

    @property
    def count(self) -> int:
        """How many there are at a time."""
        return sum(each.count for each in (*self.regulars, *self.crowds))

    @property
    def told(self) -> int:
        """How many connections have ended as they should, with Connection: close on an
        answer and nothing after it.
        """
        return sum(each.told_to_close for each in self.regulars)

    def lives(self) -> set[str]:
        return lives(self.answers)

    def flows(self, count: int = 30) -> None:
        """Waits until visitors of each kind have come since, and been answered; `count`
        of them at least.
        """
        since = time.monotonic()

        def come() -> list[int]:
            return [
                sum(answer.began > since for answer in list(each.answers))
                for each in (*self.regulars, *self.crowds)
            ]

        try:
            self.instance.machine.wait_until(lambda: all(come()) and sum(come()) >= count, 20)
        except AssertionError:
            raise AssertionError(
                f"in 20 s so many of each kind were served: {come()}; lost {self.lost}"
            ) from None
