"""An answer that ends with its connection, to a client of HTTP/1.0 as nginx is by
default, must not look complete when its worker dies.

A close by the kernel, at the end of a process that is killed, is an end of the answer
like any other (RFC 9112 8), unless something of the request has not been read: then it
is a reset, over TCP as on a unix socket.
"""

import os
import signal
import socket

import pytest

from .processes import workers

STREAM = """
import time

def app(environ, start_response):
    path, body = environ["PATH_INFO"], environ["wsgi.input"].read()
    if path == "/sized":
        start_response("200 OK", [("Content-Length", "5")])
        return [b"whole"]
    start_response("200 OK", [])
    return stream(path, b"begun %d" % len(body))

def stream(path, first):
    yield first
    while path == "/endless":
        time.sleep(0.01)
        yield b"."
    if path == "/stuck":
        time.sleep(3600)
    yield b" ended"
"""
HEAD = b"%b %b HTTP/1.0\r\nHost: a\r\n%b\r\n"
GET = {"get": [HEAD % (b"GET", b"%b", b"")]}
POST = {
    "post": [HEAD % (b"POST", b"%b", b"Content-Length: 5\r\n") + b"hello"],
    "post in parts": [HEAD % (b"POST", b"%b", b"Content-Length: 5\r\n"), b"hel", b"lo"],
}
KEPT = {
    "behind another": [
        HEAD % (b"GET", b"/sized", b"Connection: keep-alive\r\n"),
        HEAD % (b"GET", b"%b", b""),
    ]
}
SAID = GET | POST | KEPT


@pytest.fixture(params=["tcp", "unix"])
def life(request, systemd, tmp_path):
    (tmp_path / "stream.py").write_text(STREAM)
    return systemd(
        "stream:app",
        directory=tmp_path,
        listeners=[request.param],
        idle_timeout=60,
        workers=1,
        graceful_timeout=1,
        request_timeout=60,
    )


def ask(life, pieces, path):
    """A client that has sent `pieces` one by one, each when the one before had been
    read; and what it has got of other answers.
    """
    address = life.addresses[0]
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout(20)
    sock.connect(address)
    before = b""
    for number, piece in enumerate(pieces):
        if number and b"/sized" in pieces[0]:
            while not before.endswith(b"whole"):
                before += sock.recv(100)
        sock.sendall(piece.replace(b"%b", path))
    return sock


def heard(sock):
    """All that comes, and whether the connection was reset then."""
    got = b""
    try:
        while data := sock.recv(1000):
            got += data
    except ConnectionResetError:
        return got, True
    finally:
        sock.close()
    return got, False


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("path", [b"/stuck", b"/endless"])
def test_a_killed_worker_s_answer_ends_in_a_reset(life, said, path):
    with ask(life, SAID[said], path) as sock:
        got = b""
        while b"begun" not in got:
            got += sock.recv(1000)
        [worker] = workers(life.run.pid)
        os.kill(worker, signal.SIGKILL)
        assert heard(sock)[1]


@pytest.mark.parametrize("path", [b"/stuck", b"/endless"])
def test_so_does_one_that_is_cut(life, path):
    with ask(life, SAID["get"], path) as sock:
        got = b""
        while b"begun" not in got:
            got += sock.recv(1000)
        os.kill(life.run.pid, signal.SIGTERM)
        assert heard(sock)[1]


@pytest.mark.parametrize("said", SAID)
def test_one_that_is_whole_ends_as_ever(life, said):
    got, reset = heard(ask(life, SAID[said], b"/brief"))
    assert not reset
    assert got.endswith(b" ended")
