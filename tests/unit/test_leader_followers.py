"""Who leads, when it is a close thing. Every interleaving here is made to happen:
nothing is left to the scheduler or to a clock.

The sentinel looks when the test says so; a crew whose methods stop at a given place
lets another thread go on just there; and calls of the app's end when they are told to.
"""

import gc
import os
import sys
import threading
import time
import types
import weakref
from queue import SimpleQueue

import pytest
from waiting import wait_until

from spyglass.gateway.wsgi import CutOff
from spyglass.runtime.scoreboard import CALL_SINCE, Scoreboard
from spyglass.worker import leader_followers as crew_module
from spyglass.worker import sentinel as sentinel_module
from spyglass.worker.leader_followers import ELSEWHERE, Crew, Demoted
from spyglass.worker.sentinel import Sentinel
from spyglass.worker.solo import Solo

from .fake_log import FakeLog

# Calls and crews of the tests' own, with classes that the compiled ones do not take.
pytestmark = pytest.mark.pure

PATIENCE = 10  # seconds until a test has failed


class Over(BaseException):
    """Ends the sentinel of a test."""


class Sentinels:
    """In the place of the time module: the sentinel's sleep ends when the test says
    so.
    """

    monotonic_ns = staticmethod(time.monotonic_ns)

    def __init__(self):
        self.now = 0.0
        self.over = False
        self._go = SimpleQueue()
        self._asleep = SimpleQueue()

    def monotonic(self):
        return self.now

    def sleep(self, _):
        self._asleep.put(None)
        self._go.get()
        if self.over:
            raise Over

    def look(self):
        """Let it look once; returns when it sleeps again."""
        self.begin_look()
        self._asleep.put(self._asleep.get(timeout=PATIENCE))

    def begin_look(self):
        self._asleep.get(timeout=PATIENCE)
        self._go.put(None)

    def end(self):
        self.over = True
        self._go.put(None)


class Call:
    """An exchange, as the crew sees it, whose app runs until it is told to return; each
    is good for several pieces, one at a time.
    """

    def __init__(self, fd=0, path=None):
        self._path = path
        self.connection = types.SimpleNamespace(fd=fd)
        self.home = None
        self.called = False
        self.bound = False
        self.threads = []  # who ran it
        self._began = SimpleQueue()
        self._return = SimpleQueue()

    @property
    def path(self):
        """Another one each time, so that nothing is learned of it, unless it was given
        one.
        """
        return self._path or str(time.monotonic_ns())

    def advance(self):
        self.called = True
        self.threads.append(threading.get_ident())
        self._began.put(None)
        piece = self._return.get(timeout=PATIENCE)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def begun(self):
        self._began.get(timeout=PATIENCE)

    def give(self, piece=b"piece"):
        self._return.put(piece)


class Led:
    """What the crew leads: does in the leader what the test asks for, one after the
    other.
    """

    def __init__(self):
        self.leads = []  # (thread, over what) of each who took the lead
        self.done = SimpleQueue()  # what came of each
        self._asked = SimpleQueue()
        self._led = SimpleQueue()

    def lead(self, slow):
        self.leads.append((threading.get_ident(), slow))
        self._led.put(None)
        while self._do(self._asked.get()):
            pass

    def _do(self, what):
        # In a frame of its own, which keeps nothing of what it has done.
        if what is None:
            return False
        try:
            self.done.put(what())
        except Demoted:
            self.done.put(Demoted)
            raise
        return True

    def ask(self, what):
        self._asked.put(what)

    def end(self):
        self._asked.put(None)

    def result(self):
        return self.done.get(timeout=PATIENCE)

    def taken(self):
        """Wait until somebody has taken the lead."""
        self._led.get(timeout=PATIENCE)


