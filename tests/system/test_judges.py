"""What Debian's own judges say of the package: lintian at its strictest, and
autopkgtest, which installs it and runs debian/tests.

Both run on a booted machine of the release, which has them installed, and neither a
network nor the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from machine import REPOSITORY, Machine, boot, package, root

BUILT = "/root/built"  # everything that dpkg-buildpackage has made
EVERYTHING = (
    "--info",
    "--display-info",
    "--pedantic",
    "--display-experimental",
    "--tag-display-limit",
    "0",
)
ANYTHING = "error,warning,info,pedantic,experimental"


@pytest.fixture(scope="module")
def judges(release: str) -> Iterator[Machine]:
    with boot(release, root("judges", release)) as machine:
        machine.copy(package(release).parent, BUILT)
        yield machine


def built(machine: Machine, what: str) -> str:
    """The one file that was built as `what`, a glob."""
    (found,) = package(machine.release).parent.glob(what)
    return f"{BUILT}/{found.name}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_lintian_has_nothing_to_say(judges: Machine) -> None:
    said = judges.run(
        "lintian",
        *EVERYTHING,
        "--fail-on",
        ANYTHING,
        "--allow-root",
        built(judges, "*.changes"),
        check=False,
        timeout=280,
    )
    assert said.stdout + said.stderr == ""
    assert said.returncode == 0


def test_every_override_has_its_reason() -> None:
    """In the comment above it."""
    for file in (
        *REPOSITORY.glob("debian/*lintian-overrides"),
        *REPOSITORY.glob("debian/source/*lintian-overrides"),
        *REPOSITORY.glob("packaging/lintian-overrides*"),
    ):
        before = ""
        for line in file.read_text().splitlines():
            assert line.startswith("#") or before.startswith("#"), f"{file.name}: {line}"
            before = line


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tests_of_the_package(judges: Machine) -> None:
    """autopkgtest takes the machine that it runs on as the one that may be broken: it
    has no other to isolate a test in.
    """
    found = judges.run(
        "autopkgtest", "--ignore-restrictions=isolation-container", built(judges, "*.dsc"), built(judges, "spyglass_*.deb"), "--", "null",
        check=False, timeout=880,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.findall(r"^(\w+) +PASS$", found.stdout, re.MULTILINE) == [
        "wire",
        "units",
    ]  # none was skipped
