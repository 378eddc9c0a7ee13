"""Policy: when to leave, whom to end, when to try again. All of it is arithmetic, so no
process is needed to be sure of it.
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.policy import worker_pool as fleet
from spyglass.policy.worker_pool import SETTLED, Slot, Streak

NOW = 1000.0


def slot(number=0, *, open=0, activity=0.0, call_since=0.0, answer=0, holds=0, reason=""):
    return Slot(
        number,
        2,
        open,
        served=0,
        activity=activity,
        call_since=call_since,
        answer=answer,
        holds=holds,
        reason=reason,
    )


def heard(slot):
    slot.heard = NOW
    return slot


# Whole seconds, so that no sum is rounded.
times = st.integers(0, 10**6).map(float)
few = st.integers(0, 2)
slots = st.lists(
    st.builds(
        slot, open=few, holds=few, activity=times, call_since=times, answer=st.integers(0, 3)
    ),
    max_size=4,
)


# Waiting


@pytest.mark.parametrize(
    ("what", "due", "seconds"),
    [
        ("nothing is due", [None], None),
        ("the first of them", [NOW + 9, None, NOW + 5], 4.0),
        ("what had come at the last look was looked at", [NOW - 1, NOW, NOW + 5], 4.0),
        ("and waits for an event", [NOW], None),
        ("what has come since was not", [NOW + 0.5, NOW + 5], 0.0),
    ],
)
def test_patience(what, due, seconds):
    assert fleet.patience(due, looked=NOW, now=NOW + 1) == seconds


# Leaving


@pytest.mark.parametrize(
    ("what", "slots", "leaves_at"),
    [
        ("no worker yet", [], 930),
        ("nobody has come since we woke", [slot(activity=10)], 930),
        (
            "the latest activity counts",
            [slot(activity=950), slot(activity=970), slot(activity=960)],
            1000,
        ),
        ("of any worker", [slot(activity=970), slot()], 1000),
        ("an open connection holds", [slot(open=1, activity=100)], NOW + 30),
        ("in any worker", [slot(activity=100), slot(open=1, activity=100)], NOW + 30),
        ("so does the app", [slot(activity=100), slot(holds=1, activity=100)], NOW + 30),
    ],
)
def test_leave_at(what, slots, leaves_at):
    assert fleet.leave_at(slots, since=900.0, now=NOW, idle_timeout=30.0) == leaves_at


@pytest.mark.parametrize("slots", [[], [slot()], [slot(open=1)]])
def test_without_an_idle_timeout_nobody_leaves(slots):
    assert fleet.leave_at(slots, 0.0, NOW, 0.0) is None


@given(slots, times, st.integers(1, 3600).map(float))
def test_nobody_leaves_within_the_idle_timeout_of_anything(slots, since, idle_timeout):
    now = max([since, *(each.activity for each in slots)])
    leaves_at = fleet.leave_at(slots, since, now, idle_timeout)
    assert leaves_at - idle_timeout >= max([since, *(each.activity for each in slots)])
    if any(each.open or each.holds for each in slots):
        assert leaves_at > now


@given(slots, times, times)
def test_a_look_too_early_is_harmless(slots, since, later):
    """What leave_at says may be slept on: as long as nothing happens, looking earlier
    gives the same answer.
    """
    if not any(each.open or each.holds for each in slots):
        assert fleet.leave_at(slots, since, NOW, 5.0) == fleet.leave_at(
            slots, since, NOW + later, 5.0
        )


@pytest.mark.parametrize(
    ("what", "answers", "all_have_stopped"),
    [
        ("nobody there", [], True),
        ("all have answered", [7, 7], True),
        ("one has not", [7, 0], False),
        ("one has answered an older order", [7, 6], False),
        ("one drains, and accepts nothing either", [7, -1], False),
    ],
)
def test_quiesced(what, answers, all_have_stopped):
    assert fleet.quiesced([slot(answer=answer) for answer in answers], 7) is all_have_stopped


@pytest.mark.parametrize(
    ("slots", "says"),
    [
        ([], ""),
        ([slot(open=1)], ""),
        ([slot(reason="long ago")], ""),
        ([slot(holds=2)], "; stays awake: the app asks for it"),
        (
            [slot(), slot(holds=1), slot(holds=1, reason="nightly import")],
            "; stays awake: nightly import",
        ),
    ],
)
def test_why_awake(slots, says):
    assert fleet.why_awake(slots) == says


# Calls that take too long


@pytest.mark.parametrize(
    ("call_since", "late"),
    [(0.0, False), (NOW, False), (NOW - 59.9, False), (NOW - 60, True), (NOW - 600, True)],
)
def test_overdue(call_since, late):
    """0 is "no call is running", not "since the machine was started"."""
    running = slot(3, call_since=call_since)
    assert fleet.overdue([slot(1), running], NOW, 60.0) == ([running] if late else [])


@given(slots, times, times)
def test_overdue_at_is_never_too_late(slots, now, later):
    if fleet.overdue(slots, now + later, 60.0) and not fleet.overdue(slots, now, 60.0):
        assert fleet.overdue_at(slots, now, 60.0) <= now + later


def test_a_call_that_begins_right_after_the_look_is_not_missed():
    assert fleet.overdue_at([slot()], NOW, 60.0) == NOW + 60
    assert fleet.overdue_at([], NOW, 60.0) == NOW + 60


def test_what_lies_before_everybody_was_awake_is_not_held_against_a_call():
    running = slot(3, call_since=NOW - 600)
    assert fleet.overdue([running], NOW, 60.0, since=NOW - 59) == []
    assert fleet.overdue([running], NOW, 60.0, since=NOW - 60) == [running]
    assert fleet.overdue_at([running], NOW, 60.0, since=NOW - 59) == NOW + 1
    assert fleet.overdue_at([slot()], NOW, 60.0, since=NOW - 59) == NOW + 60


# Workers of whom nothing is heard

LONG = 60.0  # request_timeout


def felt(facts, *, owes=False, timeout=LONG):
    """A Pulse that has been felt at each of the times in `facts`, a list of (seconds
    from NOW, slot).
    """
    pulse = fleet.Pulse(NOW)
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


def test_nobody_has_longer_than_a_call_may_take():
    assert times_of(felt([(0, slot())], owes=True, timeout=2.0)) == [None, 2]
    assert times_of(felt([(0, slot(open=1)), (1, slot(open=1))], timeout=2.0)) == [None, 2]


def test_who_did_not_answer_the_last_time_is_not_asked_again():
    """It was asked while somebody waited, whom others took meanwhile; now somebody
    waits again.
    """
    pulse = fleet.Pulse(NOW)
    for seconds, owes, times in (
        (0, True, [0, None]),
        (0, True, [None, 10]),
        (1, False, [None, None]),
        (500, True, [None, 10]),
    ):
        pulse.feel(slot(), owes, LONG, NOW + seconds)
        assert times_of(pulse) == times
        if pulse.ask_at == NOW + seconds:
            pulse.asked = NOW + seconds


@given(
    st.lists(
        st.tuples(st.integers(1, 20), slots.filter(bool).map(lambda each: each[0]), st.booleans()),
        max_size=30,
    )
)
def test_who_moves_at_every_look_is_never_stuck(looks):
    pulse, now = fleet.Pulse(NOW), NOW
    for number, (later, seen, owes) in enumerate(looks):
        now += later
        seen.heard = number
        pulse.feel(seen, owes, LONG, now)
        assert now < pulse.stuck_at


# Recycling


def used(number, served, *, limit=0, memory=0, holds=0):
    return Slot(
        number,
        2,
        0,
        served,
        activity=0.0,
        call_since=0.0,
        answer=0,
        limit=limit,
        memory=memory,
        holds=holds,
    )


def test_without_max_requests_there_is_no_limit():
    assert [fleet.request_limit(0, number) for number in range(5)] == [0] * 5


@given(st.integers(1, 2**31), st.integers(0, 10**6))
def test_the_limit_of_a_worker_is_near_max_requests_and_always_the_same(max_requests, number):
    limit = fleet.request_limit(max_requests, number)
    assert max(1, max_requests * 0.8 - 1) <= limit <= max_requests
    assert limit == fleet.request_limit(max_requests, number)


@pytest.mark.parametrize("workers", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("first", [0, 1, 100, 12345])
def test_the_limits_of_workers_side_by_side_are_apart(workers, first):
    """On average they would be a fifth of max_requests by their number apart; none is
    nearer to another than about a third of that.
    """
    limits = sorted(fleet.request_limit(10_000, number) for number in range(first, first + workers))
    nearest = min(later - earlier for earlier, later in itertools.pairwise(limits))
    assert nearest >= 2_000 / workers * 0.35


@pytest.mark.parametrize(
    ("what", "slots", "max_memory", "due"),
    [
        ("nobody there", [], 100, None),
        ("no limits", [used(0, 10**9, memory=10**12)], 0, None),
        ("below both", [used(0, 9, limit=10, memory=100)], 100, None),
        ("as many requests as it may answer", [used(0, 9, limit=10), used(1, 10, limit=10)], 0, 1),
        (
            "the furthest beyond its own limit",
            [used(0, 20, limit=10), used(1, 25, limit=20), used(2, 21, limit=12)],
            0,
            0,
        ),
        ("more memory than it may have", [used(0, 1, memory=101), used(1, 1, memory=100)], 100, 0),
        ("the largest", [used(0, 1, memory=101), used(1, 1, memory=102)], 100, 1),
        (
            "memory before requests",
            [used(0, 99, limit=10), used(1, 1, limit=10, memory=101)],
            100,
            1,
        ),
        ("nobody has looked at its memory yet", [used(0, 1)], 1, None),
        ("kept awake by the app", [used(0, 99, limit=10, holds=1), used(1, 11, limit=10)], 0, 1),
        (
            "a limit below what it was born with, before its first request",
            [used(0, 0, memory=101)],
            100,
            None,
        ),
    ],
)
def test_worn_out(what, slots, max_memory, due):
    found = fleet.worn_out(slots, max_memory)
    assert (found and found.number) == due


# Deaths in a row


def pauses(ages):
    streak = Streak(1000)
    for age in ages:
        streak.died(NOW, age, answered=1)
        yield round(streak.respawn_at - NOW, 3)


def test_the_first_death_is_an_accident_and_what_keeps_happening_is_paced():
    assert list(pauses([1.0] * 10)) == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]


def test_a_worker_that_had_settled_starts_a_new_count():
    assert list(pauses([1.0, 1.0, 1.0, SETTLED, 1.0])) == [0, 0.1, 0.2, 0, 0.1]


def test_an_app_that_kills_its_workers_for_hours_is_still_paced():
    assert list(pauses([0.0] * 5000))[-1] == 5


BORN_DEAD, IN_HAND = (
    "the workers die as soon as they are started",
    "the workers die before they have answered anything",
)


@pytest.mark.parametrize(
    ("what", "deaths", "hopeless"),
    [
        ("none", [], ""),
        ("too few", [(0.1, 0)] * 2, ""),
        ("young, and none has answered anything", [(0.1, 0)] * 3, BORN_DEAD),
        ("something had been answered meanwhile", [(0.1, 0), (0.1, 0), (0.1, 1)], ""),
        ("one of them was old", [(0.1, 0), (0.1, 0), (SETTLED, 0)], ""),
        (
            "counted afresh after that",
            [(0.1, 0), (0.1, 1), (0.1, 0), (0.1, 0), (0.1, 0)],
            BORN_DEAD,
        ),
        ("each with a visitor in hand", [(0.1, 0, 1)] * 3, ""),
        ("each of many", [(0.1, 0, 1)] * 12, IN_HAND),
        ("some of them", [(0.1, 0)] * 2 + [(0.1, 0, 1)] * 4, IN_HAND),
    ],
)
def test_hopeless(what, deaths, hopeless):
    streak = Streak(limit=3)
    for death in deaths:
        streak.died(NOW, *death)
    assert streak.hopeless == hopeless


def test_when_there_is_no_process_to_be_had_the_pauses_grow_until_there_is():
    """The first is no accident that a second try would mend: what was refused is
    refused.
    """
    streak, pauses, news = Streak(limit=3), [], []
    for _ in range(8):
        now = streak.respawn_at
        news.append(
            [streak.not_forked(now, "no room") for _ in range(4)]
        )  # all who were missing were asked for together
        pauses.append(round(streak.respawn_at - now, 3))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert news == [[True, False, False, False]] + [[False] * 4] * 7
    assert streak.hopeless == "cannot fork a worker: no room"
    assert streak.forked()
    assert not streak.forked()
    assert not streak.hopeless
    assert streak.not_forked(NOW, "no room")
    assert round(streak.respawn_at - NOW, 3) == 0.1


def test_a_moment_without_processes_is_not_hopeless():
    streak = Streak(limit=1)
    while not streak.hopeless:
        streak.not_forked(streak.respawn_at, "no room")
    assert streak.respawn_at > 3


def test_retries_come_less_and_less_often_but_never_stop():
    assert [fleet.retry_pause(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 10**6)] == [
        0.5,
        1,
        2,
        4,
        8,
        10,
        10,
        10,
    ]
