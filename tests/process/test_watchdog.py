"""Is there progress? systemd is told so only then; and who is stuck without being in a
call that takes too long is found, and replaced.
"""

import itertools
import os
import re
import signal
import time

import pytest

from .processes import children, workers
from .visitor import Crowd, Lost, Visitor, visit

pytestmark = pytest.mark.quiet

EVERY = 1.0  # seconds, as WatchdogSec=
ASKS = {"WATCHDOG_USEC": str(int(EVERY * 1e6))}


def told_at(life):
    return [
        when for when, name, value in list(life.run.notes) if (name, value) == ("WATCHDOG", "1")
    ]


def longest_silence(life, since, until):
    whens = [since, *(when for when in told_at(life) if since < when < until), until]
    return max(later - earlier for earlier, later in itertools.pairwise(whens))


def stop(pid):
    os.kill(pid, signal.SIGSTOP)


# systemd's watchdog


def test_systemd_is_told_all_the_time_and_not_more_often_than_it_wants(systemd, tmp_path):
    """Of a Master whose app serves, of one whose app is being loaded, and then fails;
    and not of one who was not asked.
    """
    (tmp_path / "slow.py").write_text(f"import time\ntime.sleep({2 * EVERY})\nimport blgo\n")
    serves = systemd(idle_timeout=60, environ=ASKS)
    fails = systemd("slow:app", directory=tmp_path, idle_timeout=60, environ=ASKS)
    unasked = systemd(idle_timeout=60, environ=ASKS | {"WATCHDOG_PID": "1"})
    with Visitor(fails.address) as visitor:
        visitor.send()
        assert [visit(life.address).status for life in (serves, unasked)] == [200, 200]
        began = time.monotonic()
        assert visitor.answer().status == 503
    time.sleep(1.5 * EVERY)
    now = time.monotonic()
    for life in (serves, fails):
        assert longest_silence(life, max(began, told_at(life)[0]), now) < EVERY
        assert len([when for when in told_at(life) if when > began]) <= 1 + (now - began) / (
            EVERY / 4
        )
    assert told_at(unasked) == []


def test_a_stopped_master_tells_nothing(systemd):
    life = systemd(idle_timeout=60, environ=ASKS)
    assert visit(life.address).status == 200
    life.until(lambda: told_at(life), "it has told nothing")
    stop(life.run.pid)
    began = time.monotonic()
    with Crowd(life.address, count=2, pause=0.02) as crowd:
        time.sleep(1.5 * EVERY)
    assert crowd.lost == []  # its workers need it for nothing
    assert longest_silence(life, began + 0.1, time.monotonic()) > EVERY
    life.signal(signal.SIGCONT)
    life.until(lambda: told_at(life)[-1] > began + EVERY, "it has not gone on")
    assert visit(life.address).status == 200
    assert len(life.runs) == 1


# Workers that are stuck


@pytest.mark.parametrize("threads", [1, 4])
def test_a_call_that_keeps_the_interpreters_lock_is_ended_like_any_other(systemd, threads):
    """With threads, nobody in that worker can tell the Master of it; a traceback is
    written all the same.
    """
    life = systemd("rogue:app", idle_timeout=60, workers=2, threads=threads, request_timeout=1)
    assert visit(life.address).status == 200
    life.until(lambda: len(workers(life.run.pid)) == 2, "there are not two workers")
    with (
        life.visitor_under_way("/hold/30") as stuck,
        Crowd(life.address, count=2, pause=0.01) as crowd,
    ):
        with pytest.raises(Lost, match="closed without an answer|reset"):
            stuck.answer()
        life.until(lambda: len(workers(life.run.pid)) == 2, "it was not replaced")
        count = len(crowd.answers)
        life.until(lambda: len(crowd.answers) > count + 20, "nobody is served")
    assert len(crowd.lost) <= 1, crowd.lost  # who may have been woken for in the moment before
    why = (
        r"a request has been running for 1 s \(request_timeout\)"
        if threads == 1
        else "unresponsive for 1 s"
    )
    assert re.search(rf"worker \d+ killed: {why}$", life.log, re.M), life.log
    assert re.search(r'rogue\.py", line \d+ in hold$', life.log, re.M), life.log


def test_one_that_comes_back_in_time_is_not(systemd):
    life = systemd("rogue:app", idle_timeout=60, workers=1, request_timeout=3)
    with (
        life.visitor_under_way("/hold/2") as held,
        Crowd(life.address, count=2, pause=0.01) as crowd,
    ):
        assert held.answer().status == 200
    assert crowd.lost == []
    assert "killed" not in life.log


@pytest.mark.slow
def test_stopped_worker_is_replaced_when_a_client_waits_and_when_it_is_to_leave(systemd):
    """All workers; the zygote, which then does not tell that its worker has been
    killed; one worker of two, while the others want to leave.
    """
    all_workers = systemd(idle_timeout=60, workers=2, request_timeout=1)
    zygote = systemd(idle_timeout=60, workers=1, request_timeout=1, environ=ASKS)
    one = systemd(idle_timeout=2, workers=2, request_timeout=1)
    lives = (all_workers, zygote, one)
    for life, count in zip(lives, (2, 1, 2), strict=True):
        with Visitor(life.address) as kept:
            kept.ask(keep=True)
            life.until(
                lambda life=life, count=count: len(workers(life.run.pid)) == count,
                "they are not all there",
            )
    [[before, _], [killed], both] = [workers(life.run.pid) for life in lives]
    [parent] = children(zygote.run.pid)
    with Visitor(one.address) as kept:  # so that nobody leaves yet
        silent = next(pid for pid in both if pid != int(kept.ask("/pid", keep=True).text))
        for pid in (*workers(all_workers.run.pid), parent.pid, silent):
            stop(pid)
    began = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    with Visitor(zygote.address) as visitor:
        visitor.send()
        answer = visit(all_workers.address)
        assert (answer.status, answer.seconds < 12) == (200, True)
        one.until_asleep(1)
        assert visitor.answer().status == 200
    now = time.monotonic()
    assert now - began < 18
    assert longest_silence(zygote, began, now) > EVERY, "all is said to be well"
    assert re.search(rf"worker {before} killed: unresponsive", all_workers.log)
    assert f"zygote {parent.pid} killed: it did not report the end of worker {killed}" in zygote.log
    assert (one.run.status, len(one.runs), len(zygote.runs)) == (0, 1, 1)


def test_worker_that_is_asked_and_answers_stays(systemd):
    """Kept-alive, and silent for longer than a call may take: an honest worker with
    nothing to do.
    """
    life = systemd(idle_timeout=60, workers=1, request_timeout=0.4, keepalive_timeout=30)
    with Visitor(life.address) as visitor:
        assert visitor.ask(keep=True).status == 200
        before = workers(life.run.pid)
        time.sleep(2)
        assert visitor.ask().status == 200
    assert workers(life.run.pid) == before
