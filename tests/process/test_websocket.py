"""WebSockets on a real server: what the app hears and the client gets, in the order of
the life of one.
"""

import json
import signal
import socket
import time
from contextlib import ExitStack, suppress

import pytest
from http11.cases import upgrade
from rfc6455 import speaking
from rfc6455.speaking import binary, more, ping, text

from .processes import workers
from .speaker import Speaker
from .visitor import Visitor, visit

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"


@pytest.fixture
def sockets(systemd):
    """sockets(**settings) -> a FakeSystemd that serves apps/sockets.py, whose workers
    are all there.
    """

    def start(*, workers=1, idle_timeout=0, **settings):
        life = systemd("sockets:app", workers=workers, idle_timeout=idle_timeout, **settings)
        visit(life.address)
        life.until_workers(workers)
        return life

    return start


@pytest.fixture
def notes(tmp_path):
    """notes(life, count) -> what the app has noted; `notes.path` is for the query."""

    class Notes:
        path = tmp_path / "notes"

        def __call__(self, life, count=1):
            life.until(lambda: len(self.lines()) >= count, "the app has noted nothing")
            assert len(self.lines()) == count
            return [json.loads(line) for line in self.lines()]

        def lines(self):
            return self.path.read_text().splitlines() if self.path.exists() else []

    return Notes()


def gone(code, reason=""):
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


# The handshake


def test_scope_subprotocol_and_headers(sockets):
    life = sockets()
    with Speaker(life.address, "/name/a%20b", "Sec-WebSocket-Protocol: one, two") as client:
        kind, told = client.hear()
        assert kind == "text"
        assert json.loads(told) | {"pid": 0} == {
            "pid": 0,
            "type": "websocket",
            "scheme": "ws",
            "path": "/name/a b",
            "subprotocols": ["one", "two"],
            "http_version": "1.1",
        }
        assert client.fields["sec-websocket-protocol"] == ["two"]
        assert client.fields["x-mine"] == ["yes"]
        assert "sec-websocket-extensions" not in client.fields
        assert "content-length" not in client.fields


def test_bytes_behind_the_handshake_are_the_sockets(sockets):
    life = sockets()
    with Speaker(life.address, early=text("early") + text("late")[:3]) as client:
        assert client.hear() == ("text", "early")
        client.send(text("late")[3:])
        assert client.hear() == ("text", "late")


@pytest.mark.parametrize(
    "case",
    ["without the connection option", "with a body", "with a chunked body", "HEAD", "with close"],
)
def test_what_a_wsgi_app_would_answer_is_a_broken_handshake_here(sockets, case):
    """And what follows on the connection is not read as a request."""
    [sent] = [each.send for each in upgrade.CASES if each.name == case]
    life = sockets()
    with Visitor(life.address) as visitor:
        visitor.sock.sendall(sent)
        visitor.sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: visitor.sock.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 426 " if case == "with close" else b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1
    with Visitor(life.address) as visitor:
        visitor.sock.sendall(sent + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b"".join(iter(lambda: visitor.sock.recv(65536), b""))
        assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("lines", "key", "status"),
    [
        (("Sec-WebSocket-Version: 13",), None, 426),
        ((), b"short", 400),
        (("Content-Length: 5",), None, 400),
    ],
)
def test_bad_handshakes_are_refused(sockets, lines, key, status):
    life = sockets(access_log=True)
    with Speaker(life.address, "/echo", *lines, key=key) as client:
        assert client.status == status
        assert client.fields["connection"][-1] == "close"
        if status == 426:
            assert client.fields["sec-websocket-version"] == ["13"]
            assert client.fields["upgrade"] == ["websocket"]
        assert client.body.startswith(str(status).encode())
    life.until_logged(f'"GET /echo" {status} ')


def test_app_denies_with_a_response_of_its_own(sockets, notes):
    life = sockets()
    with Speaker(life.address, f"/deny?{notes.path}") as client:
        assert client.status == 418
        assert client.fields["connection"] == ["close"]
        assert client.body == b"3\r\nno \r\n6\r\ncoffee\r\n0\r\n\r\n"
    assert notes(life) == [gone(1006)]


