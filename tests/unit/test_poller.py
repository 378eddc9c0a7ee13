"""One wait point: who is called when something stirs, and who is not."""

import os
import time

import pytest

from spyglass.runtime.poller import Poller, wait_seconds


@pytest.fixture
def pipes():
    made = [os.pipe() for _ in range(2)]
    yield made
    for fd in (fd for pipe in made for fd in pipe):
        try:
            os.close(fd)
        except OSError:
            pass


def test_only_those_that_stir_are_called(pipes):
    poller, called = Poller(), []
    for number, (fd, _) in enumerate(pipes):
        poller.watch(fd, lambda number=number: called.append(number))
    poller.wait(0)
    assert called == []
    os.write(pipes[1][1], b"x")
    poller.wait(None)
    poller.wait(None)  # nobody has read it, so it still stirs
    assert called == [1, 1]
    poller.unwatch(pipes[1][0])
    poller.wait(0)
    assert called == [1, 1]


def test_the_end_of_a_pipe_stirs(pipes):
    poller, called = Poller(), []
    poller.watch(pipes[0][0], lambda: called.append("end"))
    os.close(pipes[0][1])
    poller.wait(None)
    assert called == ["end"]


def test_a_door_closed_by_the_one_before_it_is_not_called(pipes):
    """Both stir in the same turn; by the second's turn its descriptor may be somebody
    else's.
    """
    poller, called = Poller(), []

    def close_the_other(mine, other):
        called.append(mine)
        poller.unwatch(other)

    for (mine, write_end), (other, _) in zip(pipes, reversed(pipes), strict=True):
        poller.watch(mine, lambda mine=mine, other=other: close_the_other(mine, other))
        os.write(write_end, b"x")
    poller.wait(None)
    assert len(called) == 1


def test_it_waits_no_longer_than_it_is_told():
    poller, began = Poller(), time.monotonic()
    poller.wait(0.05)
    assert 0.05 <= time.monotonic() - began < 5


@pytest.mark.parametrize("seconds", [float("inf"), 1e12, 1e8, 2147484.0])
def test_however_long_the_wait_it_is_not_too_long_for_the_kernel(pipes, seconds):
    """epoll_wait(2) counts milliseconds in an int."""
    poller, called = Poller(), []
    poller.watch(pipes[0][0], lambda: called.append(True))
    os.write(pipes[0][1], b"x")
    poller.wait(seconds)
    assert called == [True]


NOW = 1000.0


@pytest.mark.parametrize(
    ("what", "due", "seconds"),
    [
        ("nothing is due", [None], None),
        ("the first of them", [NOW + 9, None, NOW + 5], 4.0),
        ("what had come at the last look was looked at", [NOW - 1, NOW, NOW + 5], 4.0),
        ("and waits for an event", [NOW], None),
        ("what has come since was not", [NOW + 0.5, NOW + 5], 0.0),
    ],
)
def test_wait_seconds(what, due, seconds):
    assert wait_seconds(due, looked=NOW, now=NOW + 1) == seconds


def test_event_of_a_closed_descriptor_is_not_that_of_the_next_with_its_number(pipes):
    """Two zygotes die at once. When the first end is heard, the other's channel is
    closed, whose event is known already, and a worker's pidfd gets its number.
    """
    poller = Poller()
    (one, _), (two, _) = pipes
    new, other = os.pipe()
    heard = []

    def end(zygote, closed):
        heard.append("the end of a zygote")
        poller.unwatch(zygote)
        poller.unwatch(closed)
        os.dup2(new, closed)  # which closes it first
        poller.watch(closed, lambda: heard.append("the end of a worker"))

    poller.watch(one, lambda: end(one, two))
    poller.watch(two, lambda: end(two, one))
    for _, writing in pipes:
        os.write(writing, b"x")
    poller.wait(1)
    assert heard == ["the end of a zygote"]
    os.write(other, b"x")
    poller.wait(1)
    assert heard == ["the end of a zygote", "the end of a worker"]
    for fd in (new, other):
        os.close(fd)
