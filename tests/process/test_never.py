"""Timeouts that are as long as can be, and those that never pass: nothing that is made
of them is too much for whoever waits.
"""

import os
import signal

import pytest

from .visitor import Visitor, visit

TIMEOUTS = [
    *(
        "start_timeout",
        "request_timeout",
        "graceful_timeout",
        "header_timeout",
        "body_timeout",
        "write_timeout",
    ),
    *("keepalive_timeout", "idle_timeout"),
]
LARGE = 32 << 20


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("how", ["never", "100000000", "31536000", "2147484"])
def test_every_timeout_may_be_as_long_as_you_like(systemd, how, threads):
    settings = dict.fromkeys(TIMEOUTS, how) | {
        "idle_timeout": "never" if how != "2147484" else "4000000"
    }
    life = systemd(workers=2, threads=threads, **settings)
    with (
        Visitor(life.address) as kept,
        Visitor(life.address) as head,
        Visitor(life.address) as body,
        Visitor(life.address) as slow,
    ):
        kept.ask(keep=True)
        head.sock.sendall(b"GET / HTTP/1.1\r\n")
        body.sock.sendall(
            b"POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 4\r\n\r\n1"
        )
        slow.send(f"/large/{LARGE}")
        with life.visitor_under_way("/sleep/0.1") as busy:
            assert busy.answer().text == "slept"
        head.sock.sendall(b"Host: test\r\nConnection: close\r\n\r\n")
        assert head.answer().text == "hello"
        body.sock.sendall(b"234")
        assert body.answer("POST").text == "hello"
        assert len(slow.answer().body) == LARGE
        assert kept.ask(keep=True).text == "hello"
        life.signal(signal.SIGHUP)
        life.until_logged("the old one drains")
        assert visit(life.address).text == "hello"
    life.signal(signal.SIGTERM)
    life.until(lambda: life.asleep, "it does not leave")
    assert life.run.status == 0
    assert "error" not in life.log


@pytest.mark.parametrize("how", ["0", "never", "100000000"])
def test_one_that_fails_stays_awake_for_as_long_as_you_like(systemd, tmp_path, how):
    (tmp_path / "app.py").write_text("raise RuntimeError('broken')\n")
    life = systemd("app", directory=tmp_path, idle_timeout=how, start_timeout="never")
    for _ in range(3):
        assert visit(life.address).status == 503
    os.kill(life.run.pid, 0)
    assert len(life.runs) == 1
    life.signal(signal.SIGTERM)
    life.until(lambda: life.asleep, "it does not leave")
    assert life.run.status == 0


def test_so_does_one_under_lookout(lookout):
    server = lookout(
        "plain:app", graceful_timeout="never", start_timeout="never", idle_timeout="never"
    )
    server.until_listening()
    assert visit(server.address).text == "hello"