def test_app_that_closes_before_it_accepts_gets_its_client_a_403(sockets, notes):
    life = sockets(access_log=True)
    with Speaker(life.address, f"/refuse?{notes.path}") as client:
        assert client.status == 403
        assert client.body == b"403: Forbidden\n"
    assert notes(life) == [gone(1006)]
    life.until_logged('" 403 15 B')


@pytest.mark.parametrize("how", ["fail", "leave"])
def test_app_that_neither_accepts_nor_refuses_gets_its_client_a_500(sockets, how):
    life = sockets()
    with Speaker(life.address, f"/{how}/early") as client:
        assert client.status == 500
        assert client.body == b"Internal Server Error\n"
    life.until_logged(f"GET /{how}/early: the app r")


def test_app_that_takes_too_long_to_accept_is_cancelled(sockets, notes):
    life = sockets(request_timeout=0.3)
    with Speaker(life.address, f"/never?{notes.path}") as client:
        assert client.status == 503
        assert b"took longer than 0.3 s" in client.body
    assert notes(life) == ["cancelled"]
    life.until_logged("cancelled: it took longer than 0.3 s (request_timeout) without accepting it")
    assert "await asyncio.Event().wait()" in life.log
    visit(life.address)
    assert len(life.runs) == 1


def test_one_that_is_accepted_may_last(sockets):
    life = sockets(request_timeout=0.3)
    with Speaker(life.address) as client:
        time.sleep(1)  # what is tested is that this is not too long
        client.say("x")
        assert client.hear() == ("text", "x")
    assert "cancelled" not in life.log


# Messages


def test_echo_status_line_and_access_log(sockets, notes):
    life = sockets(access_log="json")
    with Speaker(life.address, f"/echo?{notes.path}") as client:
        for said in ("hello", "", "\u20ac" * 50_000, b"", b"\xff" * 70_000):
            client.say(said)
            assert client.hear() == ("text" if isinstance(said, str) else "binary", said)
        client.send(text("he", fin=False) + ping(b"p") + more("llo"))
        assert client.hear() == ("pong", b"p")
        assert client.hear() == ("text", "hello")
        life.until(
            lambda: "1 connection, 1 of them a WebSocket" in life.run.told("STATUS")[-1],
            "the status tells of no WebSocket",
            15,
        )
        client.close(4321, b"bye")
        assert client.hear() == ("close", (4321, ""))
        assert client.hear() == ("end", None)
    assert notes(life) == [gone(4321, "bye")]
    life.until_logged('"websocket"')
    [line] = [json.loads(line) for line in life.log.splitlines() if '"websocket"' in line]
    assert line["status"] == 101
    assert line["bytes"] == 10 + 150_000 + 70_000
    assert line["websocket"] == {"code": 4321, "received": 6, "sent": 6}


def test_messages_are_compressed_where_that_is_set_and_offered(sockets):
    life = sockets(arguments=("--websocket-compression",))
    with Speaker(life.address, "/echo", OFFER) as client:
        answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        assert client.fields["sec-websocket-extensions"] == [answer]
        for said in (b"x" * 5000, b"short"):
            client.send(binary(speaking.deflated(said), rsv=4))
            assert client.hear() == ("binary", said)
    with Speaker(life.address) as client:
        assert "sec-websocket-extensions" not in client.fields
    with Speaker(life.address, "/echo", "Sec-WebSocket-Extensions: a b") as client:
        assert client.status == 400


