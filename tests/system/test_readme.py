"""What the README tells people to type is typed here, line by line, but for what needs a network."""

from __future__ import annotations

import itertools
import re
import textwrap

import pytest
from machine import REPOSITORY, Machine

README = (REPOSITORY / "README.md").read_text("utf-8")
# No network: the packages are there already, and so is a virtual environment with both frameworks.
INSTALLS = {
    r"apt install python3-venv\n": "",
    r"python3 -m venv venv && venv/bin/pip install \w+\n": "ln -s /srv/venv venv\n",
}


def typed(heading: str) -> str:
    """The first block of code below a heading, as a script."""
    lines = iter(README.splitlines())
    next(line for line in lines if line.lstrip("#") == f" {heading}")
    below = itertools.dropwhile(lambda line: not line.startswith("    "), lines)
    block = itertools.takewhile(lambda line: not line or line.startswith("    "), below)
    return textwrap.dedent("\n".join(block)).strip() + "\n"


def do(machine: Machine, script: str) -> str:
    """Runs it as root's shell would; what the last line says."""
    return machine.run("bash", "-euc", script, "README").stdout


def test_the_default_app(machine: Machine) -> None:
    said = do(machine, typed("An app under systemd"))
    assert said.startswith("HTTP/1.1 200 OK\r\n")
    assert "Spyglass is awake" in said


@pytest.mark.parametrize(
    ("framework", "name", "says"),
    [("Flask", "hello", "Hello from Flask\n"), ("Django", "blog", "The install worked successfully! Congratulations!")],
    ids=["Flask", "Django"],
)
def test_an_app(machine: Machine, framework: str, name: str, says: str) -> None:
    script = typed(framework)
    for install, instead in INSTALLS.items():
        script = re.sub(install, instead, script)
    assert "pip" not in script
    assert says in do(machine, script)
    assert machine.state(f"spyglass@{name}.socket")["UnitFileState"] == "enabled"
    # Again from sleep, whatever the first wake left behind.
    machine.systemctl("stop", f"spyglass@{name}.service")
    assert says in do(machine, script.splitlines()[-1])
