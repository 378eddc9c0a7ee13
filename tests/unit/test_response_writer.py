"""Small answers of one turn leave together: who is held, until when, and that nobody is
forgotten.
"""

import contextlib
import itertools
import re
import socket
import time

import pytest
from waiting import wait_until

from spyglass.runtime import scoreboard
from spyglass.runtime.timers import IDLE
from spyglass.worker import (
    acceptor,
    connection,
    request_cycle,
    responder,
    response_writer,
    slow_clients,
    turn_queue,
)
from spyglass.worker import loop as worker_loop
from spyglass.worker.client_socket import ClientSocket
from spyglass.worker.leader_followers import ELSEWHERE

from .stepped_worker import GET, ONE, Closing, echo, receive

CLOSE = b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Clock:
    """The worker's time. It passes only when a test lets it."""

    def __init__(self):
        self.now = time.monotonic()

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (
        acceptor,
        connection,
        worker_loop,
        request_cycle,
        responder,
        response_writer,
        turn_queue,
    ):
        monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def two(start, clock):
    """two(app, **settings): a worker whose crew has somebody to take the lead, with two
    kept-alive clients who have been served once.

    All paths are taken for harmless, unless told otherwise.
    """

    def make(app=echo, ample=True, harmless=True, **settings):
        worker = start(app, **settings)
        worker.loop.crew.ample = ample
        if harmless:
            worker.loop.held.harmless = Everything()
        clients = [worker.client(GET % number) for number in (1, 2)]
        for number, client in enumerate(clients, start=1):
            assert worker.answers(client, 1)[0].startswith(b"/%d" % number)
        return worker, *clients

    return make


class Everything(set):
    def __contains__(self, path):
        return True


def looking(seen):
    """An app that looks, at the call for /4, at what the client `seen[0]` has got by
    then.
    """

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/4":
            seen.append(receive(seen[0], 1 << 20))
        return echo(environ, start_response)

    return app


@pytest.mark.pure
def test_answers_of_one_turn_leave_together(two):
    seen = []
    worker, first, second = two(looking(seen))
    seen.append(first)
    first.sendall(GET % 3)
    second.sendall(GET % 4)
    worker.turns(1)
    assert seen[1] == b""
    assert worker.answers(first, 1) + worker.answers(second, 1) == [b"/3", b"/4"]
    assert worker.slot[scoreboard.SERVED] == 4


@pytest.mark.parametrize("how", ["nobody could take the lead", "it waits too long"])
def test_no_answer_waits_for_what_may_be_long(two, monkeypatch, how):
    if how == "it waits too long":
        monkeypatch.setattr(response_writer, "_HOLD", 0)
    seen = []
    worker, first, second = two(looking(seen), ample=how == "it waits too long")
    seen.append(first)
    first.sendall(GET % 3)
    second.sendall(GET % 4)
    worker.turns(1)
    assert seen[1].endswith(b"/3")


def test_large_answers_do_not_wait(two):
    seen = []

    def app(environ, start_response):
        result = looking(seen)(environ, start_response)
        return [result[0] + b"x" * 20_000] if environ["PATH_INFO"] == "/3" else result

    def large(environ, start_response):
        return app(environ, lambda status, fields: start_response(status, []))

    worker, first, second = two(large)
    seen.append(first)
    first.sendall(GET % 3)
    second.sendall(GET % 4)
    worker.turns(1)
    assert seen[1].endswith(b"x" * 20_000)


@pytest.mark.parametrize(
    "last",
    [CLOSE, CLOSE + ONE, b"GET /%d HTTP/1.0\r\n\r\n"],
    ids=["announced", "and more sent", "HTTP/1.0"],
)
def test_last_request_of_a_connection_gets_its_answer_and_the_end(start, last):
    worker = start()
    worker.loop.crew.ample = True
    clients = [worker.client(last % number) for number in range(5)]
    for number, client in enumerate(clients):
        assert worker.to_the_end(client).endswith(b"\r\n\r\n/%d" % number)
    worker.until(lambda: not worker.slot[scoreboard.OPEN])


