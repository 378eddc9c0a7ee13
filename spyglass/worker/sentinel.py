"""Look every 5 ms whether the app's call that the leader makes has become a long one.

The sentinel is a thread of its own, which runs nothing of the app's. It looks only
while the worker is busy. When it has found no call for a while it dozes, and the next
call wakes it: a worker without requests has no timer and uses no processor time.
"""

from __future__ import annotations

import time
from _queue import SimpleQueue
from _thread import start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from spyglass.gateway.wsgi import Exchange

    class Watched(Protocol):
        """The crew: which call the leader makes, and what to do about a long one."""

        def running(self) -> Exchange | None: ...
        def promote(self, running: Exchange) -> None: ...
        def start(
            self, run: Callable[[], None], name: str, begin: Callable[[Callable[[], None]], object]
        ) -> bool: ...


# Seconds between two looks; a call is taken for a long one after one to two of them
LOOK = 0.005
_DOZE_AFTER = 20  # looks in a row that found no call


class Sentinel:
    """Watches the calls of `crew`. While `dozing` (bool), wake() is to be called at the
    next call.
    """

    __slots__ = ("_alarm", "_crew", "dozing", "watching")

    def __init__(self, crew: Watched) -> None:
        self._crew = crew
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self.dozing = True
        self.watching = False  # the thread runs

    def wake(self) -> None:
        """In the leader, after it has laid down a call: look from now on."""
        self.dozing = False
        if self.watching:
            self._alarm.put(None)
            return
        # Not with `threading`: this starts before the first call of all, and its answer
        # would wait for that import.
        self.watching = self._crew.start(
            self._watch, "spyglass-sentinel", lambda run: start_new_thread(run, ())
        )
        if not self.watching:
            self.dozing = True

    def _watch(self) -> None:
        crew = self._crew
        seen: Exchange | None = None
        empty = 0
        while True:
            time.sleep(LOOK)
            running = crew.running()
            if running is None:
                empty += 1
                if empty >= _DOZE_AFTER:
                    self._doze()
                    empty = 0
            else:
                empty = 0
                if running is seen:
                    crew.promote(running)
            seen = running

    def _doze(self) -> None:
        # The leader first lays down its call, then asks whether we doze. We first say
        # that we do, then look. So at least one of the two sees the other.
        self.dozing = True
        if self._crew.running() is not None:
            self.dozing = False
        else:
            self._alarm.get()
