"""An app that works in the background: it is not left, and at a stop it gets the time
that there is.
"""

import os
import signal
import time

import pytest

from .processes import children, workers
from .visitor import visit

pytestmark = pytest.mark.quiet

IDLE = 0.4
WORK = 1.2


@pytest.fixture
def busy(systemd, tmp_path):
    """busy(**settings) -> a FakeSystemd that serves the app `busy`, which tells in
    tmp_path what it does.
    """

    def start(environ=None, **settings):
        return systemd(
            "busy:app",
            environ={"WORKED": str(tmp_path)} | (environ or {}),
            **{"idle_timeout": IDLE, "workers": 2} | settings,
        )

    return start


def marks(place, what):
    return {
        int(path.name.rpartition("-")[2]): path.stat().st_mtime for path in place.glob(f"{what}-*")
    }


def left_at(run):
    """When the decision to leave was told, by the wall clock, as the files are."""
    return run.told_at("STOPPING") - time.monotonic() + time.time()


def test_it_stays_awake_while_a_thread_works_and_then_leaves(busy, tmp_path):
    life = busy()
    pid = int(visit(life.address, f"/work/{WORK}").text)
    life.until_asleep(1)
    [ended] = marks(tmp_path, "ended").values()
    assert list(marks(tmp_path, "began")) == [pid]
    # Quiet is counted from the end of the work, and not longer than told.
    assert IDLE - 0.02 <= left_at(life.run) - ended < IDLE + 1
    assert life.run.status == 0
    assert any(
        status.endswith(f"; stays awake: work of {WORK} s") for status in life.run.told("STATUS")
    )


def test_a_thread_of_the_zygote_counts(busy, tmp_path):
    life = busy({"AT_IMPORT": str(WORK)})
    life.start()
    life.until_ready()
    [zygote] = children(life.run.pid)
    life.until_asleep(1)
    assert list(marks(tmp_path, "began")) == [zygote.pid]
    [ended] = marks(tmp_path, "ended").values()
    assert IDLE - 0.02 <= left_at(life.run) - ended < IDLE + 1


def test_without_preload_those_of_each_worker_count(busy, tmp_path):
    life = busy({"AT_IMPORT": str(WORK)}, arguments=["--no-preload"])
    life.start()
    life.until(lambda: len(marks(tmp_path, "began")) == 2, "they do not work")
    assert set(marks(tmp_path, "began")) == set(workers(life.run.pid))
    life.until_asleep(1)
    ended = marks(tmp_path, "ended").values()
    assert len(ended) == 2
    assert left_at(life.run) - max(ended) >= IDLE - 0.02


@pytest.mark.parametrize("environ", [{}, {"AT_IMPORT": "1"}], ids=["a worker", "the zygote"])
def test_a_stop_waits_for_it(busy, tmp_path, environ):
    life = busy(environ, graceful_timeout=10)
    visit(life.address, "/" if environ else "/work/1")
    life.until(lambda: marks(tmp_path, "began"), "it does not work")
    life.signal_all(signal.SIGTERM)
    life.until_asleep(1)
    assert marks(tmp_path, "ended")
    assert life.run.status == 0
    assert "stay awake" not in life.log


@pytest.mark.parametrize("environ", [{}, {"AT_IMPORT": "60"}], ids=["a worker", "the zygote"])
def test_but_no_longer_than_graceful_timeout(busy, tmp_path, environ):
    life = busy(environ, graceful_timeout=0.5)
    visit(life.address, "/" if environ else "/work/60")
    life.until(lambda: marks(tmp_path, "began"), "it does not work")
    told = time.monotonic()
    life.signal(signal.SIGTERM)
    life.until(lambda: life.run.ended, "it has not left", 8)
    assert 0.5 <= life.run.ended - told < 4
    assert (
        life.log.count("leaving after 0.5 s (graceful_timeout) though the app wants to stay awake")
        == 1
    )
    assert life.run.status == 0
    assert not marks(tmp_path, "ended")


def test_a_reload_lets_it_finish_beside_the_new_generation(busy, tmp_path):
    life = busy(idle_timeout=60, graceful_timeout=10, workers=1)
    old = int(visit(life.address, "/work/1.5").text)
    life.until(lambda: marks(tmp_path, "began"), "it does not work")
    life.signal(signal.SIGHUP)
    life.until(lambda: int(visit(life.address).text) != old, "the old code still answers")
    assert not marks(tmp_path, "ended")
    life.until(lambda: len(children(life.run.pid)) == 1, "the old generation has not left")
    assert list(marks(tmp_path, "ended")) == [old]


def test_killed_worker_holds_no_longer(busy, tmp_path):
    life = busy()
    pid = int(visit(life.address, "/work/60").text)
    life.until(lambda: marks(tmp_path, "began"), "it does not work")
    killed = time.monotonic()
    life.until(lambda: "stays awake" in life.run.told("STATUS")[-1], "the status does not say so")
    os.kill(pid, signal.SIGKILL)
    life.until_asleep(1)
    assert life.run.told_at("STOPPING") - killed >= IDLE
