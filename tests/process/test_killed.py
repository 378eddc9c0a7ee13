"""kill -9 of each kind of process under load: it costs what that process was doing and
no more, and somebody takes over.
"""

import os
import re
import signal
import time

import pytest

from .processes import children, look_at, members, workers
from .visitor import Crowd, Lost, Visitor, visit


def test_a_killed_worker_costs_only_what_it_was_serving(systemd):
    life = systemd(idle_timeout=60, workers=2, threads=1)
    with (
        life.visitor_under_way("/sleep/60") as doomed,
        Crowd(life.address, "/sleep/0.02", count=4) as crowd,
    ):
        life.until(
            lambda: len(workers(life.run.pid)) == 2 and len(crowd.answers) > 20, "nobody is served"
        )
        others = {
            int(visit(life.address, "/pid").text) for _ in range(5)
        }  # never the one that sleeps
        victims = set(workers(life.run.pid)) - others
        assert len(victims) == 1
        victim = victims.pop()
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(Lost):
            doomed.answer()
        life.until(lambda: len(workers(life.run.pid)) == 2, "it was not replaced")
        count = len(crowd.answers)
        life.until(lambda: len(crowd.answers) > count + 20, "nobody is served")
    assert crowd.statuses() == {200}
    assert victim not in workers(life.run.pid)
    line = re.search(
        rf"worker {victim} was killed by SIGKILL after [\d.]+ s and \d+ requests?; (\d+) connections? open, in the middle of a call",
        life.log,
    )
    assert line, life.log
    assert len(crowd.lost) + 1 == int(line[1]) == 1
    assert len(life.runs) == 1


def test_workers_killed_again_and_again_under_load(systemd):
    life = systemd(idle_timeout=60, workers=2)
    kills = []
    with Crowd(life.address, count=4) as crowd:
        for number in range(4):
            count = len(crowd.answers)
            life.until(lambda count=count: len(crowd.answers) > count + 50, "nobody is served")
            life.until(lambda: len(workers(life.run.pid)) == 2, "they were not replaced")
            victim, before = workers(life.run.pid)[number % 2], time.monotonic()
            os.kill(victim, signal.SIGKILL)
            kills.append((before, time.monotonic()))
        count = len(crowd.answers)
        life.until(lambda: len(crowd.answers) > count + 50, "nobody is served")
    life.until(
        lambda: life.log.count("was killed by SIGKILL") == 4, "not all deaths have been told"
    )
    # What a worker holds it tells once in a turn, so the line in the log may count
    # fewer than it had accepted in its last one. But nobody who came after a kill is
    # lost to it, and who came before it was the only one of his kind.
    for lost in crowd.lost:
        assert any(lost.began < after and before < lost.ended for before, after in kills), lost
    assert len(crowd.lost) <= len(kills) * crowd.count
    assert crowd.statuses() == {200}
    assert len(life.runs) == 1


def test_a_worker_that_breaks_ends_and_does_nothing_else(systemd):
    """It is a fork of the zygote and that of the Master: what they would do about an
    error is not for it to do.
    """
    life = systemd(idle_timeout=60, workers=1)
    try:
        visit(life.address, "/deafen")
    except Lost:
        pass  # it may be broken before the answer is out
    life.until_logged("exited with status 1")
    assert visit(life.address).status == 200
    assert "worker] error: a file descriptor of Spyglass was closed" in life.log
    assert "failing" not in life.log
    assert "cannot start a process" not in life.log


def test_a_killed_zygote_costs_nothing(systemd, tmp_path):
    life = systemd(idle_timeout=0.5, workers=2)
    gate = tmp_path / "gate"
    with life.visitor_under_way(f"/gate/{gate}") as busy, Crowd(life.address, count=4) as crowd:
        life.until(
            lambda: len(workers(life.run.pid)) == 2 and len(crowd.answers) > 20, "nobody is served"
        )
        [zygote] = children(life.run.pid)
        before = workers(life.run.pid)
        os.kill(zygote.pid, signal.SIGKILL)
        life.until(lambda: len(workers(life.run.pid)) == 2, "no new generation")
        gate.touch()
        assert busy.answer().text == "open"
        life.until(
            lambda: not any(look_at(pid) for pid in before), "the old generation is still there"
        )
        count = len(crowd.answers)
        life.until(lambda: len(crowd.answers) > count + 50, "nobody is served")
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert "the zygote was killed by SIGKILL" in life.log
    life.until_asleep(1)
    assert [run.status for run in life.runs] == [0]


def opened(pid):
    """What a process has open, as /proc tells it."""
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]


def test_what_the_master_has_of_a_dead_zygote_s_workers_is_not_handed_on(systemd, tmp_path):
    life = systemd(idle_timeout=60, workers=1)
    gate = tmp_path / "gate"
    with life.visitor_under_way(f"/gate/{gate}") as busy:
        [first] = children(life.run.pid)
        os.kill(first.pid, signal.SIGKILL)
        life.until(
            lambda: not look_at(first.pid) and len(workers(life.run.pid)) == 1,
            "no other generation",
        )
        for pid in (children(life.run.pid)[0].pid, *workers(life.run.pid)):
            assert "anon_inode:[pidfd]" not in opened(pid)
        assert "anon_inode:[pidfd]" in opened(life.run.pid), "nothing was there to be handed on"
        gate.touch()
        assert busy.answer().text == "open"


