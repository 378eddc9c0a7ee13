"""A worker with idle_ignore: what the Master can see of who is there, and who is
kept.
"""

import time

import pytest

from spyglass.runtime import scoreboard
from spyglass.runtime.scoreboard import ACTIVITY, IGNORED, OPEN, ORDER, PART

from .stepped_worker import GET, ONE

HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
PROBE = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: probe/1\r\n\r\n"
CLOSE = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
def ignoring(start):
    """A worker that ignores /health, an agent and everybody who comes by TCP."""

    def make(**settings):
        return start(idle_ignore=("/health", "agent:probe", "listener:local"), **settings)

    return make


def counts(worker):
    return worker.slot[OPEN] - worker.slot[IGNORED]


def test_without_a_request_quiet_begins_at_its_end(ignoring):
    """Nobody knows what it would have asked for; that it is there is known, and it is
    waited for.
    """
    worker = ignoring()
    client = worker.client()
    worker.until(lambda: worker.slot[OPEN])
    assert counts(worker) == 0
    before = time.monotonic_ns()
    client.close()
    worker.until(lambda: not worker.slot[OPEN])
    assert worker.slot[ACTIVITY] > before
    assert worker.slot[IGNORED] == 0


def test_client_that_asks_for_something_else_counts_from_then_until_it_ends(ignoring):
    worker = ignoring()
    client = worker.client(ONE)
    worker.answers(client, 1)
    assert counts(worker) == 1
    before = time.monotonic_ns()
    client.close()
    worker.until(lambda: not worker.slot[OPEN])
    assert worker.slot[ACTIVITY] > before
    assert (worker.slot[IGNORED], worker.told) == (0, 0)


@pytest.mark.parametrize(("data", "answer"), [(HEALTH, b"/health"), (PROBE, b"/")])
def test_ignored_client_is_served_and_does_not_count(ignoring, data, answer):
    worker = ignoring()
    client = worker.client(data)
    assert worker.answers(client, 1) == [answer]
    assert (worker.slot[OPEN], counts(worker), worker.slot[ACTIVITY]) == (1, 0, 0)
    client.sendall(data)
    assert worker.answers(client, 1) == [answer]
    client.close()
    worker.until(lambda: not worker.slot[OPEN])
    assert (worker.slot[IGNORED], worker.slot[ACTIVITY]) == (0, 0)
    assert worker.told == 0, "nobody waits for it"


def test_while_the_app_works_for_it_too(start):
    seen = []

    def app(environ, start_response):
        seen.append((worker.slot[OPEN], worker.slot[IGNORED]))
        start_response("200 OK", [("Content-Length", "0")])
        return []

    worker = start(app, idle_ignore=("/health",))
    worker.to_the_end(worker.client(CLOSE))
    assert seen == [(1, 1)], "it is there, for it is waited for; but it does not count"


def test_what_it_asks_for_next_decides(ignoring):
    worker = ignoring()
    client = worker.client(HEALTH)
    worker.answers(client, 1)
    client.sendall(ONE)
    worker.answers(client, 1)
    assert counts(worker) == 1
    before = time.monotonic_ns()
    client.sendall(HEALTH)
    worker.answers(client, 1)
    assert counts(worker) == 0
    quiet_since = worker.slot[ACTIVITY]
    assert quiet_since > before, "until now it counted"
    client.sendall(HEALTH)
    worker.answers(client, 1)
    client.close()
    worker.until(lambda: not worker.slot[OPEN])
    assert (worker.slot[IGNORED], worker.slot[ACTIVITY]) == (0, quiet_since)


def test_pipelined_ones_are_told_apart(ignoring):
    worker = ignoring()
    client = worker.client(HEALTH + ONE + HEALTH + GET % 2)
    assert worker.answers(client, 4) == [b"/health", b"/1", b"/health", b"/2"]
    assert counts(worker) == 1


def test_client_of_an_ignored_listener_never_counts(ignoring):
    worker = ignoring()
    silent, asking = worker.client(tcp=True), worker.client(ONE, tcp=True)
    assert worker.answers(asking, 1) == [b"/1"]
    worker.until(lambda: worker.slot[OPEN] == 2)
    assert counts(worker) == 0
    silent.close()
    asking.close()
    worker.until(lambda: not worker.slot[OPEN])
    assert (worker.slot[IGNORED], worker.slot[ACTIVITY]) == (0, 0)


# Where only such are left


def test_it_is_told_with_its_next_answer_that_it_is_the_last(ignoring):
    worker = ignoring()
    client = worker.client(HEALTH)
    worker.answers(client, 1)
    worker.slot[ORDER] = PART
    client.sendall(HEALTH)
    assert b"\r\nConnection: close\r\n" in worker.to_the_end(client)
    worker.until(lambda: not worker.slot[OPEN])
    assert worker.told == 1, "the last to go tells the Master"


def test_or_ends_after_keepalive_timeout(ignoring):
    worker = ignoring(keepalive_timeout=0.1)
    client = worker.client(HEALTH)
    worker.answers(client, 1)
    worker.slot[ORDER] = PART
    assert worker.to_the_end(client) == b""
    worker.until(lambda: not worker.slot[OPEN])
    assert worker.told == 1


def test_client_that_counts_is_told_to_the_master_then(ignoring):
    worker = ignoring()
    worker.slot[ORDER] = PART
    client = worker.client(ONE)
    worker.answers(client, 1)
    assert worker.told == 1


def test_all_its_newcomers_are_served_though_not_kept(ignoring):
    worker = ignoring()
    worker.slot[ORDER] = PART
    for _ in range(3):
        assert b" 200 OK\r\n" in worker.to_the_end(worker.client(HEALTH))


def test_retiring_worker_does_not_serve_on_because_of_an_older_order():
    assert scoreboard.DRAIN < scoreboard.RETIRE < PART < scoreboard.SERVE
