"""`spyglass list`, `status` and `doctor` on a machine with apps in every state: what
they say is so, and nobody is woken by being looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from instance import Instance
from machine import Machine
from process.visitor import visit

APP = """\
def deep(number):
    return deeper(number) if number else {}["nothing there"]

def deeper(number):  # or Python would say that the line before is repeated
    return deep(number - 1)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        deep(20)
    start_response("200 OK", [])
    return [b"hello"]
"""
BROKEN = "import blgo\n"
LONG = "a-name-of-22-letters-x"
USERS = (None, "nobody")


@dataclass
class Apps:
    """One in each state."""

    machine: Machine
    by_name: dict[str, Instance]

    def command(self, *words: str, user: str | None = None, status: int = 0, **env: str) -> str:
        done = self.machine.run("spyglass", *words, check=False, user=user, env=env)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def list(self, user: str | None = None) -> dict[str, dict[str, Any]]:
        return {app["name"]: app for app in json.loads(self.command("list", "--json", user=user))}


@pytest.fixture(scope="module")
def apps(machine: Machine) -> Iterator[Apps]:
    def app(name: str, source: str = APP, port: int = 0, **settings: Any) -> Instance:
        return Instance(machine, name, source, port, settings)

    all_of_them = [
        app("awake", port=8001, idle_timeout=600, workers=2), app(LONG, idle_timeout=0.5), app("broken", BROKEN, idle_timeout=0.5),
        app("failing", BROKEN, idle_timeout=600), app("never"), app("off"),
    ]  # fmt: skip
    for each in all_of_them:
        each.write()
    sockets = [each.socket for each in all_of_them if each.name != "off"]
    machine.systemctl("enable", "--now", *sockets)
    here = Apps(machine, {each.name: each for each in all_of_them})
    for name in ("awake", LONG):
        assert visit(here.by_name[name].unix).text == "hello"
        assert visit(here.by_name[name].unix, "/raise").status == 500
    for name in ("broken", "failing"):
        assert visit(here.by_name[name].unix).status == 503
    for name in (LONG, "broken"):
        machine.wait_until(
            lambda name=name: not here.by_name[name].processes(), what=f"{name} has left"
        )  # type: ignore[misc]
    yield here
    machine.systemctl("disable", "--now", *sockets)


STATES = {
    "awake": "awake",
    LONG: "asleep",
    "broken": "failing",
    "failing": "failing",
    "never": "asleep",
    "off": "off",
}
TOLD = "ModuleNotFoundError: No module named 'blgo'"


def test_each_app_and_how_it_is(apps: Apps) -> None:
    listed = apps.list()
    assert {name: app["state"] for name, app in listed.items()} == STATES
    awake, slept, broken, never = (listed[name] for name in ("awake", LONG, "broken", "never"))
    assert awake["addresses"] == ["/run/spyglass/awake.sock", "127.0.0.1:8001"]
    assert (awake["workers"], awake["enabled"], listed["off"]["enabled"]) == (2, True, False)
    assert awake["not_in_force"] == []
    for app in (awake, slept):
        assert app["problems"] == []
        assert (app["wakes"], app["requests"], app["errors"]) == (1, 2, 1)
        assert 0 < app["load_ms"] < app["wake_ms"]
    assert (slept["why_left"], awake["why_left"]) == ("idle", None)
    assert slept["woke"] <= slept["left"]
    assert (broken["trouble"], broken["why_left"], broken["failures"] > 0) == (
        TOLD,
        f"failing: {TOLD}",
        True,
    )
    assert listed["failing"]["trouble"] == TOLD
    assert (never["wakes"], never["requests"], never["woke"]) == (0, 0, None)
    assert awake["memory"] > 1 << 20
    assert slept["memory"] is None


def test_counts_are_of_now(apps: Apps) -> None:
    """Not of the last time that they were written, up to ten seconds ago."""
    one = Instance(apps.machine, "counted", APP, settings={"idle_timeout": 600}).start()
    for number in range(1, 4):
        visit(one.unix, "/raise")
        apps.machine.wait_until(
            # a worker counts a request after its client has the answer
            lambda number=number: apps.list()["counted"]["requests"] == number,  # type: ignore[misc]
            timeout=5,
            what="it is counted",
        )
    problem = "all 3 requests since the last wake failed (status 5xx, or an incomplete response)"
    assert apps.list()["counted"]["problems"] == [problem]
    assert f"\n    {problem}\n" in apps.command("list")
    assert f"\n  problem   {problem}\n" in apps.command("status", "counted")
    assert [finding["what"] for finding in findings(apps.machine)["counted"]] == [problem]
    visit(one.unix)
    apps.machine.wait_until(lambda: apps.list()["counted"]["problems"] == [], what="one was served")
    # A Master that stands still cannot report.
    apps.machine.systemctl("kill", "--kill-whom=main", "--signal=STOP", one.service)
    said = apps.machine.run("spyglass", "list").stderr
    assert re.fullmatch(
        r"counted: its counts are of \d+ s ago, because its Master did not answer\n", said
    )
    apps.machine.systemctl("kill", "--kill-whom=main", "--signal=CONT", one.service)
    apps.machine.systemctl("stop", one.socket)
    apps.machine.run("rm", one.configuration)


def test_an_ordinary_user_sees_what_may_be_seen(apps: Apps) -> None:
    listed = apps.list("nobody")
    assert {name: app["state"] for name, app in listed.items()} == STATES
    for name in ("awake", LONG, "broken"):
        app = listed[name]
        assert (app["wakes"], app["requests"], app["load_ms"]) == (None, None, None)
        assert (app["woke"] is not None, app["wake_ms"] > 0) == (
            True,
            True,
        )  # systemd tells everybody
    assert (listed["awake"]["workers"], listed["failing"]["trouble"]) == (2, TOLD)
    done = apps.machine.run("spyglass", "list", user="nobody")
    assert done.stderr == "-: only root can read the counts, and which settings are in force\n"
    assert re.search(r"^awake +awake +unix 127\.0\.0\.1:8001 +2 +- ", done.stdout, re.M)


@pytest.mark.one_release
def test_the_table_fits_a_terminal(apps: Apps) -> None:
    wide = apps.command("list").splitlines()
    rows = [line for line in wide[1:] if not line.startswith(" ")]
    assert [line.split()[0] for line in rows] == sorted(STATES)
    assert wide[1 + wide.index(rows[sorted(STATES).index("broken")])] == f"    {TOLD}"
    for columns in (80, 100, 120):
        lines = apps.command("list", COLUMNS=str(columns)).splitlines()
        assert max(map(len, lines)) <= columns
        for name in (*STATES, "127.0.0.1:8001", TOLD):
            assert name in "\n".join(lines)
        lines = apps.command("status", "awake", "-n", "0", COLUMNS=str(columns)).splitlines()
        head = lines[: lines.index("")]
        assert max(map(len, head)) <= columns
    assert "\033" not in apps.command("list")
    assert (
        "\033[32mawake"
        in apps.machine.run(
            "script", "-qec", "spyglass list", "/dev/null", env={"TERM": "xterm"}
        ).stdout
    )
    assert (
        "\033"
        not in apps.machine.run(
            "script", "-qec", "spyglass list", "/dev/null", env={"TERM": "xterm", "NO_COLOR": "1"}
        ).stdout
    )


@pytest.mark.parametrize("user", USERS)
def test_one_app_in_depth(apps: Apps, user: str | None) -> None:
    said = apps.command("status", "awake", "-n", "500", user=user)
    assert said.startswith("awake: awake since ")
    assert re.search(r"^  status +awake: 2 workers, ", said, re.M)
    assert "127.0.0.1:8001" in said
    assert re.search(r"idle_timeout += 600 +# /etc/spyglass/awake.toml:3$", said, re.M)
    assert [*re.findall(r"^ +\d+  (\w+) ", said, re.M)] == ["master", "zygote", "worker", "worker"]
    if user is None:
        # All of it: each of the calls has a line for where it is, and one for what it
        # does there, at least.
        [trace] = re.findall(
            r"^  worker: GET /raise: the app raised KeyError\n  Traceback.*?^  KeyError: 'nothing there'$",
            said,
            re.M | re.S,
        )
        assert 80 < trace.count("\n") < 200
        assert re.search(r"^  counts +1 wake, 2 requests, 1 error, ", said, re.M)
        assert re.search(r"^Journal\n.*Started spyglass@awake", said, re.M | re.S)
    else:
        assert re.search(r"^  counts +only root can read them$", said, re.M)
        assert "cannot read the journal" in said


@pytest.mark.one_release
def test_exit_statuses_are_those_of_systemctl(apps: Apps) -> None:
    for name, status in {
        "awake": 0,
        LONG: 0,
        "never": 0,
        "broken": 1,
        "failing": 1,
        "off": 3,
    }.items():
        facts = json.loads(apps.command("status", "--json", name, status=status))
        assert facts["state"] == STATES[name]
        assert facts["settings_faults"] == []
        assert (facts["traceback"] is None) == (name in ("never", "off"))
        assert facts["unread"] == []
    for command in ("status", "doctor", "reload"):
        done = apps.machine.run("spyglass", command, "awak", check=False)
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr == "spyglass: there is no app 'awak', did you mean 'awake'?\n"


@pytest.mark.parametrize("user", USERS)
def test_looking_wakes_no_app(apps: Apps, user: str | None) -> None:
    def everything() -> list[str]:
        units = [unit for each in apps.by_name.values() for unit in (each.service, each.socket)]
        wanted = (
            "Id,ActiveState,SubState,InvocationID,MainPID,NRestarts,StateChangeTimestampMonotonic"
        )
        states = apps.machine.systemctl("show", f"--property={wanted}", *units)
        return [states, *(str(process) for process in apps.machine.processes())]

    before = everything()
    apps.list(user)
    apps.command("list", user=user)
    for name, state in STATES.items():
        apps.command("status", name, user=user, status={"off": 3, "failing": 1}.get(state, 0))
    apps.machine.run("spyglass", "doctor", user=user, check=False)
    assert everything() == before


def test_what_was_counted_is_counted_on(apps: Apps) -> None:
    one = apps.by_name[LONG]
    before = apps.list()[LONG]
    assert visit(one.unix).text == "hello"
    apps.machine.systemctl("stop", one.service)
    stopped = apps.list()[LONG]
    assert (stopped["wakes"], stopped["requests"]) == (before["wakes"] + 1, before["requests"] + 1)
    assert stopped["why_left"] == "stopped by SIGTERM"
    assert stopped["counted_since"] == before["counted_since"]


def test_one_that_is_killed_is_known_to_have_been(apps: Apps) -> None:
    one = Instance(apps.machine, "killed", APP, settings={"idle_timeout": 600}).start()
    assert visit(one.unix).text == "hello"
    noted = Path(apps.machine.path("/var/lib/private/spyglass/killed/.spyglass-counters"))
    apps.machine.wait_until(noted.exists, what="it has been noted")
    apps.machine.systemctl("kill", "--signal=KILL", one.service)
    apps.machine.wait_until(
        lambda: apps.list()["killed"]["wakes"] == 2, what="another has been started, and noted that"
    )
    assert apps.list()["killed"]["why_left"] == "killed"
    apps.machine.systemctl("stop", one.socket)
    apps.machine.run("rm", one.configuration)


# The doctor

# An app for each: what somebody has written for its socket, for its service, and what
# is found.
TRAPS = {
    "restarts": ("", "[Service]\nRestart=always\n", "spyglass@restarts.service: Restart=always"),
    "boots": (
        "",
        "[Install]\nWantedBy=multi-user.target\n",
        "spyglass@boots.service: WantedBy=multi-user.target",
    ),
    "mixed": ("", "[Service]\nKillMode=mixed\n", "spyglass@mixed.service: KillMode=mixed"),
    "limited": (
        "",
        "[Unit]\nStartLimitIntervalSec=10\n",
        "spyglass@limited.service: StartLimitIntervalSec=10s",
    ),
    "remains": (
        "",
        "[Service]\nRemainAfterExit=yes\n",
        "spyglass@remains.service: RemainAfterExit=yes",
    ),
    "condition": (
        "",
        "[Unit]\nConditionPathExists=/nowhere\n",
        "spyglass@condition.service: ConditionPathExists=/nowhere",
    ),
    "runtime": (
        "",
        "[Service]\nRuntimeDirectory=spyglass\n",
        "spyglass@runtime.service: RuntimeDirectory=spyglass",
    ),
    "flushes": ("[Socket]\nFlushPending=yes\n", "", "spyglass@flushes.socket: FlushPending=yes"),
    "accepts": ("[Socket]\nAccept=yes\n", "", "spyglass@accepts.socket: Accept=yes"),
    "short": ("[Socket]\nBacklog=4\n", "", "spyglass@short.socket: Backlog=4"),
    "trigger": (
        "[Socket]\nTriggerLimitBurst=20\n",
        "",
        "spyglass@trigger.socket: TriggerLimitBurst=20 in TriggerLimitIntervalSec=1s",
    ),
    "masked": ("", "", "spyglass@masked.service is masked"),
    "moved": ("", "", "spyglass@moved.socket is active, but does not listen on 127.0.0.1:8009"),
    "closed": (
        "",
        "",
        '/etc/spyglass/closed.toml:1: app: /etc/spyglass/closed.toml is not accessible to the app\'s dynamic user (mode 0600): create a group for the app (addgroup --system closed; group = "closed"), then chgrp closed /etc/spyglass/closed.toml && chmod g+rX /etc/spyglass/closed.toml; pass a secret in `credentials` instead',
    ),
}


def findings(machine: Machine) -> dict[str, list[dict[str, Any]]]:
    """What is grave, by where it is, but for the two apps that are broken from the
    beginning.
    """
    done = machine.run("spyglass", "doctor", "--json", check=False)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(done.stdout):
        if finding["grave"]:
            found.setdefault(finding["where"], []).append(finding)
    assert done.returncode == 1, done.stderr
    [broken], [failing] = found.pop("broken"), found.pop("failing")
    assert (broken["what"], failing["what"]) == (
        "spyglass@broken.service: it could not be loaded",
        f"spyglass@failing.service is failing: {TOLD}",
    )
    return found


def set_traps(machine: Machine) -> dict[str, Instance]:
    apps = {
        name: Instance(machine, name, APP, settings={"idle_timeout": 0.3}).write() for name in TRAPS
    }
    for name, (socket, service, _) in TRAPS.items():
        for unit, text in ((apps[name].socket, socket), (apps[name].service, service)):
            if text:
                machine.write(f"/etc/systemd/system/{unit}.d/override.conf", text)
    machine.systemctl("daemon-reload")
    machine.systemctl("enable", apps["boots"].service)
    machine.systemctl("start", *(app.socket for app in apps.values()))
    machine.systemctl("mask", apps["masked"].service)
    machine.run("chmod", "0600", apps["closed"].configuration)
    machine.write(
        f"/etc/systemd/system/{apps['moved'].socket}.d/override.conf",
        "[Socket]\nListenStream=\nListenStream=127.0.0.1:8009\n",
    )
    machine.systemctl("daemon-reload")
    return apps


def test_each_trap_is_found_and_its_cure_cures_it(apps: Apps) -> None:
    machine = apps.machine
    assert findings(machine) == {}
    assert apps.command("doctor", status=1).splitlines()[-1].startswith("2 things wrong")
    trapped = set_traps(machine)
    found = findings(machine)
    assert {name: [finding["what"] for finding in found.pop(name, [])] for name in TRAPS} == {
        name: [trap[2]] for name, trap in TRAPS.items()
    }
    assert found == {}
    mend(machine)
    for _ in range(2):  # the second time shows that the first has left nothing broken
        served_and_left(machine, trapped)
    forget(machine, trapped)


@pytest.mark.one_release
def test_what_the_doctor_could_not_inspect_is_told(apps: Apps) -> None:
    said = apps.command("doctor", LONG, user="nobody", status=3).splitlines()
    assert f"not inspected: counts, stored files and byte code ({LONG}): only root can" in said
    assert said[-1].startswith("nothing wrong in what was inspected, ")
    assert said[-1].endswith(" not inspected (run it as root)")
    assert "not inspected" not in apps.command("doctor", LONG)


@pytest.mark.one_release
def test_public_secrets_are_found_and_closed(apps: Apps) -> None:
    file = f"/etc/spyglass/{LONG}.env"
    apps.machine.write(file, "SECRET_KEY=hunter2\n")
    apps.machine.run("chmod", "0644", file)
    for user in USERS:
        said = apps.command("doctor", LONG, user=user, status=1)
        assert (
            f"{LONG}: {file} is readable by all users, and SECRET_KEY looks like a secret" in said
        )
        assert "hunter2" not in said
    apps.machine.run("sh", "-c", f"chmod o= {file}")
    apps.command("doctor", LONG)
    said = apps.command("doctor", LONG, user="nobody", status=3)
    assert f"not inspected: {file} ({LONG}): only root can read it" in said
    apps.machine.run("rm", file)


def served_and_left(machine: Machine, apps: dict[str, Instance]) -> None:
    def come(name: str) -> str:
        with machine.http(8009 if name == "moved" else f"/run/spyglass/{name}.sock") as client:
            client.request("GET", "/")
            return client.getresponse().read().decode()

    with ThreadPoolExecutor(len(apps)) as pool:
        assert dict(zip(apps, pool.map(come, apps), strict=True)) == dict.fromkeys(apps, "hello")
    for name, app in apps.items():
        machine.wait_until(app.asleep, what=f"{name} sleeps")


def mend(machine: Machine) -> None:
    """Do what the doctor says; then nothing is wrong any more."""
    for finding in (finding for found in findings(machine).values() for finding in found):
        for command in finding["cure"]:
            if not command.startswith("spyglass status"):  # which only shows more
                machine.run("sh", "-c", command)
    assert findings(machine) == {}


def forget(machine: Machine, apps: dict[str, Instance]) -> None:
    machine.systemctl("stop", *(app.socket for app in apps.values()))
    for app in apps.values():
        machine.run(
            "rm",
            "-r",
            "-f",
            app.configuration,
            *(f"/etc/systemd/system/{unit}.d" for unit in (app.socket, app.service)),
        )
    machine.systemctl("daemon-reload")


def test_sockets_that_have_failed_are_told_and_how_to_have_them_back(apps: Apps) -> None:
    """In earnest: by a condition that is not met, by a service that is masked, and by
    too many starts.
    """
    machine = apps.machine
    ways = {
        "unmet": "[Unit]\nConditionPathExists=/nowhere\n",
        "hidden": "",
        "toomany": "[Unit]\nStartLimitIntervalSec=100\nStartLimitBurst=1\n",
    }
    failed = {
        name: Instance(machine, name, APP, settings={"idle_timeout": 0.3}).write() for name in ways
    }
    for name, text in ways.items():
        if text:
            machine.write(f"/etc/systemd/system/{failed[name].service}.d/override.conf", text)
    # A machine that has a lot to do may not even come to the 300 in a second of the
    # package's.
    machine.write(
        f"/etc/systemd/system/{failed['unmet'].socket}.d/override.conf",
        "[Socket]\nTriggerLimitBurst=5\nTriggerLimitIntervalSec=60\n",
    )
    machine.systemctl("start", *(app.socket for app in failed.values()))
    machine.systemctl("mask", failed["hidden"].service)
    for name, app in failed.items():
        if name == "toomany":
            assert visit(app.unix).text == "hello"
            machine.wait_until(app.asleep, what="it sleeps")
        with machine.connect(f"/run/spyglass/{name}.sock"):
            machine.wait_until(
                lambda app=app: machine.state(app.socket)["ActiveState"] == "failed",
                what=f"{name} has failed",
            )  # type: ignore[misc]
    assert {name: apps.list()[name]["state"] for name in failed} == dict.fromkeys(failed, "failing")
    results = [
        finding["what"]
        for name in failed
        for finding in findings(machine)[name]
        if "has failed" in finding["what"]
    ]
    assert [re.findall(r"\((.*)\)", what)[0] for what in results] == [
        "trigger-limit-hit",
        "resources",
        "service-start-limit-hit",
    ]
    mend(machine)
    served_and_left(machine, failed)
    forget(machine, failed)


def test_a_socket_that_finds_its_port_taken_names_the_program(apps: Apps) -> None:
    machine = apps.machine
    app = Instance(machine, "late", APP, settings={"listen": 8013}).write()
    machine.run("spyglass", "apply", "late")
    machine.systemctl("stop", app.socket)
    server = "python3 -m http.server 8013"
    machine.run("systemd-run", "--unit=rival", *server.split())
    machine.wait_until(
        lambda: machine.run("curl", "-s", "localhost:8013", check=False).stdout, what="it listens"
    )
    machine.systemctl("start", app.socket, check=False)
    in_use = re.compile(r"\[::\]:8013: in use by python3 \(pid \d+, rival\.service\)")
    assert in_use.search(apps.list()["late"]["trouble"])
    assert in_use.search(" ".join(apps.command("status", "late", status=1).split()))
    [finding] = findings(machine)["late"]
    assert "(resources)" in finding["what"]
    assert in_use.search(finding["why"])
    for_others = apps.list(user="nobody")["late"]["trouble"]
    assert "[::]:8013: in use by another program (as root, its name is shown)" in for_others
    machine.systemctl("stop", "rival.service")
    assert apps.list()["late"]["trouble"] == (
        "its socket has failed (resources): all connections are refused; "
        "it can listen now: spyglass apply late"
    )
    mend(machine)
    with machine.http(8013) as client:
        client.request("GET", "/")
        assert client.getresponse().read() == b"hello"
    machine.run("spyglass", "remove", "--purge", "late")


@pytest.mark.one_release
def test_a_file_that_has_changed_since_it_was_applied_and_one_that_is_gone(apps: Apps) -> None:
    machine = apps.machine
    changed, gone = (
        Instance(machine, name, APP, settings={"listen": port}).write()
        for name, port in (("changed", 8010), ("gone", 8012))
    )
    machine.run("spyglass", "apply", "changed", "gone")
    assert findings(machine) == {}
    Instance(machine, "changed", APP, settings={"listen": 8011}).write()
    machine.run("rm", gone.configuration)
    found = findings(machine)
    assert [finding["what"] for finding in found["changed"]] == [
        f"{changed.configuration} has changed since it was applied"
    ]
    assert [finding["cure"] for finding in found["gone"]] == [["spyglass remove gone"]]
    mend(machine)
    with machine.http(8011) as client:
        client.request("GET", "/")
        assert client.getresponse().read() == b"hello"
    assert "gone" not in apps.list()
    machine.run("spyglass", "remove", "--purge", "changed")


def test_what_is_wrong_with_the_machine(apps: Apps) -> None:
    machine = apps.machine
    package = "/usr/lib/python3/dist-packages/spyglass"
    machine.run("rm", "-r", f"{package}/__pycache__")
    machine.run("sh", "-c", "echo 64 >/proc/sys/net/core/somaxconn")
    machine.run("sed", "-i", "s/^passwd:.*/passwd: files/", "/etc/nsswitch.conf")
    machine.write("/etc/spyglass/No Name.toml", "")
    [*found] = json.loads(
        machine.run(
            "spyglass", "doctor", "--json", check=False, env={"PYTHONDONTWRITEBYTECODE": "1"}
        ).stdout
    )
    told = {finding["what"] for finding in found if finding["where"] == "machine"}
    for what in (
        "net.core.somaxconn is 64",
        "/etc/nsswitch.conf does not name systemd",
        "Spyglass has no byte code",
        "No Name.toml is ignored",
    ):
        assert [text for text in told if what in text], told
    machine.run("rm", "/etc/spyglass/No Name.toml")
    for finding in found:
        if finding["where"] == "machine" and finding["cure"] and "No Name" not in finding["what"]:
            for command in finding["cure"]:
                machine.run("sh", "-c", command)
    assert machine.read("/proc/sys/net/core/somaxconn") == "4096\n"
    assert machine.run("ls", f"{package}/__pycache__").stdout
    assert not [
        finding
        for finding in json.loads(apps.command("doctor", "--json", status=1))
        if finding["where"] == "machine"
    ]