def test_what_is_left_of_a_long_pipeline_keeps_its_order(two):
    worker, first, second = two()
    first.sendall(b"".join(GET % number for number in range(50)))
    second.sendall(b"".join(GET % number for number in range(50, 60)))
    assert worker.answers(second, 10) == [b"/%d" % number for number in range(50, 60)]
    assert worker.answers(first, 50) == [b"/%d" % number for number in range(50)]


@pytest.mark.pure
def test_what_comes_back_from_another_thread_is_not_overtaken_by_the_next_of_its_pipeline(
    two, monkeypatch
):
    worker, *others = two()
    first, crew = worker.client(GET % 0), worker.loop.crew
    assert worker.answers(first, 1) == [b"/0"]
    made = []

    def elsewhere(exchange):
        made.append((exchange, exchange.advance()))
        return ELSEWHERE

    with monkeypatch.context() as patched:
        patched.setattr(crew, "call", elsewhere)
        first.sendall(GET % 3 + GET % 4)
        worker.until(lambda: made)
    crew.returned.extend(made)
    for number, client in enumerate(others, start=5):
        client.sendall(GET % number)
    worker.turns(1)
    assert worker.answers(first, 2) == [b"/3", b"/4"]


def test_what_write_sends_comes_after_what_is_held(two):
    def app(environ, start_response):
        if environ["PATH_INFO"] != "/4":
            return echo(environ, start_response)
        write = start_response("200 OK", [("Content-Length", "2")])
        write(b"/4")
        return []

    worker, first, second = two(app)
    first.sendall(GET % 3 + GET % 4)
    second.sendall(GET % 5)
    assert worker.answers(first, 2) == [b"/3", b"/4"]
    assert worker.answers(second, 1) == [b"/5"]


class Finishing(Closing):
    """A body that says its length, and whose end is work or an error."""

    def __init__(self, end):
        super().__init__()
        self.end = end

    def __iter__(self):
        yield b"/3"
        self.end()

    def close(self):
        super().close()
        self.end()


def failing():
    raise RuntimeError("at the end")


@pytest.mark.parametrize("end", [lambda: None, failing])
def test_the_end_that_an_app_makes_of_a_response_comes_when_all_of_it_is_there(two, end):
    bodies = []

    def app(environ, start_response):
        if environ["PATH_INFO"] != "/3":
            return echo(environ, start_response)
        start_response("200 OK", [("Content-Length", "2")])
        bodies.append(Finishing(end))
        return bodies[-1]

    worker, first, second = two(app)
    first.sendall(GET % 3)
    second.sendall(GET % 4)
    worker.turns(1)
    assert worker.answers(second, 1) == [b"/4"]
    # What was promised has been given; what an error says about the rest comes after
    # it.
    assert worker.answers(first, 1) == [b"/3"]
    assert [body.closed for body in bodies] == [1]


@pytest.mark.pure
def test_connection_cut_before_the_turn_ends_has_its_answer(two):
    worker, first, second = two()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/4":
            for connection in list(worker.loop._connections.values()):
                if connection._responder.writer.held:
                    connection.close("cut by the test")
        return echo(environ, start_response)

    worker.loop.server.app = app
    first.sendall(GET % 3)
    second.sendall(GET % 4)
    worker.turns(1)
    assert worker.to_the_end(first).endswith(b"/3")
    assert worker.answers(second, 1) == [b"/4"]


def fill(worker, first, second):
    """Ask for so many answers that `first` takes no more, while `second` takes its own:
    how many.
    """
    count = 0
    while not any(
        len(connection._responder.writer.pending)
        for connection in worker.loop._connections.values()
    ):
        first.sendall(ONE)
        second.sendall(GET % 2)
        worker.turns(1)
        worker.answers(second, 1)
        count += 1
    return count


def test_a_client_that_takes_nothing_gets_the_rest_when_it_does(two):
    worker, first, second = two(write_timeout=60)
    worker.loop.crew.ample = True
    count = fill(worker, first, second)
    assert worker.answers(first, count) == [b"/1"] * count


