"""A fault of ours in reading a request costs its connection: never the worker, which
may hold a thousand others.
"""

import sys

import pytest

from .stepped_worker import GET, alive

# A bug is put into the server by replacing one of its functions.
pytestmark = pytest.mark.pure

BUG = b"GET /bug HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n"


def burst(*_, **__):
    raise ValueError("invalid literal\nfor int(): \x1b[31m")


def lines(worker):
    assert len(worker.journal.lines) == 1
    (line,) = worker.journal.lines
    assert "a bug in Spyglass" in line
    assert "ValueError" in line
    assert line.isprintable()
    return line


@pytest.mark.parametrize("access_log", [False, "%h %>s"])
@pytest.mark.parametrize("pieces", [[BUG], [BUG[:30], BUG[30:]]])
@pytest.mark.parametrize(
    "place",
    [
        "spyglass.http11.control_headers._persistence",
        "spyglass.http11.request_reader.RequestReader._expect_body",
        "spyglass.http11.request_head._cut",
        "spyglass.gateway.environ.EnvironMaker._prepare",
    ],
)
def test_a_bug_in_reading_a_request_is_a_400_for_its_client_alone(
    start, monkeypatch, place, pieces, access_log
):
    worker = start(access_log=access_log)
    held = worker.client(GET % 1)
    assert worker.answers(held, 1) == [b"/1"]
    with monkeypatch.context() as broken:
        broken.setattr(place, burst)
        client = worker.client()
        for piece in pieces:
            client.sendall(piece)
            worker.turns(3)
        assert worker.to_the_end(client).startswith(b"HTTP/1.1 400 ")
    lines(worker)
    held.sendall(GET % 2)
    assert worker.answers(held, 1) == [b"/2"]
    assert alive(worker)


def test_a_bug_in_reading_a_body(start, monkeypatch):
    worker = start()
    client = worker.client(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    worker.turns(3)
    with monkeypatch.context() as broken:
        broken.setattr("spyglass.http11.chunked.ChunkedDecoder.decode", burst)
        client.sendall(b"1\r\nx\r\n")
        assert worker.to_the_end(client).startswith(b"HTTP/1.1 400 ")
    lines(worker)
    assert alive(worker)


def test_a_bug_in_reading_a_proxy_header(start, monkeypatch):
    worker = start(proxy_protocol=True)
    header = b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n"
    with monkeypatch.context() as broken:
        broken.setattr(sys.modules["spyglass.worker.proxy_header"], "read_header", burst)
        client = worker.client(header + GET % 1)
        assert worker.to_the_end(client) == b""
    lines(worker)
    client = worker.client(header + GET % 2)
    assert worker.answers(client, 1) == [b"/2"]
