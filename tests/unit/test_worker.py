"""Loop and connection: what is answered, what the Master can see of it, who is
accepted, and how it ends.
"""

import errno
import os
import random
import select
import socket
import time
import zlib

import pytest

from spyglass.runtime import scoreboard
from spyglass.runtime.scoreboard import ACTIVITY, CALL_SINCE, HOLDS, OPEN, ORDER, SERVED, STATE
from spyglass.worker import request_receiver
from spyglass.worker.loop import Loop

from .stepped_worker import GET, ONE, RESET, Closing, echo

# Answers, and what the Master can see of them


@pytest.mark.parametrize("tcp", [False, True])
def test_a_request_is_answered_and_counted(start, tcp):
    worker = start()
    client = worker.client(ONE, tcp=tcp)
    assert worker.answers(client, 1) == [b"/1"]
    assert (worker.slot[OPEN], worker.slot[SERVED], worker.slot[CALL_SINCE]) == (1, 1, 0)
    accepted = worker.slot[ACTIVITY]
    client.close()
    worker.until(lambda: not worker.slot[OPEN])
    assert worker.slot[SERVED] == 1
    assert 0 < accepted < worker.slot[ACTIVITY] <= time.monotonic_ns()


def test_while_the_app_works_the_master_can_see_since_when(start):
    seen = []

    def app(environ, start_response):
        start_response("200 OK", [])
        for _ in range(2):
            seen.append(worker.slot[CALL_SINCE])
            yield b"x"

    worker = start(app)
    began = time.monotonic_ns()
    client = worker.client(ONE)
    worker.until(lambda: worker.slot[SERVED])
    assert began < seen[0] < seen[1]  # each piece is a sign of life
    assert worker.slot[CALL_SINCE] == 0
    client.close()


def test_pipelined_requests_are_answered_in_order(start):
    worker = start()
    client = worker.client(b"".join(GET % number for number in range(100)))
    assert worker.answers(client, 100) == [b"/%d" % number for number in range(100)]


def test_a_client_that_pipelines_gives_others_a_turn(start):
    worker = start()
    worker.client(ONE * 200)
    other = worker.client(GET % 2)
    assert worker.answers(other, 1) == [b"/2"]
    assert worker.slot[SERVED] < 201


def test_a_client_that_stops_sending_still_gets_what_it_asked_for(start):
    worker = start()
    client = worker.client(ONE + GET % 2)
    client.shutdown(socket.SHUT_WR)
    assert worker.to_the_end(client).count(b"200 OK") == 2
    worker.until(lambda: not worker.slot[OPEN])


def test_an_incomplete_request_is_refused_where_it_ends(start):
    worker = start()
    client = worker.client(ONE[:-4])
    client.shutdown(socket.SHUT_WR)
    assert worker.to_the_end(client).startswith(b"HTTP/1.1 400 ")


def test_a_refusal_reaches_a_client_that_is_still_sending(start):
    """Closing on unread bytes would reset the connection and take the answer with
    it.
    """
    worker = start(max_body=10)
    client = worker.client(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", tcp=True
    )
    client.sendall(b"x" * 50_000)
    worker.turns()
    client.sendall(b"x" * 50_000)
    worker.turns()
    assert worker.to_the_end(client).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("together", [False, True])
