"""Who runs the app, and who waits for events meanwhile: leader and followers, with
promotion on demand.

One thread of a worker, the leader, waits in epoll, reads, parses, calls the app itself
and writes: no queue, no handover, no switch of context for a request. That is as fast
as it gets while calls are short. When one turns out to be long, another thread takes
the lead and goes on with the loop; the thread with the long call has lost it, finishes
that one call, gives what came of it back to whoever leads then, and waits. So only the
app's own code ever runs beside the loop; all that belongs to the loop belongs to its
leader.

The lead changes hands over a *table*, a list. The leader lays down the exchange whose
app it is about to call, and afterwards takes it away again. A third party, the
*sentinel*, looks every 5 ms. If it finds what it found the last time, it takes that
away itself and wakes a follower. list.pop() is atomic, so one of the two gets it and
the other an IndexError: there is no moment in which both lead or neither. Each leader
has a table of its own; from its own nobody can take what another has laid down.

The sentinel looks only while the worker is busy. When it has found the table empty for
a while it dozes, and the next call wakes it: a worker without requests has no timer and
uses no processor time.

Until the sentinel has looked twice all others wait. What has been long is likely to be
long again: so the paths of long calls are remembered, and the next call for one of them
goes to a free thread at once, until one turns out to be short.

An app may rely on one response being made in one thread, as on every other threaded
server: a database connection of its generator may be bound to it (Django's are,
sqlite's refuse another). So the thread that made the first piece is the exchange's
*home*, and makes all. And while it waits for a slow reader to ask for more, it should
do nothing else, for a stranger's request in between would find that connection; so a
leader that is somebody's home gives the lead away as long as anybody is free to take
it. When nobody is, it leads all the same: readers, however slow and many, must not
bring the worker to a halt.
"""

from __future__ import annotations

import os
import sys
import time
from _queue import SimpleQueue
from _thread import allocate_lock, get_ident, start_new_thread

from spyglass.errors import blame
from spyglass.gateway.wsgi import CutOff
from spyglass.log import flush
from spyglass.runtime import scoreboard
from spyglass.runtime.fast_imports import deque


class Elsewhere:
    """What is given in the place of a piece that another thread has been asked to
    make.
    """


ELSEWHERE = Elsewhere()


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, Protocol

    from spyglass.gateway.file_wrapper import FileSpan
    from spyglass.gateway.wsgi import Exchange
    from spyglass.log import Log

    Piece = bytes | tuple[bytes, bytes] | FileSpan | CutOff | Elsewhere | None

    class Led(Protocol):
        """What is to be led: `lead()` takes the descriptor whose exchange has slowed
        down the last leader; it returns when all is done.
        """

        def lead(self, slow: int | None) -> None: ...


# Seconds between two looks of the sentinel; a call is taken for a long one after one to
# two of them
LOOK = 0.005
_MOST_LONG_PATHS = 256
_START_PAUSE = 1.0  # seconds until a thread is asked for again when there was none to be had
_DOZE_AFTER = 20  # looks in a row at an empty table
# While a long call computes, the leader has to ask for the interpreter's lock after
# every system call. By default it is given within 5 ms (sys.setswitchinterval), which
# would be the pace of all short requests then.
_SWITCH_BESIDE_LONG = 0.0005


def _bare(error: CutOff) -> CutOff:
    """The same without its traceback, whose frames hold whatever the app was about to
    send, and in a circle themselves: megabytes that would wait for the garbage
    collector.
    """
    return CutOff(*error.args)


class Demoted(BaseException):
    """Raised in a thread that has lost the lead: it must touch nothing of the loop's
    any more, and wait.

    Not an Exception: nothing on the way up may take it for the app's.
    """


class Hand:
    """One thread of the crew. `bound` (int) is of how many unfinished exchanges it is
    the home; the leader counts them.
    """

    __slots__ = ("bound", "todo", "wake")

    def __init__(self) -> None:
        self.bound = 0
        self.todo: deque[
            tuple[Exchange, Callable[[], bytes | tuple[bytes, bytes] | FileSpan | None]]
        ] = deque()  # under the crew's lock
        # A descriptor: lead, over its exchange; _LEAD: just lead; _LOOK: there is
        # something to do; None: it is over. Not the exchange itself: who leads may do
        # so for days, and would keep whatever the app has put into the environ of that
        # one request.
        self.wake: SimpleQueue[int | str | None] = SimpleQueue()


