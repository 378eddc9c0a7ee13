"""The order in which a worker serves, when its leader loses the lead in every single
call, and when calls are slow.

Each test makes the interleaving happen: a crew in which every call loses the lead, and
what came of it is there for the next leader.
"""

import time
from collections import Counter, deque

import pytest

from spyglass.gateway.wsgi import CutOff
from spyglass.runtime.scoreboard import ACTIVITY, OPEN, SERVED
from spyglass.worker import turn_queue
from spyglass.worker.leader_followers import Demoted

from .stepped_worker import Closing, Worker, echo

# Acceptors and loops with methods of the tests' own.
pytestmark = pytest.mark.pure

REQUEST = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"


class Losing:
    """A crew in which each call costs its leader the lead; what it gave is in
    `returned` when the next one leads.
    """

    bell = -1
    crowded = ample = False

    def __init__(self):
        self.returned = deque()
        self.begun = None

    def call(self, exchange, *, abandon=False):
        self.begun = exchange, abandon
        raise Demoted

    def end(self):
        """The descriptor of the connection whose call was the last, which has returned
        now.
        """
        exchange, abandon = self.begun
        fd = exchange.connection.fd
        try:
            piece = outcome(exchange, abandon=abandon)
        except CutOff as error:
            piece = error
        self.returned.append((exchange, piece))
        return fd

    def bind(self, exchange): ...

    release = ended = bind


def outcome(exchange, *, abandon=False):
    return exchange.abandon() if abandon else exchange.advance()


class Restless:
    """A worker with `names` of kept-alive clients that ask again in the moment in which
    they are served, and of event streams.

    `calls` has the names in the order in which the app was called, or asked for a
    piece.
    """

    def __init__(self, path, *names, **settings):
        self.worker = Worker(path, self.app, **settings)
        self.loop = self.worker.loop
        self.loop.crew = self.loop.host.crew = self.crew = Losing()
        self.calls = []
        self.clients = {name: self.worker.client(REQUEST % name.encode()) for name in names}
        self._slow = None

    def app(self, environ, start_response):
        name = environ["PATH_INFO"][1:]
        start_response("200 OK", [])
        if name.startswith("stream"):
            return self.pieces(name)
        self.calls.append(name)
        if name in self.clients:
            self.clients[name].sendall(REQUEST % name.encode())
        return [name.encode()]

    def pieces(self, name):
        while True:
            self.calls.append(name)
            yield b"piece"

    def leaders(self, count):
        """So many leaders, each until it has called the app."""
        for _ in range(count):
            with pytest.raises(Demoted):
                self.loop.lead(self._slow)
            self._slow = self.crew.end()


@pytest.fixture
def restless(tmp_path):
    made = []

    def make(*names, **settings):
        made.append(Restless(tmp_path, *names, **settings))
        return made[-1]

    yield make
    for each in made:
        each.loop.crew.call = outcome
        each.worker.close()


NAMES = ["a", "b", "c", "stream 1", "stream 2"]


def test_kept_alive_clients_and_streams_are_served_in_turn(restless):
    scene = restless(*[name.replace(" ", "") for name in NAMES])
    scene.leaders(10)
    scene.calls.clear()
    scene.leaders(50)
    assert set(Counter(scene.calls).values()) <= {9, 10, 11}
    for begin in range(0, 40, 10):  # nowhere does one wait much longer than elsewhere
        assert set(scene.calls[begin : begin + 12]) == set(scene.clients)


@pytest.mark.parametrize("tcp", [False, True])
def test_newcomers_wait_no_longer_than_the_others(restless, tcp):
    scene = restless("a", "b", "stream1")
    scene.leaders(10)
    for number in range(5):
        scene.worker.client(REQUEST % b"new%d" % number, tcp=tcp)
        scene.calls.clear()
        scene.leaders(6)
        assert f"new{number}" in scene.calls


def test_flood_of_new_clients_keeps_no_other_waiting(restless):
    scene = restless("a", "stream1")
    scene.leaders(5)
    for number in range(100):
        scene.worker.client(REQUEST % b"new%d" % number)
    before = len(scene.calls)
    scene.leaders(102)
    calls = scene.calls[before:]
    assert calls.count("a") >= 2
    assert calls.count("stream1") >= 2
    scene.leaders(20)
    news = [name for name in scene.calls if name.startswith("new")]
    assert news == [f"new{number}" for number in range(100)]


def test_a_newcomer_is_not_taken_from_workers_that_have_less_to_do(restless):
    """No more of them than wait here already."""
    scene = restless()
    for number in range(9):
        scene.worker.client(REQUEST % b"new%d" % number)
    scene.leaders(1)
    assert scene.worker.slot[OPEN] == 1


def test_deadlines_pass_although_no_turn_comes_to_its_end(restless):
    scene = restless(
        "a", "b", "stream1", keepalive_timeout=0.05, header_timeout=0.05, body_timeout=0.05
    )
    idle, head, body, silent = (
        scene.worker.client(data)
        for data in (
            REQUEST % b"idle",
            b"GET / HTTP/1.1\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1",
            b"",
        )
    )
    scene.leaders(20)
    time.sleep(0.1)
    scene.leaders(6)
    for client, expected in (
        (idle, b"\r\n\r\nidle"),
        (head, b"408"),
        (body, b"408"),
        (silent, b""),
    ):
        client.setblocking(False)
        assert expected in client.recv(1 << 16)
        if client in (idle, silent):
            assert client.recv(1) == b""


