"""The edge: thousands of requests drawn around the moment at which the server leaves, none of which may notice.

Visitors come in rounds. All of a round pause together, so that idleness does occur, and come back `idle_timeout` after the last
answer of the round before, give or take a few milliseconds: before the decision to leave, in the middle of it, while processes end,
after. Each must be served, whole, after no more than a wake. What they waited is told at the end of the run.
"""

import random
import statistics
import threading
import time

import pytest

from .fake_systemd import APPS, FakeSystemd
from .visitor import Lost, Visitor

REQUESTS = 3000
IDLE = 0.12
WORKERS = 4
LISTENERS = ("tcp", "unix")
# When a round begins, counted from the moment at which it could leave at the earliest, and how far its visitors are apart.
EARLIEST, LATEST, SPREAD = -0.015, 0.05, 0.008
SURELY = 0.03  # this long after that moment it has left, unless the machine was busy with something else
LONGEST_WAIT = 5.0  # seconds; a wake takes a tenth of one
LONG = IDLE * 1.3  # seconds: a request that is longer than the idle timeout


def short(address):
    with Visitor(address) as visitor:
        return [visitor.ask()]


def several(address):
    with Visitor(address) as visitor:
        return [visitor.ask(keep=True), visitor.ask()]


def long(address):
    with Visitor(address) as visitor:
        answer = visitor.ask(f"/sleep/{LONG}")
        answer.seconds -= LONG
        return [answer]


def mute(address):
    """Connects, says nothing, and waits for the other side's end."""
    with Visitor(address) as visitor:
        assert visitor.until_closed() == b""
    return []


def knock(address):
    """Connects and is gone."""
    with Visitor(address):
        return []


MIXES = {
    "short": [short] * 18 + [several],
    "long": [short] * 16 + [long] * 4,
    "silent": [short] * 14 + [several] + [mute] * 2 + [knock] * 2,
}


class Hammer:
    """Rounds of visitors to `life`, one of `mix` each, until there have been enough or one was lost; what came of it."""

    def __init__(self, life, mix, seed):
        self.random = random.Random(seed)
        self.life = life
        self.answers = []
        self.lost = []
        self.begin = 0.0
        self.in_time = []  # for each round that began late enough: whether the server had left, as it should
        self._left_by = None  # how often it had been started before such a round
        self.enough = False
        self._mix = mix
        self._last = time.monotonic()
        self._barrier = threading.Barrier(len(mix), action=self._plan)

    def _plan(self):
        """Run by one of them while all others wait."""
        if self._left_by is not None:
            self.in_time.append(len(self.life.runs) > self._left_by)
        offset = self.random.uniform(EARLIEST, LATEST)
        self.begin = self._last + IDLE + offset
        self._left_by = len(self.life.runs) if offset > SURELY else None
        self.enough = len(self.answers) >= REQUESTS or bool(self.lost)

    def _come(self, number, kind):
        dice = random.Random(self.random.random() + number)
        address = self.life.addresses[number % len(LISTENERS)]
        while True:
            self._barrier.wait()
            if self.enough:
                return
            # The one place where time is what is tested: when somebody comes.
            time.sleep(max(0.0, self.begin + dice.uniform(0, SPREAD) - time.monotonic()))
            try:
                self.answers += kind(address)
            except (Lost, OSError, AssertionError) as error:
                self.lost.append(error)
            self._last = max(self._last, time.monotonic())

    def run(self):
        threads = [threading.Thread(target=self._come, args=each, daemon=True) for each in enumerate(self._mix)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def hammers(request):
    """All mixes at the same time: they spend it waiting. Each has a server of its own."""
    place, pycache = request.getfixturevalue("tmp_path_factory"), request.getfixturevalue("pycache")
    lives = {
        name: FakeSystemd(
            place.mktemp(name), pycache, "plain:app", directory=APPS, listeners=LISTENERS,
            idle_timeout=IDLE, keepalive_timeout=IDLE / 2, header_timeout=IDLE, workers=WORKERS,
        )
        for name in MIXES
    }  # fmt: skip
    hammers = {name: Hammer(life, MIXES[name], name) for name, life in lives.items()}
    threads = [threading.Thread(target=hammer.run, daemon=True) for hammer in hammers.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield hammers
    for life in lives.values():
        life.close()


@pytest.mark.parametrize("name", MIXES)
def test_nobody_notices_the_edge(hammers, name, edges):
    hammer = hammers[name]
    life = hammer.life
    assert hammer.lost == [], life.story()
    life.until_asleep()
    waits = sorted(answer.seconds for answer in hammer.answers)
    wakes = [run.told_at("READY") - run.started for run in life.runs]
    edges.append(
        f"edge, {name}: {len(waits)} requests, lost none; {len(life.runs)} wakes of {milliseconds(statistics.median(wakes))} (median), "
        f"{milliseconds(max(wakes))} (longest); waited {milliseconds(statistics.median(waits))} (median), "
        f"{milliseconds(waits[-len(waits) // 100])} (99 %), {milliseconds(waits[-1])} (longest); left in time: {statistics.mean(hammer.in_time):.0%}"
    )
    assert len(waits) >= REQUESTS
    assert {answer.status for answer in hammer.answers} == {200}
    assert len(life.runs) >= 30, "it hardly ever left: nothing was tested"
    assert {run.status for run in life.runs} == {0}
    assert [run.left_behind for run in life.runs if run.left_behind] == []
    assert waits[-1] < LONGEST_WAIT
    for run in life.runs:
        assert run.told("READY") == ["1"] == run.told("STOPPING")
        assert run.told_at("READY") < run.told_at("STOPPING")


def milliseconds(seconds):
    return f"{seconds * 1000:.0f} ms"
