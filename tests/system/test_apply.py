"""`spyglass new`, `apply`, `remove`, as an administrator types them: from a directory
of code to an address that answers, and back.

One machine for all; each test has an app of its own name and port, and the first is the
whole way.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from instance import TELL
from machine import Machine
from process.visitor import Crowd, visit

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEMD = "/etc/systemd/system"
# Tells what it has been given.
SEES = """\
import json, os, socket, sys

def app(environ, start_response):
    seen = {"uid": os.getuid(), "python": sys.executable, "argv": sys.orig_argv, "environ": dict(os.environ)}
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "")
    seen["credentials"] = {name: open(os.path.join(credentials, name)).read() for name in os.listdir(credentials)} if credentials else {}
    for name, path in (("media", "media/new"), ("beside", "new")):
        try:
            open(os.path.join(os.path.dirname(__file__), path), "w").close()
            seen[name] = True
        except OSError as error:
            seen[name] = error.strerror
    seen["interfaces"] = sorted(line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]
"""


def spyglass(machine: Machine, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = machine.run("spyglass", *words, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def curl(machine: Machine, *words: str) -> str:
    return machine.run(
        "curl", "--silent", "--show-error", "--fail", "--max-time", "30", *words
    ).stdout


def furnish(machine: Machine, name: str, source: str, settings: str) -> None:
    machine.write(f"/srv/{name}/app.py", source)
    machine.write(
        f"/etc/spyglass/{name}.toml", f'app = "app"\ndirectory = "/srv/{name}"\n{settings}'
    )


def drop_ins(machine: Machine, name: str) -> dict[str, str]:
    """What there is of ours, by unit, with the time at which it was written."""
    found = machine.run(
        "find",
        SYSTEMD,
        "-path",
        f"*/spyglass@{name}.*.d/10-spyglass.conf",
        "-printf",
        "%h %T@ %i\\n",
    ).stdout
    return {line.split()[0].rpartition("/")[2]: line for line in found.splitlines()}


@pytest.fixture(autouse=True)
def nothing_is_left(machine: Machine) -> Iterator[None]:
    """A test that fails does not take the next ones along: `apply` without names would
    look at its app as well.
    """
    yield
    files = machine.run("ls", "/etc/spyglass").stdout.split()
    if names := [file.removesuffix(".toml") for file in files if file.endswith(".toml")]:
        machine.run("spyglass", "remove", "--purge", *names, check=False)
        machine.run("rm", "-f", *(f"/etc/spyglass/{name}.toml" for name in names))


def test_the_whole_way(machine: Machine) -> None:
    machine.write(
        "/srv/blog/blog/wsgi.py",
        "from flask import Flask\napplication = Flask(__name__)\napplication.get('/')(lambda: 'a blog\\n')\n",
    )
    machine.run("ln", "-s", "/srv/venv", "/srv/blog/.venv")
    said = spyglass(machine, "new", "blog", "/srv/blog", "--listen", "8001").stdout
    assert said == (
        "found blog.wsgi:application: made by Flask() in blog/wsgi.py, line 2\n"
        "wrote /etc/spyglass/blog.toml: the app is blog.wsgi:application, its environment .venv\n"
        'port 8001 is open to the network; for this machine only: listen = "127.0.0.1:8001"\n'
        "Next: spyglass check blog, then spyglass apply blog\n"
    )
    said = spyglass(machine, "check", "blog").stdout
    assert (
        "units: as 'spyglass apply blog' would make them; /etc/spyglass/blog.toml is not applied yet\n"
        "addresses: 8001, free; spyglass@blog.socket does not listen there yet\n"
    ) in said
    assert said.startswith("warning: /etc/spyglass/blog.toml:7: listen: port 8001 is open to ")
    assert "\napp: blog.wsgi:application, loaded in" in said
    said = spyglass(machine, "apply", "--dry-run").stdout
    assert said.startswith("blog: would listen; open http://localhost:8001/\n")
    assert drop_ins(machine, "blog") == {}
    said = spyglass(machine, "apply", "-v", "blog").stdout
    assert "+ListenStream=8001\n" in said
    assert "\033" not in said
    assert "\nblog: listens; open http://localhost:8001/\n" in said
    assert "listen: port 8001 is open to the network" in said
    assert machine.processes("spyglass@blog") == []
    for address in ("127.0.0.1:8001", "[::1]:8001"):
        assert curl(machine, address) == "a blog\n"

    # Again, and nothing happens to anything.
    written, listening = (
        drop_ins(machine, "blog"),
        machine.state("spyglass@blog.socket")["InvocationID"],
    )
    assert list(written) == ["spyglass@blog.socket.d"]
    assert spyglass(machine, "apply").stdout == "nothing to do\n"
    assert (drop_ins(machine, "blog"), machine.state("spyglass@blog.socket")["InvocationID"]) == (
        written,
        listening,
    )

    said = spyglass(machine, "remove", "blog").stdout
    assert said.startswith(
        "blog: stopped and removed; left: /etc/spyglass/blog.toml, /var/lib/spyglass/blog, "
    )
    assert machine.run("find", SYSTEMD, "-name", "*blog*").stdout == ""
    assert machine.systemctl("list-units", "--all", "--no-legend", "spyglass@blog.*") == ""
    assert "Connection refused" in visit_refused(machine, 8001)

    # The file is there yet, so it can be taken up again; until it is not.
    spyglass(machine, "apply", "blog")
    assert curl(machine, "localhost:8001") == "a blog\n"
    said = spyglass(machine, "remove", "--purge", "blog").stdout
    assert said.startswith("blog: deleting /etc/spyglass/blog.toml, /var/lib/spyglass/blog, ")
    assert said.endswith("blog: stopped and removed; nothing is left\n")
    places = ("/etc", "/var/lib", "/var/cache", "/run/spyglass")
    assert (
        machine.run(
            "find", *places, "-name", "*blog*", "-not", "-path", "*python*", check=False
        ).stdout
        == ""
    )


def visit_refused(machine: Machine, port: int) -> str:
    return machine.run("curl", "--silent", "--verbose", f"127.0.0.1:{port}", check=False).stderr


def test_addresses_change_and_limits_come_under_load(machine: Machine) -> None:
    furnish(machine, "busy", TELL, "listen = 8011\nidle_timeout = 60\n")
    spyglass(machine, "apply", "busy")
    with machine.network():
        life = visit(("127.0.0.1", 8011)).text.split()[0]
        with (
            Crowd(("127.0.0.1", 8011), "/sleep/0.05", count=4, pause=0.01) as crowd,
            Crowd(("127.0.0.1", 8011), "/sleep/1", count=2, pause=0.01) as slow,
        ):
            # Limits: at once, for those who are there, and nobody notices.
            furnish(
                machine,
                "busy",
                TELL,
                'listen = 8011\nidle_timeout = 60\nmemory_max = "300M"\ncpu_quota = "150%"\n',
            )
            assert spyglass(machine, "apply", "busy").stdout.startswith(
                "busy: applied (memory_max unset -> 300M, cpu_quota unset -> 150%); open http://localhost:8011/\n"
            )
            state = machine.state("spyglass@busy.service")
            assert (state["InvocationID"], state["MemoryMax"]) == (life, str(300 << 20))
            assert float(state["CPUQuotaPerSecUSec"].removesuffix("s")) == 1.5
            # The service: another life, and nobody is lost.
            furnish(
                machine,
                "busy",
                TELL,
                'listen = 8011\nidle_timeout = 60\nmemory_max = "300M"\nallow_jit = true\n',
            )
            assert spyglass(machine, "apply", "busy").stdout.startswith(
                "busy: restarted (cpu_quota 150% -> unset, allow_jit false -> true); open "
            )
            assert (crowd.lost, slow.lost) == ([], [])
            machine.wait_until(
                lambda: len({answer.text.split()[0] for answer in list(crowd.answers)}) == 2,
                20,
                "the next life answers",
            )
            # Addresses: what had been accepted is answered; who knocks while systemd
            # changes them is sent away, not left hanging.
            furnish(
                machine,
                "busy",
                TELL,
                'listen = ["127.0.0.1:8011", "127.0.0.1:8012", "/run/spyglass/busy.sock"]\nidle_timeout = 60\n',
            )
            done = spyglass(machine, "apply", "busy").stdout
            assert done.startswith("busy: socket restarted (listen 8011 -> 127.0.0.1:8011, ")
            # More lines follow if the Master has recorded nothing yet: its file counts, too.
            assert done.partition("\n")[0].endswith(
                "; open http://127.0.0.1:8011/ and http://127.0.0.1:8012/ "
                "or try curl --unix-socket /run/spyglass/busy.sock http://localhost/"
            )
            for address in (
                ("127.0.0.1", 8011),
                ("127.0.0.1", 8012),
                machine.path("/run/spyglass/busy.sock"),
            ):
                assert visit(address).status == 200
            since = len(crowd.answers)
            machine.wait_until(
                lambda: len(crowd.answers) > since + 10, 20, "they are served as before"
            )
    assert [
        lost for lost in (*crowd.lost, *slow.lost) if str(lost).startswith(("cut", "unanswered"))
    ] == []
    assert spyglass(machine, "apply").stdout == "nothing to do\n"
    spyglass(machine, "remove", "--purge", "busy")


def ask(machine: Machine, port: int) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(curl(machine, f"127.0.0.1:{port}"))
    return answer


def test_what_the_units_were_told_the_app_sees(machine: Machine) -> None:
    machine.run("useradd", "--system", "sees")
    machine.run("install", "-d", "-o", "sees", "/srv/sees/media")
    machine.write("/srv/sees/.env", "FROM_FILE='a b'\n", 0o600)
    machine.write("/root/password", "secret", 0o600)
    machine.write("/etc/credstore/key", "stored", 0o600)
    furnish(
        machine,
        "sees",
        SEES,
        'listen = "127.0.0.1:8021"\nuser = "sees"\nenvironment_file = ".env"\nwritable = ["media"]\nnetwork = false\n'
        'credentials = { password = "/root/password", key = "" }\n'
        '[environment]\nQUOTED = \'a "b" \\ 50% $HOME é\'\nLINES = "one\\ntwo"\n',
    )
    before = spyglass(machine, "check", "sees").stdout
    assert (
        "sandbox: spyglass@sees.service, as sees, with /etc/systemd/system/spyglass@sees.service.d/10-spyglass.conf\n"
        in before
    )
    assert drop_ins(machine, "sees") == {}
    spyglass(machine, "apply", "sees")
    assert "sandbox: spyglass@sees.service, as sees, with" in (
        after := spyglass(machine, "check", "sees").stdout
    )
    assert "units:" not in after
    seen = ask(machine, 8021)
    assert seen["uid"] == int(machine.run("id", "-u", "sees").stdout)
    assert seen["credentials"] == {"password": "secret", "key": "stored"}
    given = {name: seen["environ"][name] for name in ("FROM_FILE", "QUOTED", "LINES")}
    assert given == {"FROM_FILE": "a b", "QUOTED": 'a "b" \\ 50% $HOME é', "LINES": "one\ntwo"}
    assert (seen["media"], seen["beside"]) == (True, "Read-only file system")
    assert seen["interfaces"] == ["lo"]
    units = ("spyglass@sees.socket", "spyglass@sees.service")
    verified = machine.run("systemd-analyze", "verify", "--man=no", *units)
    assert (verified.stdout, verified.stderr) == ("", "")
    rated = machine.run("systemd-analyze", "security", "--no-pager", units[1]).stdout
    assert float(re.search(r"exposure level for \S+: ([\d.]+)", rated)[1]) <= 1.5  # type: ignore[index]
    spyglass(machine, "remove", "--purge", "sees")


@pytest.mark.one_release
def test_another_python_brings_its_own_spyglass(machine: Machine) -> None:
    """A Python of its own is one that was copied: a venv's is a link otherwise, and
    then it is the machine's.
    """
    furnish(machine, "alien", SEES, 'listen = 8031\nvenv = "venv"\n')
    machine.run("python3", "-m", "venv", "--copies", "--without-pip", "/srv/alien/venv")
    machine.run("sed", "-i", "s/^version = .*/version = 3.99.1/", "/srv/alien/venv/pyvenv.cfg")
    version = spyglass(machine, "--version").stdout.split()[1]
    said = spyglass(machine, "apply", "alien", status=78).stderr
    assert said.startswith(
        "spyglass: /etc/spyglass/alien.toml:4: venv: /srv/alien/venv is for Python 3.99, but Spyglass runs on "
    )
    assert (
        f": install Spyglass in the environment: uv pip install --python /srv/alien/venv spyglass=={version}\n"
        in said
    )

    script = """
        cd /srv/alien/venv
        sed -i "s/^version = .*/version = $(python3 -c 'import platform; print(platform.python_version())')/" pyvenv.cfg
        cp -rL /usr/lib/python3/dist-packages/spyglass /usr/lib/python3/dist-packages/systemd lib/python3*/site-packages
        sed '1s,.*,#!/srv/alien/venv/bin/python,' /usr/bin/spyglass >bin/spyglass
        chmod +x bin/spyglass
    """
    machine.run("sh", "-euc", script)
    assert (
        "+ExecStart=/srv/alien/venv/bin/spyglass serve --name %i\n"
        in spyglass(machine, "apply", "-v", "alien").stdout
    )
    seen = ask(machine, 8031)
    assert seen["python"] == "/srv/alien/venv/bin/python"
    assert seen["argv"] == [
        "/srv/alien/venv/bin/python",
        "/srv/alien/venv/bin/spyglass",
        "serve",
        "--name",
        "alien",
    ]
    spyglass(machine, "reload", "alien")
    assert ask(machine, 8031)["python"] == seen["python"]
    spyglass(machine, "remove", "--purge", "alien")


def test_app_that_cannot_be_reached_is_told_of_before_a_client_comes(machine: Machine) -> None:
    furnish(machine, "far", TELL, "listen = 8041\n")
    machine.run("chmod", "700", "/srv/far")
    assert (
        "far.toml:2: directory: /srv/far is not accessible to the app's dynamic user"
        in spyglass(machine, "apply", "far", status=78).stderr
    )
    assert (
        "far.toml:2: directory: /srv/far is not accessible to the app's dynamic user"
        in spyglass(machine, "check", "far", status=78).stderr
    )
    machine.run("chmod", "755", "/srv/far")
    machine.run("chmod", "600", "/etc/spyglass/far.toml")
    assert (
        "far.toml is not accessible to the app's dynamic user"
        in spyglass(machine, "apply", "far", status=78).stderr
    )
    machine.run("rm", "/etc/spyglass/far.toml")


@pytest.mark.one_release
def test_what_cannot_be_is_not_begun(machine: Machine) -> None:
    """A port of somebody else's, TOML that is none, a drop-in that somebody has edited:
    nothing changes for that app, and the others are applied.
    """
    machine.systemctl("start", "spyglass.socket")
    furnish(machine, "good", TELL, "listen = 8051\n")
    spyglass(machine, "apply", "good")
    before = drop_ins(machine, "good")
    furnish(machine, "good", TELL, "listen = 8052\n")
    furnish(machine, "wrong", TELL, "listen = 4222\n")
    machine.write("/etc/spyglass/broken.toml", "listen = \n")
    faults = [
        "spyglass: /etc/spyglass/broken.toml:1: listen has no value: delete the line, or write listen = VALUE",
        "spyglass: /etc/spyglass/wrong.toml:3: listen: 4222: in use by spyglass.socket",
    ]
    said = spyglass(machine, "apply", "broken", "wrong", status=78)
    assert said.stdout == ""
    assert said.stderr.splitlines() == [*faults, "spyglass: nothing was changed"]
    assert drop_ins(machine, "good") == before
    assert curl(machine, "localhost:8051")
    said = spyglass(machine, "apply", status=78)
    assert said.stderr.splitlines() == [*faults, "spyglass: not applied: broken, wrong"]
    assert said.stdout.startswith(
        "good: socket restarted (listen 8051 -> 8052); open http://localhost:8052/\n"
    )
    assert drop_ins(machine, "wrong") == {}
    machine.run("rm", "/etc/spyglass/broken.toml", "/etc/spyglass/wrong.toml")
    machine.systemctl("stop", "spyglass.socket")

    edited = f"{SYSTEMD}/spyglass@good.socket.d/10-spyglass.conf"
    machine.run("sh", "-c", f"echo ListenStream=8053 >>{edited}")
    said = spyglass(machine, "apply", "good", status=78)
    assert f"{edited}: has been edited since it was made" in said.stderr
    assert machine.read(edited).endswith("ListenStream=8053\n")
    machine.run("rm", edited)
    furnish(machine, "good", TELL, "listen = 8054\n")
    spyglass(machine, "apply", "good")
    assert curl(machine, "localhost:8054")
    spyglass(machine, "remove", "--purge", "good")


def test_what_systemd_cannot_do_is_taken_back(machine: Machine) -> None:
    """No socket can be made in /proc, which nobody sees before systemd tries."""
    furnish(machine, "back", TELL, "listen = 8061\nidle_timeout = 60\n")
    spyglass(machine, "apply", "back")
    assert curl(machine, "localhost:8061")
    before = machine.read(f"{SYSTEMD}/spyglass@back.socket.d/10-spyglass.conf")
    furnish(machine, "back", TELL, 'listen = [8061, "/proc/back.sock"]\nnetwork = false\n')
    furnish(machine, "fine", TELL, "listen = 8062\n")
    said = spyglass(machine, "apply", "back", "fine", status=1).stderr
    assert "spyglass@back.socket" in said
    assert said.endswith("; all changes were undone\n")
    assert machine.read(f"{SYSTEMD}/spyglass@back.socket.d/10-spyglass.conf") == before
    assert list(drop_ins(machine, "back")) == ["spyglass@back.socket.d"]
    assert drop_ins(machine, "fine") == {}
    assert curl(machine, "localhost:8061")
    assert machine.state("spyglass@fine.socket")["ActiveState"] == "inactive"
    spyglass(machine, "remove", "--purge", "back", "fine")


@pytest.mark.parametrize("how", ["a drop-in of one's own", "killed half way"])
def test_what_systemd_no_longer_listens_on_is_heard_again(machine: Machine, how: str) -> None:
    """systemd closes a socket whose addresses have changed as soon as it reads the
    units, and calls it "active (listening)" all the same.
    """
    furnish(machine, "deaf", TELL, "listen = 8071\n")
    spyglass(machine, "apply", "deaf")
    if how == "killed half way":
        path = f"{SYSTEMD}/spyglass@deaf.socket.d/10-spyglass.conf"
        furnish(machine, "deaf", TELL, "listen = 8072\n")
        old = machine.read(path)
        spyglass(machine, "apply", "deaf")
        machine.write(path, old)
        furnish(machine, "deaf", TELL, "listen = 8071\n")
        port = 8071
    else:
        machine.write(
            f"{SYSTEMD}/spyglass@deaf.socket.d/own.conf", "[Socket]\nListenStream=127.0.0.1:8073\n"
        )
        port = 8073
        assert curl(machine, "localhost:8071")  # who is awake listens on, for now
    machine.systemctl("daemon-reload")
    assert machine.state("spyglass@deaf.socket")["ActiveState"] == "active"
    assert "deaf: socket restarted (" in spyglass(machine, "apply", "deaf").stdout
    assert curl(machine, f"localhost:{port}")
    assert spyglass(machine, "apply").stdout == "nothing to do\n"
    spyglass(machine, "remove", "--purge", "deaf")
    machine.run("rm", "-rf", f"{SYSTEMD}/spyglass@deaf.socket.d")
    machine.systemctl("daemon-reload")


# What is saved is in force, or comes into force by the least that is needed


GREETS = """\
import os
GREETING = os.environ.get("GREETING", "nothing")
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    with open(os.environ["CREDENTIALS_DIRECTORY"] + "/key") as key:
        return [f"{GREETING} {key.read()} {os.environ['INVOCATION_ID']}\\n".encode()]
