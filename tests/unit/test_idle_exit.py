"""The handshake before an idle app exits, step by step: the test is the workers, and
the kernel's queue.
"""

import socket

import pytest

from spyglass.master.idle_exit import IdleExit
from spyglass.runtime.scoreboard import ANSWER, HOLD, OPEN, PART, SERVE
from spyglass.runtime.sd_daemon import Listener

from .fake_log import FakeLog
from .fake_zygote import NOW


class Leaving:
    """An IdleExit of a generation with two workers; `watched` (bool): the Master
    watches the listeners.
    """

    def __init__(self, it):
        self.it = it
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.watched, self.prepared, self.clients = False, 0, []
        self.exit = IdleExit([Listener(self.sock, "http")], FakeLog(), self.watch, self.prepare)

    def watch(self, on):
        self.watched = on

    def prepare(self):
        self.prepared += 1

    def step(self, now=NOW, *, timed_out=True):
        generation = self.it.generation
        return self.exit.step(generation, generation.holders(), timed_out, now)

    def answer(self, *numbers):
        for number in numbers or self.it.generation.workers:
            self.it.cells(number)[ANSWER] = self.exit.order

    def connect(self):
        self.clients.append(socket.create_connection(self.sock.getsockname()))

    def close(self):
        for sock in (self.sock, *self.clients):
            sock.close()


@pytest.fixture
def leaving(breed):
    made = []

    def make(**settings):
        made.append(Leaving(breed(**settings)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_it_exits_when_all_workers_have_answered(leaving):
    it = leaving()
    assert not it.step(timed_out=False)
    assert (it.exit.order, it.prepared) == (SERVE, 0)
    assert not it.step()
    assert it.exit.order > HOLD
    assert set(it.it.orders.values()) == {it.exit.order}
    assert (it.prepared, it.watched) == (1, True)
    assert not it.step()
    it.answer(0)
    assert not it.step()
    it.answer(1)
    assert it.step()


def test_an_answer_to_an_earlier_attempt_does_not_count(leaving):
    it = leaving()
    it.step()
    it.answer()
    it.step(timed_out=False)
    assert it.exit.order == SERVE
    it.step()
    assert not it.step()
    it.answer()
    assert it.step()


@pytest.mark.parametrize("where", ["in the queue", "accepted by a worker"])
def test_a_client_that_connects_during_the_handshake_keeps_the_app(leaving, where):
    it = leaving()
    it.step()
    if where == "in the queue":
        it.connect()
    else:
        it.it.cells(1)[OPEN] = 1
    it.answer()
    assert not it.step()
    assert set(it.it.orders.values()) == {SERVE}
    assert not it.watched
    assert it.exit.exit_at(it.it.generation, [], NOW) == NOW + 30


def test_a_connection_that_was_accepted_before_the_answer_is_seen_after_it(leaving):
    """The slots that the caller has read are older than the answers."""
    it = leaving()
    it.step()
    slots = it.it.generation.holders()
    it.it.cells(0)[OPEN] = 1
    it.answer()
    assert not it.exit.step(it.it.generation, slots, True, NOW)


def test_connections_that_do_not_count_are_closed_after_their_answer_first(leaving):
    it = leaving(idle_ignore=["path:/ping"])
    it.it.cells(0)[OPEN] = 1
    assert not it.step()
    assert (it.exit.order, it.watched, it.prepared) == (PART, False, 0)
    assert not it.step()
    it.it.cells(0)[OPEN] = 0
    assert not it.step()
    assert it.exit.order > HOLD
    it.answer()
    assert it.step()


def test_with_idle_ignore_a_client_is_heard_before_the_next_attempt(leaving):
    it = leaving(idle_ignore=["path:/ping"])
    it.step()
    it.connect()
    it.answer()
    assert not it.step()
    assert it.exit.order == PART
    assert it.exit.hear_until == pytest.approx(NOW + 0.1)
    it.step(NOW + 0.05)
    assert it.exit.order == PART
    it.step(NOW + 0.2)
    assert it.exit.order > HOLD


def test_a_reason_to_stay_cancels_it(leaving):
    it = leaving()
    it.step()
    it.exit.cancel(it.it.generation)
    assert set(it.it.orders.values()) == {SERVE}
