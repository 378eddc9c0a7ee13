"""stay_awake(): what the Master can see of it, and that it does no harm where there is
none.
"""

import asyncio
import gc
import inspect
import os
import subprocess
import sys
import threading
import time

import pytest

import spyglass
from spyglass import api
from spyglass.runtime.scoreboard import ACTIVITY, DRAINING, HOLDS, STATE, Scoreboard, read_reason


class Served:
    """This process, as if a server had forked it."""

    def __init__(self):
        self.rings = 0
        self.cells = Scoreboard(1).slot(0)
        api.process.claim(self.cells, self.ring)

    def ring(self):
        self.rings += 1

    @property
    def holds(self):
        return self.cells[HOLDS]

    @property
    def reason(self):
        return read_reason(self.cells)


@pytest.fixture
def served():
    yield Served()
    api.process.forget()


def test_a_hold_is_seen_while_it_lasts(served):
    before = time.monotonic_ns()
    with spyglass.stay_awake():
        assert served.holds == 1
        assert served.cells[ACTIVITY] < before
        with spyglass.stay_awake("twice"):
            assert served.holds == 2
        assert served.holds == 1
    assert served.holds == 0
    assert before < served.cells[ACTIVITY] <= time.monotonic_ns()  # quiet is counted from here


def test_one_may_be_used_again_within_itself_and_after_an_error(served):
    hold = spyglass.stay_awake()
    with hold, hold:
        assert served.holds == 2
    with pytest.raises(ZeroDivisionError), hold:
        raise ZeroDivisionError
    assert served.holds == 0


def test_the_newest_reason_is_told(served):
    with spyglass.stay_awake("nightly import"):
        assert served.reason == "nightly import"
        with spyglass.stay_awake():
            assert served.reason == "nightly import"
        with spyglass.stay_awake("größer\n" + "ß" * 100):
            assert served.reason == "größer " + "ß" * 27  # 64 bytes, no half a letter
        assert served.reason == "nightly import"
    assert served.reason == ""


def test_threads_that_hold_all_the_time_lose_no_count(served):
    hold = spyglass.stay_awake("shared")
    wrong = []

    def work():
        for number in range(300):
            with hold, spyglass.stay_awake(f"{number}"):
                if (
                    not served.holds
                ):  # it may be wrong for as long as another thread is about to write, and no longer
                    time.sleep(0.05)
                    wrong.extend([number] * (not served.holds))

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert (served.holds, served.reason, wrong) == (0, "", [])


# As a decorator


def test_a_decorated_function_holds_while_it_runs_and_is_otherwise_itself(served):
    @spyglass.stay_awake()
    def work(number, *, more):
        """Says what it does."""
        return number + more, served.holds

    assert work(1, more=2) == (3, 1)
    assert served.holds == 0
    assert (work.__name__, work.__doc__) == ("work", "Says what it does.")


def test_a_decorated_generator_holds_until_its_end(served):
    @spyglass.stay_awake()
    def count():
        got = yield 1
        yield got
        return 3

    numbers = count()
    assert served.holds == 0
    assert (next(numbers), served.holds) == (1, 1)
    assert (numbers.send(2), served.holds) == (2, 1)
    with pytest.raises(StopIteration) as ended:
        next(numbers)
    assert (ended.value.value, served.holds) == (3, 0)


def test_one_that_is_given_up_holds_no_longer(served):
    @spyglass.stay_awake()
    def count():
        yield 1

    numbers = count()
    next(numbers)
    assert served.holds == 1
    del numbers
    gc.collect()
    assert served.holds == 0


def test_a_decorated_coroutine_holds_while_it_runs(served):
    @spyglass.stay_awake()
    async def work():
        await asyncio.sleep(0)
        return served.holds

    assert inspect.iscoroutinefunction(work)
    waiting = work()
    assert served.holds == 0
    assert asyncio.run(waiting) == 1
    assert served.holds == 0


def test_what_cannot_be_decorated_is_refused_by_name():
    async def numbers():
        yield 1

    with pytest.raises(TypeError, match=r"use 'with stay_awake\(\):' in numbers\(\)"):
        spyglass.stay_awake()(numbers)
    with pytest.raises(TypeError, match=r"@stay_awake\(\), with parentheses"):

        @spyglass.stay_awake
        def work():
            pass


# Where it counts, and where it does not


def test_what_is_held_before_there_is_a_slot_is_told_when_there_is_one():
    with spyglass.stay_awake("early"):
        it = Served()
        assert (it.holds, it.reason) == (1, "early")
    assert it.holds == 0
    api.process.forget()


def in_a_child(check):
    """What `check()` gives in a forked child (bool)."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_in_a_child_of_the_apps_it_means_nothing(served):
    """One that is killed while it holds would keep the app awake for ever."""

    def work():
        with hold, spyglass.stay_awake():
            return served.holds == 1

    with spyglass.stay_awake("parent") as _, (hold := spyglass.stay_awake()):
        assert served.holds == 2
        with spyglass.stay_awake():
            pass
        assert served.holds == 2
        assert in_a_child(
            lambda: (
                served.holds == 2
                and spyglass.stay_awake().__enter__() is None
                and served.holds == 2
            )
        )
        assert served.holds == 2
    assert served.holds == 0
    with hold:
        assert in_a_child(work)
        assert in_a_child(lambda: hold.__exit__() is None and served.holds == 1)
    assert served.holds == 0


def test_a_child_with_a_slot_of_its_own_begins_with_none(served):
    """A worker: the threads that held in the zygote are not in here."""
    board = Scoreboard(1)

    def become_a_worker():
        api.process.claim(board.slot(0), served.ring)
        before = board.slot(0)[HOLDS]
        with spyglass.stay_awake():
            return (before, board.slot(0)[HOLDS]) == (0, 1)

    with spyglass.stay_awake():
        assert in_a_child(become_a_worker)
        assert served.holds == 1


def test_a_child_that_is_the_first_to_use_it_does_not_take_its_parents_slot():
    code = """
import os, sys
from spyglass import api
from spyglass.runtime import scoreboard
cells = scoreboard.Scoreboard(1).slot(0)
api.process.claim(cells, None)
assert "spyglass.hold" not in sys.modules
pid = os.fork()
import spyglass
if pid:
    assert os.waitpid(pid, 0)[1] == 0
with spyglass.stay_awake():
    assert cells[scoreboard.HOLDS] == (pid > 0), cells[scoreboard.HOLDS]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_without_a_server_it_does_nothing_and_brings_little():
    code = """
import sys
import spyglass
assert spyglass.__version__ and not hasattr(spyglass, "stay_asleep")
assert "spyglass.api" not in sys.modules
from spyglass import stay_awake
with stay_awake("for nothing"):
    stay_awake()(print)("served")
assert "httptools" not in sys.modules and "systemd" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "served\n"


# Of a worker that waits for it


def test_the_last_one_rings_when_the_worker_waits_for_it(served):
    with spyglass.stay_awake():
        pass
    assert served.rings == 0, "nothing waits: that would be a system call for nothing"
    with spyglass.stay_awake():
        served.cells[STATE] = DRAINING
        with spyglass.stay_awake():
            pass
        assert served.rings == 0
    assert served.rings == 1
