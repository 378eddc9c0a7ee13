"""While the app cannot serve: when the Master accepts, tries again, and gives up."""

import errno
import socket
import time
from types import SimpleNamespace

import pytest

from spyglass.config.settings import Config
from spyglass.errors import LoadError
from spyglass.master.failing import Failing
from spyglass.master.listener_watch import ListenerWatch
from spyglass.runtime.poller import Poller, wait_seconds
from spyglass.runtime.sd_daemon import Listener

from .fake_log import FakeLog

NOW = 1000.0
NEVER = float("inf")


class NoneLeft:
    """A listening socket while no descriptor is left."""

    def accept(self):
        raise OSError(errno.EMFILE, "Too many open files")


class State:
    """A Failing with a real listener; `attempts` counts those to load the app, and
    `takes` is what the next one may take (0.0: it fails at once).
    """

    def __init__(self, monkeypatch, **settings):
        for name in ("failing.time.monotonic", "unavailable.monotonic"):
            monkeypatch.setattr(f"spyglass.master.{name}", lambda: self.now)
        self.now = NOW
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.poller = Poller()
        self.watch = ListenerWatch(
            [Listener(self.sock, "http")], self.poller, lambda: self.failing.meet_clients()
        )
        self.attempts, self.takes, self.busy, self.stops = 0, 0.0, False, []
        self.failing = Failing(
            self.poller, FakeLog(), self.watch, self.retry, lambda: self.busy, self.stop
        )
        self.config = Config({"idle_timeout": 30} | settings)

    def retry(self):
        self.attempts += 1
        self.busy = self.takes > 0
        return self.takes

    def stop(self, status, why):
        self.stops.append((status, why))

    def fail(self):
        self.busy = False
        self.failing.begin(LoadError("boom"), self.config, began=time.time())

    def close(self):
        self.failing.close()
        self.poller.abandon()
        self.sock.close()


@pytest.fixture
def state(monkeypatch):
    made = State(monkeypatch)
    yield made
    made.close()


def test_before_the_first_failure_it_has_nothing_to_do(state):
    state.failing.look(NOW)
    state.failing.meet_clients()
    state.failing.drain(NOW)
    assert (state.failing.why, state.failing.open, state.watch.on) == ("", 0, False)
    assert set(state.failing.due(NOW)) == {NEVER}


def test_a_client_starts_an_attempt_when_the_pause_is_over_and_is_held_for_a_moment(state):
    state.fail()
    assert (state.failing.why, state.watch.on) == ("boom", True)
    state.failing.meet_clients()
    assert state.attempts == 0
    state.now += 0.5
    state.takes = 60.0
    state.failing.meet_clients()
    assert (state.attempts, state.watch.on) == (1, False)
    assert min(state.failing.due(state.now)) == pytest.approx(state.now + 0.7)
    state.failing.look(state.now + 0.6)
    assert not state.watch.on
    state.failing.look(state.now + 0.7)
    assert state.watch.on


def test_it_gives_up_without_clients_but_not_while_it_loads(state):
    state.fail()
    state.busy = True
    state.failing.look(NOW + 1e6)
    assert state.stops == []
    state.busy = False
    last = state.failing.due(NOW)[2]
    state.failing.look(last - 0.1)
    assert state.stops == []
    state.failing.look(last)
    assert state.stops == [(78, "failing: boom")]


def test_a_client_in_the_queue_keeps_it(state):
    state.fail()
    with socket.create_connection(state.sock.getsockname()):
        state.failing.look(NOW + 1e6)
    assert state.stops == []


def test_when_the_app_serves_the_listeners_are_not_its_own_any_more(state):
    state.fail()
    state.failing.make_way()
    state.watch.set(False)
    state.failing.look(NOW + 1e6)
    state.failing.meet_clients()
    assert (state.failing.why, state.attempts, state.watch.on) == ("", 0, False)
    assert state.stops == []


def test_a_second_failure_gets_its_own_time_without_clients(state):
    """No client is known of since the first, which may be long ago."""
    state.fail()
    state.failing.make_way()
    state.now += 3600
    state.fail()
    state.failing.look(state.now)
    assert state.stops == []
    [gives_up] = [when for when in state.failing.due(state.now) if when < NEVER]
    assert gives_up == state.now + 30
    state.failing.look(gives_up)
    assert state.stops == [(78, "failing: boom")]


def test_after_a_pause_for_want_of_descriptors_it_accepts_again(state, monkeypatch):
    """However much later than its look the other parts of the Master have taken
    theirs.
    """
    state.fail()
    looked = state.now
    with monkeypatch.context() as patched:
        patched.setattr(state.watch, "listeners", [SimpleNamespace(sock=NoneLeft())])
        state.failing.meet_clients()
    state.failing.look(looked)
    assert not state.watch.on
    state.now += 10
    due = wait_seconds(state.failing.due(looked), looked, state.now)
    assert due == 0.0
    state.failing.look(state.now)
    assert state.watch.on
