"""Constant load on an instance: visitors of every kind that a restart must not be noticed by."""

from __future__ import annotations

import threading
import time
from typing import Any

from instance import Instance, lives, worker
from process.visitor import Answer, Crowd, Lost, Visitor


class Regulars:
    """`count` visitors who keep their connection and ask again and again, until they are told to close; then on a new one.

    Each asks for its worker first, and then for `target`: so it is known whose work was lost. `told` counts the connections that
    ended as they should, with Connection: close on an answer and nothing after it.
    """

    def __init__(self, address: Any, target: str, count: int, pause: float) -> None:
        self.answers: list[Answer] = []
        self.lost: list[tuple[int, Lost]] = []  # the worker's pid, or 0 where it was not known yet
        self.told = 0
        self.count = count
        self._home = threading.Event()
        self._threads = [threading.Thread(target=self._come, args=(address, target, pause), daemon=True) for _ in range(count)]

    def _come(self, address: Any, target: str, pause: float) -> None:
        while not self._home.is_set():
            pid = 0
            try:
                with Visitor(address) as visitor:
                    asked = self._ask(visitor, "/")
                    pid = worker(asked)
                    while not asked.closing:
                        self._home.wait(pause)
                        asked = self._ask(visitor, target, keep=not self._home.is_set())
                    assert visitor.until_closed() == b""
                    self.told += not self._home.is_set()
            except Lost as error:
                self.lost.append((pid, error))

    def _ask(self, visitor: Visitor, target: str, keep: bool = True) -> Answer:
        began = time.monotonic()
        answer = visitor.ask(target, keep=keep)
        answer.began, answer.seconds = began, answer.ended - began  # of this exchange, not of the connection
        self.answers.append(answer)
        return answer

    def __enter__(self) -> Regulars:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._home.set()
        for thread in self._threads:
            thread.join()


class Load:
    """All kinds at the same time, on all addresses of `instance`: quick ones, slow ones, kept-alive ones, streams."""

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
        """Who got no whole answer, each with the worker that had taken it, or 0 where nobody knows."""
        return [lost for each in self.regulars for lost in each.lost] + [(0, error) for each in self.crowds for error in each.lost]

    @property
    def count(self) -> int:
        """How many there are at a time."""
        return sum(each.count for each in (*self.regulars, *self.crowds))

    @property
    def told(self) -> int:
        return sum(each.told for each in self.regulars)

    def lives(self) -> set[str]:
        return lives(self.answers)

    def flows(self, count: int = 30) -> None:
        """Waits until visitors of each kind have come since, and been answered; `count` of them at least."""
        since = time.monotonic()

        def come() -> list[int]:
            return [sum(answer.began > since for answer in list(each.answers)) for each in (*self.regulars, *self.crowds)]

        try:
            self.instance.machine.wait_until(lambda: all(come()) and sum(come()) >= count, 20)
        except AssertionError:
            raise AssertionError(f"in 20 s so many of each kind were served: {come()}; lost {self.lost}") from None
