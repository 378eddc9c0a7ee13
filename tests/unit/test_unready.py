"""Workers that are not ready yet, and those that never will be, as their generation
sees them.
"""

import os
import signal

import pytest

from spyglass.master.worker_records import Worker
from spyglass.runtime import channel
from spyglass.runtime.scoreboard import EMPTY, STATE

WHY = (
    "post_fork: OSError: no database",
    "Traceback (most recent call last):\nOSError: no database",
    ["/srv/app.py"],
)


@pytest.fixture
def told(monkeypatch):
    """The signals that workers were sent; their pids here are made up."""
    signals = []
    monkeypatch.setattr(
        Worker, "kill", lambda worker, number: signals.append((worker.number, number))
    )
    return signals


def words_of(it):
    """Why the generation cannot load the app, as it was told."""
    error = it.generation.failures.loading
    return error and (error.summary, error.details, error.files)


def unfit(it, number, *, loading=False, why=WHY):
    channel.send(it.channel, channel.UNFIT, number, loading, *why)
    it.ended(number, 1 << 8)


@pytest.mark.parametrize(("preload", "at_once"), [(True, 5), (False, 2)])
def test_no_more_load_at_a_time_than_there_are_processors(breed, monkeypatch, preload, at_once):
    """Ten that load together on two processors would make the first visitor wait five
    times as long.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    it = breed(workers=5, preload=preload)
    assert len(it.generation.workers) == at_once
    while len(it.generation.workers) < 5:
        it.maintain()
        spawned = it.spawned()
        assert len(spawned) <= 2
        it.maintain()
        assert it.spawned() == []
        for number in spawned:
            it.born(number)
    it.maintain()
    assert it.spawned() == []


def test_what_a_worker_says_of_itself_is_told_once(breed):
    it = breed(workers=2)
    unfit(it, 0)
    assert it.journal.lines[0] == f"a worker cannot start: {WHY[0]}\n{WHY[1]}"
    it.generation.streak.respawn_at = 0.0
    it.maintain()
    [number] = it.spawned()
    it.forked(number)
    unfit(it, number)
    assert [text for text in it.journal.lines if "cannot start" in text] == [
        f"a worker cannot start: {WHY[0]}\n{WHY[1]}"
    ]
    assert it.generation.failures.unfit.summary == WHY[0]
    assert it.generation.failures.unfit.told


def test_another_death_is_not_taken_for_that(breed):
    it = breed(workers=2)
    unfit(it, 0)
    it.ended(1, int(signal.SIGSEGV))
    assert it.generation.failures.unfit is None


@pytest.mark.parametrize(("others", "last_words"), [(False, WHY), (True, None)])
def test_without_preload_a_worker_s_failed_load_counts_until_one_has_loaded(
    breed, others, last_words
):
    it = breed(workers=2, preload=False)
    for number in [0] if others else [0, 1]:
        it.cells(number)[STATE] = EMPTY
    unfit(it, 0, loading=True)
    assert words_of(it) == last_words


@pytest.mark.parametrize("preload", [True, False])
def test_a_crash_while_loading_without_preload(breed, preload):
    it = breed(workers=2, preload=preload)
    for number in (0, 1):
        it.cells(number)[STATE] = EMPTY
    it.ended(0, int(signal.SIGSEGV))
    words = ("the app's process was killed by SIGSEGV while it was being loaded", "", [])
    assert words_of(it) == (None if preload else words)
