"""systemd itself is reloaded and replaced (`daemon-reload`, `daemon-reexec`: what every
upgrade of a package does) under load, while apps leave and are woken all the time.
Nothing is lost, and no socket notices.
"""

from __future__ import annotations

import threading

import pytest
from instance import Instance, lives
from load import Load
from machine import Machine
from process.hammer import KEPT, MIXES, Hammer, milliseconds

pytestmark = pytest.mark.timeout(180)

TIMES = 8  # of each of the two
IDLE = 0.12
LONGEST_WAIT = 6.0
BUSY = {"workers": 2, "idle_timeout": 60, "keepalive_timeout": 20}
RESTLESS = {"idle_timeout": IDLE, "keepalive_timeout": IDLE * KEPT, "workers": 2}


def test_systemd_may_be_replaced_at_any_time(machine: Machine, edges: list[str]) -> None:
    busy = Instance(machine, "busy", port=8300, settings=BUSY).start()
    restless = Instance(machine, "restless", port=8301, settings=RESTLESS).start()
    listening = busy.unbroken(), restless.unbroken()
    done = threading.Event()
    hammer = Hammer(
        restless.addresses,
        MIXES["short"][::2],
        "reload",
        idle=IDLE,
        header=10.0,
        starts=lambda: len(lives(hammer.answers)),
        enough=lambda _: done.is_set(),
    )
    thread = threading.Thread(target=hammer.run, daemon=True)
    with Load(busy) as load:
        with machine.network():
            thread.start()
        try:
            for _ in range(TIMES):
                for what in ("daemon-reload", "daemon-reexec"):
                    load.flows()
                    begun = len(lives(hammer.answers))
                    machine.systemctl(what)
                    machine.wait_until(
                        lambda begun=begun: len(lives(hammer.answers)) > begun or hammer.lost,
                        20,
                        "it is woken again",
                    )
        finally:
            done.set()
            thread.join()
    answers = [*load.answers, *hammer.answers]
    longest = max(answer.seconds for answer in answers)
    edges.append(
        f"daemon-reload and daemon-reexec, {machine.release}: {TIMES} of each, {len(lives(hammer.answers))} cycles, of {len(answers)} requests lost "
        f"{len(load.lost) + len(hammer.lost)}; waited {milliseconds(longest)} (longest)"
    )
    assert load.lost == []
    assert hammer.lost == []
    assert {answer.status for answer in answers} == {200}
    assert len(load.lives()) == 1, "who was busy has not been disturbed"
    assert longest < LONGEST_WAIT
    for instance in (busy, restless):
        assert instance.state()["NRestarts"] == "0"
        assert instance.said("warning") == []
    assert (busy.unbroken(), restless.unbroken()) == listening
