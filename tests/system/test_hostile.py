"""What apps and other users of the machine do to the administrator's commands, and to
the PID 1 that these ask: nothing.

One machine for all. The user "mallory" has an account, a directory of code of its own,
and no more.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from machine import Machine
from process.visitor import visit
from test_apply import SEES, furnish, spyglass

pytestmark = pytest.mark.one_release

ETC = "/etc/spyglass"
# Text that would be something else to whoever splits lines anywhere but at "\n", and to
# a terminal.
WORDS = "x\u2028WantedBy=multi-user.target\u2028Id=spyglass@a; touch /ran #\x85MainPID=\u00b2\x1b]0;t\x07\u202e"
SPEAKER = f"""\
import os, socket, sys

def entry(**fields):
    # The journal's own protocol: a field with its length in front may hold anything, and any number of bytes.
    text = b"".join(name.encode() + b"\\n" + len(value).to_bytes(8, "little") + value + b"\\n" for name, value in fields.items())
    memory = os.memfd_create("entry", os.MFD_ALLOW_SEALING)
    os.write(memory, text)
    import fcntl
    fcntl.fcntl(memory, 1033, 15)  # F_ADD_SEALS, all of them
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        socket.send_fds(journal, [b""], [memory], 0, "/run/systemd/journal/socket")

