"""The edge under a real systemd: dozens of times it leaves and is woken, and nobody who
comes at that moment may notice. With EDGE=10 in the environment it is hundreds of times.

The visitors are those of process/hammer.py, over TCP and a unix socket; each mix of
them has an instance of its own, all on one machine. Each answer tells which life of the
unit it is from, and these are counted.
"""

from __future__ import annotations

import statistics
import threading
from bisect import bisect

import pytest
from instance import TELL, Instance, lives
from machine import Machine
from process.fake_systemd import APPS
from process.hammer import (
    ALL_KINDS,
    KEPT,
    LENGTH,
    MIXES,
    Hammer,
    header_timeout,
    milliseconds,
    waited,
)

pytestmark = [pytest.mark.timeout(120 + 120 * LENGTH), pytest.mark.alone]

CYCLES = int(25 * LENGTH)  # of each of the four mixes
IDLE = 0.12
LONGEST_WAIT = 5.0  # seconds; a wake takes a fifth of one on a machine that has nothing else to do
SETTINGS = {"idle_timeout": IDLE, "keepalive_timeout": IDLE * KEPT, "workers": 2, "threads": 4}

ASGI = (APPS / "edge_asgi.py").read_text()

Hammered = tuple[Instance, Hammer, list[str]]  # and what its socket was like before


def hammer(instance: Instance, name: str) -> Hammer:
    # Every second visitor: the two cores are the machine's as well.
    made = Hammer(
        instance.addresses,
        MIXES[name][::2],
        name,
        idle=IDLE,
        header=header_timeout(name, IDLE),
        starts=lambda: len(lives(made.answers)),
        enough=lambda one: len(lives(one.answers)) >= CYCLES,
    )
    return made


@pytest.fixture(scope="module")
def hammered(machine: Machine) -> dict[str, Hammered]:
    """All mixes at the same time: they spend it waiting."""
    instances = {
        name: Instance(
            machine,
            name,
            ASGI if name == "asgi" else TELL,
            port=8000 + number,
            settings=SETTINGS | {"header_timeout": header_timeout(name, IDLE)},
        ).start()
        for number, name in enumerate(MIXES)
    }
    before = {name: instance.unbroken() for name, instance in instances.items()}
    hammers = {name: hammer(instance, name) for name, instance in instances.items()}
    threads = [threading.Thread(target=hammer.run, daemon=True) for hammer in hammers.values()]
    with machine.network():
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    return {name: (instances[name], hammers[name], before[name]) for name in MIXES}


@pytest.mark.parametrize("name", MIXES)
def test_no_client_notices_the_edge(
    hammered: dict[str, Hammered], name: str, edges: list[str]
) -> None:
    instance, hammer, before = hammered[name]
    machine = instance.machine
    assert hammer.lost == [], "\n".join(machine.journal(instance.service)[-30:])
    machine.wait_until(instance.asleep, what=f"{name} has left")
    waits = sorted(answer.seconds for answer in hammer.answers)
    records = [
        record
        for record in machine.records(instance.service)
        if record["MESSAGE"].startswith("master: awake after ")
    ]
    wakes = [float(record["MESSAGE"].split()[3]) for record in records]
    edges.append(
        f"edge, {name}, {machine.release}: {len(waits)} requests, lost none, {len(hammer.late)} spoke too late, {len(hammer.raced)} as it closed; {len(lives(hammer.answers))} cycles; loaded in "
        f"{milliseconds(statistics.median(wakes))} (median), {milliseconds(max(wakes))} (longest); {waited(waits)}; "
        f"left in time: {statistics.mean(hammer.in_time):.0%}"
    )
    assert len(hammer.late) <= len(waits) // 100
    assert set(hammer.came) == ALL_KINDS.get(name, set())
    # Requests that have met the end of their idle connection on the way: by TCP that
    # can be, by a unix socket it cannot.
    assert len(hammer.raced) <= 1 + len(waits) // 500
    assert [error for address, error in hammer.raced if isinstance(address, str)] == []
    assert len(lives(hammer.answers)) >= CYCLES
    assert {answer.status for answer in hammer.answers} == {200}
    assert waits[-1] < LONGEST_WAIT
    # At most one Master was started while a client waited. systemd says when, and the
    # journal's clock is ours; the Master itself speaks after the answer.
    woken = sorted(
        int(record["__MONOTONIC_TIMESTAMP"]) / 1e6
        for record in machine.records(instance.service)
        if record.get("_PID") == "1" and record["MESSAGE"].startswith("Starting ")
    )
    assert len(woken) == len(records)
    wakes_of = [
        bisect(woken, answer.ended) - bisect(woken, answer.began) for answer in hammer.answers
    ]
    assert max(wakes_of) == 1
    # Each life ended as it should, by itself, and systemd found nothing to restart or
    # to complain of.
    state = instance.state()
    assert (state["Result"], state["NRestarts"], state["ExecMainStatus"]) == ("success", "0", "0")
    assert instance.said("warning") == []
    assert instance.unbroken() == before