def test_offer_of_compression_is_declined_by_default(sockets):
    life = sockets()
    with Speaker(life.address, "/echo", OFFER) as client:
        assert "sec-websocket-extensions" not in client.fields
        client.send(binary(speaking.deflated(b"x"), rsv=4))
        assert client.hear() == ("close", (1002, "a frame with a reserved bit"))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (text("x" * 101), 1009),
        (text("x" * 60, fin=False) + more("x" * 41), 1009),
        (b"\xff\xff", 1002),
        (text(b"\xff"), 1007),
    ],
)
def test_what_fails_the_connection_comes_behind_what_precedes_it(sockets, notes, sent, code):
    life = sockets(websocket_max_size=100)
    with Speaker(life.address, f"/echo?{notes.path}") as client:
        client.send(text("before") + sent)
        assert client.hear() == ("text", "before")
        kind, (closed, why) = client.hear()
        assert (kind, closed) == ("close", code)
        assert client.hear() == ("end", None)
    assert notes(life) == [gone(code, why)]


def test_client_that_sends_faster_than_the_app_receives_has_to_wait(sockets, notes):
    """And nothing of what it has sent is lost."""
    life = sockets()
    with Speaker(life.address, f"/deaf?{notes.path}", timeout=1.0) as client:
        sent, frame = 0, binary(b"x" * 1000)
        with suppress(TimeoutError):
            while sent < 100_000:
                client.send(frame)
                sent += 1
        # The kernel's buffers, and ours
        assert 100 < sent < 20_000
        notes.path.with_suffix(".open").touch()
        client.sock.settimeout(10)
        # What of a frame the kernel had taken is not known: so this is the end.
        client.die()
    [[received, event]] = notes(life)
    assert event == gone(1006)
    assert received <= sent


def test_tiny_messages_of_one_packet_are_all_received(sockets, notes):
    life = sockets()
    with Speaker(life.address, f"/deaf?{notes.path}") as client:
        client.send(text("x") * 5000 + speaking.close(1000))
        notes.path.with_suffix(".open").touch()
        assert client.hear() == ("close", (1000, ""))
    assert notes(life) == [[5000, gone(1000)]]


def test_client_that_takes_nothing_is_given_up(sockets, notes):
    life = sockets(write_timeout=1)
    with Speaker(life.address, f"/flood?{notes.path}") as client:
        [[sent, error], event] = notes(life, 2)
        assert error == "Gone"
        assert event == gone(1006)
        assert 1 < sent < 1000
        assert client.sock.fileno() > 0


# How it ends


def test_close_by_the_app(sockets, notes):
    life = sockets()
    with Speaker(life.address, f"/close?{notes.path}") as client:
        client.say("x")
        assert client.hear_the_end() == (4001, "enough")
    event, error = notes(life, 2)
    assert event == gone(4001, "enough")
    assert error == "websocket.send was sent after the app had closed the WebSocket"


@pytest.mark.parametrize(("how", "code"), [("fail", 1011), ("leave", 1000)])
def test_app_that_returns_or_raises(sockets, how, code):
    life = sockets()
    with Speaker(life.address, f"/{how}/late") as client:
        assert client.hear_the_end() == (code, "")
    assert ("ValueError: as asked" in life.log) == (how == "fail")


def test_client_that_sends_no_close_after_ours_is_left(sockets):
    life = sockets()
    with Speaker(life.address, "/leave/late") as client:
        assert client.hear() == ("close", (1000, ""))
        assert client.hear() == ("end", None)


@pytest.mark.parametrize("how", ["die", "shut"])
def test_client_that_is_gone_is_told_to_the_app(sockets, notes, how):
    life = sockets()
    with Speaker(life.address, f"/echo?{notes.path}") as client:
        client.say("x")
        assert client.hear() == ("text", "x")
        client.die() if how == "die" else client.sock.close()
    assert notes(life) == [gone(1006)]


def test_client_that_is_gone_before_the_app_accepts(sockets, notes):
    life = sockets()
    with Speaker(life.address, f"/patient?{notes.path}", early=text("x"), waits=False) as client:
        assert notes(life) == ["asked"]
        client.die()
    assert notes(life, 3) == ["asked", gone(1006), "Gone"]
    visit(life.address)


def test_call_that_goes_on_after_its_client_is_cancelled(sockets, notes):
    """Else it would keep the app awake for ever."""
    life = sockets(request_timeout=0.3, idle_timeout=0.5)
    with Speaker(life.address, f"/never/end?{notes.path}") as client:
        client.close()
        assert client.hear() == ("close", (1000, ""))
    assert notes(life) == ["cancelled"]
    life.until_logged("(request_timeout) after its client had gone")
    life.until_asleep(1)


