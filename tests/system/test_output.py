"""`apply`, `remove` and `list` when nothing reads what they print: what they do is
done, and the exit status tells.
"""

from __future__ import annotations

import subprocess

import pytest
from instance import TELL
from machine import Machine
from test_apply import curl, drop_ins, furnish, spyglass

pytestmark = pytest.mark.one_release


def shell(machine: Machine, command: str) -> int:
    return machine.run("bash", "-c", f"set -o pipefail; {command}", check=False).returncode


@pytest.mark.parametrize(
    "redirection",
    [
        "| head -1",
        "| true",
        ">/dev/full",
        ">/dev/full 2>/dev/full",
        ">&-",
        ">&- 2>&-",
        "<&- >&- 2>&-",
        "2>&-",
        "2>/dev/full",
    ],
)
def test_an_app_is_applied_and_removed_whatever_becomes_of_the_words(
    machine: Machine, redirection: str
) -> None:
    furnish(machine, "quiet", TELL, "listen = [8091, 8092]\nnetwork = false\n")
    assert shell(machine, f"spyglass apply quiet {redirection}") == 0
    assert curl(machine, "localhost:8092")
    assert sorted(drop_ins(machine, "quiet")) == [
        "spyglass@quiet.service.d",
        "spyglass@quiet.socket.d",
    ]
    assert machine.systemctl("is-enabled", "spyglass@quiet.socket") == "enabled\n"
    furnish(machine, "quiet", TELL, "listen = -1\n")
    assert shell(machine, f"spyglass apply quiet {redirection}") == 78
    assert shell(machine, f"spyglass remove --purge quiet {redirection}") == 0
    assert drop_ins(machine, "quiet") == {}


def test_a_reader_that_does_not_read_holds_nothing_up(machine: Machine) -> None:
    # The difference is longer than a pipe takes (64 KiB, pipe(7)).
    variables = "".join(f'V{number} = "{"x" * 1000}"\n' for number in range(200))
    furnish(machine, "stuck", TELL, f"listen = 8093\n[environment]\n{variables}")
    applying = machine.popen("spyglass", "apply", "-v", "stuck", stdout=subprocess.PIPE)
    machine.wait_until(
        lambda: (
            machine.run("systemctl", "is-enabled", "spyglass@stuck.socket", check=False).stdout
            == "enabled\n"
        ),
        30,
    )
    assert curl(machine, "localhost:8093")
    assert "stuck: listens; open http://localhost:8093/" in applying.communicate()[0]
    assert applying.returncode == 0
    spyglass(machine, "remove", "--purge", "stuck")


@pytest.mark.parametrize(
    "words",
    [
        "list",
        "list --json",
        "doctor",
        "status seen",
        "apply -n",
        "check seen",
        "--help",
        "--version",
    ],
)
def test_what_is_only_said_must_be_said(machine: Machine, words: str) -> None:
    furnish(machine, "seen", TELL, "")
    spyglass(machine, "apply", "seen")
    furnish(machine, "seen", TELL, "network = false\n")
    usual = shell(machine, f"spyglass {words} >/dev/null")
    assert shell(machine, f"spyglass {words} | true") == usual
    assert shell(machine, f"spyglass {words} >/dev/full") == (usual or 1)
    assert shell(machine, f"spyglass {words} >&-") == (usual or 1)
    spyglass(machine, "remove", "--purge", "seen")
