"""The harness itself: what every other test in this directory takes for granted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from machine import PREFIX, Machine, boot, hierarchies, root, sweep
from waiting import wait_until

ECHO_SOCKET = """
[Socket]
ListenStream=7777
ListenStream=/run/echo.sock
"""
# Takes one connection, answers and leaves: the life cycle of a Spyglass in a line of
# Python.
ECHO_SERVICE = """
[Service]
ExecStart=/usr/bin/python3 -c "import socket; c = socket.socket(fileno=%d).accept()[0]; c.sendall(c.recv(9)); print('served')"
"""


def listen(machine: Machine, descriptor: int = 3) -> None:
    machine.write("/etc/systemd/system/echo.socket", ECHO_SOCKET)
    machine.write("/etc/systemd/system/echo.service", ECHO_SERVICE % descriptor)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "echo.socket")


def asleep(machine: Machine) -> bool:
    return machine.state("echo.socket")["SubState"] == "listening" and not machine.processes("echo")


def leftovers(pid: int) -> list[Path]:
    """Whatever carries the name of a machine that process `pid` has booted."""
    places = [*hierarchies(), Path("/tmp")]
    return [
        path
        for place in places
        for path in place.glob(f"{PREFIX}-{pid}-*")
        if "layers" not in path.name
    ]


def test_it_is_a_whole_debian(bare_machine: Machine) -> None:
    assert f"VERSION_CODENAME={bare_machine.release}" in bare_machine.read("/etc/os-release")
    assert bare_machine.systemctl("is-system-running").strip() == "running"
    assert bare_machine.run("cat", "/proc/1/comm").stdout == "systemd\n"
    assert bare_machine.run("/srv/venv/bin/python", "-c", "import flask, django").returncode == 0


@pytest.mark.one_release
def test_a_command_that_fails_says_why(bare_machine: Machine) -> None:
    with pytest.raises(AssertionError, match="exited 1:\ncat: /nothing: No such file"):
        bare_machine.read("/nothing")
    assert bare_machine.run("false", check=False).returncode == 1
    assert bare_machine.run("id", "-un", user="www-data").stdout == "www-data\n"


@pytest.mark.one_release
def test_files_come_and_go(bare_machine: Machine, tmp_path: Path) -> None:
    bare_machine.write("/srv/a place/file", "grüße\n", 0o600)
    assert bare_machine.read("/srv/a place/file") == "grüße\n"
    assert bare_machine.run("stat", "-c", "%a", "/srv/a place/file").stdout == "600\n"
    (tmp_path / "app").mkdir()
    (tmp_path / "app/app.py").write_text("x = 1\n")
    bare_machine.copy(tmp_path / "app", "/srv/blog")
    assert bare_machine.read("/srv/blog/app.py") == "x = 1\n"


@pytest.mark.one_release
def test_the_environment_of_the_caller_stays_outside(
    bare_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "1")
    assert "OURS" not in bare_machine.run("env").stdout
    assert "THEIRS=2" in bare_machine.run("env", env={"THEIRS": "2"}).stdout


def test_a_socket_unit_lives_its_life(bare_machine: Machine) -> None:
    listen(bare_machine)
    assert asleep(bare_machine)
    for address in (7777, ("::1", 7777)):
        with bare_machine.connect(address) as client:
            client.sendall(b"hello")
            assert client.recv(9) == b"hello"
        wait_until(lambda: asleep(bare_machine), what="echo.service has left")
    assert bare_machine.state("echo.service")["Result"] == "success"
    assert bare_machine.journal("echo.service").count("served") == 2


def test_a_unix_socket_is_reached_too(bare_machine: Machine) -> None:
    listen(bare_machine, descriptor=4)
    with bare_machine.connect("/run/echo.sock") as client:
        # A process of the unit is systemd's own executor at first, before it becomes
        # the program.
        def running() -> list[str]:
            return [
                one.unit
                for one in bare_machine.processes("echo")
                if one.argv[0] == "/usr/bin/python3"
            ]

        wait_until(lambda: running() == ["echo.service"], what="echo.service runs")
        client.sendall(b"hello")
        assert client.recv(9) == b"hello"
    wait_until(lambda: asleep(bare_machine), what="echo.service has left")


def test_the_network_is_its_own(bare_machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        with pytest.raises(ConnectionRefusedError):
            bare_machine.connect(ours.getsockname()[1])
        # ... and this thread has come back from there.
        socket.create_connection(ours.getsockname()).close()
    with bare_machine.network():
        interfaces = subprocess.run(
            ["cat", "/proc/self/net/dev"], capture_output=True, text=True, check=True
        ).stdout
    assert [line.split(":")[0].strip() for line in interfaces.splitlines()[2:]] == ["lo"]


@pytest.mark.one_release
def test_a_started_command_ends_with_us(bare_machine: Machine) -> None:
    sleeper = bare_machine.popen("sleep", "4321")
    wait_until(
        lambda: bare_machine.run("pgrep", "-f", "sleep 4321", check=False).stdout, what="sleep runs"
    )
    sleeper.terminate()
    sleeper.wait(10)
    wait_until(
        lambda: not bare_machine.run("pgrep", "-f", "sleep 4321", check=False).stdout,
        what="sleep has ended",
    )


@pytest.mark.one_release
def test_two_machines_do_not_meet(release: str) -> None:
    below = root("tests", release)
    with boot(release, below) as one, boot(release, below) as other:
        listen(one)
        listen(other)
        one.write("/srv/one", "")
        assert other.run("test", "-e", "/srv/one", check=False).returncode == 1
        with one.connect("/run/echo.sock"):
            wait_until(
                lambda: one.state("echo.socket")["SubState"] == "running", what="echo.service runs"
            )
            assert asleep(other)


@pytest.mark.one_release
def test_nothing_is_left(release: str) -> None:
    before = leftovers(os.getpid())
    with boot(release, root("tests", release)) as machine:
        leader = Path("/proc", str(machine.leader))
        assert leader.exists()
        assert len(leftovers(os.getpid())) > len(before)
        assert machine.name not in Path("/proc/mounts").read_text()
    assert not leader.exists()
    assert leftovers(os.getpid()) == before


@pytest.mark.one_release
@pytest.mark.parametrize(
    "by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda by: by.name
)
def test_nothing_is_left_by_the_killed(release: str, by: signal.Signals) -> None:
    script = """import select, signal, sys; from machine import boot, root
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell has put into the background
with boot(sys.argv[1], root("tests", sys.argv[1])) as machine:
    print(machine.leader, flush=True)
    # Again and again: a signal just before a wait runs its handler only after it.
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
"""
    argv = [sys.executable, "-c", script, release]
    with subprocess.Popen(
        argv, stdin=-1, stdout=-1, stderr=-1, text=True, cwd=Path(__file__).parent
    ) as victim:
        assert victim.stdout
        leader = Path("/proc", victim.stdout.readline().strip())
        assert leader.exists()
        victim.send_signal(by)
        victim.wait(30)
    wait_until(lambda: not leader.exists(), 30, "the machine has ended")

    # Its processes and mounts have gone with it, whatever happened. The empty shells of
    # the killed go with the next boot.
    def swept() -> bool:
        sweep()
        return not leftovers(victim.pid)

    wait_until(swept, what="nothing is left")
