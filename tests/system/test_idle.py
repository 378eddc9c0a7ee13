"""What keeps an app awake and what does not, under a real systemd: monitoring that
polls, and an app that works in the background.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from instance import Instance, life, lives
from machine import Machine
from process.visitor import Regulars, visit

pytestmark = pytest.mark.quiet

IDLE = 2.0
POLL = 0.3
METRICS = 8210
SOURCE = """
import os, threading, time
import spyglass

def work(seconds):
    with spyglass.stay_awake("nightly import"):
        time.sleep(seconds)

def app(environ, start_response):
    what, _, seconds = environ["PATH_INFO"][1:].partition("/")
    if what == "work":
        threading.Thread(target=work, args=(float(seconds),), daemon=True).start()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.environ['INVOCATION_ID']} {os.getpid()}".encode()]
"""
# As docs/idle.md has it.
METRICS_SOCKET = f"""
[Socket]
ListenStream=127.0.0.1:{METRICS}
FileDescriptorName=metrics
Service=spyglass@watched.service
TriggerLimitIntervalSec=1s
TriggerLimitBurst=300
RemoveOnStop=yes
"""


def left(instance: Instance) -> list[float]:
    """When it has left, and before that when it was awake, so often as it did:
    differences, seconds.
    """
    records = [
        (int(record["__MONOTONIC_TIMESTAMP"]) / 1e6, record["MESSAGE"])
        for record in instance.machine.records(instance.service)
    ]
    told = [
        (when, said) for when, said in records if re.match("master: (awake|exiting) after", said)
    ]
    return [after[0] - before[0] for before, after in zip(told[::2], told[1::2], strict=False)]


@pytest.fixture
def watched(machine: Machine) -> Iterator[Instance]:
    settings = {"idle_timeout": IDLE, "idle_ignore": ["/health", "listener:metrics"]}
    machine.write("/etc/systemd/system/watched-metrics.socket", METRICS_SOCKET)
    instance = Instance(machine, "watched", SOURCE, settings=settings).start()
    machine.systemctl("start", "watched-metrics.socket")
    yield instance
    machine.systemctl("stop", "watched-metrics.socket", instance.socket)


def test_monitoring_does_not_keep_it_awake(watched: Instance) -> None:
    machine = watched.machine
    with machine.network():
        health, metrics = (
            Regulars(address, target, count=1, pause=POLL)
            for address, target in ((watched.unix, "/health"), (("127.0.0.1", METRICS), "/any"))
        )
        with health, metrics:
            first = life(visit(watched.unix))
            machine.wait_until(
                lambda: {first} < lives(health.answers), 15, what="it has left, and was woken again"
            )
    assert health.lost == metrics.lost == []
    assert {answer.status for answer in [*health.answers, *metrics.answers]} == {200}
    [awake, *_] = left(watched)
    assert IDLE - 0.1 < awake < IDLE + 2
    assert f"master: exiting after {IDLE:g} s without a connection that counts" in machine.journal(
        watched.service
    )
    assert watched.said("warning") == []


def test_an_app_that_works_is_not_left_until_it_has_done(machine: Machine) -> None:
    instance = Instance(machine, "busy", SOURCE, settings={"idle_timeout": 0.5}).start()
    before = instance.unbroken()
    visit(instance.unix, "/work/2")
    began = time.monotonic()
    machine.wait_until(
        lambda: instance.state()["StatusText"].endswith("; stays awake: nightly import"),
        what="it is told why",
    )
    machine.wait_until(instance.asleep, what="it has left")
    assert 2.4 < time.monotonic() - began < 5
    assert instance.state()["Result"] == "success"
    assert instance.said("warning") == []
    assert instance.unbroken() == before
    machine.systemctl("stop", instance.socket)