class Stage:
    """A crew at work. `call()` asks the leader to make one; `until()` waits."""

    def __init__(self, crew, sentinel):
        self.crew, self.sentinel = crew, sentinel
        self.led = Led()
        self.journal = crew._log
        self.thread = threading.Thread(target=crew.run, args=(self.led.lead,), daemon=True)
        self.thread.start()
        self.led.taken()

    @property
    def leader(self):
        return self.led.leads[-1][0]

    @property
    def since(self):
        return self.crew._long._slot[CALL_SINCE]

    def call(self, call):
        """Begin it in the leader; returns when the app runs."""
        self.led.ask(lambda: self.crew.call(call))
        call.begun()

    def promote(self):
        """Two looks at the same call. The first of all may have to start somebody, who
        is there at the next.
        """
        looks = 0
        before = self.crew._leader
        while self.crew._leader is before:
            self.sentinel.look()
            self.settle()
            looks += 1
            assert looks < 5, "nobody took the lead"
        self.led.taken()

    def settle(self):
        """Wait until all who have nothing to do wait for something."""

        def all_wait():
            with self.crew._lock:
                waiting = len(self.crew._free) + len(self.crew._bound)
                return all(
                    not hand.wake.qsize() for hand in self.crew._hands
                ) and waiting + self.busy() >= len(self.crew._hands)

        self.until(all_wait)

    def busy(self):
        """The leader, and who runs a call that is known to be long and not on the
        table. Who has lost the lead remains the leader until another has taken it, and
        is not counted twice.
        """
        on_table = set(self.crew._table)
        return len(
            {
                self.crew._leader,
                *(
                    each.home
                    for each in self.crew._long.running
                    if each not in on_table and not self._queued(each)
                ),
            }
        )

    def _queued(self, exchange):
        return any(each is exchange for hand in self.crew._hands for each, _ in hand.todo)

    def until(self, condition):
        wait_until(condition, PATIENCE, "it did not happen", between=lambda: time.sleep(0.001))

    def take_back(self):
        """In the place of the loop: what the next follower has returned."""
        self.until(lambda: self.crew.returned)
        exchange, piece = self.crew.returned.popleft()
        self.led.ask(lambda: self.crew.ended(exchange))
        self.led.result()
        return exchange, piece


@pytest.fixture
def stage(monkeypatch):
    """stage(threads, kind=Crew) sets one up; at the end nothing runs, and no thread is
    left.
    """
    for module in (crew_module, os):
        monkeypatch.setattr(module, "_exit", lambda status: exits.append(status))
    exits, stages = [], []

    def make(threads=2, kind=Crew):
        sentinel = Sentinels()
        monkeypatch.setattr(crew_module, "monotonic", sentinel.monotonic)
        monkeypatch.setattr(sentinel_module, "time", sentinel)
        stages.append(Stage(kind(threads, Scoreboard(1).slot(0), FakeLog()), sentinel))
        return stages[-1]

    yield make
    for each in stages:
        each.until(lambda each=each: not each.crew._long.running)
        assert each.since == 0
        assert not each.crew._table
        each.led.end()
        each.thread.join(PATIENCE)
        assert not each.thread.is_alive()
        lines = list(each.journal.lines)
        if each.crew._sentinel.watching:
            each.sentinel.end()
            each.crew._sentinel._alarm.put(None)
            each.until(lambda: exits)  # Over, which it takes for a bug
        assert [line for line in lines if "bug" in line] == []
        os.close(each.crew.bell)


# The lead changes hands


def test_a_short_call_is_made_by_the_leader(stage):
    each = stage()
    call = Call()
    each.call(call)
    call.give()
    assert each.led.result() == b"piece"
    assert call.threads == [each.leader]
    assert each.since == 0


def test_a_long_call_loses_the_lead_and_gives_back_what_came_of_it(stage):
    each = stage()
    call = Call(fd=7)
    each.call(call)
    first = each.leader
    each.promote()
    assert each.leader != first
    assert each.led.leads[-1][1] == 7
    assert each.since > 0
    call.give()
    assert each.led.result() is Demoted
    assert each.take_back() == (call, b"piece")
    assert call.threads == [first]


def test_a_follower_is_started_when_one_is_wanted_and_is_there_at_the_next_look(stage):
    each = stage()
    call = Call()
    each.call(call)
    assert len(each.crew._hands) == 1
    each.sentinel.look()  # seen
    each.sentinel.look()  # still there: nobody is free, somebody is started
    assert len(each.crew._hands) == 2
    assert len(each.led.leads) == 1
    assert each.since > 0
    each.settle()
    each.sentinel.look()
    each.led.taken()
    call.give()
    assert each.led.result() is Demoted
    each.take_back()


def test_when_no_thread_is_free_the_leader_keeps_the_lead(stage):
    each = stage()
    first, second = Call(1), Call(2)
    each.call(first)
    each.promote()
    each.call(second)
    for _ in range(3):
        each.sentinel.look()
    assert len(each.led.leads) == 2
    since = each.since
    second.give()
    first.give()
    assert {each.led.result(), each.led.result()} == {Demoted, b"piece"}
    assert each.since == since > 0  # of the first, until it has been taken back
    each.take_back()
    assert second.threads == [each.leader]


