"""`spyglass.stay_awake()`: an app that works without a request, in a thread of its own,
says so, and nobody leaves meanwhile.

    with spyglass.stay_awake("nightly import"):
        ...

    @spyglass.stay_awake()
    def rebuild_index(): ...

A hold is a number in the slot of the process that the app runs in (scoreboard.py): a
worker, or the zygote, where the threads live that a preloaded app has started when it
was imported. Taking one and ending it is a few stores to memory; the Master reads them
when it considers leaving. Where no server has given the process a slot a hold means
nothing and does no harm: under another server, in tests, at a prompt. So it is in what
the app forks itself, for whoever is killed while it holds could never let go: let its
parent hold, then.

There is no lock. What holds may be ended anywhere, also where a generator that holds is
collected in the middle of taking another.
"""

from __future__ import annotations

import os
import time

import spyglass
from spyglass.runtime.scoreboard import ACTIVITY, DRAINING, HOLDS, STATE, write_reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

# inspect has functions for these, and an import that an app would pay for (co_flags:
# the data model, "Code objects").
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


def stay_awake(reason: str = "") -> Hold:
    """Hold off the leaving, as context manager or decorator; `reason` (str) is shown in
    the status line (so much of it as has 64 bytes).

    May be nested, used again and again, and shared by threads. A decorated generator
    holds from its first `next()` to its end, a decorated coroutine while it runs. Of a
    stop or a reload it holds off the end of this process, for `graceful_timeout` at
    most. Raises TypeError where it is used as a decorator without its parentheses, or
    for an asynchronous generator.
    """
    if not isinstance(reason, str):
        raise TypeError(
            "the reason must be text; as a decorator it is @stay_awake(), with parentheses"
        )
    return Hold(reason)


class Hold:
    """What stay_awake() gives."""

    __slots__ = ("_reason", "_taken")

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._taken: list[
            tuple[_Holds, object]
        ] = []  # in which process, and what is to be given back there

    def __enter__(self) -> None:
        here, token = _here, object()
        here.take(token, self._reason)
        self._taken.append((here, token))

    def __exit__(self, *_error: object) -> None:
        # Of those that other threads have taken any will do. One that was taken before
        # a fork is another process's: it means nothing here.
        here, token = self._taken.pop()
        here.end(token)

    def __call__(self, function: Function) -> Function:
        from functools import update_wrapper

        flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
        if flags & _ASYNC_GENERATOR:
            raise TypeError(
                f"stay_awake() cannot decorate an asynchronous generator: use 'with stay_awake():' in {function.__name__}()"
            )
        wrap = (
            self._coroutine
            if flags & _COROUTINE
            else self._generator
            if flags & _GENERATOR
            else self._plain
        )
        return update_wrapper(wrap(function), function)  # type: ignore[return-value]

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def held(*args: Any, **keywords: Any) -> Any:
            with self:
                return function(*args, **keywords)

        return held

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def held(*args: Any, **keywords: Any) -> Any:
            with self:
                return (yield from function(*args, **keywords))

        return held

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def held(*args: Any, **keywords: Any) -> Any:
            with self:
                return await function(*args, **keywords)

        return held


class _Holds:
    """All holds of one process. `cells` is its slot, None where it has none; `ring`
    rings the bell that its loop hears.
    """

    def __init__(self) -> None:
        self.cells: memoryview[int] | None = None
        self.ring: Callable[[], None] | None = None
        self._reasons: dict[object, str] = {}
        self._explained = False  # there was a reason

    def take(self, token: object, reason: str) -> None:
        self._reasons[token] = reason
        self._explained = self._explained or bool(reason)
        self.tell()

    def end(self, token: object) -> None:
        cells = self.cells
        if cells is not None:
            # Before the number falls, or the Master could see neither the hold nor that
            # there was one.
            cells[ACTIVITY] = time.monotonic_ns()
        del self._reasons[token]
        self.tell()

    def tell(self) -> None:
        """Write down how many there are, and why."""
        cells = self.cells
        if cells is None:
            return
        # Several threads may be in here. Each looks again after it has written: whoever
        # writes last has written what is.
        count = -1
        while count != len(self._reasons):
            count = cells[HOLDS] = len(self._reasons)
        if self._explained:
            self._explain(cells)
        if not count and cells[STATE] == DRAINING and self.ring is not None:
            self.ring()  # the worker waits for this, and for nothing else perhaps

    def _explain(self, cells: memoryview[int]) -> None:
        told = None
        while (reasons := list(self._reasons.values())) != told:
            write_reason(cells, next((reason for reason in reversed(reasons) if reason), ""))
            told = reasons


# Of this process; the app's code has no other way to say which one that is.
_here = _Holds()


def adopt() -> None:
    """This process has a slot: what is held is told there from now on."""
    if spyglass._slot is not None and spyglass._slot[0] == os.getpid():
        _, _here.cells, _here.ring = spyglass._slot
        _here.tell()


def _forget() -> None:
    """In a forked child, which has none of the threads that hold: the slot is its
    parent's.
    """
    global _here
    _here.cells = None
    _here = _Holds()


os.register_at_fork(after_in_child=_forget)
adopt()
