"""When a worker that drains may exit, and when it cuts what is left."""

from spyglass.worker.drain import LATE, Drain


def test_nothing_is_due_before_it_begins():
    drain = Drain(30)
    assert drain.due(0.0, nothing_open=True) is None
    assert not drain.cutting


def test_with_nothing_open_it_may_exit_unless_the_app_holds_it():
    drain = Drain(30)
    drain.begin(100.0)
    assert drain.finished(100.0, open_=0, holds=0)
    assert not drain.finished(129.9, open_=0, holds=1)
    assert drain.finished(130.0, open_=0, holds=1)


def test_a_worker_that_retires_cuts_nothing():
    drain = Drain(30)
    drain.begin(100.0)
    assert drain.cut_at == 0.0
    assert drain.due(100.0, nothing_open=False) is None
    assert not drain.finished(1e9, open_=1, holds=0)


def test_the_first_limit_counts():
    drain = Drain(30)
    drain.limit(100.0)
    drain.limit(110.0)
    assert drain.cut_at == 130.0


def test_after_the_cut_calls_have_a_second_to_come_back():
    drain = Drain(30)
    drain.begin(100.0)
    drain.limit(100.0)
    drain.cutting = True
    assert not drain.finished(130.5, open_=1, holds=0)
    assert drain.finished(131.0, open_=1, holds=0)
    assert drain.due(130.5, nothing_open=False) == 131.0


def test_it_looks_often_enough_to_notice_that_it_was_stopped():
    drain = Drain(30)
    drain.limit(100.0)
    assert drain.due(100.0, nothing_open=False) == 100.0 + LATE


def test_time_in_which_the_process_was_stopped_does_not_count():
    drain = Drain(30)
    drain.limit(100.0)
    drain.waited(100.0, 1.0, 101.5)  # a busy machine
    assert drain.cut_at == 130.0
    drain.waited(101.5, 1.0, 161.5)
    assert drain.cut_at == 190.0
    drain.waited(161.5, None, 1000.0)  # it wanted to wait for so long
    assert drain.cut_at == 190.0
