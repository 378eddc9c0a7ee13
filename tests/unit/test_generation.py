"""What is done to workers that are stuck, and to a generation whose workers die: the test is the zygote, and the workers."""

import signal

import pytest

from spyglass.scoreboard import CALL_SINCE, DRAIN, OPEN

from .breeding import NOW


@pytest.fixture
def killed(monkeypatch):
    """What would have been sent: (pid, signal), in order."""
    sent = []
    monkeypatch.setattr("spyglass.generation.os.kill", lambda pid, number: sent.append((pid, number)))
    return sent


def test_who_is_told_to_abort_has_time_for_its_last_words(breed, killed):
    """Whatever wakes the Master meanwhile: the worker's own obedience to the order to drain is one of those things."""
    it = breed(request_timeout=10)
    cells = it.cells(0)
    cells[OPEN], cells[CALL_SINCE] = 1, int(NOW * 1e9)
    it.generation.end_overdue(NOW + 9.9)
    assert killed == []
    for seconds in (10, 10.1, 11.9):
        it.generation.end_overdue(NOW + seconds)
        assert it.orders[0] == DRAIN
    assert killed == [(1000, signal.SIGABRT)]
    it.generation.end_overdue(NOW + 12.1)
    assert killed == [(1000, signal.SIGABRT), (1000, signal.SIGKILL)]