entry(MESSAGE=b"x" * 600_000, PRIORITY=b"3")
entry(MESSAGE={WORDS!r}.encode(), PRIORITY="\u00b2".encode())
entry(MESSAGE=b"\\xff\\n" * 1000, PRIORITY=b"-1")
entry(PRIORITY=b"9" * 1000)
print({WORDS!r})
raise RuntimeError({WORDS!r})
"""


@pytest.fixture(scope="module")
def mallory(machine: Machine) -> str:
    machine.run("useradd", "--create-home", "mallory")
    machine.run("install", "-d", "-o", "mallory", "/srv/mallory")
    return "mallory"


@pytest.fixture(scope="module")
def good(machine: Machine) -> Iterator[None]:
    """An app that has nothing to do with any of it."""
    furnish(
        machine,
        "good",
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'good']\n",
        "idle_timeout = 60\n",
    )
    spyglass(machine, "apply", "good")
    assert visit(machine.path("/run/spyglass/good.sock")).text == "good"
    yield
    spyglass(machine, "remove", "--purge", "good")


@pytest.mark.parametrize("how", ["mkfifo", "ln -s /etc/shadow", "touch"])
@pytest.mark.parametrize(
    "setting", ["environment_file = '.env'", "credentials = { key = '/srv/mallory/.env' }"]
)
def test_what_another_user_can_replace_is_opened_by_no_command(
    machine: Machine, mallory: str, how: str, setting: str
) -> None:
    machine.run(
        "sh", "-c", f"rm -f /srv/mallory/.env && cd /srv/mallory && {how} .env", user=mallory
    )
    furnish(machine, "mallory", "app = None\n", f"{setting}\n")
    try:
        for command in ("apply", "check"):
            said = spyglass(machine, command, "mallory", status=78).stderr
            assert (
                "/srv/mallory/.env: /srv/mallory belongs to mallory, which could replace it while root opens it"
                in said
            )
            assert f"{ETC}/mallory." in said
        assert machine.systemctl("list-units", "--no-legend", "spyglass@mallory.*") == ""
        machine.systemctl("daemon-reload")  # PID 1 is there
    finally:
        machine.run("rm", f"{ETC}/mallory.toml")


def test_a_path_that_became_another_users_is_shown(machine: Machine, mallory: str) -> None:
    machine.write("/srv/variables/env", "A=b\n")
    furnish(machine, "later", "app = None\n", "environment_file = '/srv/variables/env'\n")
    spyglass(machine, "apply", "--no-check", "later")
    machine.run("chown", mallory, "/srv/variables")
    said = spyglass(machine, "doctor", "later", status=1).stdout
    assert "/srv/variables belongs to mallory" in said
    spyglass(machine, "remove", "--purge", "later")


@pytest.mark.timeout(120)
def test_a_pipe_where_a_virtual_environment_should_be(machine: Machine, mallory: str) -> None:
    machine.run(
        "sh",
        "-c",
        "mkdir -p /srv/mallory/venv && mkfifo /srv/mallory/venv/pyvenv.cfg",
        user=mallory,
    )
    furnish(machine, "mallory", "app = None\n", "venv = 'venv'\n")
    try:
        assert (
            "pyvenv.cfg: not a regular file"
            in spyglass(machine, "apply", "mallory", status=78).stderr
        )
        assert "pyvenv.cfg" in spyglass(machine, "doctor", "mallory", status=1).stdout
    finally:
        machine.run("rm", f"{ETC}/mallory.toml")


def test_an_app_that_says_what_it_likes(machine: Machine, good: None) -> None:
    furnish(machine, "speaker", SPEAKER, "idle_timeout = 600\n")
    said = spyglass(machine, "apply", "speaker", status=78)
    assert said.stderr.startswith("spyglass: warning: speaker cannot be loaded: ")
    assert all(line.isprintable() for line in f"{said.stdout}{said.stderr}".splitlines())
    assert visit(machine.path("/run/spyglass/speaker.sock")).status == 503
    machine.run("journalctl", "--sync")
    for command, status in (
        (["list"], 0),
        (["status", "speaker"], 1),
        (["doctor"], machine.run("spyglass", "doctor", check=False).returncode),
    ):
        assert status in (0, 1)
        said = spyglass(machine, *command, status=status).stdout
        assert all(letter.isprintable() or letter == "\n" for letter in said)
        assert "$ touch" not in said
        assert not [
            line
            for line in said.split("\n")
            if line.strip().startswith("$ ") and "spyglass@a" in line
        ]
        found = json.loads(spyglass(machine, *command, "--json", status=status).stdout)
        if command == ["list"]:
            assert {app["name"]: app["state"] for app in found} == {
                "good": "awake",
                "speaker": "failing",
            }
    spyglass(machine, "check", "speaker", status=78)
    assert machine.run("test", "-e", "/ran", check=False).returncode == 1
    spyglass(machine, "remove", "--purge", "speaker")


def test_much_in_the_journal_takes_little_memory(machine: Machine, good: None) -> None:
    source = (
        SPEAKER.partition("entry(MESSAGE")[0]
        + "for _ in range(60):\n    entry(MESSAGE=b'\\xff' * 600_000)\nraise RuntimeError\n"
    )
    furnish(machine, "flood", source, "idle_timeout = 600\n")
    spyglass(machine, "apply", "--no-check", "flood")
    visit(machine.path("/run/spyglass/flood.sock"))
    machine.run("journalctl", "--sync")
    code = "import resource, subprocess; subprocess.run(['spyglass', 'status', 'flood']); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    assert int(machine.run("python3", "-c", code).stdout.split()[-1]) < 150_000  # KiB
    spyglass(machine, "remove", "--purge", "flood")


def test_values_come_back_as_they_were(machine: Machine) -> None:
    """What systemd has read of a unit is what stands in the settings, whatever a
    directory is called.
    """
    odd = "/srv/we ird %h;# $HOME é,x"
    machine.run("useradd", "--system", "odd")
    machine.run("install", "-d", "-o", "odd", f"{odd}/media")
    machine.write(f"{odd}/env", "FROM_FILE=1\n")
    values = {"A": 'a "b" \\ \' %h $HOME ; # é', "B": " one\n\ttwo\\n "}
    furnish(machine, "odd", SEES, "")
    machine.run("mv", "/srv/odd/app.py", odd)
    machine.write(
        f"{ETC}/odd.toml",
        f"app = 'app'\nuser = 'odd'\ndirectory = '{odd}'\nenvironment_file = 'env'\nwritable = 'media'\nlisten = '/run/od d%n.sock'\n"
        f"environment = {{ A = {json.dumps(values['A'])}, B = {json.dumps(values['B'])} }}\n",
    )
    spyglass(machine, "apply", "odd")
    service, socket = machine.state("spyglass@odd.service"), machine.state("spyglass@odd.socket")
    assert service["EnvironmentFiles"].startswith(f"{odd}/env (")
    assert service["ReadWritePaths"] == f'"{odd}/media"'.replace(
        "$", "\\$"
    )  # as a shell would have it
    assert socket["Listen"] == "/run/od d%n.sock (Stream)"
    verified = machine.run(
        "systemd-analyze", "verify", "--man=no", "spyglass@odd.socket", "spyglass@odd.service"
    )
    assert (verified.stdout, verified.stderr) == ("", "")
    seen = json.loads(visit(machine.path("/run/od d%n.sock")).text)
    assert {name: seen["environ"][name] for name in ("A", "B", "FROM_FILE")} == values | {
        "FROM_FILE": "1"
    }
    assert (seen["media"], seen["beside"]) == (True, "Read-only file system")
    spyglass(machine, "list")
    spyglass(machine, "status", "odd")
    spyglass(machine, "remove", "--purge", "odd")


def test_a_name_with_a_line_in_it_makes_no_line(machine: Machine) -> None:
    machine.run("mkdir", "-p", "/srv/x\nExecStartPre=+touch /ran\n#")
    machine.write(
        f"{ETC}/lines.toml",
        'directory = "/srv/x\\nExecStartPre=+touch /ran\\n#"\nenvironment_file = "env"\n',
    )
    for command in ("apply", "check"):
        assert (
            f"{ETC}/lines.toml:1: directory: must not contain '\\n'"
            in spyglass(machine, command, "lines", status=78).stderr
        )
    machine.run("rm", f"{ETC}/lines.toml")


def test_locks_and_names_of_others_hold_no_command_up(
    machine: Machine, mallory: str, good: None
) -> None:
    """Whatever there is to lock for everybody is locked, and names are bound that look
    like lines about the app's socket.
    """
    life = machine.state("spyglass@good.service")
    names = [
        f"spyglass/reload/{life['InvocationID']}",
        f"spyglass/reload/{life['MainPID']}",
        "a b c",
        "\n" * 50,
    ]
    names.append("\n0000000000000000: 00000002 00000000 00010000 0001 01 1 /run/spyglass/new.sock")
    code = f"""