def test_a_client_that_has_taken_late_what_was_held_is_idle_like_any_other(two):
    """As long as it could take nothing it had the time of a reader. That must not be
    its time for the next request as well.
    """
    worker, first, second = two(write_timeout=60, keepalive_timeout=50)
    count = fill(worker, first, second)
    assert worker.answers(first, count) == [b"/1"] * count
    worker.turns()
    assert [connection.deadline for connection in worker.loop._connections.values()] == [IDLE, IDLE]


@pytest.mark.pure
def test_time_for_which_an_answer_was_held_is_not_held_against_its_client(two, clock):
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/4":
            clock.sleep(0.6)  # and nobody takes the lead
        return echo(environ, start_response)

    worker, first, second = two(app, keepalive_timeout=0.5)
    first.sendall(GET % 3)
    second.sendall(GET % 4)
    worker.turns(3)
    first.sendall(GET % 5)
    assert worker.answers(first, 2) == [b"/3", b"/5"]
    assert worker.answers(second, 1) == [b"/4"]


def test_the_access_log_counts_what_was_held(two, capfd):
    worker, first, second = two(access_log="%s %b %U")
    first.sendall(GET % 33)
    second.sendall(GET % 4)
    worker.turns(2)
    assert worker.answers(first, 1) + worker.answers(second, 1) == [b"/33", b"/4"]
    worker.turns(2)
    assert re.findall(r"200 (\d+) (/\d+)", capfd.readouterr().err)[2:] == [
        ("3", "/33"),
        ("2", "/4"),
    ]


# What may be called while answers are held


class Watched:
    """An app that looks, at each call for /4, at what the first client has got by then,
    and takes its time there if `slow`.
    """

    def __init__(self, clock):
        self.clock = clock
        self.got, self.slow, self.first = [], 0.0, None

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/4":
            self.got.append(receive(self.first, 1 << 20))
            self.clock.sleep(self.slow)
        return echo(environ, start_response)


@pytest.fixture
def watched(two, clock, monkeypatch):
    """watched() -> whether the answer to another client was held when the app was
    called for /4.
    """
    monkeypatch.setattr(response_writer, "_TRIALS", 3)
    monkeypatch.setattr(response_writer, "_RELAPSE", 5)
    monkeypatch.setattr(response_writer, "_QUICK", 0.3)
    monkeypatch.setattr(response_writer, "_HOLD", 1.0)
    app = Watched(clock)
    worker, app.first, second = two(app, harmless=False)

    def ask(slow=0.0):
        app.slow = slow
        app.first.sendall(GET % 3)
        second.sendall(GET % 4)
        worker.until(lambda: app.got)
        got = app.got.pop()
        if not got:
            assert worker.answers(app.first, 1) == [b"/3"]
        else:
            assert got.endswith(b"/3")
        assert worker.answers(second, 1) == [b"/4"]
        worker.turns(2)
        return not got

    ask.worker = worker
    return ask


def test_before_a_call_that_is_not_known_to_be_quick_everything_is_sent(watched):
    assert [watched() for _ in range(6)] == [False, False, False, True, True, True]


def test_one_that_was_slow_is_on_trial_for_longer(watched):
    assert [watched(), watched(slow=0.5)] == [False, False]
    assert [watched() for _ in range(7)] == [False] * 5 + [True] * 2


def test_so_is_one_that_was_harmless_until_then(watched, monkeypatch):
    for _ in range(4):
        held = watched()
    assert held
    monkeypatch.setattr(response_writer, "_HOLD", 0.1)
    watched(slow=0.8)
    assert not watched()
    assert "/4" not in watched.worker.loop.held.harmless


def test_no_more_paths_are_remembered_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(response_writer, "_MOST_PATHS", 4)
    monkeypatch.setattr(response_writer, "_TRIALS", 1)
    held = response_writer.Held()
    for number in range(20):
        held.expect(str(number))
        held.look(0.0)
        held.expect(f"slow {number}")
        held.look(1e12)
    assert len(held.harmless) <= 4
    assert len(held._needed) <= 4


# Slow readers


def slowly_reading(worker):
    """A client whose kernel tells of each thousand bytes that were read, and reading
    that is much slower than the socket is filled.
    """
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.connect(worker.tcp.getsockname())
    client.sendall(ONE)
    worker.clients.append(client)
    return client


