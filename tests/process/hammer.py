"""Rounds of visitors drawn around the moment at which a server leaves.

All of a round pause together, so that idleness does occur, and come back an
`idle_timeout` after the last answer of the round before, give or take a few
milliseconds: before the decision to leave, in the middle of it, while processes end,
after.
"""

import os
import random
import statistics
import threading
import time
import zlib
from collections import Counter

from .speaker import Speaker
from .visitor import Lost, Visitor

# How long the edge is hammered, in multiples of what `make test` can afford.
LENGTH = float(os.environ.get("EDGE", "1"))
# When a round begins, counted from the moment at which the server could leave at the
# earliest, and how far its visitors are apart.
EARLIEST, LATEST, SPREAD = -0.015, 0.05, 0.008
# Of idle_timeout: the keepalive_timeout of the servers; the longer, the less a busy
# machine makes a visitor too late for it
KEPT = 0.8
SURELY = (
    0.03  # this long after that moment it has left, unless the machine was busy with something else
)


def short(call):
    with Visitor(call.address) as visitor:
        return [visitor.ask()]


def several(call):
    with Visitor(call.address) as visitor:
        first = visitor.ask(keep=True)
        try:
            return [first, visitor.ask()]
        except Lost as error:
            # Later than keepalive_timeout it is for us to come again (RFC 9112 9.5).
            if error.silence < call.idle * KEPT:
                raise
            return [first]


def long(call):
    """A request that is longer than the idle timeout."""
    with Visitor(call.address) as visitor:
        return [asleep(visitor, call.idle * 1.3)]


def mute(call):
    """Connects, says nothing, and waits for the other side's end."""
    with Visitor(call.address) as visitor:
        assert visitor.until_closed() == b""
    return []


def knock(call):
    """Connects and is gone."""
    with Visitor(call.address):
        return []


# What a mix of everything is made of: `call.dice` says how.


def asleep(visitor, seconds, **how):
    """A call of the app's that takes so long; that is no part of what its visitor
    waited.
    """
    answer = visitor.ask(f"/sleep/{seconds}", **how)
    answer.seconds -= seconds
    return answer


def slow(call):
    """Below and beyond what takes the lead from a thread."""
    with Visitor(call.address) as visitor:
        return [asleep(visitor, call.dice.choice([0.002, 0.008, 0.05]))]


def kept(call):
    """Some requests, then nothing for a while, and one of the ways in which that may
    end.
    """
    answers = []
    visitor = Visitor(call.address)
    try:
        for _ in range(call.dice.randint(1, 3)):
            slow_one = call.dice.random() < 0.3
            try:
                answers.append(
                    asleep(visitor, 0.008, keep=True) if slow_one else visitor.ask(keep=True)
                )
            except Lost as error:
                if not answers or error.silence < call.idle * KEPT:
                    raise
                return answers
            time.sleep(call.dice.uniform(0, 0.005))
        return answers + call.dice.choice([_leave, _outstay, _dare, _dare])(call, visitor)
    finally:
        visitor.sock.close()


def _leave(call, visitor):
    return []


def _outstay(call, visitor):
    """Left to keepalive_timeout."""
    assert visitor.until_closed() == b""
    return []


def _dare(call, visitor):
    """One more request when the server is about to close.

    Who sees that it has, comes again. Whose request is on its way in that moment gets
    no answer and cannot know why: RFC 9112 9.3.1.
    """
    time.sleep(max(0.0, call.idle * KEPT + call.dice.uniform(-0.008, 0.012) - visitor.silent_for))
    if not visitor.ended:
        try:
            return [visitor.ask()]
        except Lost as error:
            if error.sent:
                call.raced.append((call.address, error))
    return short(call)


def upload(call):
    body = [call.dice.randbytes(call.dice.choice([10, 3000, 90_000])) for _ in range(4)]
    with Visitor(call.address) as visitor:
        visitor.send(
            "/upload", method="POST", body=body, chunked=call.dice.random() < 0.5, pause=0.01
        )
        answer = visitor.answer()
    answer.seconds -= 0.01 * len(body)
    assert int(answer.text.split()[-1]) == zlib.crc32(b"".join(body))
    return [answer]


def reader(call):
    """Takes its time over more than a socket holds."""
    size, pause = 600_000, 0.004
    with Visitor(call.address) as visitor:
        visitor.send(f"/large/{size}")
        answer = visitor.answer(pause=pause)
    answer.seconds -= pause * size / (1 << 16)
    assert answer.body.endswith(bytes(size))
    answer.body = answer.body[:-size]
    return [answer]


