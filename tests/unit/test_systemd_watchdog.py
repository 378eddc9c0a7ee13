"""Who is asked, who is ended, and when systemd is told that all is well: the test is
the workers, and the clock.
"""

import os
import select
import signal
import socket

import pytest

from spyglass.master import systemd_watchdog as watchdog
from spyglass.master.systemd_watchdog import Watchdog, interval
from spyglass.runtime import scoreboard
from spyglass.runtime.scoreboard import (
    ANSWER,
    CALL_SINCE,
    DRAINING,
    HEARD,
    OPEN,
    ORDER,
    STARTING,
    STATE,
)
from spyglass.runtime.sd_daemon import Listener

from .fake_zygote import NOW, Played

NEVER = float("inf")


@pytest.fixture
def told(monkeypatch):
    """What systemd was told."""
    notes = []
    monkeypatch.setattr(watchdog, "notify", notes.append)
    return notes


class Watched:
    """A generation of two, watched; `knock()` is a connection that waits in the queue."""

    def __init__(self, seconds=0.0, **settings):
        self.it = Played(**settings)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.it.shared.listeners.append(Listener(self.sock, "http"))
        generation = self.it.generation
        self.serving = True
        self.dog = Watchdog(
            seconds,
            self.it.shared,
            lambda: [generation],
            lambda: generation if self.serving else None,
        )
        self.clients = []
        self.rings()

    def look(self, seconds, serving=True):
        self.serving = serving
        self.dog.look(NOW + seconds)
        return self.rings()

    def due(self):
        return min(self.dog.due(NOW), default=NEVER) - NOW

    def rings(self):
        """How often the bell has rung since it was last looked at."""
        try:
            return os.eventfd_read(self.it.shared.bell)
        except BlockingIOError:
            return 0

    def knock(self):
        self.clients.append(socket.create_connection(self.sock.getsockname()))
        assert select.select([self.sock], [], [], 10)[0]

    def close(self):
        for sock in (self.sock, *self.clients):
            sock.close()
        self.it.close()


@pytest.fixture
def watch():
    made = []

    def make(*seconds, **settings):
        made.append(Watched(*seconds, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


# systemd's question


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid() + 1)}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "-1"}, 0),
        ({"WATCHDOG_USEC": ""}, 0),
    ],
)
def test_interval(environ, seconds):
    assert interval(environ) == seconds


def test_it_is_told_twice_in_its_time_and_not_at_every_turn(watch, told):
    watched = watch(20)
    for seconds, times in ((0, 1), (1, 1), (4.9, 1), (5, 2), (9.9, 2), (10, 3)):
        watched.look(seconds)
        assert len(told) == times
    assert set(told) == {"WATCHDOG=1"}
    assert watched.due() == 20


def test_without_watchdogsec_systemd_is_told_nothing_and_no_deadline_is_set(watch, told):
    watched = watch()
    for seconds in range(0, 1000, 7):
        assert not watched.look(seconds)
    assert told == []
    assert watched.due() == NEVER


@pytest.mark.parametrize("serving", [True, False])
def test_without_workers_the_master_alone_counts(watch, told, serving):
    """While the app is loaded, or fails, or the workers have died and others are on
    their way.
    """
    watched = watch(20)
    for number in list(watched.it.generation.workers):
        watched.it.ended(number, 9)
    watched.look(0, serving)
    watched.look(10, serving)
    assert len(told) == 2


# Workers


def test_an_idle_worker_is_left_in_peace(watch, killed):
    watched = watch(request_timeout=10)
    for seconds in range(0, 1000, 7):
        assert not watched.look(seconds)
    assert (killed, watched.due()) == ([], NEVER)


