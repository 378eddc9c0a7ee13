"""Broken apps and broken settings under a real systemd, each an instance under constant
requests, all at the same time, for longer than systemd counts starts.

The socket stays, the Master is started once and answers for the app, the journal has it
once, and mending the file is all there is to do. Beside each is a twin that is visited
once and then left alone: it gives up, is shown as failed, and listens. (Not where the
settings cannot be read: that would take the default idle_timeout, half a minute.)
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import pytest
from instance import TELL, Instance
from machine import Machine
from process.hammer import milliseconds
from process.visitor import Answer, Crowd, visit
from waiting import wait_until

pytestmark = pytest.mark.timeout(240)

UNDER_FIRE = 20.0  # seconds; DefaultStartLimitIntervalSec= is 10 s
SOON, AT_WORST = (
    1.0,
    2.0,
    # Seconds to a 503 once the failure is known; a machine that has a lot to do is forgiven
    # one in a hundred
)
FAILED = 78
IDLE = 3.0  # seconds
TRACEBACK = re.compile(r"Traceback \(most recent call last\):$|^Fatal Python error: ", re.MULTILINE)


@dataclass
class Case:
    """`status`: what comes after "failing: ", a regular expression. `traced`: whether
    there is a traceback to show.

    `toml` makes the settings' file, from what it would be if all was well.
    """

    status: str
    source: str = TELL
    traced: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    toml: str = "{}"


CASES = {
    "syntax": Case(r"SyntaxError: invalid syntax \(.*/app\.py, line 1\)", "def app(:\n"),
    "module": Case("ModuleNotFoundError: No module named 'blgo'", "import blgo\n"),
    "name": Case("'app' has no 'app'", "application = None\n", traced=False),
    "uncallable": Case(
        "'app:app' is not callable: it is of type 'int'", "app = 42\n", traced=False
    ),
    "exit": Case(
        r"the app called sys\.exit\('enough'\) while it was being loaded",
        "import sys\nsys.exit('enough')\n",
    ),
    "segfault": Case(
        "the app's process was killed by SIGSEGV while it was being loaded",
        "import ctypes\nctypes.string_at(0)\n",
    ),
    "hang": Case(
        r"the app was not loaded within 1 s \(start_timeout\)",
        "import time\ntime.sleep(3600)\n",
        settings={"start_timeout": 1},
    ),
    "workers": Case(
        "the workers die as soon as they are started",
        f"{TELL}\nos.register_at_fork(after_in_child=lambda: os._exit(3))\n",
        traced=False,
    ),
    "setting": Case(
        r".*/setting.*\.toml:1: unknown setting 'wrokers', did you mean 'workers'\?",
        traced=False,
        toml="wrokers = 2\n{}",
    ),
    "toml": Case(
        r".*/toml.*\.toml:1: one = is enough: workers = 2", traced=False, toml="workers = = 2\n{}"
    ),
}


def settings(case: Case) -> dict[str, Any]:
    return {"idle_timeout": IDLE, "workers": 2} | case.settings


def listen(instance: Instance, case: Case) -> list[str]:
    instance.write()
    instance.machine.write(instance.configuration, case.toml.format(instance.toml()))
    instance.machine.systemctl("start", instance.socket)
    return instance.unbroken()


class Broken:
    """One case's instance and its visitors; and what was seen."""

    def __init__(self, machine: Machine, name: str, case: Case) -> None:
        self.case = case
        self.instance = Instance(machine, name, source=case.source, settings=settings(case))
        self.listening = listen(self.instance, case)
        self.crowd = Crowd(self.instance.unix, count=2, pause=0.1)
        self.begin = time.monotonic()

    def ever(self, status: int) -> bool:
        return any(answer.status == status for answer in list(self.crowd.answers))

    def look(self) -> None:
        self.state = self.instance.state()
        self.records = self.instance.machine.records(self.instance.service)

    def mend(self) -> None:
        """What an administrator would do: an editor, and nothing else."""
        if self.case.source != TELL:
            self.instance.machine.write(self.instance.code, TELL)
        if self.case.toml != "{}":
            self.instance.machine.write(self.instance.configuration, self.instance.toml())
        wait_until(lambda: self.ever(200), 10, f"{self.instance.name} is mended")
        self.afterwards = self.instance.state()

    # What it looked like

    def while_broken(self) -> list[Answer]:
        """The answers until the first from the mended app."""
        mended = min(answer.began for answer in self.crowd.answers if answer.status == 200)
        return [
            answer
            for answer in self.crowd.answers
            if answer.began < mended and answer.status != 200
        ]

    def known_at(self) -> float:
        """When the failure stood in the journal: its clock is ours, and both count from
        the boot.
        """
        said = next(
            record for record in self.records if record["MESSAGE"].startswith("master: failing: ")
        )
        return int(said["__MONOTONIC_TIMESTAMP"]) / 1e6

    def waited(self) -> list[float]:
        """How long each was without an answer once the failure was known."""
        known = self.known_at()
        return sorted(answer.ended - max(answer.began, known) for answer in self.while_broken())

    def messages(self) -> str:
        return "\n".join(record["MESSAGE"] for record in self.records)


ALONE = [name for name, case in CASES.items() if case.toml == "{}"]


