"""A worker of an ASGI app with real sockets in this process: the test is the client, and
turns the loop.
"""

import asyncio
import gc
import os
import socket
import weakref
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import wait_until

from spyglass.config.settings import Config
from spyglass.http11.stream_body import HIGH
from spyglass.runtime.scoreboard import ACTIVITY, IGNORED, OPEN, ORDER, PART, SERVED, Scoreboard
from spyglass.runtime.sd_daemon import Listener
from spyglass.worker.asgi.runner import Runner
from spyglass.worker.idle_activity import IgnoringActivity

from .fake_log import FakeLog
from .stepped_worker import Steps


class Worker(Steps):
    """Serves `app`, a function of (scope, receive, send), without a lifespan."""

    def __init__(self, path, app, **values):
        async def asgi(scope, receive, send):
            if scope["type"] != "lifespan":
                await app(scope, receive, send)

        self.sock = socket.socket(socket.AF_UNIX)
        self.path = f"{path}/http.sock"
        self.sock.bind(self.path)
        self.sock.listen()
        self.sock.setblocking(False)
        self.slot = Scoreboard(1).slot(0)
        self.journal = FakeLog()
        config = Config(values)
        activity = None
        if config.idle_ignore:
            activity = IgnoringActivity(self.slot, config.idle_ignore, lambda: None)
        listeners = [Listener(self.sock, "http")]
        self.runner = Runner(config, asgi, listeners, self.slot, self.journal, activity)
        self.loop = self.runner.loop
        self.runner.start()
        self.events = self.runner._asyncio
        self.runner._drained = self.events.create_future()
        self.runner._turn = self.runner._serve
        self.tick = os.eventfd(1)  # always ready: no turn waits
        self.loop.open_door(self.tick, lambda: None)
        self.clients = []

    def turns(self, count=5):
        for _ in range(count):
            self.events.call_soon(self.events.stop)
            self.events.run_forever()

    def until(self, done):
        return wait_until(done, 10, "it did not happen", between=lambda: self.turns(1))

    def client(self, data=b""):
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.sendall(data)
        self.clients.append(client)
        return client

    def close(self):
        for connection in list(self.loop._connections.values()):
            connection.close("the test has ended")
        for task in asyncio.all_tasks(self.events):
            task.cancel()
        self.turns(3)
        for each in (*self.clients, self.sock):
            each.close()
        self.runner._turn = self.loop.poll
        self.events.close()
        asyncio.set_event_loop(None)
        self.loop._epoll.close()
        os.close(self.tick)


@pytest.fixture
def start(tmp_path):
    started = []

    def new(app, **values):
        started.append(Worker(tmp_path, app, **values))
        return started[-1]

    yield new
    for worker in started:
        worker.close()


async def answer(send, body):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


async def echo(scope, receive, send):
    body = scope["path"].encode()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await answer(send, body)


async def waiting_echo(scope, receive, send):
    for _ in range(int(scope["query_string"] or b"0")):
        await asyncio.sleep(0)
    await echo(scope, receive, send)


GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


def test_requests_and_their_count(start):
    worker = start(echo)
    client = worker.client(GET % 1 + POST % (2, 3) + b"abc" + GET % 3)
    assert worker.answers(client, 3) == [b"/1", b"/2abc", b"/3"]
    assert (worker.slot[OPEN], worker.slot[SERVED]) == (1, 3)
    client.close()
    worker.until(lambda: worker.slot[OPEN] == 0)


@pytest.fixture(scope="module")
def echoing(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("echo"), waiting_echo)
    yield worker
    worker.close()


REQUESTS = st.tuples(st.integers(0, 3), st.one_of(st.none(), st.binary(max_size=40)), st.booleans())


def encoded(number, waits, body, chunked):
    line = f"{'GET' if body is None else 'POST'} /{number}?{waits} HTTP/1.1\r\nHost: a\r\n".encode()
    if body is None:
        return line + b"\r\n"
    if not chunked:
        return line + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    return line + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(REQUESTS, min_size=1, max_size=4), st.lists(st.integers(0, 400), max_size=5))
def test_any_cut_of_the_bytes_gives_the_same_answers(echoing, requests, cuts):
    data = b"".join(encoded(number, *each) for number, each in enumerate(requests))
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    client = echoing.client()
    for left, right in pairwise(ends):
        client.sendall(data[left:right])
        echoing.turns(2)
    wanted = [b"/%d" % number + (body or b"") for number, (_, body, _) in enumerate(requests)]
    assert echoing.answers(client, len(requests)) == wanted
    client.close()
    echoing.until(lambda: echoing.slot[OPEN] == 0)
    assert echoing.journal.lines == []


def test_no_more_of_a_body_is_read_than_the_app_takes(start):
    go = []

    async def app(scope, receive, send):
        while not go:
            await asyncio.sleep(0)
        await echo(scope, receive, send)

    worker = start(app)
    client = worker.client(POST % (1, 4 << 20))
    client.setblocking(False)
    sent = 0
    for _ in range(60):
        try:
            sent += client.send(b"x" * 65536)
        except BlockingIOError:
            pass
        worker.turns(2)
    [connection] = worker.loop._connections.values()
    assert HIGH <= connection.body.size <= HIGH + (128 << 10)
    go.append(1)

    def send_on():
        nonlocal sent
        try:
            sent += client.send(b"x" * min(65536, (4 << 20) - sent))
        except BlockingIOError:
            pass
        return sent == 4 << 20

    worker.until(send_on)
    assert len(worker.answers(client, 1)[0]) == 2 + (4 << 20)


