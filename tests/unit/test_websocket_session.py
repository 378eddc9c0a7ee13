"""A WebSocket's session, with a socket and a call that are made up: what depends on the
order in which things happen.
"""

import asyncio
import itertools
from types import SimpleNamespace

import pytest
from http11.reading import cut, reader
from hypothesis import given
from hypothesis import strategies as st
from rfc6455 import speaking
from rfc6455.speaking import binary, close, ping, pong, read, text
from rfc6455.test_frames import places, streams

from spyglass.gateway.asgi.gone import Gone, is_gone
from spyglass.gateway.asgi.websocket_messages import close_of, data_of
from spyglass.runtime.timers import LINGER, SILENCE
from spyglass.websocket.frames import PING, PONG, close_frame, frame
from spyglass.websocket.handshake import read_handshake
from spyglass.worker.asgi.websocket_call import WebSocketCall
from spyglass.worker.asgi.websocket_opening import Opening
from spyglass.worker.asgi.websocket_session import WebSocketSession
from spyglass.worker.asgi.websocket_shared import Shared

from .fake_log import FakeLog

pytestmark = pytest.mark.pure  # its parts are replaced

HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Socket:
    """What the connection would do; `full` (bool): the client takes nothing."""

    def __init__(self):
        self.fd = 7
        self.full = self.paused = self.fails = False
        self.sent = b""
        self.incoming = []
        self.waits_for = self.ended = self.closed = None
        self.session = None

    def receive(self):
        if not self.incoming:
            raise BlockingIOError
        return self.incoming.pop(0)

    def write(self, data):
        if self.fails:
            self.close("writing failed")
            return False
        self.sent += data
        return not self.full

    def pause(self):
        assert self.fd >= 0
        self.paused = True

    def resume(self):
        assert self.fd >= 0
        self.paused = False

    def wait_for(self, kind):
        self.waits_for = kind

    def say_goodbye(self, *, announced):
        self.ended = announced

    def returned(self, visit):
        pass

    def close(self, why):
        if self.fd >= 0:
            self.fd, self.closed = -1, why
            self.session.lost()


class Call:
    def __init__(self):
        self.woken = []
        self.visit, self.is_late = None, False

    def __getattr__(self, name):
        return lambda: self.woken.append(name)


class Loop:
    """asyncio's, as far as it is used; the test makes its rounds."""

    def __init__(self):
        self.now, self.soon, self.later = 100.0, [], []

    def time(self):
        return self.now

    def call_soon(self, call, *arguments):
        self.soon.append((call, arguments))

    def call_at(self, when, call, *arguments):
        self.later.append((when, call, arguments))

    def round(self):
        soon, self.soon = self.soon, []
        for call, arguments in soon:
            call(*arguments)


class Life:
    """A session, and all around it."""

    def __init__(self, *, accepted=True, **settings):
        self.loop, self.log = Loop(), FakeLog()
        self.open, self.errors = [], 0
        server = SimpleNamespace(
            date="now", log=self.log, debug=False,
            count_error=self.count_error, count_websockets=self.open.append,
        )  # fmt: skip
        config = SimpleNamespace(
            websocket_max_size=1 << 20, websocket_ping=20, websocket_compression=False,
            request_timeout=60, **settings,
        )  # fmt: skip
        shared = Shared(config, server, self.loop)
        request = reader().next(HANDSHAKE)
        opening = Opening(shared, request, read_handshake(request), None)
        self.socket, self.call = Socket(), Call()
        self.session = WebSocketSession(self.socket, shared, opening, None, "/chat")
        self.session.call = self.socket.session = None
        self.session.call, self.socket.session = self.call, self.session
        assert self.session.take() == {"type": "websocket.connect"}
        if accepted:
            assert self.send("websocket.accept")
            assert self.socket.sent.startswith(b"HTTP/1.1 101 ")
            self.socket.sent = b""

    def count_error(self):
        self.errors += 1

    def send(self, kind, **message):
        return self.session.send({"type": kind, **message})

    def hears(self, *data):
        self.socket.incoming += data
        for _ in data:
            self.session.on_readable()

    def sent(self):
        data, self.socket.sent = self.socket.sent, b""
        return data

    def takes(self):
        """What the app receives until it would have to wait."""
        events = []
        while (event := self.session.take()) is not None:
            events.append(event.get("text") or event.get("bytes") or event.get("code"))
            if event["type"] == "websocket.disconnect":
                break
        return events