class Twin:
    """Broken in the same way, visited once, and once more when it has given up."""

    def __init__(self, machine: Machine, name: str, case: Case) -> None:
        self.instance = Instance(
            machine, f"{name}-quiet", source=case.source, settings=settings(case)
        )
        self.listening = listen(self.instance, case)
        self.first = visit(self.instance.unix)
        self.life = self.instance.state()["InvocationID"]

    def gave_up(self) -> bool:
        return (
            self.instance.machine.systemctl("is-failed", self.instance.service, check=False).strip()
            == "failed"
        )

    def look(self) -> None:
        self.given_up = self.instance.state()
        self.socket = self.instance.machine.state(self.instance.socket)["SubState"]
        self.left_behind = self.instance.processes()
        self.second = visit(self.instance.unix)
        self.again = self.instance.state()


Seen = tuple[dict[str, Broken], dict[str, Twin]]


@pytest.fixture(scope="module")
def seen(machine: Machine, edges: list[str]) -> Seen:
    """All cases have been broken for a while, and then mended; their twins have given
    up meanwhile.
    """
    all_broken = {name: Broken(machine, name, case) for name, case in CASES.items()}
    with ExitStack() as visitors:
        for broken in all_broken.values():
            visitors.enter_context(broken.crowd)
        twins = {name: Twin(machine, name, CASES[name]) for name in ALONE}
        for name, twin in twins.items():
            wait_until(twin.gave_up, IDLE + 20, f"{name}, left alone, gives up")
            twin.look()
        wait_until(
            lambda: all(
                time.monotonic() > broken.begin + UNDER_FIRE for broken in all_broken.values()
            ),
            2 * UNDER_FIRE,
            "the time is over",
        )
        for broken in all_broken.values():
            broken.look()
        for broken in all_broken.values():
            broken.mend()
    waits = sorted(wait for broken in all_broken.values() for wait in broken.waited())
    edges.append(
        f"broken, {machine.release}: {len(waits)} visitors of {len(CASES)} apps; a 503 after {milliseconds(median(waits))} (median), "
        f"{milliseconds(waits[-len(waits) // 100])} (99 %), {milliseconds(waits[-1])} (longest)"
    )
    return all_broken, twins


@pytest.mark.parametrize("name", CASES)
def test_each_visitor_is_told_to_come_again(seen: Seen, name: str) -> None:
    broken = seen[0][name]
    answers = broken.while_broken()
    assert broken.crowd.lost == []
    assert {answer.status for answer in answers} == {503}
    assert all(int(answer.fields["retry-after"]) >= 1 for answer in answers)
    assert len(answers) > 100, "hardly anybody came"
    waited = broken.waited()
    assert waited[-len(waited) // 100] < SOON
    assert waited[-1] < AT_WORST


@pytest.mark.parametrize("name", CASES)
def test_the_master_is_started_once_and_the_socket_never_stops(seen: Seen, name: str) -> None:
    broken = seen[0][name]
    state = broken.state
    assert (state["ActiveState"], state["SubState"], state["NRestarts"]) == (
        "active",
        "running",
        "0",
    )
    masters = {
        (record["_PID"], record["_SYSTEMD_INVOCATION_ID"])
        for record in broken.records
        if record["MESSAGE"].startswith("master: ")
    }
    assert masters == {(state["MainPID"], state["InvocationID"])}
    assert len(re.findall("^Starting ", broken.messages(), re.MULTILINE)) == 1
    assert broken.instance.unbroken() == broken.listening


@pytest.mark.parametrize("name", CASES)
def test_it_is_told_once_and_the_status_tells_it_always(seen: Seen, name: str) -> None:
    broken = seen[0][name]
    assert re.fullmatch(f"failing: {broken.case.status}", broken.state["StatusText"]), broken.state[
        "StatusText"
    ]
    assert len(TRACEBACK.findall(broken.messages())) == broken.case.traced, broken.messages()
    told = [
        record for record in broken.records if record["MESSAGE"].startswith("master: failing: ")
    ]
    assert [record["PRIORITY"] for record in told] == ["3"], broken.messages()
    assert "still failing: " in broken.messages(), "it was never tried again"


@pytest.mark.parametrize("name", CASES)
def test_mending_the_file_is_enough(seen: Seen, name: str) -> None:
    broken = seen[0][name]
    first = min(answer.ended for answer in broken.crowd.answers if answer.status == 200)
    assert {answer.status for answer in broken.crowd.answers if answer.began > first} <= {200}
    for constant in ("MainPID", "InvocationID", "NRestarts"):
        assert broken.afterwards[constant] == broken.state[constant]
    assert broken.afterwards["StatusText"].startswith("awake: ")
    broken.instance.machine.wait_until(broken.instance.asleep, what=f"{name} has left")
    assert broken.instance.state()["Result"] == "success"
    assert broken.instance.unbroken() == broken.listening


@pytest.mark.parametrize("name", ALONE)
def test_left_alone_it_is_shown_as_failed_and_the_next_visitor_starts_it(
    seen: Seen, name: str
) -> None:
    twin = seen[1][name]
    assert (twin.first.status, twin.second.status) == (503, 503)
    state = twin.given_up
    assert (state["ActiveState"], state["Result"], state["ExecMainStatus"]) == (
        "failed",
        "exit-code",
        str(FAILED),
    )
    assert (state["InvocationID"], state["NRestarts"]) == (twin.life, "0")
    assert twin.socket == "listening"
    assert twin.left_behind == set()
    assert (twin.again["ActiveState"], twin.again["InvocationID"] != twin.life) == ("active", True)
    assert twin.instance.unbroken() == twin.listening
