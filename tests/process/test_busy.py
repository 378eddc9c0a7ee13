"""A worker that is busy with one request keeps all its other connections waiting: that
is its time, not theirs.

What came while the app was at work lies in the socket and is read before any deadline
is held against the client.
"""

import contextlib
import os
import signal
import threading

import pytest

from .processes import workers
from .visitor import Visitor, visit

pytestmark = pytest.mark.quiet

SHORT = 0.3  # seconds: the deadline that passes in the meantime
LONG = 1.0  # seconds: the call of the app that keeps the only worker busy


def test_a_kept_alive_client_may_ask_again_meanwhile(systemd):
    life = systemd(idle_timeout=60, workers=1, keepalive_timeout=SHORT)
    with Visitor(life.address) as kept:
        kept.ask(keep=True)
        with life.visitor_under_way(f"/sleep/{LONG}") as busy:
            kept.send()
            assert busy.answer().text == "slept"
            assert kept.answer().text == "hello"


def test_a_head_may_arrive_meanwhile(systemd):
    life = systemd(idle_timeout=60, workers=1, header_timeout=SHORT)
    with Visitor(life.address) as late:
        late.sock.sendall(b"GET / HTTP/1.1\r\n")
        with life.visitor_under_way(f"/sleep/{LONG}") as busy:
            late.sock.sendall(b"Host: test\r\nConnection: close\r\n\r\n")
            assert busy.answer().text == "slept"
            assert late.answer().text == "hello"


def test_a_body_may_arrive_meanwhile(systemd):
    life = systemd(idle_timeout=60, workers=1, body_timeout=SHORT)
    with Visitor(life.address) as late:
        late.sock.sendall(
            b"POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 10\r\n\r\n12345"
        )
        with life.visitor_under_way(f"/sleep/{LONG}") as busy:
            late.sock.sendall(b"67890")
            assert busy.answer().text == "slept"
            assert late.answer("POST").text == "hello"


def test_a_response_may_be_taken_meanwhile(systemd):
    life = systemd(idle_timeout=60, workers=1, write_timeout=SHORT)
    with Visitor(life.address) as slow:
        slow.send(f"/large/{32 << 20}")
        with life.visitor_under_way(f"/sleep/{LONG}") as busy:
            answers = []
            taker = threading.Thread(target=lambda: answers.append(slow.answer()))
            taker.start()
            assert busy.answer().text == "slept"
            taker.join()
        assert len(answers[0].body) == 32 << 20


def test_a_client_that_is_really_late_is_sent_away(systemd):
    """The other side of it: nothing came, so the deadline holds."""
    life = systemd(idle_timeout=60, workers=1, keepalive_timeout=SHORT, header_timeout=SHORT)
    with Visitor(life.address) as kept, Visitor(life.address) as late:
        kept.ask(keep=True)
        late.sock.sendall(b"GET / HTTP/1.1\r\n")
        with life.visitor_under_way(f"/sleep/{LONG}") as busy:
            assert busy.answer().text == "slept"
            assert kept.until_closed() == b""
            assert late.until_closed().startswith(b"HTTP/1.1 408 ")


def test_an_answer_that_waits_for_others_does_not_wait_for_a_long_one(systemd):
    """Answers of one turn leave together; whoever takes the lead from a long call lets
    them go.
    """
    life = systemd(idle_timeout=60, workers=1)
    with Visitor(life.address) as quick, Visitor(life.address) as slow:
        for visitor in (quick, slow):
            visitor.ask(keep=True)
        (worker,) = workers(life.run.pid)
        os.kill(worker, signal.SIGSTOP)
        quick.send(keep=True)
        slow.send(f"/sleep/{LONG}", keep=True)
        os.kill(worker, signal.SIGCONT)
        assert quick.answer().text == "hello"
        slow.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            slow.sock.recv(1)
        slow.sock.setblocking(True)
        assert slow.answer().text == "slept"


KEEPS_THE_LOCK = """
import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/keep":
        sum(range(30_000_000))  # in C: no other thread gets on meanwhile
        open(environ["QUERY_STRING"], "w").close()
    elif environ["PATH_INFO"] == "/end":
        os._exit(1)
    return [b"hello"]
"""


@pytest.mark.parametrize("what", ["keep", "end"])
def test_an_answer_that_is_finished_is_sent_before_a_call_that_keeps_the_interpreters_lock_or_ends_the_process(
    systemd, tmp_path, what
):
    (tmp_path / "app.py").write_text(KEEPS_THE_LOCK)
    ended = tmp_path / "ended"
    life = systemd("app", directory=tmp_path, idle_timeout=60, workers=1)
    with Visitor(life.address) as quick, Visitor(life.address) as slow:
        # The quick one last: until the next epoll_wait(2), the last to be answered is
        # still first in the kernel's list.
        for visitor in (slow, quick):
            for _ in range(10):
                visitor.ask(keep=True)
        (worker,) = workers(life.run.pid)
        os.kill(worker, signal.SIGSTOP)
        quick.send(keep=True)
        slow.send(f"/{what}?{ended}", keep=True)
        os.kill(worker, signal.SIGCONT)
        assert quick.answer().text == "hello"
        assert not ended.exists()
        if what == "keep":
            assert slow.answer().text == "hello"


def test_the_very_first_call_of_a_worker_may_be_a_long_one(systemd, tmp_path):
    """Also where the app has no use for `threading`, with which the thread that takes
    the lead is made. The first worker of a wake alone has had no time to learn it.
    """
    (tmp_path / "app.py").write_text(
        "import os, sys, time\nasked = []\ndef app(environ, start_response):\n    asked.append('threading' in sys.modules)\n"
        "    time.sleep(0.2)\n    start_response('200 OK', [])\n    return [f'{os.getpid()} {asked[0]}'.encode()]\n"
    )
    life = systemd("app", directory=tmp_path, idle_timeout=60, workers=3, threads=2)
    first = visit(life.address).text.split()[0]
    life.until(lambda: len(workers(life.run.pid)) == 3, "there are not three workers")
    heard = {}
    while len(heard) < 3:  # more at a time than one of them can serve
        with contextlib.ExitStack() as stack:
            visitors = [stack.enter_context(Visitor(life.address)) for _ in range(6)]
            for visitor in visitors:
                visitor.send()
            heard.update(visitor.answer().text.split() for visitor in visitors)
    assert {known for pid, known in heard.items() if pid != first} == {"True"}