# What waits


def test_the_client_s_close_is_heard_though_the_app_has_left_all_that_precedes_it():
    life = Life()
    life.hears(text("unwanted") * 20 + close(1000))
    assert life.socket.paused
    life.session.returned(None)
    assert life.sent() == close_frame(1000)
    life.loop.round()
    assert life.socket.ended


def test_a_client_that_has_spoken_early_and_is_gone_when_it_is_accepted():
    life = Life(accepted=False)
    life.hears(text("early") + close(1000))
    life.socket.fails = True
    life.send("websocket.accept")
    assert life.takes() == ["early", 1006]


def test_an_app_that_asks_again_and_again_is_not_remembered_each_time():
    """As with a timeout around receive()."""

    async def ask():
        apps = SimpleNamespace(loop=asyncio.get_running_loop())
        session = SimpleNamespace(take=lambda: None, pending=True)
        call = WebSocketCall(apps, session, "/chat")
        for _ in range(3):
            for waits in call.receive(), call.send({}):
                task = asyncio.create_task(waits)
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})
        return call._receivers, call._senders

    assert asyncio.run(ask()) == ([], [])


def test_only_the_last_ping_of_a_client_that_reads_nothing_is_answered():
    life = Life()
    life.socket.full = True
    assert not life.send("websocket.send", text="a")
    life.sent()
    life.hears(ping(b"1") + ping(b"2"), ping(b"3"))
    assert life.sent() == b""
    life.socket.full = False
    life.session.on_writable()
    assert life.sent() == frame(PONG, b"3")
    assert "wake_sender" in life.call.woken


def test_nothing_is_read_while_much_waits_for_the_app():
    life = Life()
    life.hears(text("x") * 40)
    assert life.socket.paused
    assert life.takes() == ["x"] * 40
    assert not life.socket.paused


def test_large_messages_count_by_their_size():
    life = Life()
    life.hears(binary(b"x" * 600_000), binary(b"y" * 600_000))
    assert life.socket.paused
    life.session.take()
    assert not life.socket.paused


def test_client_is_not_late_while_it_is_not_read_from():
    life = Life()
    life.hears(text("x") * 40)
    life.session.on_deadline(SILENCE)
    assert life.sent() == b""
    assert life.socket.waits_for == SILENCE


def test_each_word_of_the_client_puts_off_the_ping():
    life = Life()
    life.session.on_deadline(SILENCE)
    assert life.sent() == frame(PING, b"")
    life.hears(pong())
    life.session.on_deadline(SILENCE)
    assert life.sent() == frame(PING, b"")
    life.session.on_deadline(SILENCE)
    assert life.sent() == close_frame(1011, "ping timeout")
    assert life.socket.ended is False
    assert life.takes() == [1011]


def test_app_that_waits_for_room_is_woken_when_there_will_be_none():
    life = Life()
    life.socket.full = True
    assert not life.send("websocket.send", text="a")
    life.socket.close("the client takes nothing")
    assert not life.session.pending
    assert "wake_sender" in life.call.woken
    with pytest.raises(Gone):
        life.send("websocket.send", text="b")


def test_bytes_before_the_answer_wait_up_to_a_limit():
    life = Life(accepted=False)
    life.hears(text("x" * 40_000))
    assert not life.socket.paused
    life.hears(text("x" * 40_000))
    assert life.socket.paused
    life.send("websocket.accept")
    assert not life.socket.paused
    assert [len(each) for each in life.takes()] == [40_000, 40_000]


# How it ends


def test_what_precedes_the_end_can_still_be_answered():
    """The client's Close, or an error, waits for the loop's next round."""
    for last, said in ((close(1000), close_frame(1000)), (b"\xff\xff", None)):
        life = Life()
        life.hears(text("a") + last + text("b"))
        assert life.takes() == ["a"]
        assert life.send("websocket.send", text="A")
        life.loop.round()
        data = life.sent()
        assert data.startswith(b"\x81\x01A\x88")
        assert said is None or data.endswith(said)
        assert life.socket.ended is (said is not None)
        assert life.takes() == [1000 if said else 1002]
        with pytest.raises(Gone):
            life.send("websocket.send", text="late")


