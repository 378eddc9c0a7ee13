"""`systemctl reload` under constant load: nobody is lost, whoever calls it is told how
it went, and nothing is left in the Master.

RELOADS in the environment says how often it is reloaded: a few times by default,
RELOADS=200 takes some minutes.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from instance import TELL, Instance, life
from load import Load
from machine import Machine
from process.hammer import milliseconds
from process.visitor import Crowd, Visitor, visit
from uploads import HALF, send_half_of_it
from waiting import wait_until

RELOADS = int(os.environ.get("RELOADS", "12"))
LONGEST_WAIT = 2.0  # seconds; the longest request of the load takes 0.3
SETTINGS = {"workers": 2, "idle_timeout": 60, "keepalive_timeout": 20}
HANG = "import pathlib, os, time\npathlib.Path(os.environ['STATE_DIRECTORY'], 'hangs').touch()\ntime.sleep(3600)\n"

pytestmark = pytest.mark.timeout(120 + 5 * RELOADS)


def versioned(version: object, more: str = "") -> str:
    """The app `tell`, whose answers end with its version."""
    return TELL.replace('{os.getpid()}"', f'{{os.getpid()}} {version}"') + more


def version(answer: Any) -> str:
    return answer.text.split()[2]


class Site(Instance):
    """An instance whose code is written anew."""

    def write(self) -> Instance:
        self.sizes = {len(self.source)}
        return super().write()

    def deploy(self, version: object, more: str = "") -> None:
        """Never of a size it had: byte code is told from its source by size, and time
        in whole seconds.
        """
        text = versioned(version, more)
        while len(text) in self.sizes:
            text += "#\n"
        self.sizes.add(len(text))
        self.machine.write(self.code, text)

    def drop_in(self, *lines: str) -> None:
        self.machine.write(
            f"/etc/systemd/system/{self.service}.d/test.conf", "\n".join(["[Service]", *lines, ""])
        )
        self.machine.systemctl("daemon-reload")

    def reload(self, command: str = "reload") -> tuple[int, str]:
        done = self.machine.run("systemctl", command, self.service, check=False)
        return done.returncode, done.stderr

    @contextmanager
    def reloading(self) -> Iterator[Any]:
        """While `systemctl reload` waits for code that hangs."""
        self.deploy("never", HANG)
        command = self.machine.popen("systemctl", "reload", self.service)
        self.until_it_hangs()
        yield command

    def until_it_hangs(self) -> None:
        mark = self.machine.path(f"/var/lib/private/spyglass/{self.name}/hangs")
        wait_until(lambda: os.path.exists(mark), 10, "it loads")
        os.unlink(mark)

    def status(self) -> str:
        return self.state()["StatusText"]


_ports = iter(range(8400, 8500))


def site(machine: Machine, name: str, source: str = versioned("first"), **settings: Any) -> Site:
    made = Site(
        machine, f"re-{name}", port=next(_ports), source=source, settings=SETTINGS | settings
    )
    made.start()
    return made


def told(here: Site, status: int = 0) -> str:
    """What `spyglass reload NAME` prints; it exits with `status`."""
    done = here.machine.run("spyglass", "reload", here.name, check=False)
    assert done.returncode == status, done
    assert (done.stdout if status else done.stderr) == ""
    return done.stderr if status else done.stdout


# Nothing is lost, nothing is left


class Master:
    """What the Master of `instance` holds: its descriptors by kind, its children, its
    memory, and the files of its unit.
    """

    def __init__(self, instance: Instance) -> None:
        pid = int(instance.state()["MainPID"])
        [self.host_pid] = [
            each.host_pid
            for each in instance.machine.processes(f"spyglass@{instance.name}")
            if each.pid == pid
        ]
        self.processes = len(instance.processes())
        links = [os.readlink(link) for link in Path(f"/proc/{self.host_pid}/fd").iterdir()]
        # The number of a socket, or of a pipe, is another each time.
        self.descriptors = Counter(link.partition(":")[0] for link in links)
        status = Path(f"/proc/{self.host_pid}/status").read_text()
        self.threads = int(re.search(r"^Threads:\s+(\d+)", status, re.M)[1])  # type: ignore[index]
        self.kib = int(re.search(r"^RssAnon:\s+(\d+)", status, re.M)[1])  # type: ignore[index]
        seen = Path(f"/proc/{self.host_pid}/root")  # as it sees them: its /tmp is its own
        self.files = {
            str(path)
            for place in ("tmp", "var/tmp", "dev/shm", "run/user")
            for path in (seen / place).rglob("*")
        }

    def facts(self) -> tuple[Any, ...]:
        return self.host_pid, self.processes, self.descriptors, self.threads, self.files


def test_no_client_is_lost_and_nothing_is_left(machine: Machine, edges: list[str]) -> None:
    here = site(machine, "many")
    listening, before = here.unbroken(), None
    took, ended = [], []
    with Load(here) as load:
        load.flows()
        invocation = here.state()["InvocationID"]
        for number in range(1, RELOADS + 1):
            here.deploy(number)
            began = time.monotonic()
            assert here.reload() == (0, "")
            ended.append(time.monotonic())
            took.append(ended[-1] - began)
            # The very next visitor is the new code's, on whichever address.
            with machine.network():
                assert {version(visit(address)) for address in here.addresses} == {str(number)}
            if number == 2:  # the first brings along what is needed for it
                wait_until(lambda: len(here.processes()) == 4, 10, "only one generation is left")
                before = Master(here)
        load.flows()
        wait_until(lambda: len(here.processes()) == 4, 10, "only one generation is left")
        after = Master(here)
    answers = load.answers
    waits = sorted(answer.seconds for answer in answers)
    edges.append(
        f"reload, {machine.release}: {RELOADS} under load, of {len(answers)} requests lost {len(load.lost)}; took {milliseconds(median(took))} "
        f"(median), {milliseconds(max(took))} (longest); waited {milliseconds(waits[-1])} (longest); Master {before.kib}, then {after.kib} KiB; "
        f"{load.told} kept-alive clients told to close"
    )
    assert load.lost == [], "\n".join(machine.journal(here.service)[-30:])
    assert {answer.status for answer in answers} == {200}
    assert load.lives() == {invocation}
    assert here.unbroken() == listening
    assert here.said("warning") == []
    assert after.facts() == before.facts()
    assert after.kib - before.kib < 64 + 4 * RELOADS
    assert waits[-1] < LONGEST_WAIT
    for crowd in load.crowds:
        for answer in list(crowd.answers):
            assert int(version(answer).replace("first", "0")) >= sum(
                end < answer.began for end in ended
            ), "an old worker took somebody in"
    # Each kept-alive connection of an old generation ended with an answer that said so.
    assert load.told >= RELOADS


def test_what_is_under_way_is_finished_by_the_old_one(machine: Machine) -> None:
    """However long it takes: graceful_timeout is for a stop."""
    here = site(machine, "long", graceful_timeout=0.5, body_memory=1024)
    with Visitor(here.unix) as asleep, Visitor(here.unix) as stream, Visitor(here.unix) as upload:
        assert version(asleep.ask(keep=True)) == "first"
        asleep.send("/sleep/1.5", keep=True)
        send_half_of_it(upload)
        stream.send("/stream/1.5", keep=True)
        assert stream.sock.recv(1, socket.MSG_PEEK)
        here.deploy("second")
        assert here.reload() == (0, "")
        assert version(visit(here.unix)) == "second"
        upload.sock.sendall(bytes(HALF))
        answers = [upload.answer("POST"), asleep.answer(), stream.answer()]
        assert answers[0].closing
        # The head of the stream, and perhaps that of the other, had been made before.
        # They are told by the end of the connection.
        assert [visitor.until_closed() for visitor in (upload, asleep, stream)] == [b""] * 3
    assert [version(answer) for answer in answers] == ["first"] * 3
    assert answers[2].text.endswith("end")
    wait_until(lambda: len(here.processes()) == 4, 10, "the old one has left")
    assert here.said("warning") == []


# Whoever calls it is told

FAILURES = {
    "module": ("import blgo\n", "ModuleNotFoundError: No module named 'blgo'", True),
    "hang": (
        "import time\ntime.sleep(3600)\n",
        r"the app was not loaded within 2 s \(start_timeout\)",
        True,
    ),
    "workers": (
        "os.register_at_fork(after_in_child=lambda: os._exit(3))\n",
        "the workers die as soon as they are started",
        False,
    ),
    "setting": (
        "",
        r"/etc/spyglass/re-failures\.toml:\d+: unknown setting 'wrokers', did you mean 'workers'\?",
        False,
    ),
}


def test_what_cannot_serve_is_told_and_the_old_one_goes_on(machine: Machine) -> None:
    """Also when it takes longer than TimeoutStartSec=, at which systemd would end the
    command: it is the Master who gives up.
    """
    here = site(machine, "failures", start_timeout=2)
    here.drop_in("TimeoutStartSec=1")
    visit(here.unix)
    wait_until(lambda: len(here.processes()) == 4, 10, "the second worker is there, too")
    there, pid = here.processes(), here.state()["MainPID"]
    with Crowd(here.unix, count=2, pause=0.01) as crowd:
        for name, (more, reason, traced) in FAILURES.items():
            here.deploy(name, more)
            if name == "setting":
                machine.write(here.configuration, here.toml() + "wrokers = 3\n")
            cursor = (
                machine.run("journalctl", "--show-cursor", "-n0", "-q")
                .stdout.partition("cursor: ")[2]
                .strip()
            )
            status, said = here.reload()
            assert status == 1
            assert f"Job for {here.service} failed." in said
            assert re.fullmatch(f"awake: .*; reload failed: {reason}", here.status()), here.status()
            machine.run("journalctl", "--sync")
            records = machine.records(here.service, f"--after-cursor={cursor}")
            messages = [record["MESSAGE"] for record in records]
            assert {
                record["PRIORITY"] for record in records if "failed: " in record["MESSAGE"]
            } == {"3"}
            assert re.fullmatch(
                f"reload: failed: {reason}",
                next(text for text in messages if text.startswith("reload: ")),
            )
            assert sum("the old generation keeps serving" in text for text in messages) == 1
            assert (
                len(
                    re.findall(
                        r"Traceback \(most recent call last\):$|Fatal Python error: ",
                        "\n".join(messages),
                        re.M,
                    )
                )
                == traced
            )
            state = here.state()
            assert (state["ActiveState"], state["SubState"], state["MainPID"]) == (
                "active",
                "running",
                pid,
            )
            assert (
                machine.run(
                    "systemctl", "show", "--value", "-p", "ExecReload", here.service
                ).stdout.count("status=78")
                == 1
            )
        assert re.fullmatch(
            f"{here.name}: the new settings cannot be read, the old ones stay in force: "
            rf"{here.configuration}:\d+: unknown setting 'wrokers', did you mean 'workers'\?",
            told(here, 1).partition("\n")[0],
        )
        wait_until(lambda: here.processes() == there, 10, "nothing has changed")
        machine.write(here.configuration, here.toml())
        here.deploy("mended", "import time\ntime.sleep(1.2)\n")
        assert here.reload() == (0, "")
        assert version(visit(here.unix)) == "mended"
    assert crowd.lost == []
    assert {version(answer) for answer in crowd.answers} == {"first", "mended"}


def test_an_app_that_fails_is_tried_again(machine: Machine) -> None:
    here = site(machine, "failing", "import blgo\n")
    assert visit(here.unix).status == 503
    assert here.reload()[0] == 1
    assert here.status() == "failing: ModuleNotFoundError: No module named 'blgo'"
    here.deploy("mended")
    assert here.reload() == (0, "")
    assert version(visit(here.unix)) == "mended"


SURROUNDINGS = {
    "nothing to write to": ["ReadOnlyPaths=/", "InaccessiblePaths=/tmp /var/tmp"],
    "no network": ["PrivateNetwork=yes"],
    "root": ["DynamicUser=no", "User=root"],
}


def test_it_works_in_every_sandbox(machine: Machine) -> None:
    here = site(machine, "sandbox")
    for number, (name, lines) in enumerate(SURROUNDINGS.items()):
        here.drop_in(*lines)
        here.deploy(f"{number}a")
        machine.systemctl("restart", here.service)
        assert version(visit(here.unix)) == f"{number}a", name
        here.deploy(f"{number}b")
        assert here.reload() == (0, ""), name
        assert version(visit(here.unix)) == f"{number}b", name


@pytest.mark.parametrize(
    ("kind", "command"),
    [("notify", "spyglass reload"), ("notify-reload", ""), ("notify-reload", "spyglass reload")],
    ids=["notify", "notify-reload", "both"],
)
def test_signals_are_enough(machine: Machine, kind: str, command: str) -> None:
    """With notify-reload systemd sends SIGHUP by itself, and waits for RELOADING=1 with
    a time, and for READY=1.
    """
    if machine.release == "bookworm":
        kind, command = "notify", "spyglass reload"  # it does not know the other (252)
    here = site(machine, f"hup{next(_ports)}")
    here.drop_in(
        f"Type={kind}", "ExecReload=", *([f"ExecReload=/usr/bin/{command}"] if command else [])
    )
    visit(here.unix)
    here.deploy("second")
    assert here.reload() == (0, "")
    assert version(visit(here.unix)) == "second"
    machine.systemctl("kill", "--signal=HUP", here.service)
    here.deploy("third")
    machine.systemctl("kill", "--signal=HUP", here.service)
    wait_until(lambda: version(visit(here.unix)) == "third", 10, "the signal alone is enough")
    wait_until(
        lambda: here.state()["SubState"] == "running",
        10,
        "it is known to systemd that it has ended",
    )
    assert here.said("warning") == []


# While something else goes on


def test_while_it_is_asleep(machine: Machine) -> None:
    """There is nothing to reload; who wants that to be no error says
    try-reload-or-restart, or `spyglass reload NAME`.
    """
    here = site(machine, "asleep")
    status, said = here.reload()
    assert (status, "is not active, cannot reload" in said) == (1, True)
    assert here.reload("try-reload-or-restart") == (0, "")
    assert told(here) == f"{here.name}: asleep, the next request loads the new code\n"
    assert here.asleep()
    machine.systemctl("stop", f"spyglass@{here.name}.socket")
    assert told(here) == f"{here.name}: off, nothing to reload: its next start loads the new code\n"


def test_result_is_told_whole_and_first(machine: Machine) -> None:
    here = site(machine, "told")
    visit(here.unix)
    here.deploy("second")
    line = re.fullmatch(f"{here.name}: new code serves after ([0-9.]+) s\n", told(here))
    assert line is not None
    assert 0 < float(line[1]) < 60
    assert version(visit(here.unix)) == "second"
    here.deploy("third", "def wrong(:\n    pass\n")
    first, *rest = told(here, 1).splitlines()
    assert first.startswith(
        f"{here.name}: the new code cannot be loaded, the old one keeps serving: SyntaxError: "
    )
    assert re.search(r"\(\S+/app\.py, line \d+\)$", first)
    assert any("def wrong(:" in line for line in rest)
    assert rest[-1] == f"(to try a fix without a reload: spyglass check {here.name})"
    assert version(visit(here.unix)) == "second"
    # An ordinary user may look at neither the Master nor the journal.
    denied = machine.run("runuser", "-u", "nobody", "spyglass", "reload", here.name, check=False)
    assert denied.returncode == 1
    assert denied.stderr.startswith(f"{here.name}: not reloaded: ")


def test_what_a_reload_does_not_bring_into_force_is_a_warning(machine: Machine) -> None:
    here = site(machine, "warns")
    visit(here.unix)
    machine.write(here.configuration, here.toml() + "threads = 3\n")
    machine.write(f"/etc/spyglass/{here.name}.env", "ANSWER=42\n")

    def listed() -> str:
        return machine.run("spyglass", "list").stdout

    # Until the Master has recorded what it was started with, only times are compared.
    both = rf"running with older settings: threads \d+ -> 3, {here.name}.env changed; "
    wait_until(lambda: re.search(both, listed()), 10, "both are seen")
    done = machine.run("spyglass", "reload", here.name)
    assert done.stdout.startswith(f"{here.name}: new code serves after ")
    assert done.stderr == (
        f"{here.name}: running with older settings: {here.name}.env changed; "
        f"'spyglass apply {here.name}' brings them into force\n"
    )
    machine.systemctl("restart", here.service)
    assert told(here).startswith(f"{here.name}: new code serves after ")
    machine.run("rm", f"/etc/spyglass/{here.name}.env")


def test_unknown_app_is_an_error(machine: Machine) -> None:
    """To systemd, any name is that of an instance."""
    here = site(machine, "known")
    done = machine.run("spyglass", "reload", "re-knwon", check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"spyglass: there is no app 're-knwon', did you mean {here.name!r}?\n"


def test_while_it_wakes(machine: Machine) -> None:
    """systemd takes a start that is under way for the reload as well, whatever it is
    asked for; `spyglass reload` has the Master begin anew. The visitor is served.
    """
    here = site(machine, "wakes", versioned("first", "import time\ntime.sleep(1)\n"))
    with Visitor(here.unix) as early:
        early.send()
        wait_until(lambda: here.state()["ActiveState"] == "activating", 10, "it wakes")
        assert here.reload() == (0, "")
        assert version(early.answer()) == "first"
    machine.systemctl("stop", here.service)
    here.deploy("never", HANG)
    with Visitor(here.unix) as early:
        early.send()
        here.until_it_hangs()
        here.deploy("second")
        assert here.reload("try-reload-or-restart")[0] == 0
        assert here.state()["ActiveState"] == "activating"
        assert told(here).startswith(f"{here.name}: new code serves after ")
        assert version(early.answer()) == "second"


def test_while_it_leaves(machine: Machine) -> None:
    """Whoever comes next wakes it with what is there then."""
    here = site(machine, "leaves")
    for leave in ("kill", "stop"):
        here.deploy("first")
        visit(here.unix)
        with Visitor(here.unix) as busy:
            busy.send("/stream/1")
            assert busy.sock.recv(1, socket.MSG_PEEK)
            here.deploy("second")
            machine.systemctl(
                *(["kill", "--kill-whom=main"] if leave == "kill" else ["stop", "--no-block"]),
                here.service,
            )
            wait_until(lambda: here.state()["ActiveState"] == "deactivating", 10, "it leaves")
            status, said = here.reload()
            assert (status, "is not active, cannot reload" in said) == (1, True)
            assert here.reload("try-reload-or-restart") == (0, "")
            assert re.fullmatch(
                f"{here.name}: (leaving|asleep), the next request loads the new code\n", told(here)
            )
            assert version(busy.answer()) == "first"
        assert version(visit(here.unix)) == "second"
        machine.systemctl("stop", here.service)
        assert here.state()["Result"] == "success"


def test_while_it_is_reloaded_already(machine: Machine) -> None:
    """systemd asks again when the first has ended: who has written something meanwhile
    must not get what had been read before.
    """
    here = site(machine, "twice")
    visit(here.unix)
    here.deploy("second", "import time\ntime.sleep(3)\n")
    first = machine.popen("systemctl", "reload", here.service)
    wait_until(lambda: here.state()["ActiveState"] == "reloading", 10, "it is reloaded")
    wait_until(lambda: "loading another generation" in here.status(), 10, "it loads")
    here.deploy("third")
    assert here.reload() == (0, "")
    assert first.wait() == 0
    assert version(visit(here.unix)) == "third"


@pytest.mark.parametrize("how", ["restart", "stop", "kill"])
def test_while_it_is_reloaded_it_ends(machine: Machine, how: str) -> None:
    here = site(machine, f"end-{how}")
    visit(here.unix)
    before = here.state()["InvocationID"]
    with Crowd(here.unix, count=2, pause=0.01) as crowd, here.reloading() as command:
        here.deploy("second")
        if how == "kill":
            machine.systemctl("kill", "--kill-whom=main", "--signal=KILL", here.service)
        else:
            machine.systemctl(how, here.service)
        # A restart is more than a reload, so that is what whoever has asked for the one
        # gets.
        assert command.wait() == (0 if how == "restart" else 1)
        wait_until(lambda: version(visit(here.unix)) == "second", 20, "the next one serves")
    assert {answer.status for answer in crowd.answers} == {200}
    assert {life(answer) == before for answer in crowd.answers} == {True, False}
    assert crowd.lost == []
    messages = here.said("warning")
    if how == "kill":
        assert "reload: failed: the Master has ended" in messages
    else:
        assert messages == []
        assert here.state()["Result"] == "success"