_LEAD, _LOOK = "lead", "look"


class Solo:
    """A crew of one: every call is made by the one thread there is."""

    bell = -1
    crowded = False
    ample = False

    def __init__(self, slot: memoryview[int]) -> None:
        self._slot = slot
        self.returned: deque[tuple[Exchange, Piece]] = deque()

    def run(self, led: Led) -> None:
        led.lead(None)

    def call(
        self, exchange: Exchange, work: Callable[[], bytes | tuple[bytes, bytes] | FileSpan | None]
    ) -> Piece:
        """See Crew.call()."""
        self._slot[scoreboard.CALL_SINCE] = time.monotonic_ns()
        try:
            return work()
        except CutOff as error:
            return _bare(error)
        finally:
            self._slot[scoreboard.CALL_SINCE] = 0

    def progress(self, exchange: Exchange) -> None:
        """The call of `exchange` is still running, and doing well."""
        self._slot[scoreboard.CALL_SINCE] = time.monotonic_ns()

    def abandon(self, back: Callable[[], NoReturn]) -> None:
        """See Crew.abandon()."""
        self._slot = _Barrier(back)  # type: ignore[assignment]

    def bind(self, exchange: Exchange) -> None: ...
    def release(self, exchange: Exchange) -> None: ...
    def ended(self, exchange: Exchange) -> None: ...
    def heard(self) -> None: ...
    def resign(self) -> None: ...


class _Barrier:
    """In the place of what is written to when the app has come back: calls `back`,
    which does not return.
    """

    def __init__(self, back: Callable[[], NoReturn]) -> None:
        self._back = back

    def __setitem__(self, _cell: int, _value: int) -> None:
        self._back()


