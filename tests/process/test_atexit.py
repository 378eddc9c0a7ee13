"""What an app registers with atexit is done, in each process that the app ran in, once,
and in the time that there is.
"""

import signal

import pytest

from .processes import children, workers
from .visitor import Visitor, visit


@pytest.fixture
def tidy(systemd, tmp_path):
    """tidy(takes, **settings) -> a FakeSystemd that serves the app `tidy`, which tells
    in tmp_path what it does. `gate` is the file that it waits for before it ends.
    """

    def start(takes, gate=None, **settings):
        return systemd(
            "tidy:app",
            environ={"WORKED": str(tmp_path), "TAKES": takes}
            | ({"GATE": str(gate)} if gate else {}),
            **{"idle_timeout": 60, "workers": 2} | settings,
        )

    return start


def marks(place, what):
    return {int(path.name.rpartition("-")[2]) for path in place.glob(f"{what}-*")}


def everybody(life):
    """The zygote and its workers, once all are there."""
    life.until(lambda: len(workers(life.run.pid)) == 2, "there are not 2 workers")
    [zygote] = children(life.run.pid)
    return {zygote.pid, *workers(life.run.pid)}


def test_at_the_idle_exit_and_a_client_meanwhile_is_served_by_the_next(tidy, tmp_path):
    gate = tmp_path / "gate"
    life = tidy("0", gate, idle_timeout=0.3)
    with Visitor(life.address):  # as long as it is connected nothing leaves
        assert visit(life.address).status == 200
        there = everybody(life)
    life.until(lambda: len(marks(tmp_path, "began")) == 2, "its workers do not leave")
    first = life.run
    with Visitor(life.address) as visitor:
        visitor.send()
        assert first.ended is None
        gate.touch()
        assert int(visitor.answer().text) not in there
    assert there <= marks(tmp_path, "ended")
    assert (first.status, first.left_behind) == (0, [])


@pytest.mark.parametrize("everybody_is_told", [False, True])
def test_when_it_is_stopped(tidy, tmp_path, everybody_is_told):
    life = tidy("0.3")
    visit(life.address)
    life.until_workers(2)
    there = everybody(life)
    (life.signal_all if everybody_is_told else life.signal)(signal.SIGTERM)
    life.until_asleep(1)
    assert marks(tmp_path, "ended") == there
    assert life.run.status == 0
    assert "killed" not in life.log


def test_after_a_reload_and_no_client_waits_for_it(tidy, tmp_path):
    life = tidy("0", tmp_path / "gate", graceful_timeout=60)
    visit(life.address)
    life.until_workers(2)
    there = everybody(life)
    life.signal(signal.SIGHUP)
    life.until(lambda: int(visit(life.address).text) not in there, "the old code still answers")
    life.until(lambda: marks(tmp_path, "began"), "the old generation does not leave")
    assert visit(life.address).status == 200
    assert marks(tmp_path, "ended") == set()
    (tmp_path / "gate").touch()
    life.until(lambda: len(children(life.run.pid)) == 1, "the old generation has not left")
    assert marks(tmp_path, "ended") == there


def test_when_a_worker_is_recycled(tidy, tmp_path):
    life = tidy("0.3", workers=1, max_requests=1)
    old = int(visit(life.address).text)
    life.until_logged(f"worker {old} recycled")
    assert marks(tmp_path, "ended") == {old}


# What takes too long. Nobody is killed earlier than two seconds after graceful_timeout:
# so long everybody has to cut by himself.

LATE = "killed: it did not exit within 0.3 s (graceful_timeout): the app's atexit functions, non-daemon threads or lifespan.shutdown still run"


def test_it_is_cut_when_it_takes_too_long_and_the_zygote_gets_its_own_time(tidy, tmp_path):
    life = tidy("0 60", idle_timeout=0.3, graceful_timeout=0.3)
    with Visitor(life.address):
        visit(life.address)
        there = everybody(life)
        [zygote] = children(life.run.pid)
    life.until(lambda: life.run.ended, "it has not left")
    assert marks(tmp_path, "began") == there
    assert marks(tmp_path, "ended") == {zygote.pid}
    told = [line.partition("warning: ")[2] for line in life.log.splitlines() if "warning" in line]
    assert sorted(told) == sorted(f"worker {pid} {LATE}" for pid in there - {zygote.pid})
    assert life.run.status == 0


def test_an_old_generation_does_not_stay_for_it(tidy):
    life = tidy("60 60", graceful_timeout=0.3)
    visit(life.address)
    life.until_workers(2)
    there = everybody(life)
    life.signal(signal.SIGHUP)
    life.until(
        lambda: len({each.pid for each in children(life.run.pid)} - there) == 1,
        "no other generation",
    )
    life.until(lambda: len(children(life.run.pid)) == 1, "the old generation has not left")
    assert life.log.count(LATE) == 3  # the zygote's own, too, two seconds after its workers
    life.signal_all(signal.SIGKILL)  # what is there now would take as long


def test_nor_does_a_worker_that_was_to_be_recycled(tidy):
    life = tidy("0 60", workers=1, max_requests=1, graceful_timeout=0.3)
    old = int(visit(life.address).text)
    life.until_logged(f"worker {old} {LATE}")
    life.until(lambda: old not in workers(life.run.pid), "it is still there")
    assert "error" not in life.log
    life.signal_all(signal.SIGKILL)  # what is there now would take as long
