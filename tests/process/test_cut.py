"""A worker that drains while calls of its app run in several threads: what ends in time
is finished, the rest is cut, and the app told.
"""

import os
import signal
import socket

import pytest

from .processes import workers
from .visitor import Visitor

# /wait/KIND/NUMBER: a body that is closed at the cut, in the thread in which it was
# made; each close() is a line in the file `closed`.
BODIES = """
import os, threading, time

class Body:
    def __init__(self, name, pieces, lasts=0.0):
        self.name, self.pieces, self.lasts, self.thread = name, pieces, lasts, threading.get_ident()

    def __iter__(self):
        return self.pieces

    def close(self):
        time.sleep(self.lasts)
        where = "at home" if threading.get_ident() == self.thread else "elsewhere"
        line = f"{self.name} closed {where}\\n"
        with open("closed", "a") as stream:
            stream.write(line)

def unread():
    yield b"begun"
    while True:
        yield bytes(1 << 20)

def endless():
    while True:
        time.sleep(0.001)
        yield b"x"

def stuck():
    yield b"begun"
    time.sleep(3600)

KINDS = {"unread": unread, "endless": endless, "stuck": stuck, "slow": unread}

def app(environ, start_response):
    kind = environ["PATH_INFO"].split("/")[1]
    time.sleep(0.03 * (kind != "endless"))  # long enough for another to take the lead
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body(environ["PATH_INFO"], KINDS[kind](), 0.2 * (kind == "slow"))
"""
GRACE = 0.3


@pytest.mark.parametrize("told", ["the Master", "the worker"])
def test_calls_in_other_threads_are_finished_and_answered_as_the_last(systemd, told, tmp_path):
    life = systemd(idle_timeout=60, keepalive_timeout=20, workers=1, threads=4)
    gate = tmp_path / "gate"
    with (
        life.visitor_under_way(f"/gate/{gate}", keep=True) as first,
        life.visitor_under_way(f"/gate/{gate}", keep=True) as second,
        life.visitor_under_way("/stream/0.8", keep=True) as stream,
        Visitor(life.address) as idle,
    ):
        assert not idle.ask(keep=True).closing
        [worker] = workers(life.run.pid)
        os.kill(life.run.pid if told == "the Master" else worker, signal.SIGTERM)
        assert idle.until_closed() == b""  # so it has been heard
        gate.touch()
        for busy in (first, second):
            answer = busy.answer()
            assert (answer.text, answer.closing) == ("open", True)
        assert stream.answer().text.split() == [str(number) for number in range(10)]
        for each in (first, second, stream):
            assert each.until_closed() == b""
    life.until(lambda: worker not in workers(life.run.pid), "it has not left")
    life.until_logged("stopping" if told == "the Master" else "starting a replacement")
    assert "cutting" not in life.log


@pytest.fixture
def cut(systemd, tmp_path):
    """cut(*targets, **settings): asks for them, tells it to stop, waits for the end,
    and gives (life, the lines of `closed`).
    """
    visitors = []

    def run(*targets, **settings):
        (tmp_path / "app.py").write_text(BODIES)
        life = systemd(
            "app",
            directory=tmp_path,
            cwd=tmp_path,
            idle_timeout=60,
            workers=1,
            graceful_timeout=GRACE,
            **settings,
        )
        for target in targets:
            visitor = Visitor(life.address)
            visitors.append(visitor)
            visitor.send(target, keep=True)
            assert visitor.sock.recv(12) == b"HTTP/1.1 200"
        life.signal(signal.SIGTERM)
        readers = [
            visitor.sock
            for target, visitor in zip(targets, visitors, strict=True)
            if "endless" in target
        ]

        def over():
            for reader in readers:  # nobody else reads
                reader.recv(1 << 16)
            return life.run.ended

        life.until(over, "it has not left")
        assert (life.run.status, life.run.left_behind) == (0, [])
        assert life.run.ended - life.run.told_at("STOPPING") >= GRACE
        assert life.log.count("cutting") == 1
        closed = tmp_path / "closed"
        return life, closed.read_text().splitlines() if closed.exists() else []

    yield run
    for visitor in visitors:
        visitor.sock.close()


@pytest.mark.parametrize(
    ("threads", "beside"),
    [(1, []), (4, []), (4, ["/stuck/1"])],
    ids=["one thread", "four threads", "beside a call that does not end"],
)
def test_each_body_that_is_cut_is_closed_once(cut, threads, beside):
    """Some wait for their readers, one for its next turn, and for two their end takes
    the app a while.
    """
    targets = ["/unread/1", "/endless/1", "/slow/1", "/slow/2"]
    _, closed = cut(*beside, *targets, threads=threads)
    assert sorted(closed) == sorted(f"{target} closed at home" for target in targets)


def test_a_response_that_ends_with_its_connection_is_seen_to_be_cut_while_its_call_still_runs(
    systemd, tmp_path
):
    """Its client would take the end of the process for that of the response (RFC 9112
    8).
    """
    (tmp_path / "app.py").write_text(BODIES)
    life = systemd(
        "app", directory=tmp_path, cwd=tmp_path, idle_timeout=60, workers=1, graceful_timeout=0.1
    )
    with Visitor(life.address) as visitor:
        visitor.sock.sendall(b"GET /stuck/1 HTTP/1.0\r\n\r\n")
        life.until(
            lambda: visitor.sock.recv(1 << 16, socket.MSG_PEEK).endswith(b"begun"),
            "it has not begun",
        )
        life.signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            visitor.until_closed()
    life.until_asleep(1)
    assert life.run.status == 0