def test_all_but_the_master_killed_at_once_costs_the_next_client_one_load(systemd):
    life = systemd(idle_timeout=0.5, workers=2)
    with Visitor(life.address):  # as long as it is connected nothing leaves
        visit(life.address)
        life.until(lambda: len(workers(life.run.pid)) == 2, "no workers")
        [zygote] = children(life.run.pid)
        life.signal(signal.SIGSTOP)  # so that it sees all of them dead
        for pid in [zygote.pid, *workers(life.run.pid)]:
            os.kill(pid, signal.SIGKILL)
        life.signal(signal.SIGCONT)
    assert visit(life.address).status == 200
    life.until_asleep(1)
    assert life.run.status == 0


@pytest.mark.parametrize("told", [False, True], ids=["alone", "the rest told to stop"])
def test_a_killed_master_leaves_nothing_behind_and_the_next_visitor_is_served(
    systemd, tmp_path, told
):
    life = systemd(idle_timeout=1.5, workers=2)
    with Crowd(life.address, count=3) as crowd:
        for kills in range(1, 4):
            gate = tmp_path / f"gate{kills}"
            with life.visitor_under_way(f"/gate/{gate}") as busy:
                count = len(crowd.answers)
                life.until(lambda count=count: len(crowd.answers) > count + 10, "nobody is served")
                life.signal(signal.SIGKILL)
                if (
                    told
                ):  # systemd tells the others when the Master is gone (KillMode=control-group)
                    life.until(lambda: life.runs[-1].ended, "it lives")
                    life.signal_all(signal.SIGTERM)
                gate.touch()
                assert busy.answer().text == "open"
            life.until(
                lambda kills=kills: len(life.runs) == kills + 1 and life.run.told("READY"),
                "nobody woke it again",
            )
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    life.until_asleep(4)
    assert [run.status for run in life.runs] == [-signal.SIGKILL] * 3 + [0]
    assert [members(run.pid) for run in life.runs] == [[]] * 4


def test_a_call_past_request_timeout_is_ended_with_a_traceback_and_the_others_go_on(systemd):
    life = systemd(idle_timeout=60, workers=2, request_timeout=1)
    with (
        life.visitor_under_way("/hang") as stuck,
        Crowd(life.address, count=2, pause=0.01) as crowd,
    ):
        with pytest.raises(Lost, match="closed without an answer|reset") as lost:
            stuck.answer()
        life.until(lambda: len(workers(life.run.pid)) == 2, "it was not replaced")
        count = len(crowd.answers)
        life.until(lambda: len(crowd.answers) > count + 20, "nobody is served")
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    # They did not wait for the stuck one's end.
    assert len([each for each in crowd.answers if each.ended < lost.value.ended]) > 20
    assert re.search(
        r"worker \d+ killed: a request has been running for 1 s \(request_timeout\)$",
        life.log,
        re.M,
    )
    assert re.search(r'plain\.py", line \d+ in hang$', life.log, re.M)


def test_a_long_response_that_goes_on_is_not_past_request_timeout(systemd):
    life = systemd(idle_timeout=60, workers=1, request_timeout=1.5)
    assert len(visit(life.address, "/stream/2").text.split()) == 10


def test_every_worker_stuck_at_once_comes_back(systemd):
    life = systemd(idle_timeout=60, workers=2, threads=1, request_timeout=0.5)
    with life.visitor_under_way("/hang"), life.visitor_under_way("/hang"):
        assert visit(life.address).status == 200


def test_a_worker_with_a_bug_is_no_second_master(systemd, tmp_path):
    """An error of a child must not go up through what was its Master before the fork,
    and be taken for one of the Master's.
    """
    source = "import spyglass.worker.main\n\ndef work(*_):\n    raise OSError('a bug')\n\nspyglass.worker.main.work = work\ndef app(*_): ...\n"
    (tmp_path / "app.py").write_text(source)
    life = systemd("app:app", directory=tmp_path, workers=2, idle_timeout=0.5)
    assert visit(life.address).status == 503
    life.until_asleep(1)
    assert "failing: the workers die as soon as they are started" in life.run.told("STATUS")
    assert "cannot start a process" not in life.log
    assert re.search(r"worker\] error: a bug in Spyglass\n(.*\n)*.*OSError: a bug$", life.log, re.M)


def test_stuck_call_does_not_hold_up_a_stop(systemd):
    life = systemd(idle_timeout=60, workers=2, request_timeout=1, graceful_timeout=600)
    with life.visitor_under_way("/hang") as stuck:
        life.signal(signal.SIGTERM)
        with pytest.raises(Lost, match="closed without an answer|reset"):
            stuck.answer()
        life.until(lambda: life.run.ended, "it waits for what is stuck")
    assert life.run.status == 0


def test_clients_beside_a_stuck_call_are_served_to_the_end(systemd):
    life = systemd(idle_timeout=60, workers=1, request_timeout=1)
    with (
        life.visitor_under_way("/hang") as stuck,
        life.visitor_under_way("/sleep/0.6"),
        life.visitor_under_way("/stream/2") as other,
    ):
        assert len(other.answer().text.split()) == 10
        with pytest.raises(Lost, match="closed without an answer|reset"):
            stuck.answer()
    assert visit(life.address).status == 200
    assert re.search(r"worker \d+ killed: a request has been running for 1 s", life.log)
