"""What `doctor` says of an app that fails is serious, and true: what clients see, and
what has them served again.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from machine import Machine
from process.visitor import visit
from test_apply import furnish, spyglass

HELLO = (
    "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
)
QUICK = "idle_timeout = 0.5\nkeepalive_timeout = 0.1\n"
# What keeps systemd from starting the service, and what it says.
WAYS = {
    "203": ("[Service]\nExecStart=\nExecStart=/nowhere serve --name %i\n", "status 203"),
    "217": ("[Service]\nDynamicUser=no\nUser=nosuch\n", "status 217"),
    "226": ("[Service]\nReadWritePaths=/nowhere\n", "status 226"),
    "243": ("[Service]\nLoadCredential=x:/nowhere\n", "status 243"),
    "resources": ("[Service]\nEnvironmentFile=/nowhere\n", "resources"),
}


def trouble(machine: Machine, name: str) -> list[dict[str, Any]]:
    """What is serious."""
    findings: list[dict[str, Any]] = json.loads(
        machine.run("spyglass", "doctor", "--json", name, check=False).stdout
    )
    return [finding for finding in findings if finding["where"] == name and finding["grave"]]


def client(machine: Machine, name: str) -> subprocess.Popen[str]:
    return machine.popen(
        "curl",
        "--silent",
        "--max-time",
        "30",
        "--unix-socket",
        f"/run/spyglass/{name}.sock",
        "http://x/",
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_service_that_cannot_be_started_is_tried_again_while_clients_wait(
    machine: Machine, way: str
) -> None:
    name, (drop_in, ending) = f"cannot-{way}", WAYS[way]
    furnish(machine, name, HELLO, "")
    spyglass(machine, "apply", name)
    path = f"/etc/systemd/system/spyglass@{name}.service.d/own.conf"
    machine.write(path, drop_in)
    machine.systemctl("daemon-reload")
    waiting = client(machine, name)
    machine.wait_until(
        lambda: int(machine.state(f"spyglass@{name}.service")["NRestarts"]) > 1,
        20,
        "it is tried again",
    )

    def told() -> dict[str, Any] | None:
        return next(
            (
                finding
                for finding in trouble(machine, name)
                if finding["what"].endswith((f"ended: {ending}", "times"))
            ),
            None,
        )

    finding = machine.wait_until(told, 20, "the doctor has seen it")
    assert finding is not None
    assert finding["why"] == "systemd keeps restarting it; clients wait until it stays up"
    assert waiting.poll() is None
    machine.run("rm", path)
    machine.systemctl("daemon-reload")
    assert waiting.communicate()[0] == "hello"
    machine.wait_until(lambda: not trouble(machine, name), 20, "nothing is wrong any more")
    spyglass(machine, "remove", "--purge", name)


def test_an_app_that_cannot_be_loaded_answers_503_until_it_is_fixed(machine: Machine) -> None:
    furnish(machine, "unfit", "import blgo\n", QUICK)
    spyglass(machine, "apply", "unfit", status=78)
    socket = machine.path("/run/spyglass/unfit.sock")
    for _ in range(2):  # the second time it is the next client that has it tried again
        assert visit(socket).status == 503
        [finding] = trouble(machine, "unfit")
        if machine.state("spyglass@unfit.service")["ActiveState"] == "active":
            assert (
                finding["what"]
                == "spyglass@unfit.service is failing: ModuleNotFoundError: No module named 'blgo'"
            )
            assert finding["why"].startswith("clients get a 503; ")
        machine.wait_until(
            lambda: machine.state("spyglass@unfit.service")["ActiveState"] == "failed",
            20,
            "it has given up",
        )
        [finding] = trouble(machine, "unfit")
        assert finding["what"] == "spyglass@unfit.service: it could not be loaded"
        assert (
            finding["why"]
            == "clients get a 503 until it is fixed; the next connection triggers the next attempt"
        )
    furnish(machine, "unfit", HELLO, QUICK)
    assert visit(socket).text == "hello"
    # A Master that was there before the file records its settings within a second.
    machine.wait_until(lambda: trouble(machine, "unfit") == [], what="nothing is wrong any more")
    spyglass(machine, "remove", "--purge", "unfit")


def test_a_service_that_has_failed_without_a_restart_is_started_by_the_next_client(
    machine: Machine,
) -> None:
    furnish(machine, "killed", HELLO, "")
    machine.write(
        "/etc/systemd/system/spyglass@killed.service.d/own.conf", "[Service]\nRestart=no\n"
    )
    spyglass(machine, "apply", "killed")
    socket = machine.path("/run/spyglass/killed.sock")
    assert visit(socket).text == "hello"
    machine.systemctl("kill", "--signal=KILL", "spyglass@killed.service")
    machine.wait_until(
        lambda: machine.state("spyglass@killed.service")["ActiveState"] == "failed",
        20,
        "it has failed",
    )
    [finding] = trouble(machine, "killed")
    assert finding["what"] == "spyglass@killed.service ended: killed by SIGKILL"
    assert (
        finding["why"]
        == "systemd starts it again at the next connection, which waits until it stays up"
    )
    assert visit(socket).text == "hello"
    assert trouble(machine, "killed") == []
    machine.run("rm", "-r", "/etc/systemd/system/spyglass@killed.service.d")
    spyglass(machine, "remove", "--purge", "killed")


def test_a_socket_that_is_enabled_and_stopped_refuses_clients(machine: Machine) -> None:
    furnish(machine, "stopped", HELLO, "listen = 8098\n")
    spyglass(machine, "apply", "stopped")
    machine.systemctl("stop", "spyglass@stopped.socket")
    assert machine.run("curl", "--silent", "localhost:8098", check=False).returncode == 7
    [finding] = trouble(machine, "stopped")
    assert finding["why"] == "connections are refused until it is started, or until the next boot"
    machine.run("sh", "-c", finding["cure"][0])
    assert trouble(machine, "stopped") == []
    spyglass(machine, "remove", "--purge", "stopped")


def test_units_whose_settings_have_gone_answer_503(machine: Machine) -> None:
    furnish(machine, "gone", HELLO, QUICK)
    spyglass(machine, "apply", "gone")
    machine.run("rm", "/etc/spyglass/gone.toml")
    assert [finding["why"].partition(",")[0] for finding in trouble(machine, "gone")] == [
        "clients get a 503 at the next wake"
    ]
    assert visit(machine.path("/run/spyglass/gone.sock")).status == 503
    spyglass(machine, "remove", "--purge", "gone")
