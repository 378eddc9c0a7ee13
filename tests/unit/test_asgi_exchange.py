"""One request to an ASGI app, as messages: what it receives, what it may send and when,
and the bytes of that.
"""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.gateway.asgi.http_exchange import HttpExchange
from spyglass.gateway.file_wrapper import FileSpan
from spyglass.http11.request import Request
from spyglass.http11.stream_body import StreamBody

from .fake_connection import DATE
from .fake_log import FakeLog


class Server:
    def __init__(self, *, debug=False, willing=True):
        self.log, self.date, self.debug = FakeLog(), DATE, debug
        self.errors, self.willing = 0, willing

    def would_keep(self):
        return self.willing

    def count_error(self):
        self.errors += 1


class Played:
    """An exchange, and all that it gave to be sent."""

    def __init__(self, *args, **how):
        server = {key: how.pop(key) for key in ("debug", "willing") if key in how}
        self.server = Server(**server)
        method = args[0] if args else "GET"
        request = Request(method, "/x?y", how.get("version", (1, 1)), {})
        request.keep_alive = how.get("keep", True)
        request.expects_continue = how.get("expects", False)
        self.exchange = HttpExchange(self.server, request, how.get("body"))
        self.sent = b""
        self.spans = []

    def start(self, *fields, status=200):
        return self.send({"type": "http.response.start", "status": status, "headers": fields})

    def body(self, data=b"", *, more=False):
        return self.send({"type": "http.response.body", "body": data, "more_body": more})

    def send(self, message):
        piece = self.exchange.send(message)
        for each in piece if isinstance(piece, tuple) else (piece,):
            if isinstance(each, FileSpan):
                self.spans.append((each.offset, each.count))
                each = os.pread(each.fd, each.count, each.offset)
            self.sent += each or b""
        return self

    @property
    def lines(self):
        return self.sent.partition(b"\r\n\r\n")[0].decode().split("\r\n")

    @property
    def payload(self):
        return self.sent.partition(b"\r\n\r\n")[2]


LENGTH = (b"content-length", b"5")


# What the app receives


def test_a_request_without_a_body_is_one_empty_event():
    events = Played().exchange
    assert events.next_event() == {"type": "http.request", "body": b"", "more_body": False}
    assert events.next_event() is None
    events.leave()
    assert events.next_event() == {"type": "http.disconnect"}
    assert events.next_event() == {"type": "http.disconnect"}


def test_what_has_arrived_comes_joined_and_ends_once():
    body = StreamBody()
    events = Played("POST", body=body).exchange
    assert events.next_event() is None
    assert events.awaits_client
    body.write(b"a")
    body.write(memoryview(b"b"))
    assert not events.awaits_client
    assert events.next_event() == {"type": "http.request", "body": b"ab", "more_body": True}
    assert events.next_event() is None
    body.write(b"c")
    body.ended = True
    assert events.next_event() == {"type": "http.request", "body": b"c", "more_body": False}
    assert events.next_event() is None
    assert not events.awaits_client


def test_the_end_alone_is_an_event():
    body = StreamBody()
    events = Played("POST", body=body).exchange
    body.write(b"a")
    assert events.next_event()["more_body"]
    body.ended = True
    assert events.next_event() == {"type": "http.request", "body": b"", "more_body": False}


def test_what_had_arrived_precedes_the_disconnect():
    body = StreamBody()
    events = Played("POST", body=body).exchange
    body.write(b"a")
    events.lose()
    assert events.next_event() == {"type": "http.request", "body": b"a", "more_body": True}
    assert events.next_event() == {"type": "http.disconnect"}


def test_the_end_of_the_response_is_a_disconnect():
    played = Played()
    played.exchange.next_event()
    played.start().body(b"x")
    assert played.exchange.next_event() == {"type": "http.disconnect"}


@given(st.lists(st.one_of(st.binary(max_size=20), st.none()), max_size=12))
def test_all_bytes_arrive_in_order_however_they_come(steps):
    """None: the app takes what there is."""
    body = StreamBody()
    events = Played("POST", body=body).exchange
    taken = b""
    for step in steps:
        if step is not None:
            body.write(step)
        elif (event := events.next_event()) is not None:
            assert event["more_body"]
            taken += event["body"]
        assert body.size == body.length - len(taken)
    body.ended = True
    last = events.next_event()
    assert not last["more_body"]
    assert taken + last["body"] == b"".join(step for step in steps if step)
    assert events.next_event() is None


# What the app sends


