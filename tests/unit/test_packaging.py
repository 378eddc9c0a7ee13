"""What the build of the package takes from elsewhere: nothing of which the hash is not
known.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_pip_runs_nothing_unhashed():
    """pip builds a source's metadata, and for that installs what the source asks for:
    whatever version there is, with no hash.
    """
    script = re.sub(r"\\\n\s*", "", (ROOT / "packaging" / "deb").read_text())
    calls = [
        line
        for line in script.split("\n")
        if re.search(r"\bpip\b.* (install|download) ", line) and not line.lstrip().startswith("#")
    ]
    assert calls
    for call in calls:
        assert "--require-hashes" in call
        assert "--no-deps" in call
        assert "--only-binary :all:" in call or "--no-build-isolation" in call


@pytest.mark.parametrize("name", ["httptools.txt", "librt.txt", "mypyc.txt", "setuptools.txt"])
def test_what_is_required_has_one_version_and_its_hash(name):
    lines = [
        line
        for line in (ROOT / "debian" / name).read_text().split("\n")
        if line and not line.startswith("#")
    ]
    assert lines
    assert all(re.fullmatch(r"[a-z-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
