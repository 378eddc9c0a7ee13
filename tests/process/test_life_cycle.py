"""Asleep, woken by a visitor, awake, asleep again: nothing lost on the way and nothing
left behind.
"""

import os
import stat

import pytest

from .processes import members, workers
from .visitor import Visitor, visit


def test_a_visit_wakes_it_and_quiet_puts_it_to_sleep_again_and_again(systemd):
    life = systemd(idle_timeout=0.3)
    assert life.asleep
    for cycle in range(1, 6):
        assert visit(life.address).text == "hello"
        assert not life.asleep
        life.until_asleep(cycle)
        assert len(life.runs) == cycle
        assert life.run.status == 0
        assert members(life.run.pid) == []


def test_systemd_is_told_each_step_in_order(systemd):
    life = systemd(idle_timeout=0.4)
    visit(life.address)
    life.until_asleep(1)
    run = life.run
    assert run.told("READY") == ["1"]
    assert run.told("STOPPING") == ["1"]
    assert run.told_at("READY") < run.told_at("STOPPING")
    # Not before it had been quiet for long enough: STOPPING=1 cannot be taken back.
    assert run.told_at("STOPPING") - run.told_at("READY") >= 0.4
    status = [text.partition(":")[0] for text in run.told("STATUS")]
    assert status[0] == "waking"
    assert status[1] == "awake"
    assert status[-1] == "leaving"


def test_an_open_connection_holds_off_stopping(systemd):
    life = systemd(idle_timeout=0.3, header_timeout=5, keepalive_timeout=0.2)
    with Visitor(life.address) as slow:
        life.until_ready()
        answer = slow.ask("/sleep/1")
        assert answer.text == "slept"
        assert not life.run.told("STOPPING")
    life.until_asleep(1)
    assert life.run.told_at("STOPPING") - life.run.told_at("READY") >= 1.2


def test_quiet_is_counted_from_the_last_visit(systemd):
    life = systemd(idle_timeout=0.5)
    visit(life.address)
    life.until_ready()
    with Visitor(life.address) as visitor:
        for _ in range(4):
            visitor.ask("/sleep/0.2", keep=True)
    last = life.run.told_at("READY")
    life.until_asleep(1)
    assert life.run.told_at("STOPPING") - last >= 0.2 * 4 + 0.5


def test_every_kind_of_listener_wakes_it_and_is_served(systemd):
    life = systemd(listeners=("tcp", "tcp6", "unix", "tcp"), idle_timeout=0.3)
    for cycle, first in enumerate(life.addresses, 1):
        assert visit(first).status == 200
        assert [visit(address).status for address in life.addresses] == [200] * 4
        life.until_asleep(cycle)
    assert len(life.runs) == 4
    assert stat.S_ISSOCK(os.stat(life.addresses[2]).st_mode)


def test_an_idle_timeout_of_zero_never_leaves(systemd):
    life = systemd(idle_timeout=0, keepalive_timeout=0.2)
    other = systemd(idle_timeout=0.5)
    visit(life.address)
    visit(other.address)
    other.until_asleep(1)  # by then this one would have left, too
    assert not life.asleep
    assert not life.run.told("STOPPING")
    assert visit(life.address).status == 200
    assert len(life.runs) == 1


def test_started_without_a_visitor_it_gets_ready_and_leaves(systemd):
    life = systemd(idle_timeout=0.3)
    life.start()
    life.until_asleep(1)
    assert life.run.status == 0
    assert life.run.told("READY") == ["1"]


def test_silent_client_does_not_keep_it_awake(systemd):
    life = systemd(idle_timeout=0.3, header_timeout=0.3)
    with Visitor(life.address) as mute:
        assert mute.until_closed() == b""
        life.until_asleep(1)
    with Visitor(life.address):
        pass  # comes, and goes at once
    life.until_asleep(2)
    assert [run.status for run in life.runs] == [0, 0]


@pytest.mark.parametrize("count", [1, 4])
def test_it_has_as_many_workers_as_told(systemd, count):
    life = systemd(idle_timeout=0, workers=count)
    life.start()
    life.until_ready()
    life.until(lambda: len(workers(life.run.pid)) == count, f"there are not {count} workers")


def test_without_preload_each_worker_loads_the_app(systemd):
    life = systemd(idle_timeout=0.3, arguments=["--no-preload"])
    assert visit(life.address).text == "hello"
    life.until_asleep(1)
    assert life.run.status == 0


def test_the_welcome_page(systemd):
    life = systemd(None, idle_timeout=0.3)
    assert "Spyglass is awake" in visit(life.address).text
    life.until_asleep(1)