def test_a_body_that_is_there_at_once_has_its_length():
    played = Played().start((b"x-a", b"1"))
    assert played.sent == b""
    played.body(b"hello")
    assert played.lines == [
        "HTTP/1.1 200 OK",
        "x-a: 1",
        f"Date: {DATE}",
        "Server: spyglass",
        "Content-Length: 5",
    ]
    assert played.payload == b"hello"
    assert (played.exchange.complete, played.exchange.keep_alive) == (True, True)


def test_a_large_body_is_not_copied():
    played = Played().start()
    head, body = played.exchange.send({"type": "http.response.body", "body": b"x" * 20_000})
    assert head.endswith(b"Content-Length: 20000\r\n\r\n")
    assert len(body) == 20_000


def test_pieces_are_chunked():
    played = Played().start().body(b"", more=True)
    assert "Transfer-Encoding: chunked" in played.lines
    played.body(b"ab", more=True).body(b"", more=True).body(b"c")
    assert played.payload == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


def test_pieces_of_a_known_length():
    played = Played().start(LENGTH).body(b"ab", more=True).body(b"cde", more=True).body()
    assert played.payload == b"abcde"
    assert played.exchange.complete


def test_http_1_0_has_no_chunks():
    played = Played(version=(1, 0)).start().body(b"ab", more=True).body(b"c")
    assert played.payload == b"abc"
    assert played.exchange.until_close
    assert not played.exchange.keep_alive


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("HEAD", 200, "5"), ("GET", 204, None), ("GET", 304, None), ("GET", 205, "0")],
)
def test_what_has_no_body_is_sent_without_one(method, status, length):
    played = Played(method).start(status=status).body(b"hello")
    assert played.payload == b""
    assert (f"Content-Length: {length}" in played.lines) == (length is not None)
    assert played.exchange.complete
    played = Played(method).start(status=status).body(b"he", more=True).body(b"llo")
    assert played.payload == b""
    assert played.exchange.complete


def test_304_keeps_the_length_that_the_app_gives():
    assert "Content-Length: 5" in Played().start(LENGTH, status=304).body().lines


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_body_may_be_of_other_bytes(kind):
    assert Played().start().body(kind(b"abc")).payload == b"abc"


@pytest.mark.parametrize(
    ("close", "willing", "keep", "kept"),
    [(False, True, True, True), (True, True, True, False), (False, False, True, False), (False, True, False, False)],
)  # fmt: skip
def test_what_ends_the_connection(close, willing, keep, kept):
    played = Played(keep=keep, willing=willing).start(*[(b"connection", b"close")] * close).body()
    assert played.exchange.keep_alive == kept
    assert ("Connection: close" in played.lines) != kept


@pytest.mark.parametrize(
    ("length", "ended", "expects", "kept"),
    [(100, False, False, True), (300_000, False, False, False), (100, False, True, False), (300_000, True, True, True)],
)  # fmt: skip
def test_a_body_that_was_not_read_may_end_the_connection(length, ended, expects, kept):
    body = StreamBody(length)
    body.ended = ended
    assert Played("POST", body=body, expects=expects).start().body().exchange.keep_alive == kept


@pytest.mark.parametrize(
    ("method", "kind", "is_stream"),
    [
        ("GET", b"text/event-stream; charset=utf-8", True),
        ("GET", b"Text/Event-Stream", True),
        ("POST", b"text/event-stream", False),  # the answer to a call, which has an end
        ("GET", b"text/plain", False),
    ],
)
def test_what_has_no_end_of_its_own(method, kind, is_stream):
    played = Played(method)
    assert not played.exchange.is_event_stream
    assert played.start((b"content-type", kind)).exchange.is_event_stream == is_stream


# What it may not


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([{"type": "http.response.body"}], "before http.response.start"),
        ([{"type": "http.response.pathsend", "path": "/etc/passwd"}], "before http.response.start"),
        ([{"type": "http.response.start", "status": 200}] * 2, "sent twice"),
        ([{"type": "http.response.start", "status": 200}, *[{"type": "http.response.body"}] * 2], "after the end"),
        ([{"type": "websocket.accept"}], "unexpected message 'websocket.accept'"),
        ([{"type": "http.response.start", "status": 200}, {"type": "http.response.body", "more_body": True}, {"type": "http.response.pathsend", "path": "/etc/passwd"}], "after http.response.body"),
    ],
)  # fmt: skip
def test_messages_in_the_wrong_order(messages, error):
    played = Played()
    *allowed, refused = messages
    for message in allowed:
        played.send(message)
    with pytest.raises(RuntimeError, match=error):
        played.send(refused)
    assert played.exchange.broken == ""