def streamed(call):
    with Visitor(call.address) as visitor:
        answer = visitor.ask("/stream/0.06")
    answer.seconds -= 0.06
    return [answer]


def after(call):
    """The app goes on when it has answered."""
    with Visitor(call.address) as visitor:
        return [visitor.ask("/after/0.03")]


def spoken(call):
    """A WebSocket, for longer than the idle timeout or not."""
    began = time.monotonic()
    with Speaker(call.address, "/") as client:
        kind, text = client.hear()
        assert kind == "text"
        answer = Spoken(client.status, text, began)
        for _ in range(call.dice.randint(1, 3)):
            time.sleep(call.dice.choice([0, 0.005, call.idle * 0.6]))
            client.say("hello")
            assert client.hear() == ("text", "hello")
        if call.dice.random() < 0.7:  # or it is just gone
            client.close()
            assert client.hear()[0] == "close"
    return [answer]


class Spoken:
    """As visitor.Answer, of a WebSocket's first word. Its status is that of the
    others.
    """

    def __init__(self, status, text, began):
        self.status = {101: 200}[status]
        self.text = text
        self.began = began
        self.ended = time.monotonic()
        self.seconds = self.ended - began


KINDS = {short: 5, slow: 4, kept: 5, upload: 2, reader: 2, streamed: 1, long: 1}


ASGI_KINDS = KINDS | {after: 2, spoken: 6}


def anybody(call, kinds=KINDS):
    [kind] = call.dice.choices(list(kinds), kinds.values())
    call.came[kind] += 1
    return kind(call)


def anybody_asgi(call):
    return anybody(call, ASGI_KINDS)


MIXES = {
    "short": [short] * 18 + [several],
    "mixed": [anybody] * 20,
    "silent": [short] * 14 + [several] + [mute] * 2 + [knock] * 2,
    "asgi": [anybody_asgi] * 20,
}
# Which kinds must have come
ALL_KINDS = {"mixed": set(KINDS), "asgi": set(ASGI_KINDS)}


def header_timeout(name, idle):
    """What the server of the mix `name` is to have: short only where somebody says
    nothing, or all would wait for that.
    """
    return idle if mute in MIXES[name] else 10.0


class Call:
    """What a visitor is told, and what its round is to know: `came` counts those of a
    kind, `raced` has those whom nobody could help.
    """

    def __init__(self, hammer, number, address):
        self.address, self.idle, self.came, self.raced = (
            address,
            hammer.idle,
            hammer.came,
            hammer.raced,
        )
        self.dice = random.Random(f"{hammer.seed} {number}")


class Hammer:
    """Rounds of visitors, one of `mix` each, spread over `addresses`, until `enough()`
    or until one was lost; what came of it.

    `idle` is the server's idle_timeout in seconds, `header` its header_timeout,
    `starts()` says how often it has been started so far. A visitor to whom the machine
    gave no time to speak within `header` is among the `late`, and not lost: the server
    is right then.
    """

    def __init__(self, addresses, mix, seed, *, idle, header, starts, enough):
        self.answers = []
        self.lost = []
        self.late = []
        self.raced = []
        self.came = Counter()
        self.idle, self.seed = idle, seed
        self._header = header
        # For each round that began late enough: whether the server had left, as it
        # should
        self.in_time = []
        self._addresses, self._mix, self._starts, self._enough = addresses, mix, starts, enough
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
        self._begin = self._last + self.idle + offset
        self._left_by = self._starts() if offset > SURELY else None
        self._done = self._enough(self) or bool(self.lost)

    def _come(self, number, kind):
        call = Call(self, number, self._addresses[number % len(self._addresses)])
        while True:
            self._barrier.wait()
            if self._done:
                return
            # The one place where time is what is tested: when somebody comes.
            time.sleep(max(0.0, self._begin + call.dice.uniform(0, SPREAD) - time.monotonic()))
            try:
                self.answers += kind(call)
            except (Lost, OSError, AssertionError) as error:
                late = isinstance(error, Lost) and error.silence >= self._header
                (self.late if late else self.lost).append(error)
            self._last = max(self._last, time.monotonic())

    def run(self):
        threads = [
            threading.Thread(target=self._come, args=each, daemon=True)
            for each in enumerate(self._mix)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def waited(waits):
    """What is to be said of so many waits (list of float, seconds, sorted)."""
    return (
        f"waited {milliseconds(statistics.median(waits))} (median), {milliseconds(waits[-len(waits) // 100])} (99 %), "
        f"{milliseconds(waits[-1])} (longest)"
    )


def milliseconds(seconds):
    return f"{seconds * 1000:.0f} ms"
