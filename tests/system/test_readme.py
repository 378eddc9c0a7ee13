"""What the README tells people to type is typed here, line by line, but for what needs
a network.
"""

from __future__ import annotations

import pytest
from machine import Machine
from typed import Page, do

README = Page("README.md")


def test_the_default_app(machine: Machine) -> None:
    said = do(machine, README.typed("An app under systemd"))
    assert said.startswith("HTTP/1.1 200 OK\r\n")
    assert "Spyglass is awake" in said
    assert "somebody connected to <code>[::]:4222</code>" in said


@pytest.mark.parametrize(
    ("framework", "name", "says"),
    [
        ("Flask", "hello", "Hello from Flask\n"),
        ("Django", "blog", "The install worked successfully! Congratulations!"),
    ],
    ids=["Flask", "Django"],
)
def test_an_app(machine: Machine, framework: str, name: str, says: str) -> None:
    script = README.typed(framework)
    assert says in do(machine, script)
    assert machine.state(f"spyglass@{name}.socket")["UnitFileState"] == "enabled"
    # Again from sleep, whatever the first wake left behind.
    machine.systemctl("stop", f"spyglass@{name}.service")
    assert says in do(machine, script.splitlines()[-1])
