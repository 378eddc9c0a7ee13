"""Recycling, with real processes under constant load: workers come and go, and nobody
notices.

Half of the visitors keep their connections. One that is told "Connection: close" comes
back on a new one; any other end is a loss.
"""

import re
import threading
import time

import pytest

from .fake_systemd import APPS
from .processes import workers
from .visitor import Crowd, Regulars, visit

LEAKS = """
import os
kept = []
def app(environ, start_response):
    kept.append(b"x" * (1 << 20))
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


class Watch:
    """Looks at the workers of `life` all the time: how many there were at a time, at
    the most, and who.

    Not how few: in the time of one look through /proc a new one may have come, unseen,
    and an old one gone.
    """

    def __init__(self, life):
        self.most = 0
        self.pids = set()
        self._life = life
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self):
        while not self._over.wait(0.005):
            pids = workers(self._life.run.pid)
            self.most = max(self.most, len(pids))
            self.pids.update(pids)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def fewest_accepting(log):
    """How many workers accepted at a time, at the least, once the first two did; as
    they themselves tell it (log_level debug).
    """
    accepting, fewest = 0, None
    for what in re.findall(r"accepting, pid|leaving after \d+ requests", log):
        accepting += 1 if what.startswith("accepting") else -1
        if accepting >= 2 or fewest is not None:
            fewest = accepting if fewest is None else min(fewest, accepting)
    return fewest


def test_max_requests_under_load_loses_no_client(systemd):
    life = systemd(
        idle_timeout=1, keepalive_timeout=0.8, workers=2, max_requests=50, log_level="debug"
    )
    life.start()
    life.until(lambda: life.run.told("READY") and len(workers(life.run.pid)) == 2, "not ready")
    first = set(workers(life.run.pid))
    with (
        Watch(life) as watch,
        Crowd(life.address, count=3) as crowd,
        Regulars(life.address, count=3) as regulars,
    ):
        life.until(
            lambda: len(crowd.answers) + len(regulars.answers) > 4000 and len(watch.pids) > 10,
            "too few were served",
            60,
        )
    assert crowd.lost == regulars.lost == []
    assert {answer.status for answer in [*crowd.answers, *regulars.answers]} == {200}
    assert regulars.told_to_close > 5
    assert not first & set(workers(life.run.pid))
    assert watch.most <= 3
    before_it_left = life.log.partition("exiting after 1 s without")[0]
    assert fewest_accepting(before_it_left) == 2
    assert "error" not in life.log
    served = [
        int(number)
        for number in re.findall(r"recycled after (\d+) requests: max_requests", life.log)
    ]
    assert len(served) > 8
    assert min(served) >= 40
    # No slower than it would be without: whoever was to wait for a handover would wait
    # for a fork, and not for seconds.
    assert max(answer.seconds for answer in crowd.answers) < 2
    life.until_asleep(1)
    assert life.run.status == 0
    assert len(life.runs) == 1


@pytest.mark.slow
def test_a_worker_that_leaks_is_replaced(systemd, tmp_path):
    (tmp_path / "app.py").write_text(LEAKS)
    life = systemd(
        "app",
        directory=tmp_path,
        idle_timeout=1,
        keepalive_timeout=0.8,
        workers=1,
        max_memory="60M",
    )
    life.start()
    life.until_ready()
    [first] = workers(life.run.pid)
    with Watch(life) as watch, Crowd(life.address, count=1, pause=0.02) as crowd:
        life.until(lambda: "its memory had grown to" in life.log, "it was not replaced", 20)
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert watch.most <= 2
    [(pid, size)] = re.findall(
        r"worker (\d+) recycled after \d+ requests: its memory had grown to (\d+) MiB", life.log
    )
    assert int(pid) == first
    assert int(size) > 60
    life.until_asleep(1)
    assert life.run.status == 0


def test_a_request_that_takes_longer_than_graceful_timeout_is_finished(systemd):
    """Nobody is waiting for the worker to leave, so nothing is cut."""
    life = systemd(idle_timeout=60, workers=1, max_requests=1, graceful_timeout=0.2)
    with life.visitor_under_way("/stream/1.5") as reader:
        old = workers(life.run.pid)
        assert visit(life.address).status == 200
        life.until(
            lambda: visit(life.address, "/pid").text not in map(str, old), "it was not replaced"
        )
        assert set(old) <= set(workers(life.run.pid))
        assert reader.answer().text.split() == [str(number) for number in range(10)]
    life.until(lambda: not set(old) & set(workers(life.run.pid)), "it has not left")
    life.until_logged(f"worker {old[0]} recycled after")


def test_neither_does_it_leave_too_early_nor_stay_awake(systemd):
    """Each request wears out its worker here: the one that knew when somebody was last
    there has gone.
    """
    idle = 0.6
    life = systemd(idle_timeout=idle, workers=1, max_requests=1)
    life.start()
    life.until_ready()
    awake = time.monotonic()
    while time.monotonic() - awake < 2.5 * idle:
        assert visit(life.address).status == 200
        last = time.monotonic()
        gone = life.log.count("recycled after")
        life.until(
            lambda gone=gone: life.log.count("recycled after") > gone or life.run.ended,
            "it was not replaced",
        )
        time.sleep(idle / 2)  # what is tested is that this much quiet is not enough
    assert len(life.runs) == 1
    life.until_asleep(1)
    assert life.run.status == 0
    assert (
        life.run.told_at("STOPPING") - last > idle * 0.9
    )  # the visitor hears of the end a little later than the worker


def test_without_preloading_too(systemd, tmp_path):
    life = systemd(
        "plain:app",
        directory=APPS,
        idle_timeout=2,
        keepalive_timeout=1.8,  # a visitor on a busy machine is late by more than half a second
        workers=2,
        max_requests=20,
        environ={"SPYGLASS_PRELOAD": "false"},
    )
    with (
        Watch(life) as watch,
        Crowd(life.address, count=2) as crowd,
        Regulars(life.address, count=2) as regulars,
    ):
        life.until(lambda: len(watch.pids) > 6, "workers are not replaced", 20)
    assert crowd.lost == regulars.lost == []
    assert watch.most <= 3
    life.until_asleep(1)
    assert life.run.status == 0