def test_the_next_request_waits_and_no_more_is_read(start):
    go = []

    async def app(scope, receive, send):
        while not go:
            await asyncio.sleep(0)
        await answer(send, scope["path"].encode())

    worker = start(app)
    client = worker.client(GET % 1)
    worker.until(lambda: worker.runner._apps.calls)
    client.sendall(b"".join(GET % number for number in range(2, 2000)))
    worker.turns(10)
    [connection] = worker.loop._connections.values()
    assert 0 < len(connection._receiver.reader.buffer) <= 8192
    go.append(1)
    assert worker.answers(client, 1999) == [b"/%d" % number for number in range(1, 2000)]


@pytest.mark.parametrize("ahead", [b"", GET % 2])
@pytest.mark.parametrize("how", ["close", "half"])
def test_the_app_is_told_when_its_client_leaves(start, ahead, how):
    heard = []

    async def app(scope, receive, send):
        await receive()
        heard.append((await receive())["type"])
        await answer(send, b"all the same")

    worker = start(app)
    client = worker.client(GET % 1)
    worker.until(lambda: worker.runner._apps.calls)
    client.sendall(ahead)
    worker.turns()
    assert heard == []
    client.shutdown(socket.SHUT_WR) if how == "half" else client.close()
    worker.until(lambda: heard == ["http.disconnect"] * len(heard) and heard)
    if how == "half":
        assert worker.answers(client, 1) == [b"all the same"]
    worker.until(lambda: worker.slot[OPEN] == 0)


def test_two_tasks_may_send_and_receive_at_once(start):
    async def app(scope, receive, send):
        async def end():
            while (await receive())["type"] != "http.disconnect":
                pass
            return b"end"

        ends = [asyncio.create_task(end()) for _ in range(2)]
        await asyncio.sleep(0)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"300000")],
            }
        )
        pieces = [{"type": "http.response.body", "body": b"x" * 150_000, "more_body": True}] * 2
        await asyncio.gather(*map(send, pieces))
        await send({"type": "http.response.body"})
        assert await asyncio.gather(*ends) == [b"end"] * 2

    worker = start(app)
    client = worker.client(GET % 1)
    assert worker.answers(client, 1) == [b"x" * 300_000]
    worker.until(lambda: not worker.runner._apps.calls)
    assert worker.journal.lines == []


def test_a_call_that_has_waited_leaves_no_garbage(start):
    async def wait(scope, receive, send):
        await asyncio.sleep(0)
        await answer(send, b"waited")

    worker, calls = start(wait), []
    apps = worker.runner._apps
    make = apps.make_call

    def make_call(*arguments):
        call = make(*arguments)
        calls.append(weakref.ref(call))
        return call

    apps.make_call = make_call
    gc.disable()
    try:
        assert worker.answers(worker.client(GET % 1), 1) == [b"waited"]
        worker.turns()
        assert [call() for call in calls] == [None]
    finally:
        gc.enable()


def test_what_a_websocket_s_client_has_not_taken_is_let_go_with_it(start):
    async def speak(scope, receive, send):
        await send({"type": "websocket.accept"})
        with suppress(OSError):
            await send({"type": "websocket.send", "bytes": b"x" * (4 << 20)})

    worker = start(speak)
    client = worker.client(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    worker.read(client, 1)
    [connection] = worker.loop._connections.values()
    worker.until(lambda: connection._writer.size)
    client.close()
    worker.until(lambda: not worker.loop._connections)
    assert not connection._writer.size


def test_what_the_app_registered_and_closed_is_not_taken_for_a_client(start):
    worker = start(echo)
    called = []
    client = worker.client()
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    worker.events.add_reader(number, called.append, "called")
    ours.close()  # and not removed: the next client gets its number
    worker.turns()
    theirs.close()
    assert list(worker.loop._connections) == [number]
    client.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert worker.answers(client, 1) == [b"/1"]
    assert not worker.events.remove_reader(number)
    client.sendall(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert worker.answers(client, 1) == [b"/2"]
    assert not called


def test_an_app_that_never_waits_leaves_the_others_their_turns(start):
    async def app(scope, receive, send):
        if scope["path"] == "/1":
            await send({"type": "http.response.start", "status": 200})
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await answer(send, b"served")

    worker = start(app)
    endless = worker.client(GET % 1)
    worker.turns(2)
    other = worker.client(GET % 2)
    endless.setblocking(False)

    def served():
        try:
            endless.recv(1 << 20)
            return other.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""

    assert worker.until(served).endswith(b"served")


# What counts for the idle exit


@pytest.mark.parametrize(("path", "counts"), [(1, True), (2, False)])
def test_a_background_task_counts_as_its_request_does(start, path, counts):
    go = []

    async def app(scope, receive, send):
        await answer(send, b"soon")
        while not go:
            await asyncio.sleep(0)

    worker = start(app, idle_ignore=("/2",))
    client = worker.client(GET % path)
    assert worker.answers(client, 1) == [b"soon"]
    assert worker.slot[OPEN] == 2  # the connection, and the call
    client.close()
    worker.until(lambda: worker.slot[OPEN] == 1)
    assert worker.slot[IGNORED] == (not counts)
    before = worker.slot[ACTIVITY]
    go.append(1)
    worker.until(lambda: worker.slot[OPEN] == 0)
    assert worker.slot[IGNORED] == 0
    assert (worker.slot[ACTIVITY] > before) == counts


def test_told_to_part_it_closes_after_each_answer(start):
    worker = start(echo, idle_ignore=("/1",))
    client = worker.client(GET % 1)
    worker.answers(client, 1)
    worker.slot[ORDER] = PART
    client.sendall(GET % 1)
    assert worker.answers(client, 1) == [b"/1"]
    worker.until(lambda: worker.slot[OPEN] == 0)
