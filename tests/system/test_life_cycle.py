"""Asleep, awake, asleep again: what a real systemd shows of it. Nothing runs but what
is said to run, at each step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from machine import Machine
from process.processes import children, workers

URL = "http://localhost:4222/"
IDLE = "0.3"


def units(machine: Machine) -> set[str]:
    """Every active unit of the machine, with its state; what is on its way into a state
    or out of it is active, too.
    """
    lines = machine.systemctl(
        "list-units", "--plain", "--no-legend", "--state=active,activating,deactivating,reloading"
    ).splitlines()
    # systemd's own services have mounts for credentials, which it sees late.
    return {
        f"{name} {sub}"
        for name, _, _, sub, *_ in (line.split() for line in lines)
        if not name.startswith("run-credentials-systemd")
    }


def everybody(machine: Machine) -> set[int]:
    """Every process of the machine, but those that ask (nsenter and ps are nobody's
    children in there).
    """
    lines = machine.run("ps", "-e", "-o", "pid=,ppid=,comm=").stdout.splitlines()
    return {
        int(pid)
        for pid, parent, _ in (line.split(None, 2) for line in lines)
        if parent != "0" or pid == "1"
    }


def curl(machine: Machine) -> str:
    return machine.run(
        "curl",
        "--silent",
        "--show-error",
        "--max-time",
        "30",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        URL,
    ).stdout


@contextmanager
def kept_awake(machine: Machine) -> Iterator[None]:
    """As long as somebody is connected, nobody leaves: what is looked at stays as it
    is.
    """
    with machine.connect(4222):
        yield


def asleep(machine: Machine) -> bool:
    return machine.state("spyglass.socket")["SubState"] == "listening" and not machine.processes()


def until_asleep(machine: Machine) -> None:
    machine.wait_until(lambda: asleep(machine), what="only the socket is there")


@pytest.fixture(scope="module")
def sleepy(machine: Machine) -> Machine:
    machine.write("/etc/default/spyglass", f"SPYGLASS_IDLE_TIMEOUT={IDLE}\n")
    return machine


@pytest.fixture
def listening(sleepy: Machine) -> Iterator[Machine]:
    """The default app's socket, started; stopped again after the test."""
    sleepy.systemctl("start", "spyglass.socket")
    yield sleepy
    sleepy.systemctl("stop", "spyglass.socket")
    assert sleepy.processes() == []


def test_nothing_runs_but_the_socket_and_once_awake_exactly_four(sleepy: Machine) -> None:
    units_before, processes_before = units(sleepy), everybody(sleepy)
    assert not [unit for unit in units_before if "spyglass" in unit]

    sleepy.systemctl("start", "spyglass.socket")
    assert units(sleepy) == units_before | {"spyglass.socket listening"}
    assert everybody(sleepy) == processes_before

    assert curl(sleepy) == "200"
    with kept_awake(sleepy):
        sleepy.wait_until(
            lambda: sleepy.state("spyglass.service")["SubState"] == "running", what="it is awake"
        )
        sleepy.wait_until(
            lambda: len(sleepy.processes()) == 4, what="the second worker is there, too"
        )
        assert units(sleepy) == units_before | {
            "spyglass.socket running",
            "spyglass.service running",
        }
        there = sleepy.processes()
        assert everybody(sleepy) == processes_before | {process.pid for process in there}
        # Master, zygote, two workers.
        assert {process.unit for process in there} == {"spyglass.service"}
        master = next(
            process
            for process in there
            if str(process.pid) == sleepy.state("spyglass.service")["MainPID"]
        )
        [zygote] = children(master.host_pid)
        assert {process.host_pid for process in there} == {
            master.host_pid,
            zygote.pid,
            *workers(master.host_pid),
        }

    until_asleep(sleepy)
    assert units(sleepy) == units_before | {"spyglass.socket listening"}
    assert everybody(sleepy) == processes_before
    service = sleepy.state("spyglass.service")
    assert (service["ActiveState"], service["Result"], service["ExecMainStatus"]) == (
        "inactive",
        "success",
        "0",
    )

    sleepy.systemctl("stop", "spyglass.socket")
    assert units(sleepy) == units_before


def test_again_and_again(listening: Machine) -> None:
    lives = set()
    for _ in range(5):
        assert curl(listening) == "200"
        with kept_awake(listening):
            lives.add(listening.state("spyglass.service")["InvocationID"])
            assert len(listening.processes()) >= 3  # the second worker may still be on its way
        until_asleep(listening)
    assert len(lives) == 5
    state = listening.state("spyglass.socket")
    assert (state["ActiveState"], state["SubState"], state["Result"]) == (
        "active",
        "listening",
        "success",
    )


def test_the_journal_tells_why_it_woke_and_why_it_left(listening: Machine) -> None:
    curl(listening)
    with kept_awake(listening):
        life = listening.state("spyglass.service")["InvocationID"]
    until_asleep(listening)
    records = listening.records("spyglass.service", f"_SYSTEMD_INVOCATION_ID={life}")
    told = [
        (record["PRIORITY"], record["SYSLOG_IDENTIFIER"], record["MESSAGE"]) for record in records
    ]
    assert [(priority, name) for priority, name, _ in told] == [("6", "spyglass")] * 2
    awake, leaving = (message for _, _, message in told)
    assert re.fullmatch(r"master: awake after \d\.\d\d s: the welcome page", awake)
    assert leaving == f"master: exiting after {IDLE} s without a connection"


def test_systemctl_status_tells_how_it_is(sleepy: Machine) -> None:
    sleepy.write("/etc/default/spyglass", "SPYGLASS_IDLE_TIMEOUT=25\n")
    sleepy.systemctl("start", "spyglass.socket")
    try:
        with sleepy.http(4222) as client:
            for _ in range(3):
                client.request("GET", "/")
                assert client.getresponse().read()
            busy = r"awake: 2 workers, 1 connection, \d+ requests? served"
            status_becomes(sleepy, busy)
            assert re.search(f'Status: "{busy}"', sleepy.systemctl("status", "spyglass.service"))
        status_becomes(
            sleepy, r"awake: 2 workers, 0 connections, 3 requests served; idle, exits in \d+ s"
        )
    finally:
        sleepy.systemctl("stop", "spyglass.socket")
        sleepy.write("/etc/default/spyglass", f"SPYGLASS_IDLE_TIMEOUT={IDLE}\n")
    assert "master: SIGTERM: stopping" in sleepy.journal("spyglass.service")


def status_becomes(machine: Machine, pattern: str) -> None:
    # It is looked at every five seconds while nothing else happens.
    machine.wait_until(
        lambda: re.fullmatch(pattern, machine.state("spyglass.service")["StatusText"]),
        20,
        what=pattern,
    )


def test_nothing_in_all_that_was_worth_a_warning(sleepy: Machine) -> None:
    """Neither to us nor to systemd, of which a unit that leaves by itself asks much;
    the stop of one that was awake included.
    """
    records = sleepy.records("spyglass.service") + sleepy.records("spyglass.socket")
    assert len(records) > 10
    assert [record["MESSAGE"] for record in records if int(record["PRIORITY"]) <= 5] == []