"""
ASLEEP = "greets: asleep, applies at the next wake; open http://127.0.0.1:8101/\n"


def greets(machine: Machine, settings: str = "") -> None:
    furnish(
        machine,
        "greets",
        GREETS,
        f'listen = "127.0.0.1:8101"\nidle_timeout = 600\ncredentials = {{ key = "/etc/spyglass/greets.key" }}\n{settings}',
    )


def applied(machine: Machine, status: int = 0) -> str:
    """What `apply` does for it; and afterwards there is nothing to do."""
    said = spyglass(machine, "apply", "-n", "greets").stdout
    done = spyglass(machine, "apply", status=status).stdout
    assert said.replace("would be ", "") == done
    assert spyglass(machine, "apply").stdout == "nothing to do\n"
    return done.partition("greets: ")[2].partition("; open http://127.0.0.1:8101/\n")[0]


def awake(machine: Machine, name: str = "greets", port: int = 8101) -> str:
    """Its answer, when the Master has recorded what it was started with: the record
    comes after the first answer.
    """
    answer = curl(machine, f"localhost:{port}")
    pid = machine.state(f"spyglass@{name}.service")["MainPID"]
    machine.wait_until(
        lambda: "/memfd:spyglass-settings" in machine.run("ls", "-l", f"/proc/{pid}/fd").stdout,
        20,
        "the Master has recorded its settings",
    )
    return answer


@pytest.mark.one_release
@pytest.mark.timeout(300)  # many commands, on a machine that may be busy
def test_what_is_saved_comes_into_force_by_the_least_that_is_needed(machine: Machine) -> None:
    machine.write("/etc/spyglass/greets.key", "one", 0o600)
    machine.write("/etc/spyglass/greets.env", "GREETING=hi\n", 0o600)
    greets(machine)
    spyglass(machine, "apply")
    greeting, key, life = awake(machine).split()
    assert (greeting, key) == ("hi", "one")
    assert spyglass(machine, "apply").stdout == "nothing to do\n"

    # Settings of the server: a reload, and the same Master.
    greets(machine, "workers = 3\n")
    assert applied(machine) == "reloaded (workers 2 -> 3)"
    assert awake(machine).split()[2] == life
    # Variables and credentials: another Master, which clients wait for.
    machine.write("/etc/spyglass/greets.env", "GREETING=ho\n", 0o600)
    assert applied(machine) == "restarted (greets.env changed)"
    greeting, _, next_life = awake(machine).split()
    assert (greeting, next_life == life) == ("ho", False)
    machine.write("/etc/spyglass/greets.key", "two", 0o600)
    assert applied(machine) == "restarted (credential key changed)"
    assert awake(machine).split()[1] == "two"
    machine.run("rm", "/etc/spyglass/greets.env")
    assert applied(machine) == "restarted (greets.env changed)"
    assert awake(machine).split()[0] == "nothing"
    # Several at once, and what needs the most decides.
    machine.write("/etc/spyglass/greets.env", "GREETING=hu\n", 0o600)
    greets(machine, "workers = 4\n[environment]\nOTHER = '1'\n")
    assert applied(machine) == (
        "restarted (workers 3 -> 4, greets.env changed, environment OTHER added)"
    )
    # A drop-in of the administrator's, whether or not systemd has read it.
    awake(machine)
    own = f"{SYSTEMD}/spyglass@greets.service.d/own.conf"
    machine.write(own, "[Service]\nUMask=0027\n")
    assert applied(machine) == "restarted (UMask 0077 -> 0027)"
    awake(machine)
    machine.write(own, "[Service]\nUMask=0022\n")
    machine.systemctl("daemon-reload")
    assert applied(machine) == "restarted (UMask 0027 -> 0022)"
    awake(machine)
    # What was only touched is as it was.
    machine.run("touch", "/etc/spyglass/greets.env", "/etc/spyglass/greets.key", own)
    spyglass(machine, "apply")
    assert spyglass(machine, "apply").stdout == "nothing to do\n"

    # Asleep: nothing is started, and nothing restarted.
    machine.systemctl("stop", "spyglass@greets.service")
    greets(machine, "workers = 2\n")
    spyglass(machine, "apply", "greets")
    machine.write("/etc/spyglass/greets.env", "GREETING=ha\n", 0o600)
    assert spyglass(machine, "apply").stdout == ASLEEP
    assert spyglass(machine, "apply").stdout == "nothing to do\n"
    assert machine.processes("spyglass@greets") == []
    assert awake(machine).split()[0] == "ha"
    spyglass(machine, "remove", "--purge", "greets")
    machine.run("rm", "-rf", f"{SYSTEMD}/spyglass@greets.service.d", "/etc/spyglass/greets.key")


@pytest.mark.one_release
def test_no_value_of_a_secret_is_in_the_record(machine: Machine) -> None:
    machine.write("/etc/spyglass/greets.key", "sesame-key", 0o600)
    machine.write("/etc/spyglass/greets.env", "GREETING=sesame-env\n", 0o600)
    greets(machine)
    spyglass(machine, "apply", "greets")
    assert "sesame-env sesame-key" in awake(machine)
    pid = machine.state("spyglass@greets.service")["MainPID"]
    script = 'for fd in /proc/$1/fd/*; do case $(readlink "$fd") in "/memfd:spyglass-settings"*) cat "$fd";; esac; done'

    def record_of(pid: str) -> str:
        return machine.run("sh", "-c", script, "sh", pid, check=False).stdout

    # Its descriptor is there before its contents are.
    machine.wait_until(lambda: record_of(pid).endswith("\nend\n"), 20, "it is written")
    record = record_of(pid)
    assert "\nsetting workers 2\n" in record
    assert "sesame" not in record
    # Only root may look, and no process but the Master has it.
    for process in machine.processes("spyglass@greets"):
        # One that has just ended has no descriptors.
        listed = machine.run("ls", "-l", f"/proc/{process.pid}/fd", check=False).stdout
        assert ("spyglass-settings" in listed) == (str(process.pid) == pid)
    assert machine.run("ls", f"/proc/{pid}/fd", user="nobody", check=False).returncode != 0
    spyglass(machine, "remove", "--purge", "greets")
    machine.run("rm", "-f", "/etc/spyglass/greets.key")  # --purge has deleted it


def test_app_is_not_asleep_that_the_next_client_cannot_wake(machine: Machine) -> None:
    furnish(machine, "bound", TELL, "listen = '127.0.0.1:8131'\n")
    spyglass(machine, "apply", "bound")
    service = "spyglass@bound.service"
    machine.systemctl("mask", service)
    why = f"{service} is masked: systemctl unmask {service}"
    [listed] = [
        each
        for each in json.loads(spyglass(machine, "list", "--json").stdout)
        if each["name"] == "bound"
    ]
    assert (listed["state"], listed["trouble"]) == ("failing", why)
    assert f"bound: failing: {why}" in spyglass(machine, "wake", "bound", status=78).stderr
    said = spyglass(machine, "apply", "bound", status=78).stderr
    assert said.startswith(f"spyglass: {service}: it is masked: systemctl unmask {service}\n")
    machine.systemctl("unmask", service)
    assert "bound: nothing to do" in spyglass(machine, "apply", "bound").stdout
    assert curl(machine, "localhost:8131")
    spyglass(machine, "remove", "--purge", "bound")


@pytest.mark.one_release
def test_what_is_saved_while_an_app_wakes_comes_into_force(machine: Machine) -> None:
    late = f"import time, os\nwhile os.path.exists('/srv/late/wait'): time.sleep(0.1)\n{TELL}"
    furnish(machine, "late", late, "listen = '127.0.0.1:8141'\nworkers = 1\n")
    machine.write("/srv/late/wait", "")
    spyglass(machine, "apply", "--no-check", "late")
    visitor = machine.popen("curl", "--silent", "--fail", "--max-time", "60", "localhost:8141")
    service = "spyglass@late.service"
    # It imports the app, so it has read its settings.
    machine.wait_until(lambda: len(machine.processes("spyglass@late")) > 1, 20, "it wakes")
    machine.write(
        "/etc/spyglass/late.toml", machine.read("/etc/spyglass/late.toml") + "threads = 3\n"
    )
    restarted = machine.popen("spyglass", "apply", "--no-check", "late", stdout=subprocess.PIPE)
    before = machine.state(service)["MainPID"]
    machine.wait_until(lambda: machine.state(service)["MainPID"] not in ("0", before), 20, "anew")
    machine.run("rm", "/srv/late/wait")
    assert restarted.communicate(timeout=60)[0].startswith("late: restarted (late.toml changed)")
    assert visitor.wait(60) == 0
    assert "late: nothing to do; open" in spyglass(machine, "apply", "late").stdout
    assert " threads " in spyglass(machine, "status", "late").stdout
    spyglass(machine, "remove", "--purge", "late")


@pytest.mark.one_release
def test_a_broken_app_is_told_of_before_it_is_activated(machine: Machine) -> None:
    furnish(machine, "shaky", TELL, "listen = '127.0.0.1:8111'\nidle_timeout = 600\n")
    spyglass(machine, "apply", "shaky")
    assert awake(machine, "shaky", 8111)
    furnish(machine, "shaky", "import blgo\n", "listen = '127.0.0.1:8111'\nidle_timeout = 601\n")
    why = "shaky cannot be loaded: ModuleNotFoundError: No module named 'blgo'"
    said = spyglass(machine, "apply", status=78)
    assert said.stderr.startswith(f"spyglass: warning: {why}")
    assert said.stdout == (
        "shaky: not reloaded (idle_timeout 600s -> 601s), the old settings stay in force; open http://127.0.0.1:8111/\n"
    )
    assert curl(machine, "localhost:8111")
    said = spyglass(machine, "apply", "--no-check", status=1)
    assert said.stderr == ""
    assert "stay in force: ModuleNotFoundError: No module named 'blgo'; open" in said.stdout
    machine.systemctl("restart", "spyglass@shaky.service")
    said = spyglass(machine, "apply", status=78)
    assert "shaky: nothing to do, but it is failing: ModuleNotFoundError" in said.stdout
    furnish(machine, "shaky", TELL, "listen = '127.0.0.1:8111'\nidle_timeout = 602\n")
    # What it was started with may not be recorded yet.
    assert spyglass(machine, "apply").stdout in (
        "shaky: reloaded (idle_timeout 601s -> 602s); open http://127.0.0.1:8111/\n",
        "shaky: reloaded (shaky.toml changed); open http://127.0.0.1:8111/\n",
    )
    assert curl(machine, "localhost:8111")
    spyglass(machine, "remove", "--purge", "shaky")


def test_two_apps_swap_their_ports(machine: Machine) -> None:
    for name, port in (("left", 8121), ("right", 8122)):
        furnish(machine, name, f"NAME = {name!r}\n{SAYS}", f"listen = '127.0.0.1:{port}'\n")
    spyglass(machine, "apply")
    assert (curl(machine, "localhost:8121"), curl(machine, "localhost:8122")) == ("left", "right")
    for name, port in (("left", 8122), ("right", 8121)):
        furnish(machine, name, f"NAME = {name!r}\n{SAYS}", f"listen = '127.0.0.1:{port}'\n")
    assert (
        "right no longer asks for 127.0.0.1:8122: apply both, spyglass apply left right"
        in spyglass(machine, "apply", "left", status=78).stderr
    )
    assert spyglass(machine, "apply").stdout.splitlines() == [
        "left: socket restarted (listen 127.0.0.1:8121 -> 127.0.0.1:8122); open http://127.0.0.1:8122/",
        "right: socket restarted (listen 127.0.0.1:8122 -> 127.0.0.1:8121); open http://127.0.0.1:8121/",
    ]
    assert (curl(machine, "localhost:8121"), curl(machine, "localhost:8122")) == ("right", "left")
    spyglass(machine, "remove", "--purge", "left", "right")


SAYS = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [NAME.encode()]
"""


