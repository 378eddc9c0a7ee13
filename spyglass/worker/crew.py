"""Who runs the app, and who waits for events meanwhile: leader and followers, with promotion on demand.

One thread of a worker, the leader, waits in epoll, reads, parses, calls the app itself and writes: no queue, no handover, no switch
of context for a request. That is as fast as it gets while calls are short. When one turns out to be long, another thread takes the
lead and goes on with the loop; the thread with the long call has lost it, finishes that one call, gives what came of it back to
whoever leads then, and parks. So only the app's own code ever runs beside the loop; all that belongs to the loop belongs to its leader.

The lead changes hands over a *table*, a list. The leader lays down the exchange whose app it is about to call, and afterwards takes
it away again. A third party, the *sentinel*, looks every 5 ms. If it finds what it found the last time, it takes that away itself and
wakes a follower. list.pop() is atomic, so one of the two gets it and the other an IndexError: there is no moment in which both lead or
neither. Each leader has a table of its own; from its own nobody can take what another has laid down.

The sentinel looks only while the worker is busy. When it has found the table empty for a while it dozes, and the next call wakes it:
a worker without requests has no timer and uses no processor time.
"""

from __future__ import annotations

import os
import sys
import time
from _queue import SimpleQueue
from _thread import allocate_lock
from collections import deque

from spyglass import scoreboard
from spyglass.wsgi import CutOff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from spyglass.log import Log
    from spyglass.wsgi import Exchange, FileSpan

    Piece = bytes | FileSpan | CutOff | None

    class Led(Protocol):
        """What is to be led: `lead()` takes the exchange that has slowed down the leader before, and returns when all is done."""

        def lead(self, slow: Exchange | None) -> None: ...


LOOK = 0.005  # seconds between two looks of the sentinel; a call is taken for a long one after one to two of them
_DOZE_AFTER = 20  # looks in a row at an empty table
# While a long call computes, the leader has to ask for the interpreter's lock after every system call. By default it is given within
# 5 ms (sys.setswitchinterval), which would be the pace of all short requests then.
_SWITCH_BESIDE_LONG = 0.0005


class Demoted(BaseException):
    """Raised in a thread that has lost the lead: it must touch nothing of the loop's any more, and park.

    Not an Exception: nothing on the way up may take it for the app's.
    """


class Solo:
    """A crew of one: every call is made by the one thread there is."""

    def __init__(self, slot: memoryview[int]) -> None:
        self._slot = slot

    def run(self, led: Led) -> None:
        led.lead(None)

    def call(self, exchange: Exchange, work: Callable[[], bytes | FileSpan | None]) -> Piece:
        """See Crew.call()."""
        self._slot[scoreboard.CALL_SINCE] = time.monotonic_ns()
        try:
            return work()
        except CutOff as error:
            return error
        finally:
            self._slot[scoreboard.CALL_SINCE] = 0

    def progress(self, exchange: Exchange) -> None:
        """The call of `exchange` is still running, and doing well."""
        self._slot[scoreboard.CALL_SINCE] = time.monotonic_ns()

    def ended(self, exchange: Exchange) -> None:
        """See Crew.ended()."""

    @property
    def returned(self) -> deque[tuple[Exchange, Piece]]:
        return _NOTHING

    @property
    def bell(self) -> int:
        return -1


_NOTHING: deque[Any] = deque()


