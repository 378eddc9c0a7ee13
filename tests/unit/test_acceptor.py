"""The acceptor alone: when the listeners are in the epoll, how many clients it takes,
and what the Master sees of them.
"""

import contextlib
import select
import socket

import pytest

from spyglass.errors import RobbedError
from spyglass.runtime import scoreboard
from spyglass.runtime.scoreboard import Scoreboard
from spyglass.runtime.sd_daemon import Listener
from spyglass.worker.acceptor import Acceptor, Activity, Room

from .fake_log import FakeLog


class Accepted:
    """What becomes of a client: no connection, only its socket."""

    deadline = body = None
    due = 0.0

    def __init__(self, client):
        self.fd = client.fd


class Place:
    """An acceptor at one listener, with its epoll."""

    def __init__(self, limit=10):
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.sock = sock
        self.epoll = select.epoll()
        self.slot = Scoreboard(1).slot(0)
        self.connections = {}
        self.activity = Activity(self.slot)
        self.journal = FakeLog()
        room = Room(self.connections, 5.0, 1.0, self)
        self.acceptor = Acceptor(
            [Listener(sock, "http")],
            self.epoll,
            self.slot,
            limit,
            self.connections,
            room,
            self.activity,
            self.journal,
        )
        self.clients, self.met = [], []

    # No client is slow here
    def run(self, now): ...

    def slowest(self, connections, now):
        return []

    def come(self, count=1):
        for _ in range(count):
            self.clients.append(socket.create_connection(self.sock.getsockname()))

    def accept(self, most=10):
        """Accept as a turn of the loop does; how many."""
        for fd, _ in self.epoll.poll(0):
            self.acceptor.call(fd)
        count = 0
        while count < most and self.acceptor.accept(self.meet) is not None:
            count += 1
        return count

    def meet(self, client, *_):
        self.met.append(client)
        return Accepted(client)

    def close(self):
        for each in (*self.clients, *self.met):
            each.close()
        self.sock.close()
        self.epoll.close()


@pytest.fixture
def place():
    with contextlib.ExitStack() as stack:

        def make(**limits):
            made = Place(**limits)
            stack.callback(made.close)
            return made

        yield make


@pytest.mark.pure
def test_it_listens_from_the_first_turn_on(place):
    it = place()
    it.come(2)
    assert it.accept() == 0
    it.acceptor.prepare()
    assert it.accept() == 2
    assert it.slot[scoreboard.OPEN] == 2


@pytest.mark.pure
def test_no_more_than_asked_for_are_taken_from_the_queue(place):
    it = place()
    it.acceptor.prepare()
    it.come(3)
    assert [it.accept(most=2), it.accept(most=2)] == [2, 1]


@pytest.mark.pure
def test_no_more_than_the_limit(place):
    it = place(limit=2)
    it.acceptor.prepare()
    it.come(3)
    assert it.accept() == 2
    it.acceptor.prepare()
    assert not it.acceptor.listening
    assert it.acceptor.room.look_at > 0, "it looks for room"


@pytest.mark.pure
def test_quiesced_it_accepts_nothing_and_says_so_at_once(place):
    it = place()
    it.acceptor.prepare()
    it.come()
    it.acceptor.quiesce(True)
    assert not it.acceptor.listening
    assert it.accept() == 0
    it.acceptor.quiesce(False)
    assert it.accept() == 1


def test_an_order_that_it_has_not_heard_yet_holds_as_well(place):
    it = place()
    it.acceptor.prepare()
    it.come()
    it.slot[scoreboard.ORDER] = scoreboard.DRAIN
    assert it.accept() == 0


def test_closed_it_stays_closed(place):
    it = place()
    it.acceptor.prepare()
    it.acceptor.close()
    it.acceptor.quiesce(False)
    assert not it.acceptor.listening


@pytest.mark.pure
def test_a_number_of_ours_that_comes_back_ends_the_worker(place):
    it = place()
    it.acceptor.prepare()
    it.come()
    it.acceptor.reserved |= set(range(1000))
    with pytest.raises(RobbedError):
        it.accept()


def test_what_is_open_is_counted_by_one_pair():
    slot = Scoreboard(1).slot(0)
    activity = Activity(slot)
    activity.enter(None)
    activity.enter(None)
    assert slot[scoreboard.OPEN] == 2
    since = slot[scoreboard.ACTIVITY]
    activity.leave(None, served=7)
    assert (slot[scoreboard.OPEN], slot[scoreboard.SERVED]) == (1, 7)
    assert slot[scoreboard.ACTIVITY] >= since > 0
