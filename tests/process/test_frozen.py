"""A process that stands still for longer than its deadlines (SIGSTOP, a frozen cgroup):
it goes on with what came meanwhile.
"""

import os
import signal
import time
from contextlib import contextmanager

import pytest

from .processes import look_at, workers
from .visitor import Visitor

SOON = 0.3  # seconds, of every deadline


@contextmanager
def standing_still(life, pid):
    """`pid` is stopped during the block, and for longer than its deadlines: time itself
    is what is tested.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        life.until(lambda: look_at(pid).state == "T", "it is not stopped")
        began = time.monotonic()
        yield
        time.sleep(max(0.0, began + 2 * SOON - time.monotonic()))
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_kept_alive_client_that_asks_a_stopped_worker_is_answered(systemd, threads):
    life = systemd(idle_timeout=60, keepalive_timeout=SOON, workers=1, threads=threads)
    with Visitor(life.address) as visitor:
        assert visitor.ask(keep=True).status == 200
        [worker] = workers(life.run.pid)
        with standing_still(life, worker):
            visitor.send(keep=True)
        assert visitor.answer().status == 200


def test_the_rest_of_a_head_that_came_meanwhile_is_not_late(systemd):
    life = systemd(idle_timeout=60, header_timeout=SOON, workers=1)
    with Visitor(life.address) as first, Visitor(life.address) as visitor:
        assert first.ask(keep=True).status == 200
        [worker] = workers(life.run.pid)
        visitor.sock.sendall(b"GET / HTTP/1.1\r\n")
        assert first.ask().status == 200  # it has read the above by now
        with standing_still(life, worker):
            visitor.sock.sendall(b"Host: test\r\n\r\n")
        assert visitor.answer().status == 200


def test_nor_is_it_for_a_master_that_answers_itself(systemd, tmp_path):
    (tmp_path / "app.py").write_text("import blgo\n")
    life = systemd("app", directory=tmp_path, idle_timeout=60, header_timeout=SOON)
    with Visitor(life.address) as first, Visitor(life.address) as visitor:
        assert first.ask().status == 503
        visitor.sock.sendall(b"GET / HTTP/1.1\r\n")
        with Visitor(life.address) as third:
            assert third.ask().status == 503
        with standing_still(life, life.run.pid):
            visitor.sock.sendall(b"Host: test\r\n\r\n")
        assert visitor.answer().status == 503
