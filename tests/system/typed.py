"""What a page of the documentation tells people to type, and to write into files, taken
from there and done, but for what needs a network.

A block of code is the text of a file when the line above it ends with the file's path
(an absolute one, in backticks) and a colon, and is added to that file when that line
says so; everything else is what people type, or are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from code_blocks import code_blocks
from machine import REPOSITORY, Machine

# No network: the packages are there already, and so is a virtual environment with the
# frameworks.
_INSTALLS = {
    r"apt install ((git )?python3-venv|\./\S+)\n": "",
    r"python3 -m venv venv && venv/bin/pip install \w+\n": "ln -s /srv/venv venv\n",
}
_FILE = re.compile(r".*`(/[^`\s]+)`:$")


@dataclass(frozen=True)
class Block:
    heading: str  # that it stands below, "" before the first
    text: str
    path: str = ""  # of the file whose text it is
    adds: bool = False  # to what is there

    @property
    def script(self) -> str:
        """What has the same effect when it is typed."""
        if not self.path:
            return _offline(self.text)
        return (
            f"cat {'>>' if self.adds else '>'}{self.path} <<'END OF FILE'\n{self.text}END OF FILE\n"
        )


class Page:
    """README.md, docs/guides/nginx.md: by its path in the repository."""

    def __init__(self, name: str) -> None:
        self.blocks = list(_blocks((REPOSITORY / name).read_text("utf-8")))

    def below(self, heading: str) -> list[Block]:
        """The blocks of a section, without those below a heading within it."""
        found = [block for block in self.blocks if block.heading == heading]
        assert found, f"no block of code below {heading!r}"
        return found

    def scripts(self, heading: str) -> list[str]:
        """One for each block below a heading."""
        return [block.script for block in self.below(heading)]

    def script(self, *headings: str) -> str:
        """All that is below these headings, one after the other, as if it were typed
        into one shell.
        """
        return "".join(block.script for heading in headings for block in self.below(heading))

    def typed(self, heading: str) -> str:
        """The first of them that makes no file."""
        return next(block.script for block in self.below(heading) if not block.path)

    def files(self, heading: str) -> dict[str, str]:
        """Those below a heading: text by path."""
        return {block.path: block.text for block in self.below(heading) if block.path}

    def found(self, text: str) -> str:
        """The one block that has `text` in it."""
        [block] = [block for block in self.blocks if text in block.text]
        return block.text


def _blocks(page: str) -> Iterator[Block]:
    for block in code_blocks(page):
        named = _FILE.match(block.above)
        adds = bool(re.search(r"\badd\b", block.above, re.I))
        yield Block(block.heading, block.text, named[1] if named else "", adds)


def _offline(script: str) -> str:
    for install, instead in _INSTALLS.items():
        script = re.sub(install, instead, script)
    assert "pip install" not in script
    return script


def do(machine: Machine, script: str) -> str:
    """Runs it as root's shell would; what it says."""
    return machine.run("bash", "-euc", script, "typed").stdout