class Stopping(Crew):
    """Runs `before` and `at_pop` at most once each: when the sentinel has decided, and
    when it is about to take the call away.
    """

    before = at_pop = None

    def promote(self, running):
        what, self.before = self.before, None
        if what:
            what()
        super().promote(running)

    def _hand_over(self, *arguments):
        what, self.at_pop = self.at_pop, None
        if what:
            what()
        super()._hand_over(*arguments)


def with_a_follower(stage, threads=2):
    """Stage in which the other thread waits already."""
    each = stage(threads, Stopping)
    call = Call()
    each.call(call)
    each.promote()
    call.give()
    each.led.result()
    each.take_back()
    each.settle()
    each.sentinel.look()
    return each


def test_a_call_that_returns_just_before_its_end_of_patience_keeps_the_lead(stage):
    """The sentinel has looked, decided and taken its lock; in that moment the leader
    takes its call from the table.
    """
    each = with_a_follower(stage)
    call, leads = Call(), len(each.led.leads)

    def return_now():
        call.give()
        each.until(lambda: not each.crew._table)

    each.crew.at_pop = return_now
    each.call(call)
    each.sentinel.look()
    each.sentinel.look()
    assert each.led.result() == b"piece"
    assert len(each.led.leads) == leads
    assert not each.crew.returned
    assert each.since == 0


def test_one_that_returns_before_the_sentinel_has_its_lock_keeps_the_lead(stage):
    each = with_a_follower(stage)
    call, leads = Call(), len(each.led.leads)
    results = []

    def return_now():
        call.give()
        results.append(each.led.result())

    each.crew.before = return_now
    each.call(call)
    each.sentinel.look()
    each.sentinel.look()
    assert results == [b"piece"]
    assert (len(each.led.leads), each.since) == (leads, 0)


def test_the_same_when_no_thread_is_free(stage):
    each = stage(2, Stopping)
    first, second = Call(1), Call(2)
    each.call(first)
    each.promote()

    def return_now():
        second.give()
        assert each.led.result() == b"piece"

    each.crew.before = return_now
    each.call(second)
    each.sentinel.look()
    each.sentinel.look()
    assert set(each.crew._long.running) == {first}
    first.give()
    assert each.led.result() is Demoted
    each.take_back()


def test_a_call_that_returns_just_after_has_lost_it(stage):
    """The leader's pop finds nothing: the other half of the race."""
    each = with_a_follower(stage)

    class Late(list):
        def pop(self):
            if threading.get_ident() == leader and not late:
                late.append(True)
                each.sentinel.look()
                each.sentinel.look()
            return super().pop()

    late, leader = [], each.leader
    each.led.ask(lambda: setattr(each.crew, "_table", Late()))
    each.led.result()
    call = Call(fd=3)
    each.call(call)
    call.give()
    assert each.led.result() is Demoted
    each.led.taken()
    assert each.leader != leader
    assert each.led.leads[-1][1] == 3
    assert each.take_back() == (call, b"piece")


def test_another_call_on_the_table_by_then_loses_the_lead_too_early_and_nothing_else(stage):
    each = with_a_follower(stage)
    first, second = Call(1), Call(2)

    def next_one():
        first.give()
        assert each.led.result() == b"piece"
        each.call(second)

    each.crew.before = next_one
    each.call(first)
    each.sentinel.look()
    each.sentinel.look()
    each.led.taken()
    assert each.led.leads[-1][1] == 2
    assert set(each.crew._long.running) == {second}
    second.give()
    assert each.led.result() is Demoted
    assert each.take_back() == (second, b"piece")


# Pieces that are made at home


def at_home_elsewhere(stage, threads=3):
    """(stage, a call whose first piece was made, its home) with another thread in the
    lead.
    """
    each = with_a_follower(stage, threads)
    call = Call(fd=4)
    each.call(call)
    home = each.leader
    each.promote()
    call.give()
    assert each.led.result() is Demoted
    assert each.take_back() == (call, b"piece")
    each.settle()
    assert each.leader != home
    return each, call, home


