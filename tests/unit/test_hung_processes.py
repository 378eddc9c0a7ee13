"""Processes that take too long are told to go, and then killed: the test is the zygote,
and the workers.
"""

import signal

import pytest

from spyglass.master.worker_records import Worker
from spyglass.runtime.scoreboard import CALL_SINCE, DRAIN, EMPTY, LEAVING, OPEN, STATE

from .fake_zygote import NOW

NEVER = float("inf")


@pytest.fixture
def told(monkeypatch):
    """The signals that workers were sent: (slot, signal), in order."""
    signals = []
    monkeypatch.setattr(
        Worker, "kill", lambda worker, number: signals.append((worker.number, number))
    )
    return signals


# Workers


def test_an_aborted_worker_has_time_for_its_traceback(breed, killed):
    """Whatever wakes the Master meanwhile: the worker's own obedience to the order to
    drain is one of those things.
    """
    it = breed(request_timeout=10)
    cells = it.cells(0)
    cells[OPEN], cells[CALL_SINCE] = 1, int(NOW * 1e9)
    it.generation.hung.end_overdue(NOW + 9.9)
    assert killed == []
    for seconds in (10, 10.1, 11.9):
        it.generation.hung.end_overdue(NOW + seconds)
        assert it.orders[0] == DRAIN
    assert killed == [(1000, signal.SIGABRT)]
    it.generation.hung.end_overdue(NOW + 12.1)
    assert killed == [(1000, signal.SIGABRT), (1000, signal.SIGKILL)]


def test_a_worker_is_not_killed_for_one_call_with_another_that_came_meanwhile(breed, monkeypatch):
    """What it holds is known when it accepts no more: after the order, not before."""
    killed = []
    monkeypatch.setattr(Worker, "kill", lambda worker, number: killed.append(worker.number))
    it = breed(workers=1, threads=2, request_timeout=60)
    cells = it.cells(0)
    cells[CALL_SINCE], cells[OPEN] = int((NOW - 61) * 1e9), 1
    it.generation.hung.end_overdue(NOW)
    assert (it.orders, killed) == ({0: DRAIN}, [])
    assert min(it.generation.due(NOW)) - NOW < 0.2
    cells[OPEN] = 2
    it.generation.hung.end_overdue(NOW + 0.1)
    assert killed == []
    cells[OPEN] = 1
    it.generation.hung.end_overdue(NOW + 0.2)
    assert killed == [0]


def test_a_worker_that_is_not_ready_in_time_is_killed_with_a_traceback(breed, told):
    it = breed(workers=2)
    it.cells(1)[STATE] = EMPTY
    late = it.generation.workers[1].born + 60
    assert min(it.generation.due(late - 1)) == pytest.approx(late)
    it.generation.hung.end_overdue(late - 0.1)
    assert told == []
    it.generation.hung.end_overdue(late)
    it.generation.hung.end_overdue(late + 0.1)
    assert told == [(1, signal.SIGABRT)]
    assert it.journal.lines == ["worker 1001 killed: not ready within 60 s (start_timeout)"]
    it.generation.hung.end_overdue(late + 5)
    assert told == [(1, signal.SIGABRT), (1, signal.SIGKILL)]
    # However long it has been there, it was no worker yet: if that happens to all,
    # nobody can live.
    it.ended(1, int(signal.SIGKILL))
    assert str(it.generation.failures.unfit) == "no worker was ready within 60 s (start_timeout)"


def test_a_worker_that_does_not_exit_after_its_work_is_killed(breed, told):
    it = breed(graceful_timeout=10)
    it.cells(0)[STATE] = LEAVING
    it.generation.hung.end_late(NOW)
    it.generation.hung.end_late(NOW + 9.9)
    assert told == []
    it.generation.hung.end_late(NOW + 10)
    assert told == [(0, signal.SIGKILL)]
    assert it.journal.lines == [
        "worker 1000 killed: it did not exit within 10 s (graceful_timeout): "
        "the app's atexit functions, non-daemon threads or lifespan.shutdown still run"
    ]


def test_a_standstill_of_the_master_counts_against_no_process(breed, killed):
    it = breed(request_timeout=10, graceful_timeout=10, threads=1)
    cells = it.cells(0)
    cells[OPEN], cells[CALL_SINCE] = 1, int(NOW * 1e9)
    it.generation.workers[1].leave_by = NOW + 10
    it.generation.overslept(100, NOW + 100)
    it.generation.look(NOW + 109.9)
    assert killed == []
    it.generation.look(NOW + 110)
    assert killed == [(1000, signal.SIGABRT), (1001, signal.SIGKILL)]


# Zygotes


def test_a_zygote_that_does_not_tell_of_a_death_is_ended(breed, killed):
    it = breed(request_timeout=10)
    generation = it.generation
    generation.hung.abort(generation.workers[0], NOW + 10, "unresponsive")
    for seconds in (12.1, 13, 17.2, 17.3):
        generation.hung.end_overdue(NOW + seconds)
    assert [victim for victim in killed if victim[0] == generation.zygote.pid] == [
        (generation.zygote.pid, signal.SIGKILL)
    ]
    assert it.journal.lines[1:] == ["zygote 1 killed: it did not report the end of worker 1000"]


def test_a_zygote_that_does_not_fork_is_ended(breed, killed, clock):
    generation = (it := breed()).generation
    it.ended(0, 9)
    it.maintain(now=NOW + 100)
    assert len(it.spawned()) == 1
    generation.hung.end_overdue(NOW + 104.9)
    assert killed == []
    assert min(generation.due(NOW + 104.9)) == NOW + 105
    generation.hung.end_overdue(NOW + 105)
    assert killed == [(generation.zygote.pid, signal.SIGKILL)]


def test_one_that_is_still_loading_the_app_has_its_own_time(breed, killed, clock):
    """Workers are asked for before; the time to fork them begins when it is heard of
    for the first time, by the first of them.
    """
    it = breed(start_timeout=600)
    for number in (0, 1):
        it.ended(number, 9)
    it.generation.zygote.loaded_at = NEVER
    it.maintain(now=NOW + 100)
    first, second = it.spawned()
    it.generation.hung.end_overdue(clock[0] + 500)
    assert killed == []
    clock[0] += 500
    it.forked(first)
    it.generation.hung.end_overdue(clock[0] + 4.9)
    assert killed == []
    assert min(it.generation.due(clock[0])) == clock[0] + 5
    it.generation.hung.end_overdue(clock[0] + 5)
    assert killed == [(it.generation.zygote.pid, signal.SIGKILL)]
    assert it.generation.workers[second].pid == 0


def test_nor_does_one_stay_that_does_not_tell_that_a_late_one_has_ended(breed, killed):
    generation = breed(graceful_timeout=10).generation
    generation.workers[0].leave_by = NOW + 10
    for seconds in (9.9, 10, 10.1, 14.9):
        generation.hung.end_late(NOW + seconds)
        generation.hung.end_overdue(NOW + seconds)
    assert {victim for victim, _ in killed} == {1000}
    generation.hung.end_overdue(NOW + 15)
    assert (generation.zygote.pid, signal.SIGKILL) in killed
