"""Pauses before another worker, or another load: arithmetic, so no process is needed to
be sure of it.
"""

import pytest

from spyglass.policy.respawn import SETTLED, Streak, retry_pause

NOW = 1000.0


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
    assert [retry_pause(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 10**6)] == [
        0.5,
        1,
        2,
        4,
        8,
        10,
        10,
        10,
    ]