def test_the_next_piece_is_made_where_the_first_was(stage):
    each, call, home = at_home_elsewhere(stage)
    each.call(call)
    assert each.led.result() is ELSEWHERE
    assert each.since > 0
    call.give(b"next")
    assert each.take_back() == (call, b"next")
    assert call.threads == [home, home]


def test_the_leader_goes_on_meanwhile(stage):
    each, call, home = at_home_elsewhere(stage)
    other = Call()
    each.call(call)
    assert each.led.result() is ELSEWHERE
    each.call(other)
    other.give()
    assert each.led.result() == b"piece"
    call.give(b"next")
    each.take_back()
    assert other.threads != [home]


def test_when_its_home_is_at_work_the_piece_waits_for_it(stage):
    each, call, home = at_home_elsewhere(stage, threads=2)
    # The leader's call is a long one now, so the home leads again, until its own call
    # is a long one, too.
    other, busy = Call(), Call()
    each.call(other)
    each.promote()
    assert each.leader == home
    other.give()
    assert each.led.result() is Demoted
    each.take_back()
    each.settle()
    each.call(busy)
    each.promote()
    assert each.leader != home
    each.led.ask(lambda: each.crew.call(call))
    assert each.led.result() is ELSEWHERE
    assert len(call.threads) == 1
    busy.give(b"busy")
    assert each.led.result() is Demoted
    assert each.take_back() == (busy, b"busy")
    call.begun()
    call.give(b"next")
    assert each.take_back() == (call, b"next")
    assert call.threads == busy.threads * 2 == [home, home]


def test_what_is_cut_there_is_given_back_as_well(stage):
    each, call, _ = at_home_elsewhere(stage)
    each.call(call)
    each.led.result()
    call.give(CutOff("the client has gone"))
    _, piece = each.take_back()
    assert isinstance(piece, CutOff)
    assert str(piece) == "the client has gone"


def sent_home_meanwhile(each):
    """A call that the sentinel has seen twice, and by now is made at its home, and
    another that is on the table in its place.
    """
    call, other = Call(1), Call(2)

    def changes():
        call.give()
        assert each.led.result() == b"piece"
        each.led.ask(each.crew.resign)
        assert each.led.result() is Demoted
        each.led.taken()
        each.settle()
        each.call(call)
        assert each.led.result() is ELSEWHERE
        each.call(other)

    each.crew.before = changes
    each.call(call)
    each.sentinel.look()
    each.sentinel.look()
    return call, other


def test_a_piece_sent_home_while_the_sentinel_makes_up_its_mind_stays_known_as_a_long_call(stage):
    """It has seen the call twice on the table of its home, which then gave the lead
    away; the new leader sent the next piece home.
    """
    each = with_a_follower(stage)
    call, other = sent_home_meanwhile(each)
    assert call in each.crew._long.running
    other.give()
    assert each.led.result() == b"piece"
    assert set(each.crew._long.running) == {call}
    call.give()
    each.take_back()


def test_the_same_with_a_thread_free_to_take_the_lead(stage):
    each = with_a_follower(stage, threads=3)
    each.led.ask(each.crew._start_hand)
    each.led.result()
    each.settle()
    call, other = sent_home_meanwhile(each)
    each.led.taken()
    assert set(each.crew._long.running) == {call, other}
    other.give()
    assert each.led.result() is Demoted
    each.take_back()
    call.give()
    each.take_back()


# Giving the lead away


def test_thread_that_is_a_home_gives_the_lead_to_one_that_is_not(stage):
    each = with_a_follower(stage)
    call = Call()
    each.call(call)
    call.give()
    assert each.led.result() == b"piece"
    home = each.leader
    assert not each.crew.crowded
    each.led.ask(lambda: each.crew.bind(call))
    each.led.result()
    each.crew.bind(call)  # once is enough
    assert call.home.bound == 1
    assert each.crew.crowded
    each.led.ask(each.crew.resign)
    assert each.led.result() is Demoted
    each.led.taken()
    assert each.leader != home
    assert each.led.leads[-1][1] is None
    assert not each.crew.crowded
    each.settle()
    assert call.home in each.crew._bound
    each.call(call)
    assert each.led.result() is ELSEWHERE
    call.give(b"next")
    each.take_back()
    each.crew.release(call)
    each.crew.release(call)
    assert call.home.bound == 0
    assert call.threads == [home, home]


