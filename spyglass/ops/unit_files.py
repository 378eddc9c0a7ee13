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

ETC = ("/etc/", "/run/")  # what an administrator may change; the rest is a package's


@dataclass
class Line:
    """An assignment. `plain` (bool): it is one line of its file. `written`: its value
    with the indentation of continued lines.
    """

    file: str
    section: str
    key: str
    value: str
    plain: bool = True
    written: str = ""


def parse(text: str, file: str = "") -> list[Line]:
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
        whole, written, plain = (
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
                Line(
                    file,
                    section,
                    key.strip(),
                    value.strip(),
                    plain,
                    written.partition("=")[2].strip(),
                )
            )
    return found


def lines(unit: Mapping[str, str]) -> list[Line]:
    """Those of all files of a unit (FragmentPath, DropInPaths), in the order in which
    they count; what cannot be read is left out.
    """
    paths = [unit.get("FragmentPath", ""), *unit.get("DropInPaths", "").split()]
    return [line for path in paths for line in parse(atomic_files.glance(path), path)]


def is_replaced(unit: Mapping[str, str]) -> bool:
    """Whether an administrator's file stands in the place of the package's."""
    return unit.get("FragmentPath", "").startswith(ETC)


def take_away(unit: Mapping[str, str], *keys: str) -> list[str]:
    """The commands that take each assignment of these away that an administrator has
    made; none, if there is none.

    Where his file stands in the place of the package's there is nothing to fall back
    on, so that goes as a whole.
    """
    commands: dict[str, None] = {}
    for line in lines(unit):
        if line.key in keys and line.file.startswith(ETC) and line.file != unit.get("FragmentPath"):
            file = shlex.quote(line.file)
            pattern = shlex.quote(f"/^[[:space:]]*{line.key}[[:space:]]*=/d")
            commands[f"sed -i {pattern} {file}" if line.plain else f"${{EDITOR:-nano}} {file}"] = (
                None
            )
    if not commands and is_replaced(unit):
        return [
            f"mv {shlex.quote(unit['FragmentPath'])} {shlex.quote(unit['FragmentPath'] + '.off')}"
        ]
    return list(commands)