def test_drained_in_time_although_no_turn_comes_to_its_end(restless):
    scene = restless("stream1", "stream2", "stream3", graceful_timeout=0.05)
    scene.leaders(6)
    scene.loop.drain()
    scene.leaders(1)
    time.sleep(0.1)
    scene.leaders(4)  # each closes one
    assert scene.loop.host.cutting
    assert not scene.loop._connections


def test_clients_that_take_nothing_are_closed_although_no_turn_comes_to_its_end(restless):
    bodies = []

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/large":
            start_response("200 OK", [])
            bodies.append(Closing())
            return bodies[-1]
        return scene.app(environ, start_response)

    scene = restless("a", "b", "c", "stream1", write_timeout=0.1)
    scene.loop.server.app = app
    for _ in range(2):
        scene.worker.client(REQUEST % b"large")

    def large():
        return [
            each
            for each in scene.loop._connections.values()
            if each._responder.request and each._responder.request.path == "/large"
        ]

    while len([each for each in large() if each._responder.writer.pending]) < 2:
        scene.leaders(1)
    time.sleep(0.15)
    scene.leaders(20)
    assert [body.closed for body in bodies] == [1, 1]
    assert not large()


def test_accepting_goes_on_after_its_pause(restless, monkeypatch):
    scene = restless("a", "b", "c", "stream1")
    scene.leaders(8)
    scene.loop.acceptor.resume_at = time.monotonic() + 0.05
    scene.worker.client(REQUEST % b"new")
    scene.leaders(6)
    assert "new" not in scene.calls
    time.sleep(0.06)
    scene.leaders(8)
    assert "new" in scene.calls


def test_what_the_master_is_to_know_it_knows(restless):
    scene = restless("a", "b", "c", "stream1")
    scene.loop.tell_after(5, scene.worker.tell_master)
    scene.leaders(20)
    assert scene.worker.told == 1
    assert scene.worker.slot[SERVED] >= 5
    assert scene.worker.slot[ACTIVITY]


def test_what_has_come_back_is_sent_before_the_app_is_called_again(restless):
    scene = restless("a", "b", "c")
    scene.leaders(1)
    first = scene.clients[scene.calls[0]]
    first.setblocking(False)
    scene.leaders(1)
    assert first.recv(1 << 16).endswith(b"\r\n\r\n" + scene.calls[0].encode())


def test_a_connection_that_is_closed_while_it_waits_is_not_served_and_nor_is_its_successor_twice(
    restless,
):
    """Whose descriptor has the same number."""
    scene = restless("a", "b", "c")
    victims = []

    def app(environ, start_response):
        if not victims:
            victims.extend(each for each in scene.loop.turns.ready)
            for each in victims:
                each.close("by the test")
        return scene.app(environ, start_response)

    scene.loop.server.app = app
    scene.leaders(1)
    for number in range(3):
        scene.worker.client(REQUEST % b"new%d" % number)
    scene.leaders(1)
    fds = set(scene.loop._connections)
    scene.leaders(6)
    assert victims
    assert all(each.fd == -1 for each in victims)
    assert len(fds) >= 2
    assert Counter(name for name in scene.calls if name.startswith("new")) == {
        f"new{number}": 1 for number in range(3)
    }


# When nobody takes the lead


@pytest.fixture
def slow_turns(monkeypatch):
    """Each call is a slow one: a turn's time is up after it."""
    monkeypatch.setattr(turn_queue, "_TURN", 0.0)


@pytest.mark.usefixtures("slow_turns")
def test_a_stream_of_slow_pieces_gives_one_a_turn(start):
    asked = []

    def app(environ, start_response):
        if environ["PATH_INFO"] != "/stream":
            asked.append("other")
            return echo(environ, start_response)
        start_response("200 OK", [])
        return (asked.append("piece") or b"x" for _ in range(1000))

    worker = start(app)
    worker.client(REQUEST % b"stream")
    worker.turns(3)
    other = worker.client(REQUEST % b"1")
    worker.turns(6)
    assert asked.count("piece") <= 8
    assert "other" in asked
    assert worker.answers(other, 1) == [b"/1"]


@pytest.mark.usefixtures("slow_turns")
def test_a_pipeline_of_slow_requests_gives_one_a_turn(start):
    asked = []

    def app(environ, start_response):
        asked.append(environ["PATH_INFO"])
        return echo(environ, start_response)

    worker = start(app)
    greedy = worker.client(REQUEST % b"g" * 10)
    other = worker.client(REQUEST % b"o")
    worker.turns(4)
    assert "/o" in asked[:4]
    assert worker.answers(greedy, 10) == [b"/g"] * 10
    assert worker.answers(other, 1) == [b"/o"]


@pytest.mark.usefixtures("slow_turns")
def test_time_in_the_queue_is_the_workers_and_not_the_clients(start):
    """Many have sent their head in time; all are answered, however long that takes."""
    worker = start(header_timeout=0.2, keepalive_timeout=0.2)
    clients = [worker.client() for _ in range(6)]
    worker.turns(8)
    for client in clients:
        client.sendall(REQUEST % b"1")
    worker.turns(2)
    time.sleep(0.3)
    worker.turns(12)
    for client in clients:
        assert worker.answers(client, 1) == [b"/1"]
