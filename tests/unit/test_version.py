"""The version stands in spyglass/__init__.py; what cannot read it there must say the
same.
"""

from __future__ import annotations

import re
from pathlib import Path

import spyglass

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_debian_package_has_the_same_version() -> None:
    newest = (REPOSITORY / "debian/changelog").read_text().splitlines()[0]
    found = re.match(r"spyglass \((\S+)\) ", newest)
    assert found
    assert found[1] == spyglass.__version__
