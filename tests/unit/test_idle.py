"""When an idle app may exit: arithmetic, so no process is needed to be sure of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.policy import idle

from .worker_slots import NOW, slot, slots, times


@pytest.mark.parametrize(
    ("what", "slots", "exits_at"),
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
def test_exit_at(what, slots, exits_at):
    assert idle.exit_at(slots, since=900.0, now=NOW, idle_timeout=30.0) == exits_at


@pytest.mark.parametrize("slots", [[], [slot()], [slot(open=1)]])
def test_without_an_idle_timeout_the_app_never_exits(slots):
    assert idle.exit_at(slots, 0.0, NOW, 0.0) == float("inf")


@given(slots, times, st.integers(1, 3600).map(float))
def test_the_app_never_exits_within_idle_timeout_of_any_activity(slots, since, idle_timeout):
    now = max([since, *(each.activity for each in slots)])
    exits_at = idle.exit_at(slots, since, now, idle_timeout)
    assert exits_at - idle_timeout >= max([since, *(each.activity for each in slots)])
    if any(each.open or each.holds for each in slots):
        assert exits_at > now


@given(slots, times, times)
def test_a_look_too_early_is_harmless(slots, since, later):
    """What exit_at says may be slept on: as long as nothing happens, looking earlier
    gives the same answer.
    """
    if not any(each.open or each.holds for each in slots):
        assert idle.exit_at(slots, since, NOW, 5.0) == idle.exit_at(slots, since, NOW + later, 5.0)


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
    assert idle.quiesced([slot(answer=answer) for answer in answers], 7) is all_have_stopped
