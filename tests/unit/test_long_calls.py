"""The account of long calls: what the Master sees, and what is expected next time."""

import sys

import pytest

from spyglass.runtime.scoreboard import CALL_SINCE, Scoreboard
from spyglass.worker import long_calls
from spyglass.worker.long_calls import LongCalls


@pytest.mark.pure
def test_the_master_sees_the_oldest():
    slot = Scoreboard(1).slot(0)
    long = LongCalls(slot)
    first, second = object(), object()
    long.begin(first)
    long.begin(second)
    long.tell_master()
    assert slot[CALL_SINCE] == long.running[first]
    long.end(first)
    assert slot[CALL_SINCE] == long.running[second]
    long.end(second)
    long.end(second)  # or it was a short one
    assert slot[CALL_SINCE] == 0


@pytest.mark.pure
def test_a_call_whose_client_takes_something_is_no_older_than_that():
    slot = Scoreboard(1).slot(0)
    long = LongCalls(slot)
    call = object()
    long.begin(call)
    before = long.running[call]
    long.progress(call)
    assert slot[CALL_SINCE] == long.running[call] > before
    long.progress(object())
    assert list(long.running) == [call]
    long.end(call)


@pytest.mark.pure
def test_beside_a_long_call_the_interpreter_switches_faster():
    usual = sys.getswitchinterval()
    long = LongCalls(Scoreboard(1).slot(0))
    call = object()
    long.begin(call)
    long.tell_master()
    assert sys.getswitchinterval() < usual
    long.end(call)
    assert sys.getswitchinterval() == usual


def test_no_more_paths_are_remembered_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(long_calls, "_MOST_PATHS", 4)
    long = LongCalls(Scoreboard(1).slot(0))
    for number in range(20):
        long.expect(str(number))
    assert "19" in long.paths
    assert len(long.paths) <= 4
