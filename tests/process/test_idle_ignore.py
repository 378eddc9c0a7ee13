"""Monitoring does not keep an app awake, and loses nothing when it leaves: polls that
come more often than idle_timeout.
"""

import time

import pytest

from .visitor import Crowd, Regulars, Visitor, visit

IDLE = 0.6
POLL = IDLE / 6


@pytest.mark.parametrize(
    "keep", [False, True], ids=["each on its own connection", "on a kept-alive one"]
)
def test_polls_do_not_keep_it_awake(systemd, keep):
    """Each wakes it anew, for idle_timeout; that nobody can know beforehand."""
    life = systemd(idle_timeout=IDLE, idle_ignore="/health", workers=2)
    with (Regulars if keep else Crowd)(life.address, "/health", count=1, pause=POLL) as monitor:
        life.until(lambda: len(life.runs) == 3, "it does not leave", 15)
    assert monitor.lost == []
    assert {answer.status for answer in monitor.answers} == {200}
    lives = [run.told_at("STOPPING") - run.told_at("READY") for run in life.runs[:2]]
    assert min(lives) >= IDLE - 0.01
    if keep:
        assert monitor.told_to_close >= 2
    life.until_asleep(3)
    assert {run.status for run in life.runs} == {0}


def test_other_clients_do_and_quiet_is_counted_from_there(systemd):
    life = systemd(idle_timeout=IDLE, idle_ignore="/health", workers=2)
    with Regulars(life.address, "/health", count=1, pause=POLL) as monitor:
        life.until(lambda: monitor.answers, "not awake")
        for _ in range(2):
            time.sleep(IDLE * 0.6)  # what is tested is that this much quiet is not enough
            visit(life.address)
            last = time.monotonic()
        life.until(lambda: life.run.told("STOPPING"), "it does not leave")
        assert len(life.runs) == 1
        assert life.run.told_at("STOPPING") - last >= IDLE - 0.02
    assert monitor.lost == []


def test_an_ignored_request_under_way_is_finished(systemd):
    """And then it is left at once, for it has been quiet for long enough."""
    life = systemd(idle_timeout=1, idle_ignore="/sleep/*")
    with life.visitor_under_way("/sleep/1.5") as slow:
        assert slow.answer().text == "slept"
        answered = time.monotonic()
    life.until_asleep(1)
    assert life.run.told_at("STOPPING") - answered < 1


def test_a_listener_for_monitoring_alone(systemd):
    """Also who only connects, as a check of a TCP port does."""
    life = systemd(
        listeners=("tcp", "unix"),
        environ={"LISTEN_FDNAMES": "http:metrics"},
        idle_timeout=IDLE,
        header_timeout=5,
        idle_ignore="listener:metrics",
    )
    http, metrics = life.addresses
    assert visit(http).status == 200
    last = time.monotonic()
    while not life.run.told("STOPPING"):
        assert time.monotonic() - last < 20, "it does not leave"
        with Visitor(metrics) as check:
            if not life.run.told("STOPPING"):
                assert check.ask("/any").status == 200
        Visitor(metrics).sock.close()
        time.sleep(POLL)  # the monitor's pause


def test_constant_polls_are_never_lost_at_the_edge(systemd):
    """Many monitors: in the moment of leaving there is nearly always one, and it is
    left nevertheless.
    """
    life = systemd(
        idle_timeout=0.5, keepalive_timeout=0.45, idle_ignore="agent:none, /health", workers=2
    )
    with (
        Crowd(life.address, "/health", count=3, pause=0.02) as crowd,
        Regulars(life.address, "/health", count=1, pause=POLL) as kept,
    ):
        life.until(lambda: len(life.runs) >= 5, "it does not leave", 20)
    assert crowd.lost == kept.lost == []
    assert crowd.statuses() == {200}
    life.until_asleep()
    assert {run.status for run in life.runs} == {0}


def test_a_listener_that_does_not_exist_is_told(systemd):
    life = systemd(idle_timeout=0.3, idle_ignore="/health,listener:metrix")
    visit(life.address)
    life.until_asleep(1)
    told = [line.partition("warning: ")[2] for line in life.log.splitlines() if "warning" in line]
    assert told == [
        "idle_ignore: no listener is named 'listener:metrix'; FileDescriptorName= is http"
    ]
