"""The first five minutes of docs/start.md, typed from the first line to the last."""

from __future__ import annotations

from machine import Machine
from typed import Page, do

START = Page("docs/start.md")


def test_five_minutes(machine: Machine) -> None:
    _, first_look, leave = START.scripts("The package")
    assert "Spyglass is awake" in do(machine, first_look)
    do(machine, leave)
    assert machine.state("spyglass.service")["ActiveState"] == "inactive"

    make, new, check, apply = START.scripts("An app")
    do(machine, make)
    said = do(machine, new)
    assert 'app = "app:app"' in said
    assert 'venv = "venv"' in said
    do(machine, check)
    assert "Hello from Flask\n" in do(machine, apply)
    assert machine.state("spyglass@hello.socket")["UnitFileState"] == "enabled"

    [look] = START.scripts("Look at it")
    assert do(machine, look).count("awake") >= 2

    [change] = START.scripts("Change it")
    assert do(machine, change).endswith("Hello again from Flask\n")

    [remove] = START.scripts("Take it away")
    do(machine, remove)
    assert machine.state("spyglass@hello.socket")["ActiveState"] == "inactive"
    assert machine.state("spyglass@hello.socket")["UnitFileState"] == "disabled"
