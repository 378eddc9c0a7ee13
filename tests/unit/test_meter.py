"""What a worker counts of its answers, and how the Master reads it."""

import pytest

from spyglass.policy.durations import REQUESTS, WAKES, Durations
from spyglass.runtime import scoreboard
from spyglass.runtime.scoreboard import ANSWERS, BUCKETS, CUT, REFUSED, TOOK, UNTIMED, Scoreboard
from spyglass.worker.meter import Meter

from .stepped_worker import Worker


@pytest.fixture
def slot():
    board = Scoreboard(2)
    return board.slot(board.take())


def cells(slot):
    """{(class, bucket): count} of what is written."""
    counts = list(slot[ANSWERS : ANSWERS + 5 * BUCKETS])
    return {divmod(place, BUCKETS): count for place, count in enumerate(counts) if count}


def test_cells_follow_one_another_and_fit_a_slot():
    assert ANSWERS + 5 * BUCKETS == TOOK
    assert TOOK + 1 == UNTIMED
    assert UNTIMED + 5 == CUT
    assert CUT + 1 == REFUSED
    assert len(REQUESTS) + 1 == BUCKETS
    assert len(Scoreboard(1).slot(0)) % 8 == 0


@pytest.mark.parametrize("seconds", [*REQUESTS, *(each + 1e-6 for each in REQUESTS), 0.0, 1e6])
def test_worker_and_histogram_agree_on_the_bucket(slot, seconds):
    meter, durations = Meter(slot), Durations(REQUESTS)
    meter.answered("200 OK", 0.0, seconds)
    meter.write()
    durations.add(seconds)
    assert cells(slot) == {(1, durations.counts.index(1)): 1}
    assert slot[TOOK] == int(seconds * 1e9)


def test_nothing_is_lost_between_statuses_and_durations(slot):
    meter = Meter(slot)
    for number in range(700):
        status = ("200 OK", "404 Not Found", "500 Oh", "301 There", "999 What", "")[number % 6]
        meter.answered(status, 0.0, (number % 7) * 0.01)
        if number % 50 == 0:
            meter.write()
    meter.write()
    found = cells(slot)
    assert sum(found.values()) == 700
    assert sum(count for (kind, _), count in found.items() if kind == 3) == 117
    assert sum(count for (kind, _), count in found.items() if kind == 0) == 232  # no class
    assert {bucket for _, bucket in found} == {0, 2, 3, 4, 5}


def test_nothing_is_written_before_the_turn_ends(slot):
    meter = Meter(slot)
    meter.answered("200 OK", 1.0, 1.0)
    assert cells(slot) == {}
    meter.write()
    meter.write()
    assert cells(slot) == {(1, 0): 1}


def test_what_is_not_an_answer_with_a_duration(slot):
    meter = Meter(slot)
    meter.answered_untimed("101 Switching Protocols")
    meter.cut()
    meter.refused(400)
    meter.refused(503)
    meter.refused(499)
    assert [slot[UNTIMED], slot[CUT], slot[REFUSED], slot[REFUSED + 1]] == [1, 1, 2, 1]


def test_the_sums_of_the_dead_stay_and_nothing_negative_counts():
    board = Scoreboard(2)
    for _ in range(3):
        number = board.take()
        slot = board.slot(number)
        Meter(slot).cut()
        slot[REFUSED] = -5  # the app may write there
        board.give_back(number)
    assert board.answers[CUT - ANSWERS] == 3
    assert board.answers[REFUSED - ANSWERS] == 0
    board.note_crash(hung=True)
    board.note_crash(hung=False)
    board.note_restart("signal")
    assert board.restarts == {"hung": 1, "crash": 1, "signal": 1}
    assert board.crashes == 2


def app(environ, start_response):
    start_response({"/5": "500 Oh", "/4": "404 No"}.get(environ["PATH_INFO"], "200 OK"), [])
    return [b"x"]


@pytest.fixture
def worker(tmp_path):
    made = Worker(tmp_path, app)
    yield made
    made.close()


def test_a_worker_counts_its_answers_and_refusals(worker):
    client = worker.client()
    for path in (b"/", b"/5", b"/4", b"/"):
        client.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        worker.answers(client, 1)
    worker.client(b"nonsense\r\n\r\n")
    worker.until(lambda: worker.slot[REFUSED])
    found = cells(worker.slot)
    by_class = [sum(n for (kind, _), n in found.items() if kind == each) for each in range(5)]
    assert by_class == [0, 2, 0, 1, 1]
    assert 0 < worker.slot[TOOK] < 60e9


def endless(environ, start_response):
    start_response("200 OK", [])
    while True:
        yield b"x" * 1024


def test_a_response_whose_client_goes_is_cut(tmp_path):
    worker = Worker(tmp_path, endless)
    try:
        client = worker.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        worker.read(client, 100)
        client.close()
        worker.until(lambda: worker.slot[CUT])
        assert cells(worker.slot) == {}
    finally:
        worker.close()


# The histogram


def test_a_histogram_survives_its_line():
    durations = Durations(WAKES)
    assert durations.text() == "0.000000"
    for seconds in (0.01, 0.05, 0.06, 1000.0):
        durations.add(seconds)
    assert durations.text() == "1000.120000 0.05=2 0.1=1 inf=1"
    assert durations.total == 4


def test_histograms_add_up():
    some, others = Durations(WAKES), Durations(WAKES)
    some.add(0.01)
    others.add(0.01)
    others.add(99.0)
    some.include(others.counts, others.seconds)
    assert (some.total, some.counts[0], some.counts[-1]) == (3, 2, 1)
    assert some.seconds == pytest.approx(99.02)
    with pytest.raises(ValueError, match="shorter"):
        some.include([1], 0.0)


def test_cells_are_read_as_far_as_they_go():
    assert len(scoreboard.read_answers(Scoreboard(1).slot(0))) == REFUSED + 2 - ANSWERS
