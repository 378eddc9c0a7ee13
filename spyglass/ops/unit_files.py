"""What stands in the files of a unit, line by line: systemd says what counts in the
end, and here is which line it comes from.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spyglass.ops import atomic_files

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMIN_DIRECTORIES = ("/etc/", "/run/")  # what an administrator may change; the rest is a package's


@dataclass
class Assignment:
    """An assignment in a unit file: `key`=`value` in `section` of `file`.

    `is_single_line` (bool) is False if it has continuation lines. `raw_value` is the
    value with the indentation of those lines kept.
    """

    file: str
    section: str
    key: str
    value: str
    is_single_line: bool = True
    raw_value: str = ""


def parse(text: str, file: str = "") -> list[Assignment]:
    """The assignments in a unit file, in order (systemd.syntax(7))."""
    found = []
    section = ""
    pieces: list[str] = []
    for line in text.split("\n"):
        if line.lstrip().startswith(("#", ";")):
            continue  # also between continued lines
        if line.rstrip().endswith("\\"):
            pieces.append(line.rstrip()[:-1])
            continue
        pieces.append(line)
        whole, raw_value, is_single_line = (
            " ".join(piece.lstrip() for piece in pieces).strip(),
            " ".join(pieces),
            len(pieces) == 1,
        )
        pieces = []
        if whole.startswith("[") and whole.endswith("]"):
            section = whole[1:-1]
            continue
        key, equals, value = whole.partition("=")
        if equals:
            found.append(
                Assignment(
                    file,
                    section,
                    key.strip(),
                    value.strip(),
                    is_single_line,
                    raw_value.partition("=")[2].strip(),
                )
            )
    return found


def assignments(unit: Mapping[str, str]) -> list[Assignment]:
    """Those of all files of a unit (FragmentPath, DropInPaths), in the order in which
    they count; what cannot be read is left out.
    """
    paths = [unit.get("FragmentPath", ""), *unit.get("DropInPaths", "").split()]
    return [
        line for path in paths for line in parse(atomic_files.read_untrusted_or_empty(path), path)
    ]


def is_replaced(unit: Mapping[str, str]) -> bool:
    """Whether an administrator's file stands in the place of the package's."""
    return unit.get("FragmentPath", "").startswith(ADMIN_DIRECTORIES)


def removal_commands(unit: Mapping[str, str], *keys: str) -> list[str]:
    """The commands that take each assignment of these away that an administrator has
    made; none, if there is none.

    Where his file stands in the place of the package's there is nothing to fall back
    on, so that goes as a whole.
    """
    commands: dict[str, None] = {}
    for line in assignments(unit):
        if (
            line.key in keys
            and line.file.startswith(ADMIN_DIRECTORIES)
            and line.file != unit.get("FragmentPath")
        ):
            file = shlex.quote(line.file)
            pattern = shlex.quote(f"/^[[:space:]]*{line.key}[[:space:]]*=/d")
            commands[
                f"sed -i {pattern} {file}" if line.is_single_line else f"${{EDITOR:-nano}} {file}"
            ] = None
    if not commands and is_replaced(unit):
        return [
            f"mv {shlex.quote(unit['FragmentPath'])} {shlex.quote(unit['FragmentPath'] + '.off')}"
        ]
    return list(commands)
