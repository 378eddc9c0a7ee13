"""`systemctl restart` and `stop` under constant load: what was accepted is finished, what comes meanwhile is served by the next Master.

systemd sends SIGTERM to all processes of the unit at the same time, and the Master tells its workers what they have just been told.
"""

from __future__ import annotations

import socket
import time

import pytest
from instance import Instance, life
from load import Load
from machine import Machine
from process.hammer import milliseconds
from process.visitor import Visitor

TIMES = 3
LONG = 1.0  # seconds
LONGEST_WAIT = 6.0  # the longest request that holds the leaving off, a second for kept-alive clients, and a wake
SETTINGS = {"workers": 4, "idle_timeout": 60, "keepalive_timeout": 20}


@pytest.mark.parametrize("how", ["restart", "stop"])
def test_nobody_is_lost(machine: Machine, how: str, edges: list[str]) -> None:
    instance = Instance(machine, how, port=8100 if how == "restart" else 8101, settings=SETTINGS).start()
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
    """Restart or stop it once, while a request runs that takes longer than all others; returns the seconds that took."""
    machine, instance = load.instance.machine, load.instance
    before, told = instance.state()["InvocationID"], load.told
    with Visitor(instance.unix) as long, Visitor(instance.unix) as silent:
        assert not silent.ask(keep=True).closing
        long.send(f"/stream/{LONG}", keep=True)
        assert long.sock.recv(1, socket.MSG_PEEK)
        began = time.monotonic()
        machine.systemctl(how, instance.service)
        ended = time.monotonic()
        answer = long.answer()
        assert life(answer) == before
        assert answer.text.endswith("end")
        # It had nothing to say: it is not cut off, but told by the end of the connection.
        assert silent.until_closed() == b""
    load.flows()
    after = instance.state()["InvocationID"]
    meanwhile = [life(answer) for answer in load.answers if began < answer.began < ended]
    assert after in meanwhile, "nobody came while it was stopped"
    assert set(meanwhile) <= {before, after}
    assert {life(answer) for answer in load.answers if answer.began > ended} == {after}
    assert load.told - told >= len(load.regulars)
    return ended - began