def test_100_continue_is_sent_to_a_client_that_waits_for_it(start, together):
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    worker = start()
    client = worker.client(head + b"hi" if together else head)
    if not together:
        assert worker.read(client, 25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hi")
    assert worker.read(client, 15) == b"HTTP/1.1 200 OK"


# Accepting, and not


def waiting(worker):
    return bool(select.select([worker.sock], [], [], 0)[0])


def test_when_quiesced_no_client_is_accepted_and_those_held_are_served(start):
    worker = start()
    held = worker.client(ONE)
    assert worker.answers(held, 1) == [b"/1"]
    worker.loop.quiesce(True)
    late = worker.client(GET % 2)
    held.sendall(GET % 3)
    assert worker.answers(held, 1) == [b"/3"]
    assert worker.slot[OPEN] == 1
    assert waiting(worker)
    worker.loop.quiesce(False)
    assert worker.answers(late, 1) == [b"/2"]


def test_an_order_that_comes_with_a_connection_is_obeyed_first(start):
    """Both are ready in one turn. Accepting after the order would lose who is accepted
    when the Master leaves.
    """
    worker = start()
    bell = os.eventfd(1)
    worker.loop.open_door(bell, lambda: worker.loop.quiesce(True))
    worker.client(ONE)
    worker.turns()
    assert (worker.slot[OPEN], waiting(worker)) == (0, True)
    os.close(bell)


def test_there_is_a_limit_and_the_rest_waits_in_the_queue(start):
    worker = start(max_connections=2)
    clients = [worker.client(GET % number) for number in range(3)]
    assert [worker.answers(client, 1) for client in clients[:2]] == [[b"/0"], [b"/1"]]
    worker.turns()
    assert (worker.slot[OPEN], waiting(worker)) == (2, True)
    clients[0].close()
    assert worker.answers(clients[2], 1) == [b"/2"]


class Exhausted:
    """A listener whose accept() has no descriptors left, for a while."""

    def __init__(self, sock):
        self.sock, self.tries, self.left = sock, 0, True

    def _accept(self):
        self.tries += 1
        if self.left:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.sock._accept()

    def __getattr__(self, name):
        return getattr(self.sock, name)


def test_without_descriptors_it_pauses_and_does_not_spin(start):
    worker = start()
    listener = next(each for each in worker.loop.acceptor.listeners.values() if each.is_unix)
    listener.sock = exhausted = Exhausted(worker.sock)
    client = worker.client(ONE)
    worker.turns(50)
    assert exhausted.tries == 1
    assert len(worker.journal.lines) == 1
    exhausted.left = False
    assert worker.answers(client, 1) == [b"/1"]


# Leaving


def test_draining_ends_with_the_last_of_what_was_accepted(start):
    worker = start()
    kept, new = worker.client(ONE), None
    assert worker.answers(kept, 1) == [b"/1"]
    worker.loop.drain()
    assert worker.slot[STATE] == scoreboard.DRAINING
    new = worker.client(GET % 2)
    kept.sendall(GET % 3)
    answer = worker.to_the_end(kept)
    assert b"Connection: close" in answer
    assert answer.endswith(b"/3")
    worker.loop.run()  # nothing is left: it returns
    assert (worker.slot[OPEN], worker.slot[SERVED], waiting(worker)) == (0, 2, True)
    new.close()


def test_silent_kept_alive_client_gets_a_moment_and_no_more(start):
    worker = start(keepalive_timeout=0.05)
    client = worker.client(ONE)
    assert worker.answers(client, 1) == [b"/1"]
    worker.loop.drain()
    worker.loop.run()
    assert worker.slot[OPEN] == 0
    assert worker.to_the_end(client) == b""


def test_an_order_that_comes_during_a_call_is_told_to_its_client(start):
    def app(environ, start_response):
        worker.slot[ORDER] = scoreboard.DRAIN
        return echo(environ, start_response)

    worker = start(app)
    assert b"Connection: close" in worker.to_the_end(worker.client(ONE))


def test_retiring_worker_cuts_nothing_unless_it_is_told_to_drain_as_well(start):
    body = Closing()

    def app(environ, start_response):
        start_response("200 OK", [])
        return body

    worker = start(app, graceful_timeout=0.02)
    client = worker.client(ONE)
    worker.read(client, 10)
    worker.loop.retire()
    assert worker.slot[STATE] == scoreboard.DRAINING
    later = time.monotonic() + 0.1
    worker.until(lambda: time.monotonic() > later)
    assert worker.read(client, 10)
    assert (worker.slot[OPEN], body.closed) == (1, 0)
    worker.loop.drain()
    worker.loop.run()
    assert (worker.slot[OPEN], body.closed) == (0, 1)


def test_the_master_is_told_once_in_the_turn_in_which_the_limit_is_reached(start):
    worker, told = start(), []
    worker.loop.tell_after(2, lambda: told.append(worker.slot[SERVED]))
    client = worker.client()
    for number in range(5):
        client.sendall(GET % number)
        worker.answers(client, 1)
        assert told == ([2] if number >= 1 else [])


def order(loop):
    """The Master has ordered it, and the worker has yet to hear of that."""
    loop._slot[ORDER] = scoreboard.DRAIN


@pytest.mark.parametrize(
    "told_to",
    [lambda loop: loop.quiesce(True), Loop.drain, Loop.retire, order],
    ids=["quiesce", "drain", "retire", "order"],
)
def test_client_that_comes_as_a_worker_is_to_stop_accepting_waits(start, told_to):
    worker = start()
    worker.until(lambda: worker.loop.acceptor.listening)
    worker.loop._doors[worker.tick] = lambda: told_to(worker.loop)
    worker.client(ONE)
    worker.loop.turn()
    assert waiting(worker)
    assert worker.slot[OPEN] == 0


def test_told_to_look_a_worker_hears_of_clients_that_wait(start):
    """Played with edges, for this is a kernel that has told somebody else:
    tests/process/test_drain.py has the real one.
    """
    worker = start()
    worker.until(lambda: worker.loop.acceptor.listening)
    for sock in (worker.sock, worker.tcp):
        worker.loop._epoll.unregister(sock)
        worker.loop._epoll.register(sock, select.EPOLLIN | select.EPOLLET)
    client = worker.client(ONE)
    assert worker.loop._epoll.poll(0)
    worker.turns()
    assert waiting(worker)
    worker.loop.acceptor.look()
    assert worker.answers(client, 1) == [b"/1"]


def test_what_takes_too_long_to_drain_is_cut(start):
    body = Closing()

    def app(environ, start_response):
        start_response("200 OK", [])
        return body

    worker = start(app, graceful_timeout=0.05)
    client = worker.client(ONE)
    worker.read(client, 10)
    worker.loop.drain()
    worker.loop.run()
    assert (worker.slot[OPEN], body.closed) == (0, 1)
    assert "cutting 1 connection" in worker.journal.lines[0]


# An app that wants to stay awake


def test_draining_worker_waits_until_the_app_holds_no_longer(start):
    worker = start()
    worker.slot[HOLDS] = 1
    worker.loop.retire()
    assert not worker.loop.finished
    worker.slot[HOLDS] = 0
    assert worker.loop.finished
    worker.loop.lead(None)
    assert worker.journal.lines == []


def test_but_not_for_longer_than_a_stop_may_take(start):
    worker = start(graceful_timeout=0.1)
    worker.slot[HOLDS] = 1
    worker.loop.drain()
    worker.loop.lead(None)
    assert worker.journal.lines == [
        "leaving after 0.1 s (graceful_timeout) though the app wants to stay awake"
    ]


# Where there is no room


def idle_for(worker, seconds):
    """So long ago all kept-alive clients got their last answer."""
    for connection in worker.loop._connections.values():
        connection.due -= seconds
    worker.loop.acceptor.room.look_at = 0.001  # it is time to look again


def test_client_idle_for_longest_makes_room_for_one_that_waits(start):
    worker = start(max_connections=2, keepalive_timeout=60)
    first, second = worker.client(ONE), worker.client()
    worker.answers(first, 1)
    second.sendall(GET % 2)
    worker.answers(second, 1)
    idle_for(worker, 10)
    worker.turns()
    assert worker.slot[OPEN] == 2, "nobody waits"
    third = worker.client(GET % 3)
    idle_for(worker, 1)
    assert worker.answers(third, 1) == [b"/3"]
    assert worker.to_the_end(first) == b""
    second.sendall(GET % 4)
    assert worker.answers(second, 1) == [b"/4"]


def test_not_one_served_a_moment_ago_nor_one_that_asks(start):
    worker = start(max_connections=2, keepalive_timeout=60, header_timeout=60)
    busy, asking = worker.client(ONE), worker.client(b"GET / HT")
    worker.answers(busy, 1)
    waiting = worker.client(GET % 3)
    worker.loop.acceptor.room.look_at = 0.001
    worker.turns()
    assert worker.slot[OPEN] == 2
    asking.sendall(b"TP/1.1\r\nHost: a\r\n\r\n")
    assert worker.answers(asking, 1) == [b"/"]
    idle_for(worker, 2)
    assert worker.answers(waiting, 1) == [b"/3"]


def test_nor_one_that_has_asked_again_in_that_moment(start):
    worker = start(max_connections=1, keepalive_timeout=60)
    client = worker.client(ONE)
    worker.answers(client, 1)
    other = worker.client(GET % 3)
    idle_for(worker, 2)
    client.sendall(GET % 2)
    assert worker.answers(client, 1) == [b"/2"]
    idle_for(worker, 2)
    assert worker.answers(other, 1) == [b"/3"]


def test_a_worker_without_room_looks_now_and_then_and_one_with_room_does_not(start):
    worker = start(max_connections=1, keepalive_timeout=60)
    client = worker.client(ONE)
    worker.answers(client, 1)
    worker.turns()
    assert 0 < worker.loop._patience() <= 0.25
    client.close()
    worker.until(lambda: not worker.slot[OPEN])
    worker.turns()
    assert worker.loop._patience() is None


# What connections inherit


def test_a_connection_that_was_queued_before_the_listener_had_its_options_gets_them(start):
    worker = start()
    early = [worker.client(ONE, tcp=True) for _ in range(2)]
    worker.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as adoption does
    late = [worker.client(ONE, tcp=True) for _ in range(2)]
    for client in early + late:
        assert worker.answers(client, 1) == [b"/1"]
    listener = next(each for each in worker.loop.acceptor.listeners.values() if not each.is_unix)
    assert listener.inherited
    assert [
        each.socket.object.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for each in worker.loop._connections.values()
    ] == [1] * 4


def test_a_connection_that_broke_in_the_queue_is_no_accident(start):
    worker = start()
    client = worker.client(ONE, tcp=True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    worker.turns(3)
    assert worker.answers(worker.client(ONE, tcp=True), 1) == [b"/1"]


def test_a_deadline_in_three_years_is_not_too_far_for_the_kernel(start):
    worker = start(keepalive_timeout=1e8, idle_timeout=0)
    assert worker.answers(worker.client(ONE), 1) == [b"/1"]
    assert worker.loop._patience() < 2**31 / 1000


# Bodies


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("size", [64 << 10, 1 << 20])
def test_a_posted_body_is_received_where_the_app_reads_it(start, monkeypatch, tcp, size):
    seen, in_place = [], []

    def readv(fd, buffers):
        in_place.append(os.readv(fd, buffers))
        return in_place[-1]

    monkeypatch.setattr(request_receiver, "readv", readv)

    def app(environ, start_response):
        stream = environ["wsgi.input"]
        data = stream.read(int(environ.get("CONTENT_LENGTH", 0)))
        seen.append(stream.getvalue() is data)
        body = b"%d" % zlib.crc32(data)
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    worker = start(app)
    body = random.Random(size).randbytes(size)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    client = worker.client(tcp=tcp)
    left = memoryview(head + body + ONE.replace(b"GET", b"PUT"))

    def sent():
        nonlocal left
        client.setblocking(False)
        try:
            left = left[client.send(left) :]
        except BlockingIOError:
            pass
        return not left

    worker.until(sent)
    assert worker.answers(client, 2) == [b"%d" % zlib.crc32(body), b"0"]
    assert seen[0]
    assert sum(in_place) > size // 2
