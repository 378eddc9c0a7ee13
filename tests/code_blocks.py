"""The blocks of code in a page of the documentation, fenced (``` or ~~~) or indented by
four.

A fence may be indented, in an item of a list. What is within a block is code: a line
"# spyglass list" there is no heading.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r" *(?P<marks>```+|~~~+) *(?P<language>[\w+-]*)[^`]*$")


@dataclass(frozen=True)
class CodeBlock:
    heading: str  # that it stands below, "" before the first
    above: str  # the last line before it that is not empty, "" after another block
    text: str
    language: str = ""


@dataclass(frozen=True)
class Prose:
    """A line that is not code."""

    line: str


def code_blocks(page: str) -> list[CodeBlock]:
    return [part for part in _parts(page) if isinstance(part, CodeBlock)]


def prose(page: str) -> str:
    """The page without its code."""
    return "".join(f"{part.line}\n" for part in _parts(page) if isinstance(part, Prose))


def _parts(page: str) -> Iterator[CodeBlock | Prose]:
    heading = above = ""
    lines = page.splitlines()
    while lines:
        line = lines.pop(0)
        if fence := _FENCE.match(line):
            code = _until_fence(lines, fence["marks"])
            yield CodeBlock(heading, above, _text(code), fence["language"])
            above = ""
        elif line.startswith("    "):
            code = [line]
            while lines and (lines[0].startswith("    ") or not lines[0]):
                code.append(lines.pop(0))
            yield CodeBlock(heading, above, _text(code))
            above = ""
        else:
            if line.startswith("#"):
                heading = line.lstrip("#").strip()
            above = line or above
            yield Prose(line)


def _until_fence(lines: list[str], marks: str) -> list[str]:
    """Take the lines of a block, and the fence that ends it, which is as long as the
    one that began it, or longer.
    """
    code = []
    while lines:
        line = lines.pop(0)
        bare = line.strip()
        if bare.startswith(marks) and not bare.strip(marks[0]):
            return code
        code.append(line)
    raise AssertionError(f"a block of code has no end: {code[:1]}")


def _text(code: list[str]) -> str:
    return textwrap.dedent("\n".join(code)).strip("\n") + "\n"
