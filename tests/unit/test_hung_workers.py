"""Which workers hang: arithmetic, so no process is needed to be sure of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.policy import hung_workers

from .worker_slots import NOW, heard, slot, slots, times

# Calls that take too long


@pytest.mark.parametrize(
    ("call_since", "late"),
    [(0.0, False), (NOW, False), (NOW - 59.9, False), (NOW - 60, True), (NOW - 600, True)],
)
def test_overdue(call_since, late):
    """0 is "no call is running", not "since the machine was started"."""
    running = slot(3, call_since=call_since)
    assert hung_workers.overdue([slot(1), running], NOW, 60.0) == ([running] if late else [])


@given(slots, times, times)
def test_overdue_at_is_never_too_late(slots, now, later):
    if hung_workers.overdue(slots, now + later, 60.0) and not hung_workers.overdue(
        slots, now, 60.0
    ):
        assert hung_workers.overdue_at(slots, now, 60.0) <= now + later


def test_a_call_that_begins_right_after_the_look_is_not_missed():
    assert hung_workers.overdue_at([slot()], NOW, 60.0) == NOW + 60
    assert hung_workers.overdue_at([], NOW, 60.0) == NOW + 60


def test_time_before_a_standstill_does_not_count_against_a_call():
    running = slot(3, call_since=NOW - 600)
    assert hung_workers.overdue([running], NOW, 60.0, since=NOW - 59) == []
    assert hung_workers.overdue([running], NOW, 60.0, since=NOW - 60) == [running]
    assert hung_workers.overdue_at([running], NOW, 60.0, since=NOW - 59) == NOW + 1
    assert hung_workers.overdue_at([slot()], NOW, 60.0, since=NOW - 59) == NOW + 60


# Workers of whom nothing is heard

LONG = 60.0  # request_timeout


def felt(facts, *, owes=False, timeout=LONG):
    """A Pulse that has been felt at each of the times in `facts`, a list of (seconds
    from NOW, slot).
    """
    pulse = hung_workers.Pulse(NOW)
    for seconds, seen in facts:
        now = NOW + seconds
        pulse.feel(seen, owes, timeout, now)
        if now >= pulse.ask_at:
            pulse.asked = now
            pulse.feel(seen, owes, timeout, now)
    return pulse


def times_of(pulse):
    return [None if when == float("inf") else when - NOW for when in (pulse.ask_at, pulse.stuck_at)]


@pytest.mark.parametrize(
    ("what", "facts", "owes", "asks_at", "stuck_at"),
    [
        ("idle, whatever the time", [(0, slot()), (1e6, slot())], False, None, None),
        ("a connection, for a while", [(0, slot(open=1)), (29, slot(open=1))], False, 30, None),
        ("for longer: it is asked", [(0, slot(open=1)), (31, slot(open=1))], False, None, 60),
        (
            "it answered",
            [(0, slot(open=1)), (31, slot(open=1)), (32, heard(slot(open=1)))],
            False,
            62,
            None,
        ),
        (
            "it did something else",
            [(0, slot(open=1)), (31, slot(open=1)), (32, slot(open=1, activity=5))],
            False,
            62,
            None,
        ),
        (
            "the look came late: it still has time to answer",
            [(0, slot(open=1)), (59, slot(open=1))],
            False,
            None,
            69,
        ),
        (
            "a call that is known is watched by itself",
            [(0, slot(open=1)), (31, slot(open=1, call_since=NOW))],
            False,
            None,
            None,
        ),
        (
            "when it is over, one begins anew",
            [(0, slot(open=1)), (31, slot(open=1, call_since=NOW)), (50, slot(open=1))],
            False,
            80,
            None,
        ),
        ("somebody waits: it is asked at once", [(7, slot())], True, None, 17),
        ("and has answered", [(7, slot()), (8, heard(slot()))], True, None, 18),
        (
            "somebody waits, but it may be in a call",
            [(0, slot(open=1)), (31, slot(open=1))],
            True,
            None,
            60,
        ),
    ],
)
def test_pulse(what, facts, owes, asks_at, stuck_at):
    assert times_of(felt(facts, owes=owes)) == [asks_at, stuck_at]


def test_no_worker_has_longer_than_a_call_may_take():
    assert times_of(felt([(0, slot())], owes=True, timeout=2.0)) == [None, 2]
    assert times_of(felt([(0, slot(open=1)), (1, slot(open=1))], timeout=2.0)) == [None, 2]


def test_a_worker_that_has_not_answered_is_not_asked_again():
    """It was asked while somebody waited, whom others took meanwhile; now somebody
    waits again.
    """
    pulse = hung_workers.Pulse(NOW)
    for seconds, owes, expected in (
        (0, True, [0, None]),
        (0, True, [None, 10]),
        (1, False, [None, None]),
        (500, True, [None, 10]),
    ):
        pulse.feel(slot(), owes, LONG, NOW + seconds)
        assert times_of(pulse) == expected
        if pulse.ask_at == NOW + seconds:
            pulse.asked = NOW + seconds


@given(
    st.lists(
        st.tuples(st.integers(1, 20), slots.filter(bool).map(lambda each: each[0]), st.booleans()),
        max_size=30,
    )
)
def test_a_worker_that_moves_at_every_look_is_never_stuck(looks):
    pulse, now = hung_workers.Pulse(NOW), NOW
    for number, (later, seen, owes) in enumerate(looks):
        now += later
        seen.heard = number
        pulse.feel(seen, owes, LONG, now)
        assert now < pulse.stuck_at
