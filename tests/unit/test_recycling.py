"""Which worker is replaced next: arithmetic, so no process is needed to be sure of it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.policy import recycling
from spyglass.policy.worker_slot import Slot


def used(number, served, *, limit=0, memory=0, holds=0):
    return Slot(
        number,
        2,
        0,
        served,
        activity=0.0,
        call_since=0.0,
        answer=0,
        limit=limit,
        memory=memory,
        holds=holds,
    )


def test_without_max_requests_there_is_no_limit():
    assert [recycling.request_limit(0, number) for number in range(5)] == [0] * 5


@given(st.integers(1, 2**31), st.integers(0, 10**6))
def test_the_limit_of_a_worker_is_near_max_requests_and_always_the_same(max_requests, number):
    limit = recycling.request_limit(max_requests, number)
    assert max(1, max_requests * 0.8 - 1) <= limit <= max_requests
    assert limit == recycling.request_limit(max_requests, number)


@pytest.mark.parametrize("workers", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("first", [0, 1, 100, 12345])
def test_the_limits_of_workers_side_by_side_are_apart(workers, first):
    """On average they would be a fifth of max_requests by their number apart; none is
    nearer to another than about a third of that.
    """
    limits = sorted(
        recycling.request_limit(10_000, number) for number in range(first, first + workers)
    )
    nearest = min(later - earlier for earlier, later in itertools.pairwise(limits))
    assert nearest >= 2_000 / workers * 0.35


@pytest.mark.parametrize(
    ("what", "slots", "max_memory", "due"),
    [
        ("nobody there", [], 100, None),
        ("no limits", [used(0, 10**9, memory=10**12)], 0, None),
        ("below both", [used(0, 9, limit=10, memory=100)], 100, None),
        ("as many requests as it may answer", [used(0, 9, limit=10), used(1, 10, limit=10)], 0, 1),
        (
            "the furthest beyond its own limit",
            [used(0, 20, limit=10), used(1, 25, limit=20), used(2, 21, limit=12)],
            0,
            0,
        ),
        ("more memory than it may have", [used(0, 1, memory=101), used(1, 1, memory=100)], 100, 0),
        ("the largest", [used(0, 1, memory=101), used(1, 1, memory=102)], 100, 1),
        (
            "memory before requests",
            [used(0, 99, limit=10), used(1, 1, limit=10, memory=101)],
            100,
            1,
        ),
        ("nobody has looked at its memory yet", [used(0, 1)], 1, None),
        ("kept awake by the app", [used(0, 99, limit=10, holds=1), used(1, 11, limit=10)], 0, 1),
        (
            "a limit below what it was born with, before its first request",
            [used(0, 0, memory=101)],
            100,
            None,
        ),
    ],
)
def test_worn_out(what, slots, max_memory, due):
    found = recycling.worn_out(slots, max_memory)
    assert (found and found.number) == due