@pytest.mark.pure
def test_slow_but_steady_reader_is_not_cut(start, monkeypatch):
    """The socket is ready again only when a third of its buffer is free, which takes
    longer than write_timeout.
    """

    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"x" * (4 << 20)]

    worker = start(app, write_timeout=60)
    client = slowly_reading(worker)
    worker.until(
        lambda: (
            worker.slot[scoreboard.OPEN]
            and any(each._responder.writer.pending for each in worker.loop._connections.values())
        )
    )
    [reader] = worker.loop._connections.values()

    def takes_some():
        receive(client, 2000)
        return slow_clients.untaken(reader.fd) < reader._responder.writer._untaken

    def time_is_up():
        worker.loop._expire(time.monotonic() + 61)

    asked = []
    progresses = response_writer.ResponseWriter.progresses
    monkeypatch.setattr(
        response_writer.ResponseWriter,
        "progresses",
        lambda *args: asked.append(progresses(*args)) or asked[-1],
    )
    for _ in range(3):
        worker.until(takes_some)
        time_is_up()
        worker.turns(1)
        assert worker.slot[scoreboard.OPEN], "it was cut"
    assert asked == [True] * 3
    time_is_up()  # and it has taken nothing meanwhile
    worker.until(lambda: not worker.slot[scoreboard.OPEN])
    assert asked[-1] is False


def test_nor_is_a_slow_reader_of_what_write_sends(start, monkeypatch):
    looks = []

    class Poll:
        def register(self, *_): ...

        def poll(self, timeout):
            looks.append(timeout)
            if len(looks) % 3:
                return []
            with contextlib.suppress(BlockingIOError):
                client.recv(1 << 20)
            return [1]

    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"x" * (4 << 20))
        return []

    worker = start(app, write_timeout=10**8)
    left = itertools.count(1 << 30, -1)
    worker.loop.warm_up.run(0.0)
    monkeypatch.setattr(worker.loop.warm_up, "untaken", lambda fd: next(left))
    client = worker.client(ONE)
    client.setblocking(False)
    with monkeypatch.context() as patched:
        patched.setattr(response_writer, "poll", Poll)
        worker.turns(2)
    assert looks
    assert max(looks) <= 2**31 - 1


def test_what_was_not_taken_is_known_on_any_socket():
    for one, other in (socket.socketpair(), tcp_pair()):
        with one, other:
            fill_and_take(one, other)


def fill_and_take(one, other):
    one.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            one.send(bytes(1 << 16))
    before = slow_clients.untaken(one.fileno())
    assert before > 0
    wait_until(lambda: other.recv(1 << 16) and slow_clients.untaken(one.fileno()) < before)


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


# The writer alone


@pytest.fixture
def pair():
    """A writer, and the other end of its socket."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        other.settimeout(1)
        yield response_writer.ResponseWriter(ClientSocket(one.fileno(), None)), other


def drained(writer, other, size):
    """Flush until all is sent; what the other end has got."""
    got = b""
    while len(got) < size:
        got += other.recv(1 << 20)
        with contextlib.suppress(BlockingIOError):
            writer.flush()
    return got


def test_what_the_socket_does_not_take_stays_pending_in_order(pair):
    writer, other = pair
    data = bytes(range(256)) * 2000
    assert not writer.send(data)
    assert 0 < writer.size < len(data)
    assert drained(writer, other, len(data)) == data
    assert writer.size == 0


def test_a_head_and_a_body_leave_together_and_in_order(pair):
    writer, other = pair
    assert writer.send_both(b"head", b"body")
    assert other.recv(100) == b"headbody"
    body = b"x" * 500_000
    assert not writer.send_both(b"head", body)
    assert drained(writer, other, 4 + len(body)) == b"head" + body


def test_what_is_held_is_sent_by_the_next_flush(pair):
    writer, other = pair
    writer.pending, writer.held = b"held", True
    assert writer.flush()
    assert (writer.held, other.recv(100)) == (False, b"held")


def test_a_client_progresses_when_less_is_untaken_than_before(pair):
    writer, _ = pair
    writer.note(1000)
    assert [writer.progresses(untaken) for untaken in (1000, 900, 900, 0)] == [
        False,
        True,
        False,
        True,
    ]