def test_when_there_could_be_one_that_is_not_it_is_started(stage):
    each = stage()
    call = Call()
    each.call(call)
    call.give()
    each.led.result()
    each.crew.bind(call)
    assert each.crew.crowded
    each.led.ask(each.crew.resign)
    assert each.led.result() is None
    assert len(each.crew._hands) == 2
    each.settle()
    each.led.ask(each.crew.resign)
    assert each.led.result() is Demoted
    each.led.taken()
    each.crew.release(call)


def test_when_all_are_homes_the_leader_leads_all_the_same(stage):
    each = with_a_follower(stage)
    calls = [Call(1), Call(2)]
    for call in calls:
        each.call(call)
        call.give()
        each.led.result()
        each.crew.bind(call)
        if each.crew.crowded:
            each.led.ask(each.crew.resign)
            assert each.led.result() is Demoted
            each.led.taken()
            each.settle()
    assert calls[0].home is not calls[1].home
    assert not each.crew.crowded
    long = Call(3)
    each.call(long)
    each.promote()  # and the home of another takes the lead when nobody else is there
    long.give()
    assert each.led.result() is Demoted
    each.take_back()
    for call in calls:
        each.crew.release(call)


# The sentinel dozes


class DozingSentinel(Sentinel):
    """Runs `as_it_dozes` once, when the sentinel has said that it dozes, or is about to
    say so.
    """

    as_it_dozes = about_to_doze = None
    _state = True

    @property
    def dozing(self):
        return self._state

    @dozing.setter
    def dozing(self, dozing):
        what = None
        if dozing:
            what, self.about_to_doze = self.about_to_doze, None
        if what:
            what()
        self._state = dozing
        if dozing and self.as_it_dozes:
            what, self.as_it_dozes = self.as_it_dozes, None
            what()


class Dozing(Crew):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._sentinel = DozingSentinel(self)


def nearly_dozing(stage):
    each = stage(2, Dozing)
    call = Call()
    each.call(call)
    call.give()
    each.led.result()
    for _ in range(sentinel_module._DOZE_AFTER - 1):
        each.sentinel.look()
    return each


@pytest.mark.parametrize("when", ["about_to_doze", "as_it_dozes"])
def test_a_call_that_is_laid_down_just_then_is_watched(stage, when):
    each = nearly_dozing(stage)
    call = Call()
    setattr(each.crew._sentinel, when, lambda: each.call(call))
    each.sentinel.look()
    each.promote()
    call.give()
    assert each.led.result() is Demoted
    each.take_back()


def test_dozing_sentinel_is_woken_by_the_next_call(stage):
    each = nearly_dozing(stage)
    each.sentinel.begin_look()
    each.until(lambda: each.crew._sentinel.dozing)
    call = Call()
    each.call(call)
    assert not each.crew._sentinel.dozing
    each.promote()
    call.give()
    each.led.result()
    each.take_back()


# Threads that cannot be had, and what is kept


def test_a_thread_that_cannot_be_started_is_not_asked_for_all_the_time(stage, monkeypatch):
    """TasksMax= does this (systemd.resource-control(5)); 200 looks a second would be as
    many lines in the journal.
    """
    each = stage()
    call = Call()
    each.call(call)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        for _ in range(10):
            each.sentinel.look()
        assert each.journal.lines == ["cannot start a thread: can't start new thread"]
        assert len(each.crew._hands) == 1
        each.sentinel.now += 2
        each.sentinel.look()
        assert len(each.journal.lines) == 2
    each.sentinel.now += 2
    each.promote()
    call.give()
    each.led.result()
    each.take_back()


def test_without_a_sentinel_calls_are_made_and_it_is_asked_for_again(stage, monkeypatch):
    each = stage()
    with monkeypatch.context() as patched:
        patched.setattr(sentinel_module, "start_new_thread", no_thread)
        for _ in range(3):
            call = Call()
            each.call(call)
            call.give()
            assert each.led.result() == b"piece"
        assert len(each.journal.lines) == 1
    each.sentinel.now += 2
    call = Call()
    each.call(call)
    each.promote()
    call.give()
    each.led.result()
    each.take_back()


def no_thread(*_):
    raise RuntimeError("can't start new thread")


