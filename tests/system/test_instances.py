"""Several apps on one machine: each with an address, a user, settings and a life of its
own. And what the template promises to each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from instance import Instance
from machine import Address, Machine
from process.visitor import visit

# Tells who it is. What is compiled after the first line, it notices.
WHO = """\
import sys
compiled = []
sys.addaudithook(lambda event, about: event == "compile" and compiled.append(str(about[1])))
import json, os, pwd
import neighbour, flask

def app(environ, start_response):
    uid = os.getuid()
    answer = {
        "uid": uid, "user": pwd.getpwuid(uid).pw_name, "home": os.environ["HOME"], "state": os.environ["STATE_DIRECTORY"], "from": neighbour.NAME,
        "compiled": [path for path in compiled if path.endswith(".py")],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
"""
TCP = """\
[Socket]
ListenStream=
ListenStream=127.0.0.1:8001
ListenStream=[::1]:8001
"""
UNIX = "/run/spyglass/a.sock"
PORTS: list[Address] = [("127.0.0.1", 8001), ("::1", 8001)]


def furnish(machine: Machine, name: str, settings: str) -> None:
    machine.write(f"/srv/{name}/who.py", WHO)
    machine.write(f"/srv/{name}/neighbour.py", f"NAME = {name!r}\n")
    machine.write(
        f"/etc/spyglass/{name}.toml",
        f'app = "who"\ndirectory = "/srv/{name}"\nvenv = "/srv/venv"\n{settings}',
    )


def get(machine: Machine, address: Address) -> tuple[int, bytes]:
    with machine.http(address) as client:
        client.request("GET", "/")
        response = client.getresponse()
        return response.status, response.read()


def ask(machine: Machine, address: Address) -> dict[str, Any]:
    status, body = get(machine, address)
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


def until_asleep(machine: Machine, name: str) -> None:
    machine.wait_until(lambda: not machine.processes(f"spyglass@{name}"), what=f"{name} sleeps")


@pytest.fixture(scope="module")
def two(machine: Machine) -> Iterator[Machine]:
    """App a on a unix socket, not asleep soon; app b on a port, asleep soon."""
    furnish(machine, "a", "workers = 1\n")
    furnish(machine, "b", "workers = 3\nidle_timeout = 0.5\n")
    machine.write("/etc/systemd/system/spyglass@b.socket.d/listen.conf", TCP)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "spyglass@a.socket", "spyglass@b.socket")
    yield machine
    machine.systemctl("stop", "spyglass@a.socket", "spyglass@b.socket")
    assert machine.processes() == []


def test_each_is_asked_at_its_own_address(two: Machine) -> None:
    assert two.processes() == []
    assert ask(two, UNIX)["from"] == "a"
    assert two.processes("spyglass@b") == []
    for address in PORTS:
        assert ask(two, address)["from"] == "b"
        until_asleep(two, "b")
    assert two.run("test", "-e", "/run/spyglass/b.sock", check=False).returncode == 1


def test_each_has_its_own_settings(two: Machine) -> None:
    with two.connect(UNIX), two.connect(PORTS[0]):
        # Master, zygote, workers.
        two.wait_until(lambda: len(two.processes("spyglass@a")) == 2 + 1, what="a has one worker")
        two.wait_until(
            lambda: len(two.processes("spyglass@b")) == 2 + 3, what="b has three workers"
        )


def test_each_is_a_user_of_its_own(two: Machine) -> None:
    a, b = ask(two, UNIX), ask(two, PORTS[0])
    assert (a["user"], b["user"]) == ("spyglass-a", "spyglass-b")
    assert a["uid"] != b["uid"]
    assert min(a["uid"], b["uid"]) >= 61184  # the range of dynamic users (systemd.exec(5))
    assert (
        [each["home"] for each in (a, b)]
        == [each["state"] for each in (a, b)]
        == ["/var/lib/spyglass/a", "/var/lib/spyglass/b"]
    )
    with two.connect(PORTS[0]):
        for name, uid in (("a", a["uid"]), ("b", b["uid"])):
            there = two.processes(f"spyglass@{name}")
            assert set(
                two.run("ps", "-o", "uid=", *(str(process.pid) for process in there)).stdout.split()
            ) == {str(uid)}


def test_one_that_sleeps_does_not_touch_the_other(two: Machine) -> None:
    ask(two, UNIX)
    before = two.state("spyglass@a.service")
    for _ in range(2):
        ask(two, PORTS[0])
        until_asleep(two, "b")
        assert two.state("spyglass@b.socket")["SubState"] == "listening"
    assert ask(two, UNIX)["from"] == "a"
    after = two.state("spyglass@a.service")
    assert after["SubState"] == "running"
    assert [after[field] for field in ("MainPID", "InvocationID")] == [
        before[field] for field in ("MainPID", "InvocationID")
    ]


def test_web_server_may_connect_and_no_other_user(two: Machine) -> None:
    argv = [
        "curl",
        "--silent",
        "--show-error",
        "--max-time",
        "30",
        "--unix-socket",
        UNIX,
        "http://localhost/",
    ]
    assert json.loads(two.run(*argv, user="www-data").stdout)["from"] == "a"
    refused = two.run(*argv, user="nobody", check=False)
    assert refused.returncode == 7  # curl's "could not connect"
    assert two.run("stat", "--format=%U %G %a", UNIX).stdout == "root www-data 660\n"
    # The other app's user is somebody else, too.
    assert two.run(*argv, user="daemon", check=False).returncode == 7


def test_only_the_first_wake_compiles(two: Machine) -> None:
    """In /srv it may not write: without a cache it would compile the app at each wake.
    Flask it need never compile, for pip has done that.
    """
    furnish(two, "compiled", "idle_timeout = 0.5\n")
    socket = "/run/spyglass/compiled.sock"
    two.systemctl("start", "spyglass@compiled.socket")
    first = ask(two, socket)["compiled"]
    assert "/srv/compiled/neighbour.py" in first
    assert [path for path in first if not path.startswith("/srv/compiled/")] == []
    until_asleep(two, "compiled")
    cached = cache(two)
    for name in ("who", "neighbour"):
        assert [
            path
            for path in cached
            if re.search(rf"/pycache/srv/compiled/{name}\.cpython-\d+\.pyc$", path)
        ]

    assert ask(two, socket)["compiled"] == []
    until_asleep(two, "compiled")
    assert cache(two) == cached

    # What has changed is compiled again, and nothing else.
    two.write("/srv/compiled/neighbour.py", "NAME = 'somebody new'\n")
    answer = ask(two, socket)
    assert (answer["from"], answer["compiled"]) == ("somebody new", ["/srv/compiled/neighbour.py"])
    two.systemctl("stop", "spyglass@compiled.socket")
    assert two.run("find", "/srv/compiled", "-name", "*.pyc").stdout == ""


def cache(machine: Machine) -> set[str]:
    """Each file of byte code, with the time at which it was written."""
    return set(
        machine.run(
            "find", "/var/cache/spyglass/compiled/", "-name", "*.pyc", "-printf", "%T@ %p\n"
        ).stdout.splitlines()
    )


def test_a_mistake_in_the_settings_is_answered_told_and_mended_without_systemctl(
    two: Machine,
) -> None:
    furnish(two, "wrong", "idel_timeout = 60\n")
    two.systemctl("start", "spyglass@wrong.socket")
    status, page = get(two, "/run/spyglass/wrong.sock")
    assert status == 503
    assert b"idel_timeout" not in page  # that is for its owner, not for visitors
    service = two.state("spyglass@wrong.service")
    assert service["ActiveState"] == "active"
    line = "failing: /etc/spyglass/wrong.toml:4: unknown setting 'idel_timeout', did you mean 'idle_timeout'?"
    assert service["StatusText"] == line
    assert f'Status: "{line}"' in two.systemctl("status", "spyglass@wrong.service")
    told = [
        (record["PRIORITY"], record["MESSAGE"])
        for record in two.records("spyglass@wrong.service")
        if record.get("SYSLOG_IDENTIFIER") == "spyglass"
    ]
    assert told == [("3", f"master: {line}")]

    furnish(two, "wrong", "idle_timeout = 60\n")
    # Who comes in the middle of a long load (Flask is compiled here) may be sent away
    # once more.
    two.wait_until(lambda: get(two, "/run/spyglass/wrong.sock")[0] == 200, what="it is served")
    assert ask(two, "/run/spyglass/wrong.sock")["from"] == "wrong"
    mended = two.state("spyglass@wrong.service")
    assert mended["MainPID"] == service["MainPID"]
    two.wait_until(
        lambda: two.state("spyglass@wrong.service")["StatusText"].startswith("awake: 2 workers"),
        what="it is awake",
    )
    two.systemctl("stop", "spyglass@wrong.socket")


LEAKS = """kept = []

def app(environ, start_response):
    kept.append(b"x" * (1 << 20))
    start_response("200 OK", [])
    return [b"kept"]
"""


def test_max_memory_can_be_seen_to_in_the_sandbox(two: Machine) -> None:
    """The Master reads what the kernel shows of its workers to one who may trace them
    (proc(5)): the same user, in the same namespaces.
    """
    leaky = Instance(
        two, "leaky", LEAKS, settings={"max_memory": "60M", "workers": 1, "idle_timeout": 20}
    ).start()

    def replaced() -> list[str]:
        assert visit(leaky.unix).text == "kept"
        return re.findall(
            r"worker \d+ recycled after \d+ requests: its memory had grown to (\d+) MiB",
            "\n".join(leaky.said("info")),
        )

    [size, *_] = two.wait_until(replaced, 30, "it is replaced")
    assert int(size) > 60
    assert leaky.said("warning") == []
    two.systemctl("stop", leaky.socket)


# What `systemd-analyze security` may say of a unit at most; docs/sandbox.md tells how
# the options were chosen.
EXPOSURE = 1.5


@pytest.mark.parametrize("unit", ["spyglass@a.service", "spyglass.service"])
def test_the_sandbox_is_rated_well(two: Machine, unit: str) -> None:
    said = two.run("systemd-analyze", "security", "--no-pager", unit).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) <= EXPOSURE


def test_systemd_has_nothing_to_say_about_the_units(two: Machine) -> None:
    units = (
        "spyglass.socket",
        "spyglass.service",
        "spyglass@a.socket",
        "spyglass@a.service",
        "spyglass@b.socket",
    )
    said = two.run("systemd-analyze", "verify", "--man=no", *units)
    assert (said.stdout, said.stderr) == ("", "")
