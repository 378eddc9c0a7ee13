"""kill -9 under load, of the Master and of all processes at once. The socket listens
throughout; what is lost is what was in hand. (A worker alone is replaced by its Master:
tests/process/test_killed.py.)
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator

import pytest
from instance import Instance, life
from load import Load
from machine import Machine
from process.visitor import Lost, visit

TIMES = 2
AT_ONCE = 0.5  # seconds until somebody notices that his connection has gone
SETTINGS = {"workers": 4, "idle_timeout": 60, "keepalive_timeout": 20}

_numbers = itertools.count()


@pytest.fixture
def instance(machine: Machine) -> Iterator[Instance]:
    """One that nobody has killed yet."""
    number = next(_numbers)
    made = Instance(machine, f"victim{number}", port=8200 + number, settings=SETTINGS).start()
    listening = made.unbroken()
    yield made
    assert made.unbroken() == listening


def kill(instance: Instance, pid: int) -> None:
    """SIGKILL to the process that the machine knows as `pid`."""
    [victim] = [
        process
        for process in instance.machine.processes(f"spyglass@{instance.name}")
        if process.pid == pid
    ]
    os.kill(victim.host_pid, signal.SIGKILL)


def was_there(lost: Lost, when: float) -> bool:
    """Whether it can have been the kill at `when` that took the answer away."""
    return lost.began < when and abs(lost.ended - when) < AT_ONCE


def until_gone(instance: Instance, pids: set[int]) -> None:
    instance.machine.wait_until(
        lambda: not pids & instance.processes(), 20, "no process is left behind"
    )


def test_master_leaves_no_process_behind(instance: Instance) -> None:
    with Load(instance) as load:
        for _ in range(TIMES):
            load.flows()
            there, before = instance.processes(), load.lives()
            kill(instance, int(instance.state()["MainPID"]))
            until_gone(instance, there)
            load.flows()
            assert len(load.lives() - before) == 1
    # Its workers are told by systemd and by the end of the life line, and finish what
    # they have.
    assert load.lost == []
    assert {answer.status for answer in load.answers} == {200}
    assert len(load.lives()) == TIMES + 1
    assert instance.state()["NRestarts"] == str(TIMES)


def test_all_processes_at_once(instance: Instance) -> None:
    whens = []
    with Load(instance) as load:
        for _ in range(TIMES):
            load.flows()
            there, before = instance.processes(), load.lives()
            instance.machine.systemctl("kill", "--signal=SIGKILL", instance.service)
            whens.append(time.monotonic())
            until_gone(instance, there)
            load.flows()
            assert len(load.lives() - before) == 1
    # Who waited in the kernel's queue is served by the next; only who had been accepted
    # is lost.
    assert len(load.lost) <= TIMES * load.count
    assert all(any(was_there(lost, when) for when in whens) for _, lost in load.lost), load.lost
    assert {answer.status for answer in load.answers} == {200}


@pytest.mark.parametrize("who", ["the master", "everybody"])
def test_it_is_killed_while_no_client_is_there(instance: Instance, who: str) -> None:
    first = visit(instance.unix)
    there = instance.processes()
    if who == "the master":
        kill(instance, int(instance.state()["MainPID"]))
    else:
        instance.machine.systemctl("kill", "--signal=SIGKILL", instance.service)
    # At once a worker of the dead Master may still answer; afterwards nobody is left
    # who could.
    second = visit(instance.unix)
    until_gone(instance, there)
    third = visit(instance.unix)
    assert (first.status, second.status, third.status) == (200, 200, 200)
    assert life(first) != life(third)
