"""Run the app in several threads: leader and followers, with promotion on demand.

One thread of a worker, the *leader*, runs the loop: it waits in epoll, reads, parses,
calls the app itself and writes. A pool of threads behind a queue, the usual design,
pays for each request with a hand-over, two context switches and a fight for the
interpreter's lock. Here a short call costs none of that. The *followers* wait.

When a call turns out to be long, a follower is *promoted*: it takes the lead and goes
on with the loop. The thread with the long call has lost the lead. It finishes that one
call, returns the result to the leader (`returned`, and the bell), and becomes a
follower. So only the app's own code ever runs beside the loop. All that belongs to the
loop belongs to the leader and needs no lock.

Losing the lead must be decided in one place. Before each call of the app the leader
lays its exchange on a *table*, a list, and takes it away afterwards. The *sentinel*
(sentinel.py) looks every 5 ms. If it finds the exchange that it found the last time, it
takes it away itself and wakes a follower. list.pop() is atomic: one of the two gets the
exchange, the other an IndexError. So there is always exactly one leader. Each leader
has a table of its own: a former one cannot take what the next has laid down.

Until the sentinel has looked twice all other requests wait. A path that was slow will
probably be slow again: such paths are remembered (long_calls.py), and the next call at
one goes to a free thread at once, until one turns out to be short.

An app may rely on one response being made in one thread, as on every other threaded
server: a database connection of its generator may be bound to it (Django's are,
sqlite's refuse another). So the thread that made the first piece is the exchange's
*home*, and makes all pieces. While it waits for a slow reader it should serve nothing
else, for another request would find that database connection. So a leader that is a
home gives the lead away when another thread is free to take it. When none is, it leads
all the same: slow readers, however many, must not block the worker.
"""

from __future__ import annotations

import sys
from _queue import SimpleQueue
from _thread import allocate_lock
from os import EFD_CLOEXEC, EFD_NONBLOCK, _exit, close, eventfd, eventfd_write
from time import monotonic

from spyglass.errors import blame
from spyglass.gateway.wsgi import CutOff
from spyglass.log import flush
from spyglass.runtime.fast_imports import deque
from spyglass.worker.long_calls import LongCalls
from spyglass.worker.sentinel import LOOK, Sentinel


class Elsewhere:
    """In the place of a piece: another thread makes it."""


ELSEWHERE = Elsewhere()
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from spyglass.gateway.file_wrapper import FileSpan
    from spyglass.gateway.wsgi import Exchange
    from spyglass.log import Log

    Piece = bytes | tuple[bytes, bytes] | FileSpan | CutOff | Elsewhere | None


_START_PAUSE = 1.0  # seconds until a thread that could not be started is asked for again


def bare(error: CutOff) -> CutOff:
    """Return the error without its traceback, which keeps alive what was to be sent."""
    return CutOff(*error.args)


class Demoted(BaseException):
    """Raised in a thread that has lost the lead: it must touch nothing of the loop's
    any more. Not an Exception: nothing on the way up may take it for the app's.
    """


class Hand:
    """One thread of the crew. It is the home of `bound` (int) unfinished exchanges; the
    leader counts them.
    """

    __slots__ = ("bound", "todo", "wake")

    def __init__(self) -> None:
        self.bound = 0
        self.todo: deque[tuple[Exchange, bool]] = deque()  # under the crew's lock
        # A descriptor: lead, over its exchange; _LEAD: just lead; _LOOK: there is
        # something to do; None: exit. Not the exchange itself: a thread may lead for
        # days, and would keep what the app has put into the environ of that request.
        self.wake: SimpleQueue[int | str | None] = SimpleQueue()


_LEAD, _LOOK = "lead", "look"