def test_a_refused_start_leaves_no_trace():
    played = Played()
    with pytest.raises(ValueError, match="control character"):
        played.start((b"a", b"b\r\nc: d"))
    assert not played.exchange.started
    assert Played().start().exchange.started


def test_text_is_no_body():
    with pytest.raises(TypeError, match=r"must be bytes, not str: use text.encode\(\)"):
        Played().start().body("hello")


@pytest.mark.parametrize(("data", "what"), [(b"123456", "more"), (b"1234", "less")])
def test_another_length_than_promised(data, what):
    played = Played().start(LENGTH)
    with pytest.raises(RuntimeError, match=f"sent {what} than its Content-Length of 5 bytes"):
        played.body(data)
    # Nothing is out: its client gets a clean error.
    assert (played.sent, played.exchange.broken) == (b"", "")
    assert b"500 Internal" in played.exchange.failed(RuntimeError(), 1)


@pytest.mark.parametrize(("data", "more"), [(b"456", False), (b"456", True), (b"4", False)])
def test_another_length_when_some_is_out(data, more):
    played = Played().start(LENGTH).body(b"123", more=True)
    with pytest.raises(RuntimeError, match="than its Content-Length"):
        played.body(data, more=more)
    assert played.payload == b"123"
    assert "than its Content-Length" in played.exchange.broken


def test_to_a_client_that_has_gone_nothing_is_sent():
    played = Played().start()
    played.exchange.lose()
    played.body(b"x").body(b"y").send({"type": "nonsense"})
    assert played.sent == b""


# Errors of the app


def test_a_failure_before_the_head_is_a_500():
    played = Played().start((b"x-secret", b"1"))
    played.sent += played.exchange.failed(ValueError("boom"), 1)
    assert played.lines[0] == "HTTP/1.1 500 Internal Server Error"
    assert played.payload == b"Internal Server Error\n"
    assert b"secret" not in played.sent
    assert played.server.errors == 1
    assert "GET /x?y: the app raised ValueError" in played.server.log.lines[0]


def test_in_debugging_it_shows_the_traceback():
    played = Played(debug=True)
    assert b"ValueError: boom" in played.exchange.failed(ValueError("boom"), 1)


def test_a_failure_after_the_head_cuts():
    played = Played().start().body(b"x", more=True)
    assert played.exchange.failed(ValueError("boom"), 1) is None
    assert played.exchange.broken
    assert played.server.errors == 1


def test_an_app_that_returns_too_early():
    played = Played()
    assert b" 500 " in played.exchange.failed(None, 1)
    assert played.server.log.lines == ["GET /x?y: the app returned without a response"]
    played = Played().start().body(b"x", more=True)
    assert played.exchange.failed(None, 1) is None
    assert "without the end of its response" in played.server.log.lines[0]


def test_a_late_call_is_a_503():
    played = Played()
    played.exchange.is_late = True
    assert b"503: the request took longer than 2 s" in played.exchange.failed(None, 2)


def test_a_5xx_of_the_app_is_counted():
    assert Played().start(status=503).body().server.errors == 1
    assert Played().start(status=404).body().server.errors == 0


# Files


def test_a_file_has_its_size(tmp_path):
    (tmp_path / "f").write_bytes(b"hello")
    played = Played().start().send({"type": "http.response.pathsend", "path": str(tmp_path / "f")})
    assert "Content-Length: 5" in played.lines
    assert (played.payload, played.spans) == (b"hello", [(0, 5)])
    fd = played.exchange.span.fd
    played.exchange.close_file()
    played.exchange.close_file()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_an_empty_file_and_a_head_need_no_file(tmp_path):
    (tmp_path / "f").touch()
    message = {"type": "http.response.pathsend", "path": str(tmp_path / "f")}
    assert Played().start().send(message).exchange.span is None
    (tmp_path / "f").write_bytes(b"hello")
    assert Played("HEAD").start().send(message).exchange.span is None


@pytest.mark.parametrize("length", [b"4", b"6"])
def test_a_file_of_another_length_than_promised(tmp_path, length):
    (tmp_path / "f").write_bytes(b"hello")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(RuntimeError, match="than its Content-Length"):
        Played().start((b"content-length", length)).send(
            {"type": "http.response.pathsend", "path": str(tmp_path / "f")}
        )
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises((RuntimeError, OSError)):
            Played().start().send({"type": "http.response.pathsend", "path": str(path)})
    with pytest.raises(FileNotFoundError):
        Played().start().send({"type": "http.response.pathsend", "path": str(tmp_path / "none")})