def test_what_crosses_our_close_is_received_before_the_end():
    life = Life()
    life.session.leave(1001)
    assert life.sent() == close_frame(1001)
    assert life.socket.waits_for == LINGER
    life.hears(text("crossed") + ping(b"x") + close(1001))
    life.loop.round()
    assert life.sent() == b""
    assert life.takes() == ["crossed", 1001]
    assert life.socket.ended is True


def test_client_that_answers_no_close_is_left():
    life = Life()
    life.session.leave(1001)
    life.session.on_deadline(LINGER)
    assert life.socket.closed == "the client sent no Close frame"
    assert life.takes() == [1001]


def test_messages_of_a_client_that_has_gone_since_are_received_first():
    life = Life()
    life.hears(text("x") * 20, b"")
    assert life.socket.closed == "closed by the client"
    assert life.takes() == ["x"] * 20 + [1006]


def test_nothing_is_kept_for_an_app_that_has_returned():
    life = Life()
    life.session.returned(None)
    assert life.sent() == close_frame(1000)
    life.hears(text("x") * 50 + close(1000))
    assert life.loop.soon != []
    life.loop.round()
    assert life.socket.ended is True


def test_socket_that_breaks_with_the_answer():
    life = Life(accepted=False)
    life.socket.fails = True
    life.hears(text("early"))
    life.send("websocket.accept")
    assert life.open == [1, 0]
    assert life.takes()[-1] == 1006


def test_worker_that_leaves_before_the_app_has_accepted():
    life = Life(accepted=False)
    life.session.leave(1001)
    life.send("websocket.accept")
    assert life.sent().endswith(b"\r\n\r\n" + close_frame(1001))
    life.hears(close(1001))
    life.loop.round()
    assert life.takes() == [1001]


def test_close_of_what_is_closed_already_is_no_error_unless_the_app_has_done_it():
    life = Life()
    life.socket.close("closed by the client")
    life.send("websocket.close")
    life = Life()
    life.send("websocket.close")
    with pytest.raises(RuntimeError, match="was sent after the app had closed"):
        life.send("websocket.close")


def test_number_of_those_that_are_open_is_told():
    life = Life()
    life.socket.close("x")
    assert life.open == [1, 0]
    life = Life(accepted=False)
    life.socket.close("x")
    assert life.open == []


def test_reload_closes_one_after_the_other():
    life = Life()
    shared = life.session._shared
    shared._open = 10
    closed = []
    for number in range(10):
        shared.in_turn(1012, lambda code, number=number: closed.append(number))
    times = [when - life.loop.now for when, _, _ in life.loop.later]
    assert times == pytest.approx([0.01 * (number + 1) for number in range(10)])
    assert closed == []
    life.loop.now, life.loop.later, shared._open = 200.0, [], 5000
    for _ in range(5000):
        shared.in_turn(1012, closed.append)
    assert 4.9 < life.loop.later[-1][0] - life.loop.now <= 5.1
    shared.in_turn(1001, closed.append)
    assert closed == [1001]


@given(streams, places, st.lists(st.booleans(), max_size=12))
def test_app_receives_what_was_said_whatever_it_is_and_however_it_is_cut(data, places, takes):
    """As often as it likes, and with a client that reads or does not."""
    expected, failed = read([data])
    life = Life()
    received, ended = [], None
    for piece, receives in itertools.zip_longest(cut(data, places), takes, fillvalue=True):
        if not isinstance(piece, bytes):
            break
        if not life.socket.paused and life.socket.ended is None:
            life.hears(piece)
        else:
            life.session.take_in(piece)  # what was in the socket's buffer
        if receives:
            received += life.takes()
        life.loop.round()
    received += life.takes()
    said = [what for opcode, what in expected if opcode in (1, 2) and what]
    assert [each for each in received if isinstance(each, str | bytes)] == said
    closed = [what[0] for opcode, what in expected if opcode == 8]
    if failed or closed:
        ended = failed or closed[0]
        assert life.socket.ended is bool(closed)
        assert received[-1] == ended
        assert life.session.code == ended
    else:
        assert life.socket.ended is None


