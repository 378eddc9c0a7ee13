"""Rounds of visitors drawn around the moment at which a server leaves.

All of a round pause together, so that idleness does occur, and come back an `idle_timeout` after the last answer of the round before,
give or take a few milliseconds: before the decision to leave, in the middle of it, while processes end, after.
"""

import random
import threading
import time

from .visitor import Lost, Visitor

# When a round begins, counted from the moment at which the server could leave at the earliest, and how far its visitors are apart.
EARLIEST, LATEST, SPREAD = -0.015, 0.05, 0.008
KEPT = 0.8  # of idle_timeout: the keepalive_timeout of the servers; the longer, the less a busy machine makes a visitor too late for it
SURELY = 0.03  # this long after that moment it has left, unless the machine was busy with something else


def short(address, _):
    with Visitor(address) as visitor:
        return [visitor.ask()]


def several(address, idle):
    with Visitor(address) as visitor:
        first = visitor.ask(keep=True)
        try:
            return [first, visitor.ask()]
        except Lost as error:
            # Later than keepalive_timeout it is for us to come again (RFC 9112 9.5).
            if error.silence < idle * KEPT:
                raise
            return [first]


def long(address, idle):
    """A request that is longer than the idle timeout; its length is no part of what it waited."""
    seconds = idle * 1.3
    with Visitor(address) as visitor:
        answer = visitor.ask(f"/sleep/{seconds}")
        answer.seconds -= seconds
        return [answer]


def mute(address, _):
    """Connects, says nothing, and waits for the other side's end."""
    with Visitor(address) as visitor:
        assert visitor.until_closed() == b""
    return []


def knock(address, _):
    """Connects and is gone."""
    with Visitor(address):
        return []


MIXES = {
    "short": [short] * 18 + [several],
    "long": [short] * 16 + [long] * 4,
    "silent": [short] * 14 + [several] + [mute] * 2 + [knock] * 2,
}


def header_timeout(name, idle):
    """What the server of the mix `name` is to have: short only where somebody says nothing, or all would wait for that."""
    return idle if mute in MIXES[name] else 10.0


class Hammer:
    """Rounds of visitors, one of `mix` each, spread over `addresses`, until `enough()` or until one was lost; what came of it.

    `idle` is the server's idle_timeout in seconds, `header` its header_timeout, `starts()` says how often it has been started so far.
    A visitor to whom the machine gave no time to speak within `header` is among the `late`, and not lost: the server is right then.
    """

    def __init__(self, addresses, mix, seed, *, idle, header, starts, enough):
        self.answers = []
        self.lost = []
        self.late = []
        self._header = header
        self.in_time = []  # for each round that began late enough: whether the server had left, as it should
        self._addresses, self._mix, self._idle, self._starts, self._enough = addresses, mix, idle, starts, enough
        self._random = random.Random(seed)
        self._begin = 0.0
        self._done = False
        self._left_by = None  # how often it had been started before such a round
        self._last = time.monotonic()
        self._barrier = threading.Barrier(len(mix), action=self._plan)

    def _plan(self):
        """Run by one of them while all others wait."""
        if self._left_by is not None:
            self.in_time.append(self._starts() > self._left_by)
        offset = self._random.uniform(EARLIEST, LATEST)
        self._begin = self._last + self._idle + offset
        self._left_by = self._starts() if offset > SURELY else None
        self._done = self._enough(self) or bool(self.lost)

    def _come(self, number, kind):
        dice = random.Random(self._random.random() + number)
        address = self._addresses[number % len(self._addresses)]
        while True:
            self._barrier.wait()
            if self._done:
                return
            # The one place where time is what is tested: when somebody comes.
            time.sleep(max(0.0, self._begin + dice.uniform(0, SPREAD) - time.monotonic()))
            try:
                self.answers += kind(address, self._idle)
            except (Lost, OSError, AssertionError) as error:
                late = isinstance(error, Lost) and error.silence >= self._header
                (self.late if late else self.lost).append(error)
            self._last = max(self._last, time.monotonic())

    def run(self):
        threads = [threading.Thread(target=self._come, args=each, daemon=True) for each in enumerate(self._mix)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def milliseconds(seconds):
    return f"{seconds * 1000:.0f} ms"
