"""Which generation does what: the turns of the Master in which one of them ends."""

from types import SimpleNamespace

import pytest

from spyglass.master.generations import Generations
from spyglass.master.idle_exit import IdleExit
from spyglass.runtime.scoreboard import DRAINING, SERVE, STATE

from .fake_zygote import NOW


@pytest.fixture
def serving(breed):
    """Generations with one that serves."""
    played = breed(workers=1, idle_timeout=30)
    made = Generations(None, played.shared, played.poller, played.journal, lambda: None)
    made.idle_exit = IdleExit([], played.journal, lambda on: None, lambda: None)
    made.failing = SimpleNamespace(loads=SimpleNamespace(in_a_row=0, forget=lambda: None), open=0)
    made.serving = played.generation
    made.idle_exit.begin(NOW)
    return made


class Old:
    """A generation that retires, whose last client was there until `activity`."""

    def __init__(self, activity):
        self.gone = False
        self.workers = {}
        self.departed = SimpleNamespace(activity=activity)

    def look(self, now):
        pass

    def slots(self):
        return []


@pytest.fixture
def old(serving):
    retires = Old(activity=NOW + 150)
    serving.retired.append(retires)
    return retires


def test_an_idle_app_exits_in_the_turn_in_which_the_old_generation_is_gone(serving, old):
    """That its time is over is no event that could wake the Master once more."""
    serving.look(NOW + 200)
    assert serving.idle_exit.order == SERVE
    old.gone = True
    serving.look(NOW + 201)
    assert serving.idle_exit.order > SERVE


def test_clients_of_the_old_generation_count_as_well(serving, old):
    """It was reloaded under them: they may come back."""
    old.gone = True
    serving.look(NOW + 160)
    assert serving.idle_exit.order == SERVE
    assert serving.exit_at(serving.serving.holders(), NOW + 160) == NOW + 180


def test_one_that_served_before_the_master_looked_is_no_failed_load(serving):
    """A SIGTERM to all processes may come between the first answer and that look. Its
    zygote must be asked to exit, not killed.
    """
    loaded, serving.serving = serving.serving, None
    serving.loading = loaded
    ignore = lambda *_facts, **_named: None  # noqa: E731
    serving._launcher = SimpleNamespace(follow=ignore, config=loaded.config)
    serving.reloads = SimpleNamespace(under_way=False, take_over=ignore)
    serving.notes = SimpleNamespace(loaded=ignore, begin=ignore)
    serving.failing.make_way = ignore
    [worker] = loaded.workers.values()
    worker.cells[STATE] = DRAINING
    serving.look(NOW)
    assert serving.serving is loaded
    serving.stop()
    assert not loaded.zygote.killed
    assert serving.retired == [loaded]
