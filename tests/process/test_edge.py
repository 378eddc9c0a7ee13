"""The edge: thousands of requests drawn around the moment at which the server leaves,
none of which may notice.

Visitors come in rounds, see hammer.py. Each must be served, whole, after no more than a
wake. What they waited is told at the end of the run. EDGE=10 in the environment has
them come ten times as long.
"""

import statistics
import threading

import pytest

from spyglass.master import counters

from .fake_systemd import APPS, FakeSystemd
from .hammer import (
    ALL_KINDS,
    KEPT,
    LENGTH,
    MIXES,
    Hammer,
    header_timeout,
    milliseconds,
    waited,
)

pytestmark = [pytest.mark.timeout(120 + 120 * LENGTH), pytest.mark.alone, pytest.mark.slow]

REQUESTS = int(1200 * LENGTH)
WAKES = 30
IDLE = 0.12
WORKERS = 4
LISTENERS = ("tcp", "unix")
LONGEST_WAIT = 5.0  # seconds; a wake takes a tenth of one


@pytest.fixture(scope="module")
def hammered(request):
    """All mixes at the same time: they spend it waiting. Each has a server of its
    own.
    """
    place, pycache = request.getfixturevalue("tmp_path_factory"), request.getfixturevalue("pycache")
    states = {
        name: place.mktemp("state") for name in MIXES
    }  # of the app, in which a Master keeps its counters
    lives = {
        name: FakeSystemd(
            place.mktemp(name), pycache, "edge_asgi:app" if name == "asgi" else "plain:app", directory=APPS, listeners=LISTENERS, environ={"STATE_DIRECTORY": str(states[name])},
            idle_timeout=IDLE, keepalive_timeout=IDLE * KEPT, header_timeout=header_timeout(name, IDLE), workers=WORKERS, threads=4,
        )
        for name in MIXES
    }  # fmt: skip
    hammers = {name: hammer(life, name) for name, life in lives.items()}
    threads = [threading.Thread(target=hammer.run, daemon=True) for hammer in hammers.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield {name: (lives[name], hammers[name], states[name]) for name in MIXES}
    for life in lives.values():
        life.close()


def hammer(life, name):
    def starts():
        return len(life.runs)

    def enough(hammer):
        came = len(hammer.answers)
        # A busy machine is given more rounds to be left in, and not without end.
        return came >= REQUESTS and (starts() >= WAKES or came >= 3 * REQUESTS)

    return Hammer(
        life.addresses,
        MIXES[name],
        name,
        idle=IDLE,
        header=header_timeout(name, IDLE),
        starts=starts,
        enough=enough,
    )


@pytest.mark.parametrize("name", MIXES)
def test_no_client_notices_the_edge(hammered, name, edges):
    life, hammer, state = hammered[name]
    assert hammer.lost == [], life.story()
    life.until_asleep()
    waits = sorted(answer.seconds for answer in hammer.answers)
    wakes = [run.told_at("READY") - run.started for run in life.runs]
    edges.append(
        f"edge, {name}: {len(waits)} requests, lost none, {len(hammer.late)} spoke too late, {len(hammer.raced)} as it closed; {len(life.runs)} wakes of {milliseconds(statistics.median(wakes))} (median), "
        f"{milliseconds(max(wakes))} (longest); {waited(waits)}; left in time: {statistics.mean(hammer.in_time):.0%}"
    )
    assert len(hammer.late) <= len(waits) // 100
    assert set(hammer.came) == ALL_KINDS.get(name, set())
    # Requests that have met the end of their idle connection on the way: by TCP that
    # can be, by a unix socket it cannot.
    assert len(hammer.raced) <= 1 + len(waits) // 500
    assert [error for address, error in hammer.raced if isinstance(address, str)] == []
    assert len(waits) >= REQUESTS
    assert {answer.status for answer in hammer.answers} == {200}
    assert len(life.runs) >= WAKES, "it hardly ever left: nothing was tested"
    assert {run.status for run in life.runs} == {0}
    assert [run.left_behind for run in life.runs if run.left_behind] == []
    assert waits[-1] < LONGEST_WAIT
    for run in life.runs:
        assert run.told("READY") == ["1"] == run.told("STOPPING")
        assert run.told_at("READY") < run.told_at("STOPPING")
    record = counters.read(state)
    assert (record.wakes, record.why, record.crashes) == (len(life.runs), "idle", 0)
    assert record.requests >= len(waits)