# What an app may send


@pytest.mark.parametrize(
    ("accepted", "kinds", "error"),
    [
        (False, ["websocket.send"], "websocket.send was sent before websocket.accept"),
        (True, ["websocket.accept"], "websocket.accept was sent after websocket.accept"),
        (True, ["websocket.http.response.start"], "was sent after websocket.accept"),
        (False, ["websocket.http.response.body"], "was sent before websocket.accept"),
        (True, ["http.response.start"], "unexpected message 'http.response.start'"),
        (True, ["websocket.close", "websocket.send"], "after the app had closed"),
        (False, ["websocket.close", "websocket.accept"], "after the app had closed"),
        (False, ["websocket.close", "websocket.close"], "after the app had closed"),
    ],
)
def test_messages_out_of_order_are_errors_of_the_app(accepted, kinds, error):
    life = Life(accepted=accepted)
    *before, last = kinds
    for kind in before:
        life.send(kind)
    with pytest.raises(RuntimeError, match=error):
        life.send(last, text="x")


def test_denial_that_has_begun_cannot_become_a_websocket():
    life = Life(accepted=False)
    life.send("websocket.http.response.start", status=404, headers=[])
    for kind in ("websocket.accept", "websocket.close", "websocket.send"):
        with pytest.raises(RuntimeError, match=r"after websocket.http.response.start"):
            life.send(kind, text="x")
    life.send("websocket.http.response.body", body=b"no")
    assert life.sent().startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert life.takes() == [1006]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({}, ValueError),
        ({"text": "a", "bytes": b"a"}, ValueError),
        ({"text": None, "bytes": None}, ValueError),
        ({"text": b"a"}, TypeError),
        ({"bytes": "a"}, TypeError),
        ({"text": "\ud800"}, ValueError),
    ],
)
def test_data_that_cannot_be_sent(message, error):
    with pytest.raises(error):
        data_of(message)


@pytest.mark.parametrize("data", [b"ab", bytearray(b"ab"), memoryview(b"ab")])
def test_data_may_be_any_kind_of_bytes(data):
    assert data_of({"bytes": data}) == (2, b"ab")
    assert data_of({"text": "", "bytes": None}) == (1, b"")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2000, 5000, True])
def test_code_that_no_close_may_have(code):
    with pytest.raises(ValueError, match="cannot be closed with the code"):
        close_of({"code": code})


def test_close_without_code_or_reason():
    assert close_of({}) == close_of({"code": None, "reason": None}) == (1000, "")
    with pytest.raises(TypeError):
        close_of({"code": "1000"})
    with pytest.raises(TypeError):
        close_of({"reason": b"x"})


def test_error_whose_reason_is_a_client_that_has_gone():
    def raised(*chain):
        try:
            try:
                raise chain[0]
            except Exception as error:
                raise chain[1] from error
        except Exception as error:
            return error

    assert is_gone(Gone("x"))
    assert is_gone(raised(Gone("x"), ValueError("of a framework")))
    assert not is_gone(raised(OSError("x"), ValueError("y")))
    circle = ValueError()
    circle.__context__ = other = ValueError()
    other.__context__ = circle
    assert not is_gone(circle)


def test_app_that_raises_is_counted_and_logged_unless_its_client_had_gone():
    life = Life()
    life.session.returned(ValueError("boom"))
    assert life.errors == 1
    assert life.log.lines == ["WebSocket /chat: the app raised ValueError"]
    life = Life()
    life.socket.close("x")
    life.session.returned(Gone("x"))
    life.session.returned(Disconnect(1006))
    assert (life.errors, life.log.lines) == (0, [])
    life.session.returned(Disconnect(1000))
    assert life.errors == 1


class Disconnect(Exception):
    """As Starlette's WebSocketDisconnect."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def test_inflated_is_what_was_deflated():
    assert speaking.inflated(speaking.deflated(b"abc" * 50)) == b"abc" * 50