class Crew:
    """So many `threads` (int, at least 2) may run the app at a time. In `slot` the Master sees since when the oldest long call runs."""

    def __init__(self, threads: int, slot: memoryview[int], log: Log) -> None:
        self._slot = slot
        self._log = log
        self._switch = sys.getswitchinterval()
        self._lock = allocate_lock()
        # The leader's and the sentinel's
        self._table: list[Exchange] = []
        self._dozing = True
        self._watching = False  # whether there is a sentinel
        self._alarm: SimpleQueue[None] = SimpleQueue()
        # Under the lock
        self._most = threads
        self._threads = 1
        self._parked = 0
        self._long: dict[Exchange, int] = {}  # calls known to be long, and since when, monotonic nanoseconds
        # From followers to the leader
        self._lead: SimpleQueue[Exchange | None] = SimpleQueue()
        self.returned: deque[tuple[Exchange, Piece]] = deque()
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # rings when something has been returned
        self._led: Led | None = None

    def run(self, led: Led) -> None:
        """Lead, follow and lead again, until `led` is done."""
        self._led = led
        if not self._take_the_lead(None):
            self._follow()

    # In the leader

    def call(self, exchange: Exchange, work: Callable[[], bytes | FileSpan | None]) -> Piece:
        """What `work()`, a method of `exchange`, gives; a CutOff is given, not raised.

        Raises Demoted when that took too long: what came of it is in `returned` then.
        """
        table = self._table
        table.append(exchange)
        if self._dozing:
            self._wake_sentinel()
        try:
            piece: Piece = work()
        except CutOff as error:
            piece = error
        try:
            table.pop()
        except IndexError:
            self.returned.append((exchange, piece))
            os.eventfd_write(self.bell, 1)
            raise Demoted from None
        if self._long:
            self.ended(exchange)
        return piece

    def ended(self, exchange: Exchange) -> None:
        """The leader has what came of a call that may have been a long one."""
        with self._lock:
            if self._long.pop(exchange, None) is not None:
                self._tell_master()

    def progress(self, exchange: Exchange) -> None:
        """The call of `exchange` is still running, and doing well."""
        with self._lock:
            if exchange in self._long:
                self._long[exchange] = time.monotonic_ns()
                self._tell_master()

    def _tell_master(self) -> None:
        self._slot[scoreboard.CALL_SINCE] = min(self._long.values(), default=0)
        sys.setswitchinterval(_SWITCH_BESIDE_LONG if self._long else self._switch)

    def _wake_sentinel(self) -> None:
        self._dozing = False
        if self._watching:
            self._alarm.put(None)
        else:
            self._watching = self._start(self._watch, "spyglass-sentinel")

    # The sentinel

    def _watch(self) -> None:
        seen: Exchange | None = None
        empty = 0
        while True:
            time.sleep(LOOK)
            running = self._running()
            if running is None:
                empty += 1
                if empty >= _DOZE_AFTER:
                    self._doze()
                    empty = 0
            else:
                empty = 0
                if running is seen:
                    self._promote(running)
            seen = running

    def _running(self) -> Exchange | None:
        try:
            return self._table[0]
        except IndexError:
            return None

    def _doze(self) -> None:
        self._dozing = True
        # The leader first lays down, then asks whether we doze; we first say so, then look: one of us sees the other.
        if self._table:
            self._dozing = False
        else:
            self._alarm.get()

    def _promote(self, running: Exchange) -> None:
        """The call of `running` is a long one: let somebody else lead, if there is anybody."""
        with self._lock:
            self._long.setdefault(running, time.monotonic_ns())
            if self._parked:
                self._hand_over(running)
            elif self._running() is not running:
                del self._long[running]  # it has come back at the last moment; a later one would have been seen in there
            self._tell_master()
            # All are at work, and the loop must wait for one of them; unless there is one to start, who will be parked at the next look.
            start = not self._parked and self._threads < self._most
            self._threads += start
        if start and not self._start(self._follow, "spyglass-follower"):
            with self._lock:
                self._threads -= 1

    def _hand_over(self, running: Exchange) -> None:
        try:
            slow = self._table.pop()
        except IndexError:  # it has come back at the last moment
            del self._long[running]
            return
        if slow is not running:  # another call by now: too early for that one, and no harm done
            self._long[slow] = self._long.pop(running)
        self._table = []
        self._parked -= 1
        self._lead.put(slow)

    def _start(self, run: Callable[[], None], name: str) -> bool:
        import threading  # the app has imported it most often, and who is done before it is slow needs none

        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                # Half a worker is worse than none: the Master replaces it.
                self._log.exception(f"{name}: a bug", error)
                os._exit(1)

        try:
            threading.Thread(target=guarded, name=name, daemon=True).start()
        except RuntimeError as error:
            self._log.error(f"cannot start a thread: {error}")
            return False
        return True

    # Followers

    def _follow(self) -> None:
        while True:
            with self._lock:
                self._parked += 1
            slow = self._lead.get()
            if slow is None or self._take_the_lead(slow):
                return

    def _take_the_lead(self, slow: Exchange | None) -> bool:
        """Lead; False when the lead was lost, True when there is nothing to lead any more."""
        assert self._led is not None
        try:
            self._led.lead(slow)
        except Demoted:
            return False
        if self._long:
            # What would not end in time has been cut, but no thread can be ended from outside, and the process must.
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(0)
        for _ in range(self._most):
            self._lead.put(None)
        return True
