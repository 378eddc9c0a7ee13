"""Deadlines: one at a time for each connection, found in the order in which they fall
due.
"""

from hypothesis import given
from hypothesis import strategies as st

from spyglass.runtime.timers import Deadlines, Timed


def test_they_fall_due_in_their_order():
    deadlines = Deadlines([10.0, 3.0])
    slow, fast, later = Timed(), Timed(), Timed()
    deadlines.set(slow, 0, now=100.0)
    deadlines.set(fast, 1, now=102.0)
    deadlines.set(later, 1, now=104.0)
    assert deadlines.next() == 105.0
    assert deadlines.expired(104.9) == []
    assert deadlines.expired(105.0) == [(fast, 1)]
    assert deadlines.next() == 107.0
    assert deadlines.expired(1000.0) == [(later, 1), (slow, 0)]
    assert deadlines.next() is None


def test_it_is_late_by_a_moment_at_most_and_never_early():
    deadlines, one = Deadlines([0.1]), Timed()
    deadlines.set(one, 0, now=0.0)
    assert deadlines.expired(0.0999) == []
    assert deadlines.expired(0.11) == [(one, 0)]


def test_setting_it_again_replaces_it_whatever_its_kind():
    deadlines, one = Deadlines([10.0, 3.0]), Timed()
    deadlines.set(one, 0, now=0.0)
    deadlines.set(one, 1, now=5.0)
    assert (one.deadline, deadlines.next()) == (1, 8.0)
    deadlines.set(one, 1, now=6.0)
    assert deadlines.next() == 8.0  # looking then is enough
    assert deadlines.expired(8.0) == []
    assert (one.deadline, deadlines.next()) == (1, 9.0)
    assert deadlines.expired(9.0) == [(one, 1)]


def test_what_was_cleared_or_has_fallen_due_is_due_no_more():
    deadlines, one = Deadlines([10.0]), Timed()
    deadlines.clear(one)  # it has none: nothing to do
    deadlines.set(one, 0, now=0.0)
    deadlines.clear(one)
    assert (one.deadline, deadlines.expired(99.0), deadlines.next()) == (None, [], None)
    deadlines.set(one, 0, now=0.0)
    assert deadlines.expired(10.0) == [(one, 0)]
    assert (one.deadline, deadlines.expired(99.0)) == (None, [])


def test_timer_that_is_gone_leaves_nothing_to_wake_for():
    deadlines, one, other = Deadlines([10.0]), Timed(), Timed()
    deadlines.set(one, 0, now=0.0)
    deadlines.set(other, 0, now=1.0)
    deadlines.forget(one)
    assert deadlines.next() == 11.0
    deadlines.forget(other)
    assert deadlines.next() is None


DURATIONS = [1.0, 5.0, 30.0]
steps = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "clear", "forget", "expire"]),
        st.integers(0, 4),
        st.integers(0, 2),
        st.integers(0, 4),
    ),
    max_size=60,
)


@given(steps)
def test_it_is_a_table_of_timers_and_times(steps):
    deadlines, model, now = Deadlines(DURATIONS), {}, 0.0
    connections = [Timed() for _ in range(5)]
    for what, who, kind, passed in steps:
        now += passed
        connection = connections[who]
        if what == "set":
            deadlines.set(connection, kind, now)
            model[connection] = (now + DURATIONS[kind], kind)
        elif what in ("clear", "forget"):
            getattr(deadlines, what)(connection)
            model.pop(connection, None)
        else:
            due = {each: model.pop(each)[1] for each in list(model) if model[each][0] <= now}
            assert dict(deadlines.expired(now)) == due
        first = min((when for when, _ in model.values()), default=None)
        assert first is None or deadlines.next() <= first
        assert all(
            each.deadline == (model[each][1] if each in model else None) for each in connections
        )


def test_none_is_held_against_a_connection_that_is_queued():
    deadlines, one = Deadlines([1.0]), Timed()
    deadlines.set(one, 0, now=0.0)
    one.queued = True
    assert deadlines.expired(5.0) == []
    assert deadlines.overdue(5.0) == []
    assert deadlines.next() > 5.0
    deadlines.set(one, 0, now=5.0)  # it had something to say
    one.queued = False
    assert deadlines.overdue(5.0) == []
    assert deadlines.expired(6.1) == [(one, 0)]


def test_but_it_is_when_that_has_changed_nothing():
    deadlines, one = Deadlines([1.0]), Timed()
    deadlines.set(one, 0, now=0.0)
    one.queued = True
    assert deadlines.expired(5.0) == []
    one.queued = False
    assert deadlines.overdue(5.0) == [(one, 0)]
    assert (one.deadline, deadlines.overdue(5.0), deadlines.expired(9.0)) == (None, [], [])


def test_one_that_was_late_and_is_gone_is_kept_nowhere():
    deadlines, one = Deadlines([1.0]), Timed()
    deadlines.set(one, 0, now=0.0)
    one.queued = True
    deadlines.expired(5.0)
    deadlines.forget(one)
    assert not deadlines.late
    assert deadlines.next() is None
