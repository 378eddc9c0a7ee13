"""Clients that are slow, silent or gone, and a disk that is full: each costs its own
connection and nothing else.
"""

import gc
import os
import re
import select
import socket
import tempfile
import time
import weakref

import pytest

from spyglass.runtime.scoreboard import OPEN, SERVED
from spyglass.worker import response_writer

from .stepped_worker import GET, ONE, RESET, Closing, alive


def test_a_slow_reader_is_never_given_more_than_the_socket_holds(start):
    asked = []

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", str(200 * 100_000))])
        for number in range(200):
            asked.append(number)
            yield b"x" * 100_000

    worker = start(app)
    client = worker.client(GET % 1)
    worker.turns(20)
    stalled = len(asked)
    worker.turns(20)
    assert 0 < len(asked) == stalled < 100
    assert alive_beside(worker)
    assert len(worker.answers(client, 1)[0]) == 200 * 100_000


class Greedy:
    """write(2) to a client that takes whatever is sent, at once."""

    taken = 0

    def __call__(self, fd, data):
        self.taken += len(data)
        return len(data)


@pytest.mark.parametrize("size", [10_000, 300_000, 5 << 20])
def test_a_fast_reader_gives_others_a_turn(start, monkeypatch, size):
    """Its socket can be ready for as long as there is anything to be sent."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return (b"x" * size for _ in range(1000))

    worker = start(app)
    worker.client(b"")
    worker.turns(1)
    greedy = Greedy()
    monkeypatch.setattr(response_writer, "write", greedy)
    worker.clients[0].sendall(GET % 1)
    worker.turns(1)
    assert 0 < greedy.taken < 12 << 20
    before = greedy.taken
    worker.turns(1)
    assert greedy.taken > before


@pytest.mark.parametrize("patience", [1, 3])
def test_nor_does_the_fast_reader_of_a_file_keep_them_waiting(
    start, monkeypatch, tmp_path, patience
):
    sent = []

    def sendfile(to, source, offset, count):
        sent.append(count)
        return count

    def app(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open(tmp_path / "file", "rb"))

    (tmp_path / "file").write_bytes(b"")
    os.truncate(tmp_path / "file", 1 << 30)
    worker = start(app)
    monkeypatch.setattr(response_writer, "sendfile", sendfile)
    worker.client(GET % 1)
    worker.until(lambda: sent)
    worker.turns(patience - 1)
    assert 0 < sum(sent) <= 2 * patience << 20


def test_what_a_cut_write_would_have_sent_is_not_kept(start):
    """Not even until the garbage collector comes by, which may be long."""

    there = []

    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Length", str(10 << 20))])
        there.append(weakref.ref(environ["wsgi.input"]))
        write(bytes(10 << 20))
        return []

    worker = start(app, write_timeout=0.05)
    gc.collect()
    gc.disable()
    try:
        worker.client(ONE)
        worker.until(lambda: there)
        worker.until(lambda: not worker.slot[OPEN])
        assert there[0]() is None
    finally:
        gc.enable()


def alive_beside(worker):
    other = worker.client(b"BAD\r\n\r\n")
    return worker.to_the_end(other).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_away_ends_its_response(start, tcp, reset):
    body = Closing()

    def app(environ, start_response):
        start_response("200 OK", [])
        return body

    worker = start(app)
    client = worker.client(ONE, tcp=tcp)
    worker.read(client, 1000)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    worker.until(lambda: not worker.slot[OPEN])
    assert body.closed == 1
    assert worker.journal.lines == []  # it is no error of anybody's


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET",
        ONE,
        ONE * 50,
        b"bad\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    ],
    ids=[
        "nothing",
        "a word",
        "a request",
        "many",
        "nonsense",
        "a head",
        "a head that expects",
        "a chunked one",
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_client_that_was_gone_before_it_was_heard_hurts_no_other(start, data, tcp, reset):
    """Its bytes can still be read, but nothing can be sent to it any more."""
    worker = start()
    client = worker.client(data, tcp=tcp)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    worker.turns()
    assert alive(worker)
    worker.until(lambda: worker.slot[OPEN] == 1)  # that of alive()


@pytest.mark.parametrize(
    ("what", "data", "answer"),
    [
        ("nothing at all", b"", b""),
        ("an empty line", b"\r\n", b""),
        ("a request, and nothing more", ONE, b"200"),
        ("half a head", b"GET / HT", b"408"),
        ("a request and half a head", ONE + b"GET / HT", b"200408"),
        ("half a body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", b"408"),
        (
            "half a chunk",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            b"408",
        ),
    ],
)
def test_silent_client_is_sent_away(start, what, data, answer):
    worker = start(header_timeout=0.05, body_timeout=0.05, keepalive_timeout=0.05)
    client = worker.client(data)
    got = worker.to_the_end(client)
    assert b"".join(re.findall(rb"HTTP/1\.1 (\d\d\d)", got)) == answer
    worker.until(lambda: not worker.slot[OPEN])


def test_the_time_for_a_head_is_for_all_of_it(start):
    """A byte now and then is no reprieve."""
    worker = start(header_timeout=0.2)
    client = worker.client(b"GET /")

    def dribble():
        try:
            client.send(b"a")
        except BrokenPipeError:
            return True
        return select.select([client], [], [], 0)[0]

    began = time.monotonic()
    worker.until(dribble)
    assert time.monotonic() - began < 5
    assert worker.to_the_end(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "before", [b"", b"GET /9 HT", ONE], ids=["nothing", "half a head", "a request"]
)
@pytest.mark.parametrize("tcp", [False, True])
def test_a_byte_out_of_band_does_not_keep_the_worker_busy(start, tcp, before):
    """A look by MSG_PEEK does not find it on a unix socket, but nor is it gone then,
    and the socket is ready for as long as it is there.
    """
    worker = start()
    client = worker.client(before, tcp=tcp)
    worker.turns()
    client.send(b"x", socket.MSG_OOB)
    worker.turns()
    assert [fd for fd, _ in worker.loop._epoll.poll(0)] == [worker.tick]
    assert len(worker.loop._connections) == 1
    client.sendall((GET % 9).removeprefix(before))
    assert worker.answers(client, 1 + (before == ONE))[-1] == b"/9"


@pytest.mark.parametrize("first", [b"", ONE], ids=["never", "once"])
@pytest.mark.parametrize("tcp", [False, True])
def test_client_that_speaks_as_it_is_sent_away_is_served(start, tcp, first):
    """While others are served, say: after the loop has looked, and before it ends who
    was silent for too long.
    """
    worker = start()
    client = worker.client(first, tcp=tcp)
    worker.until(lambda: worker.slot[SERVED] == bool(first) and worker.loop._connections)
    client.sendall(GET % 2)
    worker.loop._expire(time.monotonic() + 3600)
    assert worker.answers(client, 1 + bool(first))[-1] == b"/2"
    worker.loop._expire(time.monotonic() + 3600)
    assert worker.to_the_end(client) == b""


class Crossing:
    """A connection's socket whose client sends `data` when all that had come has been
    read, or looked at.
    """

    def __init__(self, sock, client, data):
        self._sock, self._client, self._data = sock, client, data

    def recv(self, *how):
        try:
            return self._sock.recv(*how)
        except BlockingIOError:
            data, self._data = self._data, b""
            self._client.sendall(data)
            raise

    def __getattr__(self, name):
        return getattr(self._sock, name)


def test_by_a_unix_socket_no_request_is_lost_between_the_last_look_and_the_end(start):
    """Such a one is answered; of one that has come in part the client is told, while it
    sends the rest, that it cannot be heard.
    """
    worker = start()
    whole, part = clients = worker.client(ONE), worker.client(ONE)
    for client, data in zip(clients, (GET % 2, GET[:9]), strict=True):
        worker.answers(client, 1)
        connection = list(worker.loop._connections.values())[clients.index(client)]
        connection.socket._object = Crossing(connection.socket.object, client, data)
    worker.loop._expire(time.monotonic() + 3600)
    for client in clients:
        with pytest.raises(BrokenPipeError):
            client.sendall(b"x")
    assert worker.to_the_end(whole).endswith(b"\r\n\r\n/2")
    assert worker.to_the_end(part) == b""
    assert not worker.slot[OPEN]


def test_a_client_that_was_closed_in_the_same_turn_is_not_taken_for_anything_else(start):
    """The Master lets a full worker accept again: an idle client makes room, whose own
    end has come with the bell.
    """
    worker = start(max_connections=1, keepalive_timeout=0.05)
    loop = worker.loop
    bell = os.eventfd(0)
    loop.open_door(bell, lambda: loop.quiesce(False))
    idle = worker.client(ONE)
    assert worker.answers(idle, 1) == [b"/1"]
    waiting = worker.client(GET % 2)
    loop.quiesce(True)
    time.sleep(0.1)
    os.eventfd_write(bell, 1)
    idle.close()
    assert worker.answers(waiting, 1) == [b"/2"]
    loop.close_door(bell)
    os.close(bell)


def test_but_a_client_silent_then_too_is_not_waited_for(start):
    worker = start()
    client = worker.client(ONE)
    worker.answers(client, 1)
    client.sendall(b"\r\n")
    worker.loop._expire(time.monotonic() + 3600)
    assert not worker.slot[OPEN]


def test_a_client_that_takes_nothing_is_closed(start):
    body = Closing()

    def app(environ, start_response):
        start_response("200 OK", [])
        return body

    worker = start(app, write_timeout=0.05)
    worker.client(ONE)
    worker.until(lambda: worker.slot[OPEN])
    worker.until(lambda: not worker.slot[OPEN])
    assert body.closed == 1


def test_a_write_that_was_cut_stays_cut_whatever_the_app_makes_of_it(start):
    """What had not left is lost, so nothing may follow it: the next response would be
    read as the rest of this one.
    """
    calls = []

    def app(environ, start_response):
        calls.append(environ["PATH_INFO"])
        write = start_response("200 OK", [("Content-Length", str(10 << 20))])
        try:
            write(b"x" * (10 << 20))
        except Exception:
            pass
        return []

    worker = start(app, write_timeout=0.05, keepalive_timeout=0.5)
    client = worker.client(ONE + GET % 2)
    worker.until(lambda: calls)
    got = worker.to_the_end(client)
    assert calls == ["/1"]
    assert set(got.partition(b"\r\n\r\n")[2]) == {ord("x")}


# A full disk


@pytest.fixture
def full_disk(monkeypatch):
    """The file can be made and takes what fits a buffer; the rest of it, or its end,
    does not (full(4)).
    """
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda dir, **how: open("/dev/full", "w+b", **how)
    )


@pytest.mark.parametrize("size", [10, 60_000, 200_000])
def test_no_room_for_a_body_is_507_and_costs_no_other_client(start, full_disk, size):
    worker = start(body_memory=5)
    client = worker.client(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    client.setblocking(False)
    for _ in range(50):
        try:
            size -= client.send(b"x" * size) if size else 0
        except BlockingIOError:
            pass
        worker.turns(1)
    assert worker.to_the_end(client).startswith(b"HTTP/1.1 507 ")
    assert alive(worker)


def test_a_client_that_goes_away_in_the_middle_of_that(start, full_disk):
    worker = start(body_memory=5)
    worker.client(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + b"x" * 50).close()
    worker.turns()
    assert alive(worker)