import fcntl, os, socket, time
locks = [os.open(path, os.O_RDONLY) for path in ("{ETC}", "{ETC}/good.toml", "/run", "/run/spyglass")]
for lock in locks:
    fcntl.flock(lock, fcntl.LOCK_EX)
sockets = [socket.socket(socket.AF_UNIX) for _ in range(5)]
for each, name in zip(sockets, {names!r}):
    each.bind("\\0" + name)
    each.listen()
print("done", flush=True)
time.sleep(600)
"""
    other = machine.popen("python3", "-c", code, user=mallory, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "done\n"
        furnish(machine, "new", "app = None\n", "")
        spyglass(machine, "apply", "--no-check")
        spyglass(machine, "check", "good")
        assert {app["name"] for app in json.loads(spyglass(machine, "list", "--json").stdout)} >= {
            "good",
            "new",
        }
        spyglass(machine, "reload", "good")
        assert machine.state("spyglass@good.service")["InvocationID"] == life["InvocationID"]
        machine.systemctl("restart", "spyglass@good.service")
        spyglass(machine, "reload", "good")
    finally:
        other.terminate()
        other.wait()
        spyglass(machine, "remove", "--purge", "new")
    assert (
        machine.run("stat", "--format=%A %U", "/run/spyglass-admin").stdout == "drwx------ root\n"
    )
    assert machine.run(
        "stat", "--format=%A", "/var/lib/spyglass/good/.spyglass-reload"
    ).stdout.startswith("srw")
    machine.systemctl("stop", "spyglass@good.service")
    assert (
        machine.run("test", "-e", "/var/lib/spyglass/good/.spyglass-reload", check=False).returncode
        == 1
    )