def test_a_silent_worker_with_a_connection_is_asked_and_then_killed(watch, killed):
    watched = watch(request_timeout=10)
    watched.it.cells(0)[OPEN] = 1
    assert [watched.look(seconds) for seconds in (0, 4.9, 5, 6, 9.9)] == [0, 0, 1, 0, 0]
    assert killed == []
    assert watched.due() == 10
    watched.look(10)
    assert killed == [(1000, signal.SIGABRT)]
    assert watched.it.journal.lines == ["worker 1000 killed: unresponsive for 10 s"]
    watched.look(10.1)
    watched.it.generation.hung.end_overdue(NOW + 12.1)
    assert killed == [(1000, signal.SIGABRT), (1000, signal.SIGKILL)]


def test_a_worker_that_answers_is_asked_again_later(watch, killed):
    watched = watch(request_timeout=10)
    cells = watched.it.cells(0)
    cells[OPEN] = 1
    asked = 0
    for seconds in range(100):
        if watched.look(seconds):
            asked += 1
            cells[HEARD] = int((NOW + seconds) * 1e9) + 1
    assert killed == []
    assert 15 <= asked <= 20


def test_a_call_that_is_known_is_not_our_affair(watch, killed):
    watched = watch(request_timeout=10)
    watched.it.cells(0)[OPEN], watched.it.cells(0)[CALL_SINCE] = 1, int(NOW * 1e9)
    for seconds in range(0, 100, 3):
        assert not watched.look(seconds)
    assert (killed, watched.due()) == ([], NEVER)


def test_a_pending_connection_makes_all_workers_owe_a_sign_of_life(watch, killed):
    watched = watch(request_timeout=60)
    watched.knock()
    assert watched.look(0) == 1
    watched.it.cells(1)[HEARD] = int(NOW * 1e9)
    watched.look(9.9)
    assert killed == []
    watched.look(10)
    assert killed == [(1000, signal.SIGABRT)]


def test_a_pending_connection_counts_against_no_worker_while_none_serves(watch, killed):
    watched = watch(request_timeout=60)
    watched.knock()
    for seconds in range(0, 100, 3):
        assert not watched.look(seconds, serving=False)
    assert killed == []


def test_an_order_has_to_be_answered(watch, killed):
    watched = watch(request_timeout=60)
    for number in (0, 1):
        watched.it.cells(number)[ORDER] = 7
    watched.it.cells(1)[ANSWER] = 7
    for seconds in (0, 5, 10):
        watched.look(seconds)
    assert killed == [(1000, signal.SIGABRT)]


@pytest.mark.parametrize("state", [scoreboard.EMPTY, STARTING, DRAINING])
def test_a_worker_that_does_not_accept_owes_no_look_at_the_queue(watch, killed, state):
    """On the way in the app's own code may run, and on the way out; a limit for that is
    another part's business.
    """
    watched = watch(request_timeout=60)
    for number in (0, 1):
        watched.it.cells(number)[STATE], watched.it.cells(number)[ORDER] = state, 7
    watched.knock()
    for seconds in range(0, 100, 3):
        assert not watched.look(seconds)
    assert killed == []


def test_a_standstill_counts_against_no_worker(watch, killed):
    watched = watch(request_timeout=10)
    watched.it.cells(0)[OPEN] = 1
    watched.look(0)
    watched.look(6)
    watched.dog.overslept(NOW + 1000)
    assert watched.look(1000) == 0
    assert killed == []
    assert watched.due() == 1005


@pytest.mark.parametrize("stuck", [1, 2])
def test_systemd_is_told_nothing_while_all_are_stuck(watch, told, killed, clock, stuck):
    watched = watch(4, request_timeout=10)
    for number in range(stuck):
        watched.it.cells(number)[OPEN] = 1
    for seconds in range(40):
        watched.look(seconds)
    assert len(killed) == stuck
    assert len(told) == (40 if stuck == 1 else 10)
    # One that takes the place of one of them is on its way: that is progress.
    watched.it.ended(0, 9)
    watched.it.maintain(now=NOW + 100)
    assert len(watched.it.spawned()) == 1
    told.clear()
    watched.look(101)
    assert told == ["WATCHDOG=1"]
