"""An upgrade under load: nobody who comes is lost, nobody who sleeps is woken, and
whoever is awake soon runs the new program.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from instance import TELL, Instance, life
from load import Load
from machine import Machine, boot, root
from process.hammer import milliseconds
from process.visitor import Answer, Crowd, visit
from versions import deb, install, newer, status, stranger, version

SOURCE = TELL.replace(
    '("X-Answered"', '("X-Version", __import__("spyglass").__version__), ("X-Answered"'
)
STEADY = {"workers": 2, "idle_timeout": 60}
RESTLESS = {"workers": 1, "idle_timeout": 0.1, "keepalive_timeout": 0.05}


@pytest.fixture(scope="module")
def installed_machine(release: str) -> Iterator[Machine]:
    """The package has been installed while the machine ran."""
    with boot(release, root("tests", release)) as machine:
        install(machine, version(machine))
        deb(machine, newer(machine))
        deb(machine, stranger(machine))
        yield machine


def runs(answer: Answer) -> str:
    """The version that has answered."""
    return answer.fields["x-version"].split("~")[0]


def expected(number: str) -> str:
    return number.split("~")[0]


def asleep(machine: Machine, name: str) -> Instance:
    return Instance(machine, name, SOURCE, settings=STEADY).start()


def never_woken(instance: Instance) -> bool:
    return (
        instance.asleep()
        and instance.state()["InvocationID"] == ""
        and instance.state()["NRestarts"] == "0"
    )


def test_under_load(installed_machine: Machine, edges: list[str]) -> None:
    """Up, the same again, and down again; beside those who keep an app awake, somebody
    wakes another again and again.

    A Master that comes upon a part of another version ends before its time, as from a
    mistake of ours; nobody may notice that either.
    """
    machine = installed_machine
    steady = Instance(machine, "steady", SOURCE, port=8100, settings=STEADY).start()
    restless = Instance(machine, "restless", SOURCE, settings=RESTLESS).start()
    sleeper = asleep(machine, "sleeper")
    listening = [instance.unbroken() for instance in (steady, restless, sleeper)]
    steps = [stranger(machine), stranger(machine), version(machine)]
    with ExitStack() as stack:
        load = stack.enter_context(Load(steady))
        waker = stack.enter_context(Crowd(restless.unix, count=1, pause=0.3))
        for number in steps:
            load.flows()
            before = steady.state()["InvocationID"]
            install(machine, number)
            assert status(machine) == f"installed {number}"
            machine.wait_until(
                lambda before=before: life(visit(steady.unix)) != before,
                30,
                "it has been restarted",
            )
            load.flows()
            assert runs(visit(steady.unix)) == runs(visit(restless.unix)) == expected(number)
    answers = load.answers + waker.answers
    edges.append(
        f"upgrade, {machine.release}: {len(steps)} under load, of {len(answers)} requests lost {len(load.lost) + len(waker.lost)}; "
        f"waited {milliseconds(max(answer.seconds for answer in answers))} (longest); {len({life(a) for a in waker.answers})} wakes"
    )
    assert load.lost == []
    assert waker.lost == []
    assert {answer.status for answer in answers} == {200}
    assert len(load.lives()) > len(steps)
    assert never_woken(sleeper)
    assert [instance.unbroken() for instance in (steady, restless, sleeper)] == listening


POLICY = "/usr/sbin/policy-rc.d"


@pytest.fixture
def awake(installed_machine: Machine) -> Iterator[Instance]:
    """An app that somebody has just visited, of the version that was installed
    first.
    """
    machine = installed_machine
    if status(machine) != f"installed {version(machine)}":
        install(machine, version(machine))
    instance = Instance(machine, "awake", SOURCE, settings=STEADY).start()
    machine.systemctl("restart", instance.service)
    assert runs(visit(instance.unix)) == expected(version(machine))
    yield instance
    machine.run("rm", "-f", POLICY)
    machine.systemctl("stop", instance.socket)


def configured(awake: Instance) -> None:
    """What dpkg has begun it ends, and the app runs what has come."""
    machine = awake.machine
    machine.run("dpkg", "--configure", "--pending")
    assert status(machine) == f"installed {newer(machine)}"
    machine.wait_until(
        lambda: runs(visit(awake.unix)) == expected(newer(machine)),
        30,
        "it runs what was configured",
    )


def test_interrupted_between_files_and_scripts(awake: Instance) -> None:
    """dpkg may be busy with a thousand other packages there, or have been killed: who
    comes meanwhile is served.
    """
    machine = awake.machine
    before = life(visit(awake.unix))
    sleeper = asleep(machine, "unpacked")
    machine.run("dpkg", "--unpack", deb(machine, newer(machine)))
    assert status(machine) == f"unpacked {newer(machine)}"
    assert never_woken(sleeper)
    assert runs(visit(sleeper.unix)) == expected(newer(machine))
    assert life(visit(awake.unix)) == before
    configured(awake)


def test_killed_amid_the_scripts(awake: Instance) -> None:
    machine = awake.machine
    before = life(visit(awake.unix))
    path = deb(machine, newer(machine))
    # All who belong to it, at the moment when its last script asks the policy.
    machine.write(POLICY, "#!/bin/sh\nexec /usr/bin/kill -KILL -- -$(cat /run/dpkg.pid)\n", 0o755)
    machine.run(
        "setsid",
        "--wait",
        "sh",
        "-c",
        'echo $$ >/run/dpkg.pid; exec dpkg --install "$1"',
        "install",
        path,
        check=False,
    )
    assert status(machine) == f"half-configured {newer(machine)}"
    assert life(visit(awake.unix)) == before
    machine.run("rm", POLICY)
    configured(awake)


def test_a_policy_that_forbids_it_is_heeded(awake: Instance) -> None:
    machine = awake.machine
    before = life(visit(awake.unix))
    machine.write(POLICY, "#!/bin/sh\nexit 101\n", 0o755)
    assert "policy-rc.d returned 101" in install(machine, newer(machine))
    assert status(machine) == f"installed {newer(machine)}"
    assert life(visit(awake.unix)) == before


def test_scripts_may_be_run_again(awake: Instance) -> None:
    """Debian Policy 6.2; and those of an upgrade that was called off."""
    machine = awake.machine
    calls = [
        "postinst configure", "postinst configure", f"postinst configure {version(machine)}", f"postinst configure {version(machine)}",
        "prerm upgrade 0.2", "prerm upgrade 0.2", "prerm failed-upgrade 0.2", "postrm upgrade 0.2", "postrm upgrade 0.2",
        "postrm failed-upgrade 0.2", "postrm abort-upgrade 0.2", "postinst abort-upgrade 0.2", "prerm deconfigure in-favour other 1",
        "postinst abort-deconfigure in-favour other 1", "postinst abort-remove",
    ]  # fmt: skip
    listening = awake.unbroken()
    for call in calls:
        script, *arguments = call.split()
        environment = {
            "DPKG_MAINTSCRIPT_PACKAGE": "spyglass",
            "DPKG_MAINTSCRIPT_NAME": script,
            "DPKG_ROOT": "",
        }
        machine.run(f"/var/lib/dpkg/info/spyglass.{script}", *arguments, env=environment)
    assert visit(awake.unix).status == 200
    assert awake.unbroken() == listening
    assert status(machine) == f"installed {version(machine)}"
