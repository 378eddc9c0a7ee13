"""The version of Spyglass comes from the first heading of CHANGELOG.md.

    ## 0.2.0 (unreleased)
    ## 0.1.0 (2026-12-24)

From these headings `make version` writes `__version__` in spyglass/__init__.py, which
the wheel, the command and the man pages read, and debian/changelog, which dpkg reads. A
unit test fails while they differ.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path

CHANGELOG = Path("CHANGELOG.md")
PROGRAM = Path("spyglass/__init__.py")
DEBIAN = Path("debian/changelog")
CONTROL = Path("debian/control")

_UNRELEASED = "unreleased"
_HEADING = re.compile(r"^## (.*)$", re.M)
_VERSION = re.compile(r"(\d+\.\d+\.\d+)((?:a|b|rc)\d+)? \((unreleased|\d{4}-\d\d-\d\d)\)")
_PROGRAM = re.compile(r'^__version__ = "(.*)"$', re.M)
_ENTRY = re.compile(r"^spyglass \((\S+)\) .*?^ -- .*?>  (.*?)$", re.M | re.S)


class VersionError(Exception):
    """A heading or a file cannot be understood; the message is one line."""


@dataclass(frozen=True)
class Version:
    """A version as a heading names it; `date` is "" until it is released."""

    number: str
    date: str

    @property
    def debian(self) -> str:
        """The same for dpkg, for which 0.2.0~rc1 is older than 0.2.0."""
        return re.sub(r"(?<=\d)(?=a|b|rc)", "~", self.number, count=1)


def of(tree: Path) -> list[Version]:
    """Return the versions in the headings of CHANGELOG.md, the newest first. Raise
    VersionError.
    """
    found = []
    for heading in _HEADING.findall((tree / CHANGELOG).read_text("utf-8")):
        match = _VERSION.fullmatch(heading)
        if not match:
            raise VersionError(
                f"{CHANGELOG}: '## {heading}': expected '## 1.2.3 (2026-12-24)', or (unreleased)"
            )
        number, suffix, date = match.groups()
        found.append(Version(number + (suffix or ""), "" if date == _UNRELEASED else date))
    if not found:
        raise VersionError(f"{CHANGELOG}: no heading names a version")
    if late := next((each for each in found[1:] if not each.date), None):
        raise VersionError(
            f"{CHANGELOG}: {late.number} has no date, but a newer version stands above it"
        )
    return found


def texts(tree: Path) -> dict[Path, str]:
    """Return what the files that repeat the version must contain. Raise VersionError."""
    versions = of(tree)
    program = (tree / PROGRAM).read_text("utf-8")
    if not _PROGRAM.search(program):
        raise VersionError(f"{PROGRAM}: no line __version__ = ...")
    line = f'__version__ = "{versions[0].number}"'
    return {
        PROGRAM: _PROGRAM.sub(line, program, count=1),
        DEBIAN: _debian(versions, (tree / CONTROL).read_text("utf-8"), _dates(tree)),
    }


def update(tree: Path, *, dry: bool) -> int:
    """Write these files, or with `dry` only name those that differ. Return the exit
    status.
    """
    differing = {
        path: text for path, text in texts(tree).items() if text != (tree / path).read_text("utf-8")
    }
    for path, text in differing.items():
        if dry:
            print(f"{path} does not follow {CHANGELOG}: make version")
        else:
            (tree / path).write_text(text, "utf-8")
            print(f"wrote {path}")
    return int(dry and bool(differing))


def epoch(tree: Path) -> int:
    """Return the time of the newest entry of debian/changelog, which everything that is
    built gets (SOURCE_DATE_EPOCH).
    """
    number = of(tree)[0].debian
    return int(parsedate_to_datetime(_dates(tree)[number]).timestamp())


def _dates(tree: Path) -> dict[str, str]:
    """Return the dates in debian/changelog by version."""
    return dict(_ENTRY.findall((tree / DEBIAN).read_text("utf-8")))


def _debian(versions: list[Version], control: str, dates: dict[str, str]) -> str:
    """Return debian/changelog.

    What is released has the date of its heading. Until then the date must not change by
    itself, for the package is as old as its newest entry: it is the one in `dates`.
    """
    found = re.search(r"^Maintainer: (.*)$", control, re.M)
    maintainer = found[1] if found else ""
    entries = []
    for version in versions:
        now = format_datetime(datetime.fromtimestamp(time.time(), UTC))
        date = dates.get(version.debian, now)
        if version.date:
            noon = datetime.fromisoformat(f"{version.date}T12:00:00+00:00")
            date = format_datetime(noon)
        entries.append(
            f"spyglass ({version.debian}) {'unstable' if version.date else 'UNRELEASED'}; urgency=medium\n\n"
            "  * The changes are in CHANGELOG.md, which the package has, too.\n\n"
            f" -- {maintainer}  {date}\n"
        )
    return "\n".join(entries)