def test_silent_client_is_pinged_and_closed(sockets, notes):
    life = sockets(websocket_ping=0.3)
    with Speaker(life.address, f"/echo?{notes.path}") as client:
        for _ in range(3):
            assert client.hear() == ("ping", b"")
            client.send(speaking.pong())
        client.say("x")
        assert client.hear() == ("text", "x")
        assert client.hear() == ("ping", b"")
        assert client.hear_the_end() == (1011, "ping timeout")
    assert notes(life) == [gone(1011, "ping timeout")]


# With the worker


def test_stop_closes_with_1001_at_once(sockets, notes):
    life = sockets(workers=2, graceful_timeout=30)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Speaker(life.address, f"/echo?{notes.path}")) for _ in range(5)
        ]
        begun = time.monotonic()
        life.signal_all(signal.SIGTERM)
        for client in clients:
            assert client.hear_the_end() == (1001, "")
        life.until_asleep(1)
        assert time.monotonic() - begun < 15
    assert notes(life, 5) == [gone(1001)] * 5
    assert life.run.status == 0


def test_messages_that_cross_our_close_are_still_the_apps(sockets, notes):
    life = sockets()
    with Speaker(life.address, f"/deaf?{notes.path}") as client:
        life.signal_all(signal.SIGTERM)
        assert client.hear() == ("close", (1001, ""))
        client.send(text("crossed") + speaking.close(1001))
        notes.path.with_suffix(".open").touch()
        assert client.hear() == ("end", None)
    assert notes(life) == [[1, gone(1001)]]
    life.until_asleep(1)


def test_socket_keeps_the_app_awake_until_it_is_closed(sockets, notes):
    life = sockets(idle_timeout=0.5)
    with Speaker(life.address, f"/echo?{notes.path}") as client:
        time.sleep(1.2)  # what is tested is that this much quiet is not enough
        client.say("x")
        assert client.hear() == ("text", "x")
        assert life.run.told("STOPPING") == []
        client.close()
        assert client.hear() == ("close", (1000, ""))
    life.until_asleep(1)
    assert life.run.status == 0


def test_ignored_sockets_are_closed_with_1001_at_the_idle_exit(sockets, notes):
    life = sockets(workers=2, idle_timeout=0.6, idle_ignore="websocket:/echo/*")
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Speaker(life.address, f"/echo/{number}?{notes.path}"))
            for number in range(4)
        ]
        with Speaker(life.address, "/echo") as other:
            time.sleep(1.2)  # that one does count
            for client in (other, *clients):
                client.say("x")
                assert client.hear() == ("text", "x")
        for client in clients:
            assert client.hear_the_end() == (1001, "")
        life.until_asleep(1)
    assert notes(life, 4) == [gone(1001)] * 4
    assert life.run.status == 0


def test_reload_closes_with_1012_when_others_accept_already(sockets):
    life = sockets(workers=2)
    with ExitStack() as stack:
        clients = [stack.enter_context(Speaker(life.address, "/name")) for _ in range(30)]
        old = {json.loads(client.hear()[1])["pid"] for client in clients}
        reload = life.reload()
        for client in clients:
            assert client.hear_the_end() == (1012, "")
            with Speaker(life.address, "/name") as again:
                assert json.loads(again.hear()[1])["pid"] not in old
        assert reload.wait(20) == 0
    life.until(lambda: not old & set(workers(life.run.pid)), "the old ones stay")
    assert "cutting" not in life.log


def test_recycled_worker_closes_with_1012(sockets):
    life = sockets(max_requests=5)
    with Speaker(life.address, "/name") as client:
        pid = json.loads(client.hear()[1])["pid"]
        for _ in range(8):
            visit(life.address)
        assert client.hear_the_end() == (1012, "")
    life.until(lambda: pid not in workers(life.run.pid), "it stays")
