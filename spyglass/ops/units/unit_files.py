"""Parse unit files line by line.

`systemctl show` has the value that counts in the end, but not which file it comes from.
doctor needs the line, to suggest the command that removes it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spyglass.ops.files import atomic_files
from spyglass.ops.units import pip_units

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMIN_DIRECTORIES = ("/etc/", "/run/")  # the administrator's files; the others are a package's


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
    """Return the assignments in the text of a unit file, in order; see
    systemd.syntax(7).
    """
    found = []
    section = ""
    pieces: list[str] = []
    for line in text.split("\n"):
        if line.lstrip().startswith(("#", ";")):
            continue  # comments are allowed between continuation lines, too
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
    """Return the assignments of all files of a unit (FragmentPath, DropInPaths).

    They are in the order in which systemd applies them. Unreadable files are skipped.
    """
    paths = [unit.get("FragmentPath", ""), *unit.get("DropInPaths", "").split()]
    return [
        line for path in paths for line in parse(atomic_files.read_untrusted_or_empty(path), path)
    ]


def is_replaced(unit: Mapping[str, str]) -> bool:
    """Return True if an administrator's file replaces the package's unit file."""
    return unit.get("FragmentPath", "").startswith(ADMIN_DIRECTORIES)


def removal_commands(unit: Mapping[str, str], *keys: str) -> list[str]:
    """Return the shell commands that remove the administrator's assignments of `keys`.

    [] if there are none. A file that replaces the package's unit is moved away as a
    whole: deleting one line of it would not bring the package's value back. One that
    `spyglass units install` made is made again.
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
    if not commands and (own := pip_units.of_fragment(unit)):
        return [f"rm {shlex.quote(own.path)}", "spyglass units install"]
    if not commands and is_replaced(unit):
        return [
            f"mv {shlex.quote(unit['FragmentPath'])} {shlex.quote(unit['FragmentPath'] + '.off')}"
        ]
    return list(commands)