def test_long_call_that_has_ended_is_kept_by_nothing(stage):
    """Its environ holds what the app has made of it: megabytes, perhaps."""
    each = with_a_follower(stage)
    call = Call()
    gc.collect()
    gc.disable()
    try:
        each.call(call)
        each.promote()
        call.give()
        each.led.result()
        each.take_back()
        each.settle()
        each.sentinel.look()
        gone = weakref.ref(call)
        del call
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            # Without that lock, what a thread has made and another has let go of goes
            # when its maker runs again, who waits here, or with the garbage collector
            # (PEP 703, biased reference counting): so the most that can be asked is
            # that nobody else keeps it.
            gc.collect()
        each.until(lambda: gone() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [Solo, Crew])
def test_what_a_cut_call_would_have_sent_is_not_kept(kind):
    class Kept:
        pass

    def work():
        data = Kept()
        kept.append(weakref.ref(data))
        try:
            raise BlockingIOError
        except BlockingIOError:
            raise CutOff("cut") from None

    kept = []
    crew = (
        kind(Scoreboard(1).slot(0)) if kind is Solo else kind(2, Scoreboard(1).slot(0), FakeLog())
    )
    if kind is Crew:
        crew._sentinel.dozing = False  # no sentinel
    gc.collect()
    gc.disable()
    try:
        call = Call()
        call.advance = work
        piece = crew.call(call)
        assert str(piece) == "cut"
        assert kept[0]() is None
    finally:
        gc.enable()
        if kind is Crew:
            os.close(crew.bell)


def test_thread_that_could_not_be_started_is_not_counted_on(monkeypatch):
    """The leader imports what a thread is made with; one that is in a long call
    cannot.
    """
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    crew = Crew(2, Scoreboard(1).slot(0), FakeLog())
    assert crew.ample
    with monkeypatch.context() as without:
        without.delitem(sys.modules, "threading")
        assert not crew.ample
    os.close(crew.bell)


def test_nothing_may_wait_while_another_thread_runs_the_app(stage, monkeypatch):
    """It may keep the interpreter's lock."""
    each = stage(3)
    monkeypatch.setattr(threading, "active_count", lambda: len(each.crew._hands))
    call = Call()
    each.call(call)
    each.promote()
    assert not each.crew.ample
    call.give()
    assert each.led.result() is Demoted
    each.take_back()
    each.settle()
    assert each.crew.ample
    monkeypatch.setattr(
        threading, "active_count", lambda: len(each.crew._hands) + 1
    )  # the app has started one of its own
    assert not each.crew.ample


def test_one_thread_needs_no_crew():
    solo = Solo(slot := Scoreboard(1).slot(0))
    seen = []
    count = threading.active_count()
    call = Call()
    call.advance = lambda: seen.append(slot[CALL_SINCE]) or b"piece"
    assert solo.call(call) == b"piece"
    assert seen[0] > 0 == slot[CALL_SINCE]
    assert threading.active_count() == count
    assert not solo.crowded


# What was long is expected to be long again


def long_at(each, path):
    """A call at `path` that has lost the lead and has ended."""
    call = Call(path=path)
    each.call(call)
    each.promote()
    call.give()
    each.led.result()
    each.take_back()
    each.settle()


def test_call_at_a_path_that_was_slow_goes_to_a_free_thread_at_once(stage):
    each = stage()
    long_at(each, "/slow")
    leader = each.leader
    again, other = Call(path="/slow"), Call(path="/quick")
    each.call(again)
    assert each.led.result() is ELSEWHERE
    each.call(other)  # beside it
    other.give()
    assert each.led.result() == b"piece"
    assert (other.threads, each.leader) == ([leader], leader)
    assert again.threads != [leader]
    each.sentinel.monotonic = lambda: next(clock)
    clock = iter([0.0, 9.0])
    again.give()
    assert each.take_back() == (again, b"piece")


def test_until_one_was_quick(stage):
    each = stage()
    long_at(each, "/slow")
    quick, again = Call(path="/slow"), Call(path="/slow")
    each.call(quick)
    assert each.led.result() is ELSEWHERE
    quick.give()  # the clock of the test has not moved
    each.take_back()
    each.call(again)
    again.give()
    assert each.led.result() == b"piece"
    assert again.threads == [each.leader]


def test_when_no_thread_is_free_the_leader_makes_it(stage):
    each = stage()
    long_at(each, "/slow")
    first, second = Call(path="/slow"), Call(path="/slow")
    each.call(first)
    assert each.led.result() is ELSEWHERE
    each.call(second)
    second.give()
    assert each.led.result() == b"piece"
    assert second.threads == [each.leader]
    first.give()
    each.take_back()