class Crew:
    """So many `threads` (int, at least 2) may run the app at a time. In `slot` the
    Master sees since when the oldest long call runs.
    """

    def __init__(self, threads: int, slot: memoryview[int], log: Log) -> None:
        self._slot = slot
        self._log = log
        self._switch = sys.getswitchinterval()
        self._lock = allocate_lock()
        self._main = get_ident()
        # The leader's, and the sentinel's
        self._leader = Hand()
        self._table: list[Exchange] = []
        self._dozing = True
        self._watching = False  # whether there is a sentinel
        self._start_after = 0.0  # monotonic seconds: there was no thread to be had
        self._alarm: SimpleQueue[None] = SimpleQueue()
        # Under the lock
        self._most = threads
        self._hands = [self._leader]
        self._free: list[Hand] = []  # those who wait, and
        self._bound: list[Hand] = []  # those who wait and are the home of an exchange
        self._long_paths: set[str] = set()  # where the last call was a long one
        self._long: dict[
            Exchange, int
        ] = {}  # calls known to be long, and since when, monotonic nanoseconds
        # From followers to the leader
        self.returned: deque[tuple[Exchange, Piece]] = deque()
        self.bell = os.eventfd(
            0, os.EFD_NONBLOCK | os.EFD_CLOEXEC
        )  # rings when something has been returned
        self._led: Led | None = None

    def run(self, led: Led) -> None:
        """Lead, follow and lead again, until `led` is done."""
        self._led = led
        hand = self._leader
        if not self._take_the_lead(hand, None):
            self._follow(hand)

    def abandon(self, back: Callable[[], NoReturn]) -> None:
        """In a process that the app has forked, in whichever thread: who comes back
        from the app has lost the lead, and meets `back()`.
        """
        os.close(self.bell)
        self._table.clear()
        self._give_back = lambda *_: back()  # type: ignore[method-assign]

    # In the leader

    def call(
        self, exchange: Exchange, work: Callable[[], bytes | tuple[bytes, bytes] | FileSpan | None]
    ) -> Piece:
        """What `work()`, a method of `exchange`, gives; a CutOff is given, not raised.
        The first call decides where the home is.

        ELSEWHERE when its home is another thread, which will give it back; Demoted is
        raised when it took too long. What came of it is in `returned` then.
        """
        home = exchange.home
        if home is not self._leader:
            if home is not None:
                self._send_home(home, exchange, work)
                return ELSEWHERE
            if (
                self._long_paths
                and exchange.path in self._long_paths
                and self._find_home(exchange, work)
            ):
                return ELSEWHERE
            exchange.home = self._leader
        table = self._table
        table.append(exchange)
        if self._dozing:
            self._wake_sentinel()
        try:
            piece: Piece = work()
        except CutOff as error:
            piece = _bare(error)
        try:
            table.pop()
        except IndexError:
            self._give_back(exchange, piece)
            raise Demoted from None
        if self._long:
            self.ended(exchange)
        return piece

    def _find_home(
        self, exchange: Exchange, work: Callable[[], bytes | tuple[bytes, bytes] | FileSpan | None]
    ) -> bool:
        """Give a call that will be a long one to a thread that is free; False when none
        is.
        """
        with self._lock:
            home = self._free[-1] if self._free else None
        if home is None:
            self._start_hand()
            return False
        exchange.home = home
        self._send_home(home, exchange, work)
        return True

    def _send_home(
        self,
        home: Hand,
        exchange: Exchange,
        work: Callable[[], bytes | tuple[bytes, bytes] | FileSpan | None],
    ) -> None:
        with self._lock:
            home.todo.append((exchange, work))
            self._long[exchange] = time.monotonic_ns()
            self._tell_master()
            for waiting in (self._free, self._bound):
                if home in waiting:
                    waiting.remove(home)
                    home.wake.put(_LOOK)

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

    def bind(self, exchange: Exchange) -> None:
        """The exchange has to wait for its reader: its home is to be kept free for
        it.
        """
        if not exchange.bound and exchange.home is not None:
            exchange.bound = True
            exchange.home.bound += 1

    def release(self, exchange: Exchange) -> None:
        """It has come to its end."""
        if exchange.bound and exchange.home is not None:
            exchange.bound = False
            exchange.home.bound -= 1

    @property
    def crowded(self) -> bool:
        """True when the leader is the home of somebody, and there is or could be one
        who is not.
        """
        return self._leader.bound > 0 and (bool(self._free) or len(self._hands) < self._most)

    @property
    def ample(self) -> bool:
        """True when somebody would take the lead if the leader's next call was a long
        one, and no other thread runs the app's code.
        """
        # One that does may keep the interpreter's lock for as long as it likes. Who is
        # only to be started then needs `threading`, which is the leader's to import,
        # see heard(); the sentinel is not among those that `threading` knows.
        threading = sys.modules.get("threading")
        if self._long or (threading is not None and threading.active_count() > len(self._hands)):
            return False
        return bool(self._free) or (len(self._hands) < self._most and threading is not None)

    def resign(self) -> None:
        """Give the lead to one who is nobody's home (Demoted), or start one who will be
        there the next time.
        """
        with self._lock:
            start = not self._free
            if not start:
                self._table = []
                self._free.pop().wake.put(_LEAD)
                raise Demoted
        self._start_hand()

    def _tell_master(self) -> None:
        self._slot[scoreboard.CALL_SINCE] = min(self._long.values(), default=0)
        sys.setswitchinterval(_SWITCH_BESIDE_LONG if self._long else self._switch)

    def _wake_sentinel(self) -> None:
        if self._watching:
            self._dozing = False
            self._alarm.put(None)
        elif time.monotonic() >= self._start_after:
            self._dozing = False
            self._watching = self._start(self._watch, "spyglass-sentinel")
            if not self._watching:
                self._dozing = True

    # The sentinel

    def _watch(self) -> None:
        seen: Exchange | None = None
        empty = 0
        if "threading" not in sys.modules:
            os.eventfd_write(
                self.bell, 1
            )  # the leader hears it when the first answer is out, see heard()
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
        # The leader first lays down, then asks whether we doze; we first say so, then
        # look: one of us sees the other.
        if self._table:
            self._dozing = False
        else:
            self._alarm.get()

    def _promote(self, running: Exchange) -> None:
        """The call of `running` is a long one: let somebody else lead, if there is
        anybody.
        """
        with self._lock:
            # If it is in there it either was seen on the table before, or is under way
            # at its home by now. Who waits for it takes it out.
            known = running in self._long
            if not known:
                self._long[running] = time.monotonic_ns()
            if len(self._long_paths) >= _MOST_LONG_PATHS:
                self._long_paths.clear()
            self._long_paths.add(running.path)
            waiting = self._free or self._bound
            if waiting:
                self._hand_over(running, known, waiting)
            elif not known and self._running() is not running:
                del self._long[
                    running
                ]  # it has come back at the last moment; a later one would have been seen in there
            self._tell_master()
        if not waiting:
            # All are at work, and the loop must wait for one of them; unless there is
            # one to start, who will be there at the next look.
            self._start_hand()

    def _hand_over(self, running: Exchange, known: bool, waiting: list[Hand]) -> None:
        try:
            slow = self._table.pop()
        except IndexError:  # it has come back at the last moment
            if not known:
                del self._long[running]
            return
        if slow is not running:  # another call by now: too early for that one, and no harm done
            self._long[slow] = time.monotonic_ns()
            if not known:
                del self._long[running]
        self._table = []
        waiting.pop().wake.put(slow.connection.fd)

    def _start_hand(self) -> None:
        if len(self._hands) >= self._most or time.monotonic() < self._start_after:
            return
        if "threading" not in sys.modules:  # which is not for the sentinel to import
            os.eventfd_write(self.bell, 1)  # see heard()
            return
        hand = Hand()
        self._hands.append(hand)
        if not self._start(lambda: self._follow(hand), f"spyglass-{len(self._hands)}"):
            self._hands.remove(hand)

    def heard(self) -> None:
        """In the leader: the bell rang. Imports what a follower's thread is made with,
        at a moment when no answer waits for it.

        In the main thread, for before Python 3.13 the thread that imports `threading`
        first is taken for the main one.
        """
        if get_ident() == self._main:
            try:
                import threading  # noqa: F401
            except (
                OSError
            ) as error:  # no descriptor is left; the next long call will ask for it again
                self._log.error(f"cannot have threads: {error.strerror}")

    def _start(self, run: Callable[[], None], name: str) -> bool:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                # Half a worker is worse than none: the Master replaces it.
                self._log.exception(f"{name}: {blame(error)}", error)
                os._exit(1)

        try:
            if run == self._watch:
                # It runs nothing of the app's, and starts before the first call: an
                # answer would wait for the import of `threading`.
                start_new_thread(guarded, ())
            else:
                import threading

                threading.Thread(target=guarded, name=name, daemon=True).start()
        except RuntimeError as error:
            self._log.error(f"cannot start a thread: {error}")
            self._start_after = time.monotonic() + _START_PAUSE
            return False
        return True

    # Followers

    def _follow(self, hand: Hand) -> None:
        while True:
            with self._lock:
                job = hand.todo.popleft() if hand.todo else None
                if job is None:
                    (self._bound if hand.bound else self._free).append(hand)
            if job is not None:
                self._work(*job)
                del job
                continue
            woken = hand.wake.get()
            if woken == _LOOK:
                continue
            if woken is None or self._take_the_lead(
                hand, None if isinstance(woken, str) else woken
            ):
                return

    def _work(
        self, exchange: Exchange, work: Callable[[], bytes | tuple[bytes, bytes] | FileSpan | None]
    ) -> None:
        is_first = not exchange.called
        began = time.monotonic()
        try:
            piece: Piece = work()
        except CutOff as error:
            piece = _bare(error)
        if is_first and time.monotonic() - began < LOOK:
            self._long_paths.discard(exchange.path)  # it need not have come here
        self._give_back(exchange, piece)

    def _give_back(self, exchange: Exchange, piece: Piece) -> None:
        self.returned.append((exchange, piece))
        os.eventfd_write(self.bell, 1)

    def _take_the_lead(self, hand: Hand, slow: int | None) -> bool:
        """Lead; False when the lead was lost, True when there is nothing to lead any
        more.
        """
        assert self._led is not None
        self._leader = hand
        try:
            self._led.lead(slow)
        except Demoted:
            return False
        if self._long:
            # What would not end in time has been cut, but no thread can be ended from
            # outside, and the process must.
            flush()
            os._exit(0)
        for each in self._hands:
            each.wake.put(None)
        return True
