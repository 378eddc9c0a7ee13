"""A generation with workers that die or cannot be forked: the test plays the zygote and
the workers.
"""

import subprocess

import pytest

from spyglass.policy import respawn
from spyglass.runtime.scoreboard import OPEN, SERVED

from .fake_zygote import NOW


def test_while_forks_fail_the_pauses_grow_and_it_is_told_once(breed, clock):
    it = breed(workers=2)
    it.ended(0, 9)
    for _ in range(20):
        clock[0] = max(clock[0], it.generation.streak.respawn_at)
        it.maintain(now=clock[0])
        it.refused(*it.spawned())
        it.maintain(now=clock[0])
        assert it.spawned() == [], "it asks again at once"
    assert clock[0] > NOW + 60
    assert it.journal.lines[1:] == ["cannot fork a worker: no room"]
    # Somebody lives, who has been there for a while: he is not to be taken away as
    # well.
    assert it.generation.hopeless(clock[0]) == ""
    clock[0] = it.generation.streak.respawn_at
    it.maintain(now=clock[0])
    [fresh] = it.spawned()
    it.born(fresh)
    assert it.journal.lines[2:] == ["workers can be forked again"]


def test_a_generation_without_workers_whose_forks_fail_is_hopeless(breed, clock):
    it = breed(workers=1)
    it.ended(0, 9)
    for _ in range(6):
        assert it.generation.hopeless(clock[0]) == ""
        clock[0] = max(clock[0], it.generation.streak.respawn_at)
        it.maintain(now=clock[0])
        it.refused(*it.spawned())
    assert it.generation.hopeless(clock[0]) == "cannot fork a worker: no room"


@pytest.mark.parametrize(
    ("what", "proven"),
    [("nothing", False), ("an answer", True), ("a visitor in hand", True), ("its age", True)],
)
def test_a_proven_worker_keeps_its_generation_from_being_given_up(breed, clock, what, proven):
    it = breed(workers=2)
    if what == "an answer":
        it.cells(1)[SERVED] = 1
    elif what == "a visitor in hand":
        it.cells(1)[OPEN] = 1
    elif what == "its age":
        it.generation.workers[1].born -= respawn.SETTLED
    victim = 0
    for _ in range(5):
        it.ended(victim, 11)
        clock[0] = max(clock[0], it.generation.streak.respawn_at)
        it.maintain(now=clock[0])
        [victim] = it.spawned()
        it.born(victim)
    assert bool(it.generation.hopeless(clock[0])) is not proven


def test_what_others_answer_meanwhile_counts(breed, clock):
    it = breed(workers=2)
    victim = 0
    for _ in range(9):
        it.cells(1)[SERVED] += 1
        it.ended(victim, 11)
        clock[0] = max(clock[0], it.generation.streak.respawn_at)
        it.maintain(now=clock[0])
        [victim] = it.spawned()
        it.born(victim)
    it.ended(1, 11)
    assert it.generation.hopeless(clock[0]) == ""


def test_a_process_that_hangs_while_loading_has_time_for_its_traceback(breed):
    """On a busy machine it takes some until it is even heard that it should speak
    them.
    """
    it = breed()
    with subprocess.Popen(
        [
            "sh",
            "-c",
            "trap 'sleep 0.3; echo words; exit' ABRT; echo ready; while :; do sleep 0.01; done",
        ],
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout.readline() == b"ready\n"
        it.generation.zygote.pid = child.pid
        it.generation.late()
        assert child.poll() is not None
        assert child.stdout.read() == b"words\n"


def test_a_signal_without_a_name_has_its_number(breed):
    """Most realtime signals have none."""
    it = breed(workers=1)
    it.ended(0, 40)
    assert it.journal.lines[-1].startswith("worker 1000 was killed by signal 40 after ")
