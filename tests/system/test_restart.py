"""`systemctl restart` and `stop` under constant load: what was accepted is finished,
what comes meanwhile is served by the next Master.

systemd sends SIGTERM to all processes of the unit at the same time, and the Master
tells its workers what they have just been told.
"""

from __future__ import annotations

import socket
import subprocess
import time

import pytest
from instance import Instance, life
from load import Load
from machine import Machine
from process.hammer import milliseconds
from process.visitor import Crowd, Lost, Visitor, visit
from uploads import HALF, send_half_of_it
from waiting import wait_until

TIMES = 3
LONG = 1.0  # seconds
# The longest request that holds the leaving off, a second for kept-alive clients, and a
# wake
LONGEST_WAIT = 6.0
SETTINGS = {"workers": 4, "idle_timeout": 60, "keepalive_timeout": 20}


@pytest.mark.parametrize("how", ["restart", "stop"])
def test_no_client_is_lost(machine: Machine, how: str, edges: list[str]) -> None:
    instance = Instance(
        machine, how, port=8100 if how == "restart" else 8101, settings=SETTINGS
    ).start()
    listening = instance.unbroken()
    took = []
    with Load(instance) as load:
        for _ in range(TIMES):
            load.flows()
            took.append(disturb(load, how))
    answers = load.answers
    waits = sorted(answer.seconds for answer in answers)
    edges.append(
        f"{how}, {machine.release}: {TIMES} under load, of {len(answers)} requests lost {len(load.lost)}; took {milliseconds(max(took))}, "
        f"waited {milliseconds(waits[-1])} (longest); {load.told} kept-alive clients told to close"
    )
    assert load.lost == [], "\n".join(machine.journal(instance.service)[-30:])
    assert {answer.status for answer in answers} == {200}
    assert len(load.lives()) == TIMES + 1
    assert waits[-1] < LONGEST_WAIT
    assert instance.said("warning") == []
    assert instance.state()["Result"] == "success"
    assert instance.unbroken() == listening


def disturb(load: Load, how: str) -> float:
    """Restart or stop it once, while an upload comes in and a stream goes on for longer
    than all others; returns the seconds that took.
    """
    instance = load.instance
    before, told = instance.state()["InvocationID"], load.told
    with (
        Visitor(instance.unix) as long,
        Visitor(instance.unix) as silent,
        Visitor(instance.unix) as upload,
    ):
        assert not silent.ask(keep=True).closing
        send_half_of_it(upload)
        long.send(f"/stream/{LONG}", keep=True)
        assert long.sock.recv(1, socket.MSG_PEEK)
        began = time.monotonic()
        command = under_way(instance, how)
        upload.sock.sendall(bytes(HALF))
        assert life(upload.answer("POST")) == before
        answer = long.answer()
        assert life(answer) == before
        assert answer.text.endswith("end")
        assert command.wait() == 0
        ended = time.monotonic()
        # It had nothing to say: it is not cut off, but told by the end of the
        # connection.
        assert silent.until_closed() == b""
    load.flows()
    after = instance.state()["InvocationID"]
    meanwhile = [life(answer) for answer in load.answers if began < answer.began < ended]
    assert after in meanwhile, "nobody came while it was stopped"
    assert set(meanwhile) <= {before, after}
    assert {life(answer) for answer in load.answers if answer.began > ended} == {after}
    assert load.told - told >= len(load.regulars)
    return ended - began


def under_way(instance: Instance, how: str) -> subprocess.Popen[str]:
    command = instance.machine.popen("systemctl", how, instance.service, stderr=subprocess.DEVNULL)
    wait_until(lambda: instance.state()["ActiveState"] == "deactivating", 10, "it leaves")
    return command


def patient(instance: Instance, seconds: float) -> Instance:
    """With a systemd that would kill after `seconds`."""
    instance.machine.write(
        f"/etc/systemd/system/{instance.service}.d/test.conf",
        f"[Service]\nTimeoutStopSec={seconds:g}\n",
    )
    instance.machine.systemctl("daemon-reload")
    return instance.start()


def test_systemd_waits_for_what_graceful_timeout_allows(machine: Machine) -> None:
    """TimeoutStopSec= is for a Master that says nothing."""
    instance = patient(
        Instance(machine, "longer", settings=SETTINGS | {"graceful_timeout": 20.0}), 1
    )
    before = life(visit(instance.unix))
    with (
        Visitor(instance.unix) as asleep,
        Visitor(instance.unix) as stream,
        Visitor(instance.unix) as upload,
    ):
        asleep.send("/sleep/2", keep=True)
        send_half_of_it(upload)
        stream.send("/stream/2", keep=True)
        assert stream.sock.recv(1, socket.MSG_PEEK)
        began = time.monotonic()
        command = under_way(instance, "restart")
        with Crowd(instance.unix, count=1) as crowd:
            answers = [asleep.answer(), stream.answer()]
            upload.sock.sendall(bytes(HALF))
            answers.append(upload.answer("POST"))
            assert time.monotonic() - began > 1.5
            wait_until(
                lambda: crowd.answers and life(crowd.answers[-1]) != before,
                10,
                "the next one serves who came meanwhile",
            )
        assert command.wait() == 0
    assert [life(answer) for answer in answers] == [before] * 3
    assert answers[1].text.endswith("end")
    assert crowd.lost == []
    came_to = [life(answer) for answer in crowd.answers]
    assert before not in came_to[came_to.count(before) :], "somebody was taken in by who leaves"
    assert instance.said("warning") == []
    assert instance.state()["Result"] == "success"


def test_what_takes_longer_than_graceful_timeout_is_cut(machine: Machine) -> None:
    instance = patient(Instance(machine, "cut", settings=SETTINGS | {"graceful_timeout": 0.5}), 30)
    before = life(visit(instance.unix))
    with Visitor(instance.unix) as stream, Visitor(instance.unix) as upload:
        stream.send("/stream/60", keep=True)
        send_half_of_it(upload)
        began = time.monotonic()
        machine.systemctl("restart", instance.service)
        assert time.monotonic() - began < 10
        for cut in (stream, upload):
            with pytest.raises(Lost):
                cut.answer()
    assert life(visit(instance.unix)) != before
    assert any("of draining" in line for line in instance.said("warning"))
    assert instance.state()["Result"] == "success"
