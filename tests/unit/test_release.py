"""The version has one source, and nothing but a tagged commit becomes a release."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import spyglass

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "packaging" / "release"))


import apt_repository
import release_files
import signing
import version_source

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = REPOSITORY / "packaging" / "release"
CHANGELOG = """\
# Changelog

## 0.3.0rc1 (unreleased)

### Added

## 0.2.0 (2027-01-05)

## 0.1.0 (2026-12-24)
"""
DEBIAN = """\
spyglass (0.3.0~rc1) UNRELEASED; urgency=medium

  * The changes are in CHANGELOG.md, which the package has, too.

 -- Some <some@example.org>  Wed, 06 Jan 2027 09:00:00 +0000

spyglass (0.2.0) unstable; urgency=medium

  * The changes are in CHANGELOG.md, which the package has, too.

 -- Some <some@example.org>  Tue, 05 Jan 2027 12:00:00 +0000

spyglass (0.1.0) unstable; urgency=medium

  * The changes are in CHANGELOG.md, which the package has, too.

 -- Some <some@example.org>  Thu, 24 Dec 2026 12:00:00 +0000
"""


def git(tree, *words):
    identity = ["-c", "user.name=Some", "-c", "user.email=some@example.org"]
    done = subprocess.run(
        ["git", "-C", tree, *identity, *words], check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def tree(tmp_path):
    """A small project, in a commit of its own."""
    for path, text in {
        "CHANGELOG.md": CHANGELOG,
        "spyglass/__init__.py": '"""A text."""\n\n__version__ = "0.3.0rc1"\n',
        "debian/changelog": DEBIAN,
        "debian/control": "Source: spyglass\nMaintainer: Some <some@example.org>\n",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def commit(tree):
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "A commit")


def edit(tree, path, old, new):
    text = (tree / path).read_text()
    assert old in text
    (tree / path).write_text(text.replace(old, new))


# One source of the version


def test_what_repeats_the_version_follows_the_changelog():
    assert version_source.texts(REPOSITORY) == {
        path: (REPOSITORY / path).read_text("utf-8")
        for path in (version_source.PROGRAM, version_source.DEBIAN)
    }
    assert version_source.of(REPOSITORY)[0].number == spyglass.__version__


def test_the_generated_texts(tree, capsys):
    assert version_source.texts(tree)[version_source.DEBIAN] == DEBIAN
    assert version_source.update(tree, dry=True) == 0
    edit(tree, "CHANGELOG.md", "0.3.0rc1 (unreleased)", "0.3.0 (2027-02-01)")
    assert version_source.update(tree, dry=True) == 1
    assert capsys.readouterr().out.splitlines() == [
        "spyglass/__init__.py does not follow CHANGELOG.md: make version",
        "debian/changelog does not follow CHANGELOG.md: make version",
    ]
    assert version_source.update(tree, dry=False) == 0
    assert '__version__ = "0.3.0"' in (tree / "spyglass/__init__.py").read_text()
    first, *_, date = (tree / "debian/changelog").read_text().split("\n")[:5]
    assert first == "spyglass (0.3.0) unstable; urgency=medium"
    assert date.endswith("  Mon, 01 Feb 2027 12:00:00 +0000")
    assert version_source.update(tree, dry=True) == 0
    assert version_source.epoch(tree) == 1801483200


@pytest.mark.parametrize(
    ("heading", "what"),
    [
        ("0.3 (unreleased)", "expected '## 1.2.3"),
        ("0.3.0", "expected '## 1.2.3"),
        ("0.3.0 (2027-1-5)", "expected '## 1.2.3"),
        ("0.4.0 (unreleased)\n\n## 0.3.0 (unreleased)", "0.3.0 has no date"),
    ],
)
def test_headings_that_are_no_version(tree, heading, what):
    edit(tree, "CHANGELOG.md", "0.3.0rc1 (unreleased)", heading)
    with pytest.raises(version_source.VersionError, match=re.escape(what)):
        version_source.of(tree)


# What is refused


def ready(tree):
    """Make the project one that can be released."""
    edit(tree, "CHANGELOG.md", "0.3.0rc1 (unreleased)", "0.3.0 (2027-02-01)")
    version_source.update(tree, dry=False)
    commit(tree)
    git(tree, "tag", "v0.3.0")


def test_a_tagged_commit_is_released(tree):
    ready(tree)
    assert release_files.refuse_unfit(tree) == "0.3.0"


def test_a_dirty_tree_is_refused(tree):
    ready(tree)
    (tree / "stray").touch()
    with pytest.raises(release_files.ReleaseError, match="^stray is not committed"):
        release_files.refuse_unfit(tree)
    (tree / "CHANGELOG.md").unlink()
    with pytest.raises(
        release_files.ReleaseError, match=r"^CHANGELOG.md and 1 more is not committed"
    ):
        release_files.refuse_unfit(tree)


def test_a_version_that_is_not_everywhere_is_refused(tree):
    ready(tree)
    edit(tree, "spyglass/__init__.py", "0.3.0", "0.2.9")
    commit(tree)
    git(tree, "tag", "--force", "v0.3.0")
    with pytest.raises(
        release_files.ReleaseError, match=r"__init__.py does not follow CHANGELOG.md"
    ):
        release_files.refuse_unfit(tree)


def test_an_unreleased_version_is_refused(tree):
    git(tree, "tag", "v0.3.0rc1")
    with pytest.raises(release_files.ReleaseError, match="0.3.0rc1 is unreleased"):
        release_files.refuse_unfit(tree)


def test_a_tag_that_names_another_version_is_refused(tree):
    ready(tree)
    git(tree, "tag", "--delete", "v0.3.0")
    with pytest.raises(release_files.ReleaseError, match="the commit has no tag, .* says 0.3.0"):
        release_files.refuse_unfit(tree)
    git(tree, "tag", "v0.2.9")
    with pytest.raises(release_files.ReleaseError, match=r"has the tag v0.2.9, .* git tag v0.3.0"):
        release_files.refuse_unfit(tree)


@pytest.mark.parametrize(
    ("key", "unsigned", "what"),
    [
        ("", False, "name the key that signs the release"),
        ("0" * 40, True, "exclude each other"),
        ("0123", False, "expected a fingerprint of 40 digits, or the path of a file"),
        ("/no/such/file", False, "there is no such file"),
    ],
)
def test_an_unsigned_release_must_be_asked_for(key, unsigned, what):
    with pytest.raises(signing.SigningError, match=what), signing.Signer(key, unsigned=unsigned):
        pass


def test_a_release_needs_the_address_of_its_repository(tree, tmp_path):
    with (
        signing.Signer("", unsigned=True) as signer,
        pytest.raises(release_files.ReleaseError, match="URL=https"),
    ):
        release_files.release(tree, tmp_path / "release", signer, "")


def test_an_unsigned_repository_says_so():
    with signing.Signer("", unsigned=True) as signer:
        url = "https://example.org/apt"
        assert "Trusted: yes\n" in apt_repository.sources("trixie", ["amd64"], signer, url)
        assert "NOT SIGNED" in apt_repository.instructions(["trixie"], signer, url)


# What builds it


def test_what_builds_a_release_has_one_version_and_its_hash():
    lines = (PROGRAM / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert len(wanted) > 2
    assert all(
        re.fullmatch(r"[a-z-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", line) for line in wanted
    )