class Crew:
    """Up to `threads` (int, at least 2) threads run the app at a time. In `slot` the
    Master sees since when the oldest long call runs.

    The attributes are grouped by the threads that may touch them.
    """

    def __init__(self, threads: int, slot: memoryview[int], log: Log) -> None:
        self._log = log
        self._lock = allocate_lock()
        self._lead: Callable[[int | None], None] | None = None
        # The leader's, and the sentinel's
        self._leader = Hand()
        self._table: list[Exchange] = []
        self._sentinel = Sentinel(self)
        self._start_after = 0.0  # monotonic seconds: there was no thread to be had
        # Under the lock
        self._most = threads
        self._hands = [self._leader]
        self._free: list[Hand] = []  # those that wait
        self._bound: list[Hand] = []  # those that wait and are a home
        self._long = LongCalls(slot)
        # From followers to the leader; the bell rings when something has been returned
        self.returned: deque[tuple[Exchange, Piece]] = deque()
        self.bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        self._back: Callable[[], NoReturn] | None = None  # see abandon()

    def run(self, lead: Callable[[int | None], None]) -> None:
        """Lead, follow and lead again, until `lead()`, the loop's, returns."""
        self._lead = lead
        hand = self._leader
        if not self._take_the_lead(hand, None):
            self._follow(hand)

    def abandon(self, back: Callable[[], NoReturn]) -> None:
        """In a process that the app has forked, in any thread: the call that returns
        from the app has lost the lead, and calls `back()`.
        """
        close(self.bell)
        self._table.clear()
        self._back = back

    # In the leader

    def call(self, exchange: Exchange, *, abandon: bool = False) -> Piece:
        """Return what the advance() of `exchange` returns, or its abandon(), or the
        CutOff that it raises. The first call decides which thread is the home.

        ELSEWHERE when its home is another thread, which will return the result. Demoted
        is raised when the call was long; its result is in `returned` then.
        """
        home = exchange.home
        if home is not self._leader:
            if home is not None:
                self._send_home(home, exchange, abandon)
                return ELSEWHERE
            paths = self._long.paths
            if paths and exchange.path in paths and self._find_home(exchange, abandon):
                return ELSEWHERE
            exchange.home = self._leader
        table = self._table
        table.append(exchange)
        if self._sentinel.dozing:
            self._sentinel.wake()
        piece: Piece = None
        try:
            if abandon:
                exchange.abandon()
            else:
                piece = exchange.advance()
        except CutOff as error:
            piece = bare(error)
        try:
            table.pop()
        except IndexError:
            self._give_back(exchange, piece)
            raise Demoted from None
        if self._long.running:
            self.ended(exchange)
        return piece

    def _find_home(self, exchange: Exchange, abandon: bool) -> bool:
        """Give a call that will be long to a free thread; False when there is none."""
        with self._lock:
            home = self._free[-1] if self._free else None
        if home is None:
            self._start_hand()
            return False
        exchange.home = home
        self._send_home(home, exchange, abandon)
        return True

    def _send_home(self, home: Hand, exchange: Exchange, abandon: bool) -> None:
        with self._lock:
            home.todo.append((exchange, abandon))
            self._long.begin(exchange)
            self._long.tell_master()
            for waiting in (self._free, self._bound):
                if home in waiting:
                    waiting.remove(home)
                    home.wake.put(_LOOK)

    def ended(self, exchange: Exchange) -> None:
        """The leader has what came of a call that may have been a long one."""
        with self._lock:
            self._long.end(exchange)

    def progress(self, exchange: Exchange) -> None:
        """The call of `exchange` still runs, but not in vain."""
        with self._lock:
            self._long.progress(exchange)

    def bind(self, exchange: Exchange) -> None:
        """The exchange waits for its reader: its home is to be kept free."""
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
        """True when the leader is a home, and another thread is free or could be
        started.
        """
        return self._leader.bound > 0 and (bool(self._free) or len(self._hands) < self._most)

    @property
    def ample(self) -> bool:
        """True when a thread would take the lead if the leader's next call was a long
        one, and no other thread runs the app's code.
        """
        # A thread that does may keep the interpreter's lock for as long as it likes.
        # One that is only to be started needs `threading` (warm_up.py), which does not
        # count the sentinel.
        threading = sys.modules.get("threading")
        if self._long.running or (
            threading is not None and threading.active_count() > len(self._hands)
        ):
            return False
        return bool(self._free) or (len(self._hands) < self._most and threading is not None)

    def resign(self) -> None:
        """Give the lead to a thread that is no home (Demoted), or start one for the
        next time.
        """
        with self._lock:
            start = not self._free
            if not start:
                self._table = []
                self._free.pop().wake.put(_LEAD)
                raise Demoted
        self._start_hand()

    # The sentinel

    def running(self) -> Exchange | None:
        """Return the exchange on the table: the leader makes its call."""
        try:
            return self._table[0]
        except IndexError:
            return None

    def promote(self, running: Exchange) -> None:
        """The call of `running` is long: let another thread lead, if one is free."""
        long = self._long
        with self._lock:
            # If it is in there it either was seen on the table before, or is under way
            # at its home by now. The leader that waits for it takes it out.
            known = running in long.running
            if not known:
                long.begin(running)
            long.expect(running.path)
            waiting = self._free or self._bound
            if waiting:
                self._hand_over(running, known, waiting)
            elif not known and self.running() is not running:
                # It has returned at the last moment
                del long.running[running]
            long.tell_master()
        if not waiting:
            # All are at work. One that can be started is there at the next look.
            self._start_hand()

    def _hand_over(self, running: Exchange, known: bool, waiting: list[Hand]) -> None:
        long = self._long
        try:
            slow = self._table.pop()
        except IndexError:  # it has returned at the last moment
            if not known:
                del long.running[running]
            return
        if slow is not running:  # another call by now: too early for that one, and no harm done
            long.begin(slow)
            if not known:
                del long.running[running]
        self._table = []
        waiting.pop().wake.put(slow.connection.fd)

    def _start_hand(self) -> None:
        if len(self._hands) >= self._most or monotonic() < self._start_after:
            return
        threading = sys.modules.get("threading")
        if threading is None:
            return  # warm_up.py imports it, in the main thread
        hand = Hand()
        self._hands.append(hand)
        name = f"spyglass-{len(self._hands)}"

        def begin(run: Callable[[], None]) -> None:
            threading.Thread(target=run, name=name, daemon=True).start()

        if not self.start(lambda: self._follow(hand), name, begin):
            self._hands.remove(hand)

    def start(
        self, run: Callable[[], None], name: str, begin: Callable[[Callable[[], None]], object]
    ) -> bool:
        """Have `begin` start a thread that calls `run`; False when there is none to be
        had. Then it is not tried again for a second.
        """

        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                # Half a worker is worse than none: the Master replaces it.
                self._log.exception(f"{name}: {blame(error)}", error)
                _exit(1)

        if monotonic() < self._start_after:
            return False
        try:
            begin(guarded)
        except RuntimeError as error:
            self._log.error(f"cannot start a thread: {error}")
            self._start_after = monotonic() + _START_PAUSE
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

    def _work(self, exchange: Exchange, abandon: bool) -> None:
        is_first = not exchange.called
        began = monotonic()
        piece: Piece = None
        try:
            if abandon:
                exchange.abandon()
            else:
                piece = exchange.advance()
        except CutOff as error:
            piece = bare(error)
        if is_first and monotonic() - began < LOOK:
            self._long.paths.discard(exchange.path)  # it need not have come here
        self._give_back(exchange, piece)

    def _give_back(self, exchange: Exchange, piece: Piece) -> None:
        if self._back is not None:
            self._back()
        self.returned.append((exchange, piece))
        eventfd_write(self.bell, 1)

    def _take_the_lead(self, hand: Hand, slow: int | None) -> bool:
        """Lead; False when the lead was lost, True when all is done."""
        assert self._lead is not None
        self._leader = hand
        try:
            self._lead(slow)
        except Demoted:
            return False
        if self._long.running:
            # What would not end in time has been cut, but no thread can be ended from
            # outside, and the process must.
            flush()
            _exit(0)
        for each in self._hands:
            each.wake.put(None)
        return True
