"""When all places are taken, or all that request bodies may have: the slowest make
room, and fast ones are never harmed.
"""

import os
import time

import pytest

from spyglass.runtime.scoreboard import OPEN, SERVED
from spyglass.runtime.timers import WRITE
from spyglass.worker import slow_clients
from spyglass.worker.connection_states import LINGERING

from .stepped_worker import GET, ONE, alive, echo, receive

PLACES = 4
SLOW_POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
LARGE = 8 << 20  # bytes, more than the kernel takes without a reader


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(slow_clients, "GRACE", 0.05)
    monkeypatch.setattr("spyglass.worker.acceptor._LOOK_FOR_ROOM", 0.01)
    monkeypatch.setattr("spyglass.worker.loop._LAST_CALL", 0.05)


def large(environ, start_response):
    if environ["PATH_INFO"] != "/1":
        return echo(environ, start_response)
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(LARGE))])
    return [bytes(LARGE)]


def pieces(environ, start_response):
    if environ["PATH_INFO"] != "/1":
        return echo(environ, start_response)
    start_response("200 OK", [])
    return (bytes(10_000) for _ in range(LARGE // 10_000))


def file(environ, start_response):
    if environ["PATH_INFO"] != "/1":
        return echo(environ, start_response)
    start_response("200 OK", [])
    stream = open(os.environ["LARGE_FILE"], "rb")
    return environ["wsgi.file_wrapper"](stream)


SLOW = {
    "body": (SLOW_POST + b"x", echo),
    "body on disk": (SLOW_POST + b"x" * 1000, echo),
    "chunked body": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        echo,
    ),
    "body that waits for 100 Continue": (
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        echo,
    ),
    "head": (b"GET /", echo),
    "silence": (b"", echo),
    "reader": (ONE, large),
    "reader of pieces": (ONE, pieces),
    "reader of a file": (ONE, file),
    "second request's body": (ONE + SLOW_POST + b"x", echo),
}


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("kind", SLOW)
def test_slow_client_gives_its_place(start, kind, tcp, tmp_path, monkeypatch):
    opening, app = SLOW[kind]
    monkeypatch.setenv("LARGE_FILE", str(tmp_path / "large"))
    (tmp_path / "large").write_bytes(bytes(LARGE))
    worker = start(app, max_connections=PLACES, body_memory=500)
    slow = [worker.client(opening, tcp=tcp) for _ in range(PLACES)]
    worker.until(lambda: worker.slot[OPEN] == PLACES)
    for _ in range(PLACES + 2):
        assert alive(worker)
    # Not one more than was asked for had to go, and the worker holds nothing of those
    # that have.
    worker.until(lambda: worker.slot[OPEN] <= PLACES)
    for each in slow:
        each.close()
    worker.until(lambda: all(not each.body for each in worker.loop._connections.values()))
    bodies = worker.loop.server.limits.bodies
    assert (bodies.memory, bodies.disk) == (0, 0)


def test_a_byte_now_and_then_is_no_reprieve(start):
    worker = start(max_connections=PLACES)
    slow = [worker.client(SLOW_POST, tcp=True) for _ in range(PLACES)]
    last = 0.0

    def dribble():
        nonlocal last
        if time.monotonic() > last + 0.02:
            last = time.monotonic()
            for each in slow:
                try:
                    each.send(b"x")
                except OSError:
                    pass
        return worker.slot[SERVED]

    worker.until(lambda: worker.slot[OPEN] == PLACES)
    worker.client(GET % 9)
    worker.until(dribble)


def test_it_is_told_why_and_its_place_is_free_at_once(start):
    worker = start(max_connections=1)
    slow = worker.client(SLOW_POST + b"x")
    worker.until(lambda: worker.slot[OPEN])
    assert alive(worker)
    got = worker.to_the_end(slow)
    assert got.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in got


def test_the_idle_go_first(start):
    worker = start(max_connections=2, keepalive_timeout=5)
    worker.loop.acceptor.room.last_call = 0.0
    idle, slow = worker.client(ONE), worker.client(SLOW_POST)
    worker.until(lambda: worker.slot[SERVED] and worker.slot[OPEN] == 2)
    assert alive(worker)
    assert worker.answers(idle, 1) == [b"/1"]
    assert worker.to_the_end(idle) == b""
    assert [each for each in worker.loop._connections.values() if each.body], slow


def test_fast_ones_stay_however_full_it_is(start):
    """They have their places until they are done, and who comes waits for that."""
    size, step = 900_000, 30_000
    worker = start(max_connections=PLACES)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    fast = [worker.client(head, tcp=True) for _ in range(PLACES)]
    worker.until(lambda: worker.slot[OPEN] == PLACES)
    worker.client(GET % 9)
    left = dict.fromkeys(fast, size)
    began = time.monotonic()

    def go_on():
        # Some 30 times the rate that counts as slow, on a machine that does nothing
        # else.
        for each in fast:
            if left[each] > size - step * (time.monotonic() - began) * 20:
                each.setblocking(False)
                try:
                    left[each] -= each.send(bytes(min(step, left[each])))
                except BlockingIOError:
                    pass
        return not any(left.values())

    worker.until(go_on, 60)
    for each in fast:
        assert len(worker.to_the_end(each).partition(b"\r\n\r\n")[2]) == size + 1
    worker.until(lambda: worker.slot[SERVED] == PLACES + 1)


def test_client_that_was_not_read_is_not_slow(start):
    """The worker was busy for long: what the client has sent meanwhile speaks for
    it.
    """
    worker = start(max_connections=1)
    client = worker.client(SLOW_POST)
    worker.until(lambda: worker.slot[OPEN])
    worker.client(GET % 9)
    [connection] = worker.loop._connections.values()
    worker.until(lambda: connection.seen)
    time.sleep(slow_clients.GRACE)
    client.sendall(b"x" * 100)
    worker.loop.acceptor.room.look_at = 0.0
    worker.loop.acceptor.prepare()
    assert connection.fd >= 0


def test_nor_is_one_that_was_not_written_to(start):
    worker = start(large, max_connections=1)
    reader = worker.client(ONE)
    worker.until(
        lambda: [each for each in worker.loop._connections.values() if each.deadline == WRITE]
    )
    worker.client(GET % 9)
    [connection] = worker.loop._connections.values()
    worker.until(lambda: connection.seen)
    time.sleep(slow_clients.GRACE)
    while receive(reader, 1 << 20):  # all that the kernel had
        pass
    worker.loop.acceptor.room.look_at = 0.0
    worker.loop.acceptor.prepare()
    assert not worker.loop.turns.ready
    worker.read(reader, 1 << 20)
    assert connection.fd >= 0


# All that bodies may have


def post(size, sent=None):
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(
        size if sent is None else sent
    )


def test_beyond_the_disk_of_all_the_next_is_refused_for_now(start):
    """Nothing that has come is lost for it, and none of this is the end of the
    worker.
    """
    worker = start(body_memory=10, bodies_memory=10, bodies_disk=1000)
    first = worker.client(post(900, 899), tcp=True)
    worker.until(lambda: worker.loop.server.limits.bodies.disk == 899)
    got = worker.to_the_end(worker.client(post(200), tcp=True))
    assert got.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 5\r\n" in got
    first.sendall(b"x")
    assert len(worker.answers(first, 1)[0]) == 901
    assert worker.loop.server.limits.bodies.disk == 0
    assert len(worker.answers(worker.client(post(200)), 1)[0]) == 201


def test_a_body_larger_than_all_may_be_is_too_large(start):
    """For good: so it is 413, as one beyond max_body, and not to be tried again."""
    worker = start(body_memory=10, bodies_disk=1000)
    assert worker.to_the_end(worker.client(post(1001, 0))).startswith(b"HTTP/1.1 413 ")
    assert len(worker.answers(worker.client(post(1000)), 1)[0]) == 1001


def test_a_slow_body_gives_its_disk_to_the_next(start):
    worker = start(body_memory=10, bodies_disk=1000)
    slow = worker.client(post(1000, 900))
    worker.until(lambda: worker.loop.server.limits.bodies.disk == 900)
    assert worker.to_the_end(worker.client(post(200))).startswith(
        b"HTTP/1.1 503 "
    )  # looked at for the first time
    time.sleep(slow_clients.GRACE)
    assert len(worker.answers(worker.client(post(200)), 1)[0]) == 201
    assert worker.to_the_end(slow).startswith(b"HTTP/1.1 408 ")
    assert worker.loop.server.limits.bodies.disk == 0


@pytest.mark.parametrize("size", [5, 500])
@pytest.mark.parametrize(
    "how",
    ["gone", "refused", "cut", "late", "app raises", "app reads nothing", "bad chunk", "drained"],
)
def test_whatever_becomes_of_a_request_its_body_is_given_back(start, how, size):
    def app(environ, start_response):
        if how == "app raises":
            raise RuntimeError("boom")
        start_response("200 OK", [("Content-Length", "0")])
        return []

    worker = start(
        app,
        body_memory=10,
        bodies_disk=1000,
        body_timeout=0.1 if how == "late" else 30,
        graceful_timeout=0.1,
    )
    bodies = worker.loop.server.limits.bodies
    if how.startswith("app"):
        worker.client(post(size))
        worker.until(lambda: worker.slot[SERVED])
    elif how == "bad chunk":
        client = worker.client(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size
            + bytes(size)
            + b"\r\n"
        )
        worker.until(lambda: bodies.memory + bodies.disk)
        client.sendall(b"nonsense\r\n")
        worker.until(
            lambda: not bodies.memory + bodies.disk
        )  # though its client does not read that it is refused, and stays
        assert worker.slot[OPEN]
    else:
        client = worker.client(post(2 * size, size))
        worker.until(lambda: bodies.memory + bodies.disk)
        if how == "gone":
            client.close()
        elif how == "cut":
            worker.loop.drain()
        elif how == "drained":
            worker.loop.retire()
            client.sendall(bytes(size))
        elif how == "refused":
            [connection] = worker.loop._connections.values()
            connection._responder.refuse(connection, 400, "whatever")
        worker.until(lambda: not bodies.memory + bodies.disk)
    assert (bodies.memory, bodies.disk) == (0, 0)


# The least rate


@pytest.mark.parametrize("how", ["length", "chunked"])
def test_a_body_must_bring_the_least_rate(start, how):
    worker = start(body_timeout=0.2, body_min_rate=1000)
    head, piece = {
        "length": (SLOW_POST, b"x"),
        "chunked": (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
        ),
    }[how]
    client = worker.client(head + piece)
    last = time.monotonic()

    def dribble():
        nonlocal last
        if time.monotonic() > last + 0.05:
            last = time.monotonic()
            try:
                client.send(piece)
            except OSError:
                pass
        return not worker.loop._connections or any(
            each.state is LINGERING for each in worker.loop._connections.values()
        )

    worker.until(dribble)
    assert b"HTTP/1.1 408 " in worker.to_the_end(client)


def test_a_client_that_was_kept_waiting_is_not_late(start):
    """The whole of a period has gone by while the worker did something else; there is
    more of the body than it reads at a time.
    """
    worker = start(body_timeout=0.1, body_min_rate=10_000_000)
    client = worker.client(SLOW_POST + b"x", tcp=True)
    worker.until(
        lambda: (
            worker.loop._connections
            and [each for each in worker.loop._connections.values() if each.body]
        )
    )
    time.sleep(0.15)
    left = 999_999
    client.setblocking(False)
    worker.loop.deadlines.clear(
        next(iter(worker.loop._connections.values()))
    )  # the deadline of a pause is another story

    def go_on():
        nonlocal left
        try:
            left -= client.send(bytes(left)) if left else 0
        except BlockingIOError:
            pass
        return not left

    worker.until(go_on)
    assert len(worker.answers(client, 1)[0]) == 1_000_001
