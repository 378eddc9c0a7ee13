"""The handover from a worn out worker to a fresh one, step by step: the test is the
zygote, and the workers.
"""

import subprocess
import sys

import pytest

from spyglass.policy import recycling
from spyglass.runtime import channel
from spyglass.runtime.scoreboard import (
    ACCEPTING,
    ACTIVITY,
    DRAIN,
    DRAINING,
    LIMIT,
    RETIRE,
    SERVE,
    SERVED,
    STATE,
)

from .fake_zygote import NOW


def test_the_old_one_serves_until_the_fresh_one_accepts(breed):
    it = breed()
    it.maintain()
    assert it.spawned() == []
    it.wear_out(0)
    it.maintain()
    [fresh] = it.spawned()
    it.forked(fresh)
    it.maintain()
    assert it.orders == {0: SERVE, 1: SERVE, fresh: SERVE}
    it.cells(fresh)[STATE] = ACCEPTING
    it.maintain()
    assert it.orders == {0: RETIRE, 1: SERVE, fresh: SERVE}
    it.cells(0)[STATE] = DRAINING
    it.ended(0)
    assert it.journal.lines == [
        f"worker 1000 recycled after {it.cells(0)[LIMIT]} requests: max_requests"
    ]
    it.maintain()
    assert it.spawned() == []
    assert it.generation.streak.respawn_at == 0, "it was taken for a death"


def test_one_at_a_time(breed):
    it = breed()
    it.wear_out(0)
    it.wear_out(1)
    it.maintain()
    [fresh] = it.spawned()
    it.born(fresh)
    for _ in range(3):
        it.maintain()
    assert it.spawned() == [], "the first has not gone yet"
    it.ended(0)
    it.maintain()
    assert len(it.spawned()) == 1


def test_no_worker_is_recycled_during_the_idle_exit(breed):
    it = breed()
    it.wear_out(0)
    it.maintain(order=7)
    assert it.spawned() == []
    it.maintain()
    [fresh] = it.spawned()
    it.born(fresh)
    it.maintain(order=8)
    assert RETIRE not in it.orders.values()
    it.maintain()
    assert it.orders[0] == RETIRE


@pytest.mark.parametrize("how", ["it died", "it could not be forked"])
def test_a_replacement_that_does_not_live_costs_nothing_but_a_pause(breed, how):
    it = breed()
    it.wear_out(0)
    for tries in range(1, 10):
        now = NOW + tries * 1e9
        it.generation.recycling._not_before = 0.0
        it.maintain(now=now)
        [fresh] = it.spawned()
        if how == "it died":
            it.forked(fresh)
            it.ended(fresh, 256)
        else:
            channel.send(it.channel, channel.CANNOT, fresh, "no memory")
            it.generation.zygote.hear()
        assert it.generation.recycling._not_before > 0
        it.maintain(now=it.generation.recycling._not_before - 0.1)
        assert it.spawned() == []
        assert it.orders == {0: SERVE, 1: SERVE}
    assert not it.generation.streak.hopeless


def test_an_old_one_that_dies_first_is_replaced_by_the_one_that_was_to_replace_it(breed):
    it = breed()
    it.wear_out(0)
    it.maintain()
    [fresh] = it.spawned()
    it.forked(fresh)
    it.ended(0, 9)
    it.cells(fresh)[STATE] = ACCEPTING
    it.maintain(now=NOW + 1e9)
    assert it.spawned() == []
    assert it.orders == {1: SERVE, fresh: SERVE}


def test_one_worker_less_amid_a_handover(breed):
    it = breed()
    it.wear_out(0)
    it.maintain()
    [fresh] = it.spawned()
    it.generation.wanted = 1
    it.born(fresh)
    for _ in range(3):
        it.maintain()
    it.ended(0)
    for number in [number for number, order in it.orders.items() if order != SERVE]:
        it.ended(number)
    it.maintain()
    assert it.spawned() == []
    assert list(it.orders.values()) == [SERVE]


def test_stopping_goes_before_retiring(breed):
    it = breed()
    it.wear_out(0)
    it.maintain()
    it.born(it.spawned()[0])
    it.maintain()
    assert it.orders[0] == RETIRE
    it.generation.drain()
    assert set(it.orders.values()) == {DRAIN}
    it.maintain()
    assert set(it.orders.values()) == {DRAIN}


