"""What a page of the documentation tells people to type, taken from there and typed, but for what needs a network."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator

from machine import REPOSITORY, Machine

# No network: the packages are there already, and so is a virtual environment with the frameworks.
_INSTALLS = {
    r"apt install (python3-venv|\./\S+)\n": "",
    r"python3 -m venv venv && venv/bin/pip install \w+\n": "ln -s /srv/venv venv\n",
}


def page(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def blocks(text: str, heading: str) -> list[str]:
    """The blocks of code below a heading, as scripts."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith("#") and line.lstrip("#") == f" {heading}")
    below = list(itertools.takewhile(lambda line: not line.startswith("#"), lines))
    return [_offline(textwrap.dedent("\n".join(block)).strip() + "\n") for block in _indented(below)]


def _indented(lines: list[str]) -> Iterator[list[str]]:
    for is_code, group in itertools.groupby(_with_gaps(lines), lambda line: line.startswith("    ")):
        if is_code:
            yield list(group)


def _with_gaps(lines: list[str]) -> Iterator[str]:
    """An empty line between two lines of code is one of code."""
    for index, line in enumerate(lines):
        after = next((later for later in lines[index:] if later), "")
        before = next((earlier for earlier in reversed(lines[:index]) if earlier), "")
        yield "    " if not line and after.startswith("    ") and before.startswith("    ") else line


def _offline(script: str) -> str:
    for install, instead in _INSTALLS.items():
        script = re.sub(install, instead, script)
    assert "pip" not in script
    return script


def do(machine: Machine, script: str) -> str:
    """Runs it as root's shell would; what it says."""
    return machine.run("bash", "-euc", script, "typed").stdout