@pytest.mark.one_release
def test_an_app_that_was_turned_off_stays_off(machine: Machine) -> None:
    furnish(
        machine,
        "dark",
        TELL,
        'listen = ["127.0.0.1:8131", "/run/spyglass/dark.sock"]\nidle_timeout = 60\n',
    )
    furnish(machine, "other", TELL, "")
    spyglass(machine, "apply")
    assert curl(machine, "localhost:8131")
    with machine.network(), Crowd(("127.0.0.1", 8131), "/sleep/1", count=2, pause=0.01) as crowd:
        machine.wait_until(lambda: crowd.answers, 20, "requests are in progress")
        said = spyglass(machine, "off", "dark").stdout
        assert said == "dark: off, clients are refused; to turn it on: spyglass on dark\n"
        assert not [each for each in crowd.lost if str(each).startswith(("cut", "unanswered"))]
    assert "Connection refused" in visit_refused(machine, 8131)
    assert machine.run("ls", "/run/spyglass/dark.sock", check=False).returncode != 0
    assert spyglass(machine, "apply").stdout == "nothing to do\n"
    assert spyglass(machine, "apply", "dark").stdout == (
        "dark: off; to turn it on: spyglass on dark\n"
    )
    [listed] = [
        app
        for app in json.loads(spyglass(machine, "list", "--json").stdout)
        if app["name"] == "dark"
    ]
    assert listed["state"] == "off"
    # A boot starts what is enabled and not masked.
    machine.systemctl("start", "sockets.target")
    machine.systemctl("start", "spyglass@dark.socket", check=False)
    assert "Connection refused" in visit_refused(machine, 8131)
    said = spyglass(machine, "on", "dark").stdout
    assert (
        said
        == "dark: listens; open http://127.0.0.1:8131/ or try curl --unix-socket /run/spyglass/dark.sock http://localhost/\n"
    )
    assert curl(machine, "localhost:8131")
    assert machine.systemctl("is-enabled", "spyglass@dark.socket") == "enabled\n"

    # By its file.
    furnish(machine, "dark", TELL, "enabled = false\nlisten = '127.0.0.1:8131'\n")
    said = spyglass(machine, "apply").stdout
    assert "dark: turned off (enabled = false, /etc/spyglass/dark.toml:3)\n" in said
    assert "Connection refused" in visit_refused(machine, 8131)
    assert machine.systemctl("is-enabled", "spyglass@dark.socket", check=False) == "disabled\n"
    assert spyglass(machine, "apply").stdout == "nothing to do\n"
    furnish(machine, "dark", TELL, "listen = '127.0.0.1:8131'\n")
    assert "dark: listens; open" in spyglass(machine, "apply").stdout
    # By systemctl.
    machine.systemctl("disable", "--now", "spyglass@dark.socket")
    assert spyglass(machine, "apply").stdout == (
        "dark: off, its socket was disabled; to turn it on: spyglass on dark\n1 other app: nothing to do\n"
    )
    assert "dark: listens; open" in spyglass(machine, "apply", "dark").stdout
    # Removing one that is off leaves no mask behind.
    spyglass(machine, "off", "dark")
    spyglass(machine, "remove", "--purge", "dark", "other")
    assert machine.run("find", SYSTEMD, "-name", "*dark*").stdout == ""


@pytest.mark.one_release
@pytest.mark.parametrize("command", ["apply", "off", "on"])
def test_an_unknown_app_is_an_error(machine: Machine, command: str) -> None:
    said = spyglass(machine, command, "unknown", status=4).stderr
    assert said == "spyglass: there is no app 'unknown', no /etc/spyglass/unknown.toml\n"