def test_what_the_departed_have_done_is_not_forgotten(breed):
    """Or the unit would leave too early: the last visitor may have been theirs."""
    it = breed()
    it.cells(0)[ACTIVITY] = 5_000_000_000
    it.wear_out(0)
    it.maintain()
    it.born(it.spawned()[0])
    it.maintain()
    it.ended(0)
    assert it.generation.departed.activity == 5.0
    assert it.generation.departed.served == it.cells(0)[LIMIT] == recycling.request_limit(100, 0)


def test_a_worker_that_exits_without_an_order_is_replaced_at_once_and_not_for_ever(breed):
    """An app may send its own worker SIGTERM, and do so before it has answered
    anything.
    """
    it = breed(workers=1)
    pauses = []
    for number in range(4):
        [old] = it.orders
        it.cells(old)[STATE] = DRAINING
        it.generation.streak.respawn_at = 0.0
        it.maintain(now=NOW + number)
        pauses.append(max(0.0, it.generation.streak.respawn_at - NOW - number))
        it.maintain(now=NOW + number + 0.9)
        [new] = it.spawned()
        it.ended(old)
        it.born(new)
    assert pauses == pytest.approx([0.0, 0.1, 0.2, 0.4])
    assert it.generation.streak.hopeless


def test_memory_is_looked_at_only_under_a_limit_and_not_all_the_time(breed, monkeypatch):
    looks = []

    def look(pid):
        looks.append(pid)
        return 101 if pid == 1001 else 100

    monkeypatch.setattr("spyglass.master.worker_memory.share", look)
    without = breed()
    without.maintain()
    assert looks == []
    it = breed(max_memory=100, max_requests=0)
    assert it.orders == {0: SERVE, 1: SERVE}
    it.cells(1)[SERVED] = 1
    for passed in (0.0, 0.1, 4.9, 5.0, 5.1):
        it.maintain(now=NOW + passed)
        if passed == 0.0:
            [fresh] = it.spawned()
            it.born(fresh)
            it.maintain()
            it.ended(1)
    assert looks == [1000, 1001, 1000, 1000 + fresh]
    assert it.journal.lines == [
        "worker 1001 recycled after 1 request: its memory had grown to 0 MiB"
    ]


def test_memory_that_cannot_be_read_is_complained_of_once(breed, monkeypatch):
    def look(pid):
        raise PermissionError(13, "Permission denied", f"/proc/{pid}/smaps_rollup")

    monkeypatch.setattr("spyglass.master.worker_memory.share", look)
    it = breed(max_memory=100)
    for passed in range(100):
        it.maintain(now=NOW + passed)
    assert it.journal.lines == [
        "max_memory has no effect: [Errno 13] Permission denied: '/proc/1000/smaps_rollup'"
    ]


def test_a_look_at_the_memory_that_fails_once_is_not_the_last(breed, monkeypatch):
    looks = []

    def look(pid):
        looks.append(pid)
        if len(looks) == 1:
            raise OSError(24, "Too many open files", f"/proc/{pid}/smaps_rollup")
        return 200

    monkeypatch.setattr("spyglass.master.worker_memory.share", look)
    it = breed(max_memory=100, workers=1)
    it.cells(0)[SERVED] = 1
    it.maintain()
    assert it.spawned() == []
    it.maintain(now=NOW + 5)
    assert len(it.spawned()) == 1, "it is too large, and nobody is to take its place"
    assert it.journal.lines == []


SHARED = """
import os, pathlib, socket
from spyglass.master.worker_memory import share

loaded = b"x" * (64 << 20)
ours, theirs = socket.socketpair()
pid = os.fork()
if not pid:
    ours.close()
    grown = b"x" * (32 << 20)
    theirs.send(b"grown")
    theirs.recv(1)
    os._exit(len(grown) != 32 << 20)
assert ours.recv(5) == b"grown"
resident = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
assert 64 << 20 <= share(pid) < len(loaded) + (32 << 20) <= resident, (share(pid), resident)
theirs.close()
ours.close()
os.waitpid(pid, 0)
assert share(pid) == 0
"""


def test_share_counts_what_is_a_processs_own_and_its_part_of_what_its_parent_has_loaded():
    """In a process of its own: what else the tests have loaded by now would count as
    well.
    """
    subprocess.run([sys.executable, "-c", SHARED], timeout=30, check=True)
