"""What ends the Master's wait for the first answer, and what does not."""

import os
import time

import pytest

from spyglass.config.settings import Config
from spyglass.master import first_answer
from spyglass.master.zygote_process import ZygoteProcess
from spyglass.runtime import channel
from spyglass.runtime.poller import Poller
from spyglass.runtime.scoreboard import ACCEPTING, LIMIT, SERVED, STATE
from spyglass.runtime.shared_memory import Shared

from .fake_log import FakeLog

FOR_EVER = 3600.0


class Waking:
    """A zygote that the test plays, with its first worker ordered."""

    def __init__(self, **settings):
        self.journal = FakeLog()
        self.shared = Shared([], 4)
        self.poller = Poller()
        self.zygote = ZygoteProcess(self.shared, self.poller, self.journal)
        self.zygote._channel.setblocking(False)
        self.zygote.begin_work(Config(settings))
        self.far = self.zygote._fork.far
        self.cells = self.shared.board.slot(self.zygote.first_worker)
        self.signals, self.signal = os.pipe()

    def wait(self):
        return first_answer.wait(self.zygote, self.shared, self.signals, "awake")

    def close(self):
        self.poller.abandon()
        self.zygote.abandon()
        self.far.close()
        for fd in (
            *(self.shared.bell, self.shared.poke, self.shared.lifeline, self.shared._held),
            *(self.signals, self.signal),
        ):
            os.close(fd)


@pytest.fixture
def waking(monkeypatch):
    monkeypatch.setattr(first_answer, "_LONGEST", FOR_EVER)
    monkeypatch.setattr(first_answer, "_LONGEST_ACCEPTING", FOR_EVER)
    made = []

    def make(**settings):
        made.append(Waking(**settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_listeners_come_before_the_order_to_fork(waking):
    it = waking()
    assert channel.receive(it.far) == (channel.LISTENERS, 0, [])
    assert channel.receive(it.far) == (channel.SPAWN, it.zygote.first_worker)


def test_the_first_worker_is_recycled_like_any_other(waking):
    assert waking(max_requests=100).cells[LIMIT] == 100
    assert waking().cells[LIMIT] == 0


def test_an_answer_ends_it(waking):
    it = waking()
    channel.send(it.far, channel.SPAWNED, it.zygote.first_worker, 1000)
    it.cells[STATE] = ACCEPTING
    it.cells[SERVED] = 1
    it.shared.tell_master()
    it.wait()


def test_a_signal_ends_it_and_is_left_to_be_read(waking):
    it = waking()
    os.write(it.signal, b"\x0f")
    it.wait()
    assert os.read(it.signals, 10) == b"\x0f"


def test_births_of_workers_do_not(waking, monkeypatch):
    monkeypatch.setattr(first_answer, "_LONGEST", 0.05)
    it = waking()
    for pid in (1000, 1000):  # the zygote and the worker both report it
        channel.send(it.far, channel.SPAWNED, it.zygote.first_worker, pid)
    it.wait()
    assert time.monotonic() >= it.zygote.started + 0.05


NEWS = {
    "failed": lambda far: channel.send(far, channel.FAILED, "no such module", "", []),
    "died": lambda far: channel.send(far, channel.DIED, 0, 1000, 0),
    "nonsense": lambda far: far.send(b"nonsense"),
    "the end": lambda far: far.shutdown(2),
}


@pytest.mark.parametrize("news", NEWS)
def test_other_news_end_it(waking, news):
    it = waking()
    channel.send(it.far, channel.SPAWNED, it.zygote.first_worker, 1000)
    NEWS[news](it.far)
    it.wait()


def test_what_was_heard_meanwhile_is_reported_in_order(waking):
    it = waking()
    reported = []
    it.zygote.report = lambda *message: reported.append(message)
    it.poller.watch(it.zygote.fd, it.zygote.hear)
    messages = [
        (channel.SPAWNED, 0, 1000),
        (channel.FAILED, "no such module", "", []),
        (channel.DIED, 0, 1000, 0),
    ]
    for message in messages:
        channel.send(it.far, *message)
    it.wait()
    it.zygote.hear()
    assert reported == messages


def test_nonsense_is_warned_of_once(waking):
    it = waking()
    it.far.send(b"nonsense")
    it.wait()
    it.far.send(b"nonsense")
    it.zygote.hear()
    assert len(it.journal.lines) == 1


@pytest.mark.parametrize("accepting", [False, True])
def test_it_does_not_last(waking, monkeypatch, accepting):
    """A zygote may load for long, and a first answer may take long."""
    name = "_LONGEST_ACCEPTING" if accepting else "_LONGEST"
    monkeypatch.setattr(first_answer, name, 0.01)
    it = waking()
    if accepting:
        it.cells[STATE] = ACCEPTING
        it.shared.tell_master()
    assert it.wait() is accepting


@pytest.mark.parametrize("accepts", [False, True])
def test_systemd_is_told_before_the_first_answer_is_known(waking, monkeypatch, accepts):
    """Or else a client that has it would find the service activating."""
    told = []
    monkeypatch.setattr(first_answer, "notify", lambda *lines: told.append(lines) or True)
    it = waking()
    it.cells[SERVED] = 1
    if accepts:
        it.cells[STATE] = ACCEPTING
    it.shared.tell_master()
    assert it.wait() is accepts
    assert told == [("READY=1", "STATUS=awake")] * accepts
