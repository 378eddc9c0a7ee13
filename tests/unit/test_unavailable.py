"""The Master's own answers while the app is broken, over real sockets."""

import errno
import select
import socket
import sys

import pytest
from waiting import wait_until

from spyglass.master import unavailable
from spyglass.master.unavailable import Answerer
from spyglass.runtime.poller import Poller
from spyglass.runtime.sd_daemon import Listener

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Office:
    """An answerer behind a real listener, and its visitors."""

    def __init__(self, header_timeout=5.0):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.listener = Listener(self.sock, "http")
        self.sock.setblocking(False)
        self.poller = Poller()
        self.details = ""
        self.answerer = Answerer(self.poller, lambda: (self.details, 7), header_timeout)
        self.visitors = []

    def visit(self, data=b""):
        visitor = socket.create_connection(self.sock.getsockname())
        self.visitors.append(visitor)
        visitor.settimeout(10)
        visitor.sendall(data)
        self.answerer.accept(self.listener)
        return visitor

    def until(self, done):
        wait_until(done, what="nothing happened", between=lambda: self.poller.wait(0.05))

    def close(self):
        for each in (*self.visitors, self.sock):
            each.close()
        self.answerer.abandon()
        self.poller.abandon()


@pytest.fixture
def office():
    made = Office()
    yield made
    made.close()


def readable(sock):
    return bool(select.select([sock], [], [], 0)[0])


def whole(visitor):
    """All that comes until the end of the connection."""
    parts = []
    while data := visitor.recv(65536):
        parts.append(data)
    return b"".join(parts)


def answer_to(office, *pieces):
    visitor = office.visit(pieces[0])
    for piece in pieces[1:]:
        office.poller.wait(0.01)
        visitor.sendall(piece)
    office.until(lambda: readable(visitor))
    return whole(visitor)


def test_a_visitor_gets_a_503_that_says_when_to_come_again(office):
    head, _, body = answer_to(office, GET).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 503 Service Unavailable"
    assert {
        "Retry-After: 7",
        "Connection: close",
        "Cache-Control: no-store",
        f"Content-Length: {len(body)}",
    } <= set(lines)
    assert b"could not be started" in body
    assert b"<pre>" not in body


def test_details_are_shown_when_there_are_any_and_cannot_become_markup(office):
    office.details = "ValueError: <script>"
    assert b"<h2>ValueError: &lt;script&gt;</h2>" in answer_to(office, GET)


def test_details_are_shown_without_a_descriptor_to_import_anything_with(office, monkeypatch):
    """The visitor may have taken the last one, and that must not be the end of the
    Master.
    """

    class NoMore:
        def find_spec(self, *_):
            raise OSError(errno.EMFILE, "Too many open files")

    office.details = "ValueError: <script>"
    monkeypatch.delitem(sys.modules, "html", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoMore()])
    assert b"<h2>ValueError: &lt;script&gt;</h2>" in answer_to(office, GET)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET / HT", b"TP/1.1\r\nHost: a\r", b"\n", b"\r", b"\n"],
        [b"\n\n"],
        [b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", b"x" * 100_000],
        [b"GET /" + b"a" * 70_000],
        [b"\x16\x03\x01\x02\x00 TLS, and later a newline\n\n"],
    ],
    ids=["in pieces", "not HTTP", "a body that nobody reads", "a head without end", "TLS"],
)
def test_whatever_is_asked_is_answered(office, pieces):
    assert answer_to(office, *pieces).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("pieces", [[b""], [b"\r\n"], [b"\r\n\r\n"], [b"\r\n\r\n", b""]])
def test_head_has_no_body(office, pieces):
    """RFC 9112 2.2: empty lines may come first."""
    head, _, body = answer_to(
        office, *pieces[:-1], pieces[-1] + b"HEAD / HTTP/1.1\r\n\r\n"
    ).partition(b"\r\n\r\n")
    assert (head[:12], body) == (b"HTTP/1.1 503", b"")


def test_what_is_still_sent_is_read_so_that_no_reset_takes_the_answer_away(office):
    visitor = office.visit(GET)
    visitor.sendall(b"x" * 1000)
    office.poller.wait(0.05)
    visitor.sendall(b"x" * 1000)
    office.poller.wait(0.05)
    assert whole(visitor).startswith(b"HTTP/1.1 503 ")
    assert office.answerer.open == 1  # until the visitor has closed as well, or for a moment
    visitor.close()
    office.until(lambda: office.answerer.open == 0)


def test_a_silent_client_delays_no_other_and_is_closed_in_time(office):
    silent = office.visit()
    assert office.answerer.open == 1
    assert answer_to(office, GET).startswith(b"HTTP/1.1 503 ")
    due = office.answerer.due()
    office.answerer.expire(due - 0.001)
    assert office.answerer.open == 2
    office.answerer.expire(due + 10)
    assert (office.answerer.open, office.answerer.due()) == (0, None)
    assert silent.recv(1) == b""


def test_a_byte_now_and_then_is_no_reprieve(office):
    visitor = office.visit(b"GET /")
    due = office.answerer.due()
    visitor.sendall(b"a")
    office.poller.wait(1)
    assert office.answerer.due() == due


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\r\n\r\n\r\n\r\n\0\1\0\2",
    ],
)
def test_the_header_of_a_proxy_is_no_part_of_the_request(office, header):
    """Where proxy_protocol is on; what it tells is nothing to whom all get the same
    answer.
    """
    pieces = [header[at : at + 1] for at in range(len(header))]
    for sent in ([header + GET], [*pieces, GET], [header, GET[:9], GET[9:]]):
        assert answer_to(office, *sent).startswith(b"HTTP/1.1 503 ")
    head, _, body = answer_to(office, *pieces, b"HEAD / HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert body == b""


@pytest.mark.parametrize("begun", [b"GET / HT", b"HEAD / HTTP/1.1\r\nHost: a\r\n"])
def test_a_client_that_has_begun_a_request_gets_a_408_in_time(office, begun):
    visitor = office.visit(begun)
    office.answerer.expire(office.answerer.due())
    head, _, body = whole(visitor).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert bool(body) is begun.startswith(b"GET")
    office.answerer.expire(office.answerer.due())
    assert office.answerer.open == 0


def test_a_client_that_closes_is_forgotten(office):
    office.visit(b"GET /").close()
    office.until(lambda: office.answerer.open == 0)


def test_coming_and_going_is_activity(office):
    before = office.answerer.activity
    visitor = office.visit(b"GET /")
    came = office.answerer.activity
    visitor.close()
    office.until(lambda: office.answerer.open == 0)
    assert before < came < office.answerer.activity


def test_there_is_a_limit_and_the_rest_waits_in_the_queue(office, monkeypatch):
    monkeypatch.setattr(unavailable, "_MOST", 2)
    visitors = [office.visit(), office.visit(), office.visit()]
    assert (office.answerer.open, office.answerer.full, readable(office.sock)) == (2, True, True)
    visitors[0].close()
    office.until(lambda: not office.answerer.full)
    office.answerer.accept(office.listener)
    assert (office.answerer.open, readable(office.sock)) == (2, False)


def test_closing_time(office):
    visitor = office.visit()
    office.answerer.close()
    assert visitor.recv(1) == b""
    assert (office.answerer.open, office.answerer.due()) == (0, None)
