"""A worker that is to leave while others go on: whom the kernel has woken for a
visitor, and nobody else (EPOLLEXCLUSIVE, epoll_ctl(2)).
"""

import os
import signal
from contextlib import ExitStack

import pytest

from .processes import look_at, workers
from .visitor import Visitor, visit

# In a worker: when epoll tells of a visitor and the file `hold` is there, nothing goes
# on until somebody says so (SIGCONT). The loop then hears of the visitor and of
# whatever was said to the worker meanwhile at once, in one turn.
HOLDING = """
import os, pathlib, select, signal

from spyglass.worker import loop

class Holding:
    real = select.epoll

    def __init__(self):
        self.epoll, self.listeners = self.real(), set()

    def register(self, fd, events):
        if events & select.EPOLLEXCLUSIVE:
            self.listeners.add(fd)
        self.epoll.register(fd, events)

    def poll(self, timeout=None):
        events = self.epoll.poll(timeout)
        if self.listeners & {fd for fd, _ in events}:
            try:
                os.rename("hold", "held")
            except FileNotFoundError:
                return events
            pathlib.Path("held").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
            return self.epoll.poll(0)
        return events

    def __getattr__(self, name):
        return getattr(self.epoll, name)

loop.epoll = Holding  # the server's own, which an app that replaces select.epoll does not touch

def app(environ, start_response):
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""


class Held:
    """The visitor, and the pid of the worker that was woken for it and goes no further
    until it may.
    """

    def __init__(self, life, place):
        (place / "hold").touch()
        self.life = life
        self.visitor = Visitor(life.address, patience=5)
        self.visitor.send()
        life.until(
            lambda: (place / "held").exists() and (place / "held").read_text(), "nobody was woken"
        )
        self.worker = int((place / "held").read_text())
        life.until(lambda: look_at(self.worker).state == "T", "it does not stop")

    def is_served_by_another(self):
        os.kill(self.worker, signal.SIGCONT)
        assert int(self.visitor.answer().text) != self.worker

    def close(self):
        self.visitor.sock.close()
        for pid in (self.worker, self.life.run.pid):
            if look_at(pid):
                os.kill(pid, signal.SIGCONT)


@pytest.fixture
def start(systemd, tmp_path):
    """start(**settings): (life, hold); hold() gives a Held."""
    made = []
    (tmp_path / "app.py").write_text(HOLDING)

    def begin(**settings):
        life = systemd(
            "app", directory=tmp_path, cwd=tmp_path, idle_timeout=60, log_level="debug", **settings
        )
        life.start()
        accept(life, settings["workers"])

        def hold():
            made.append(Held(life, tmp_path))
            return made[-1]

        return life, hold

    yield begin
    for each in made:
        each.close()


def accept(life, count):
    life.until(
        lambda: life.log.count("accepting, pid") == count, f"there are not {count} who accept"
    )


def test_one_too_many(start):
    """The latest is to leave. Of those who wait the kernel wakes whoever has listened
    for longest, so the other must have begun again.
    """
    life, hold = start(workers=1, max_connections=1)
    life.signal(signal.SIGTTIN)
    accept(life, 2)
    with Visitor(life.address) as visitor:
        other = int(visitor.ask(keep=True).text)  # full now, and does not listen
    life.until_logged("closed by the client")
    held = hold()
    assert held.worker != other
    life.signal(signal.SIGTTOU)
    life.until_logged("SIGTTOU: 1 worker from now on")
    life.until(lambda: look_at(life.run.pid).state == "S", "it has not told him yet")
    held.is_served_by_another()
    life.until(lambda: held.worker not in workers(life.run.pid), "it has not left")


def test_told_by_a_signal(start):
    """It gives whom it has kept another second, so that it is still there."""
    life, hold = start(workers=2)
    with ExitStack() as stack:
        kept = {}  # somebody with each of the workers, for either may be woken
        while len(kept) < 2:
            visitor = stack.enter_context(Visitor(life.address))
            kept[int(visitor.ask(keep=True).text)] = visitor
        life.until(lambda: all(look_at(worker).state == "S" for worker in kept), "they do not wait")
        held = hold()
        os.kill(held.worker, signal.SIGTERM)
        held.is_served_by_another()
        assert held.worker in workers(life.run.pid)
        assert kept[held.worker].until_closed() == b""


def test_another_generation_has_taken_over(start):
    """The Master has yet to hear that the others accept, and to tell the old ones."""
    life, hold = start(workers=2)
    before = workers(life.run.pid)
    life.signal(signal.SIGHUP)
    life.until_logged("SIGHUP: loading another generation")
    life.until(lambda: look_at(life.run.pid).state == "S", "it is still at work")
    life.signal(signal.SIGSTOP)
    accept(life, 4)
    held = hold()
    assert held.worker in before
    life.signal(signal.SIGCONT)
    life.until_logged("another generation has taken over")
    held.is_served_by_another()
    life.until(lambda: not set(before) & set(workers(life.run.pid)), "the old ones have not left")


def test_its_place_is_not_empty_while_it_finishes(systemd):
    """Told by somebody else than the Master, who would hear of it when it has left."""
    life = systemd(idle_timeout=60, workers=1)
    with life.visitor_under_way("/sleep/2") as busy:
        [worker] = workers(life.run.pid)
        os.kill(worker, signal.SIGTERM)
        answer = visit(life.address, "/pid")
        assert int(answer.text) != worker
        assert worker in workers(life.run.pid)
        assert busy.answer().closing
    life.until(lambda: worker not in workers(life.run.pid), "it has not left")
    assert len(workers(life.run.pid)) == 1
    assert "error" not in life.log
