"""Build what is released, from the commit that is tagged and nothing else.

    OUTPUT/spyglass_VERSION.debNNu1_ARCH.deb     for each release of Debian
    OUTPUT/spyglass-VERSION.tar.gz, .whl         for pip
    OUTPUT/apt, spyglass-apt-VERSION.tar.gz      the APT repository, and the same packed
    OUTPUT/SHA256SUMS, SHA256SUMS.asc            of these files

The tree is exported first: a file that git does not know cannot get into a release. All
of it is as old as the newest entry of debian/changelog, so another build of the tag
gives the same packages, sdist and wheel.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import apt_repository
import version_source
from signing import Signer

SUITES = ("bookworm", "trixie")
# What a build leaves, and the repository has: packages and the source package.
_KINDS = ("*.deb", "*.dsc", "*.tar.xz")


class ReleaseError(Exception):
    """There is no release; the message is one line."""


def release(tree: Path, output: Path, signer: Signer, url: str) -> None:
    """Make the release of the commit that is checked out in `tree`. Raise
    ReleaseError.

    `output` is replaced when everything is complete.
    """
    if not re.fullmatch(r"(?:https?|file)://\S+|file:/\S+", url):
        raise ReleaseError("say where the APT repository will be served: URL=https://...")
    version = refuse_unfit(tree)
    with tempfile.TemporaryDirectory(prefix="spyglass-release-") as directory:
        source, built = Path(directory, "spyglass"), Path(directory, "release")
        source.mkdir()
        built.mkdir()
        export(tree, source)
        debs = packages(source, Path(directory))
        distributions(source, built)
        arrange(built, debs, signer, url, version)
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built, output)
    for path in sorted(output.iterdir()):
        print(path)


def refuse_unfit(tree: Path) -> str:
    """Return the version that `tree` is a release of. Raise ReleaseError if it is
    none.
    """
    if changed := _git(tree, "status", "--porcelain").splitlines():
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ReleaseError(f"{changed[0][3:]}{more} is not committed: commit it, or remove it")
    newest = version_source.of(tree)[0]
    for path, text in version_source.texts(tree).items():
        if text != (tree / path).read_text("utf-8"):
            raise ReleaseError(
                f"{path} does not follow {version_source.CHANGELOG}: make version, and commit"
            )
    if not newest.date:
        raise ReleaseError(
            f"{version_source.CHANGELOG}: {newest.number} is unreleased: put the date into its heading"
        )
    tags = _git(tree, "tag", "--points-at", "HEAD").split()
    wanted = f"v{newest.number}"
    if wanted not in tags:
        found = f"has the tag {tags[0]}" if tags else "has no tag"
        raise ReleaseError(
            f"the commit {found}, but {version_source.CHANGELOG} says {newest.number}: git tag {wanted}"
        )
    return newest.number


def export(tree: Path, target: Path) -> None:
    """Write the files of HEAD to `target`, a directory."""
    archive = subprocess.run(
        ["git", "-C", tree, "archive", "--format=tar", "HEAD"], check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-C", target, "-x"], check=True, input=archive.stdout)


def packages(source: Path, directory: Path) -> dict[str, list[Path]]:
    """Build the Debian packages in clean roots, all suites at once. Return the files of
    each suite.
    """
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    # sudo resets the environment.
    kept = ("ROOTS_CACHE", "DEB_BUILD_OPTIONS")
    environ = ["env", f"PYTHON={sys.executable}"]
    environ += [f"{name}={os.environ[name]}" for name in kept if os.environ.get(name)]
    for suite in SUITES:
        (directory / suite).mkdir()  # ours, so that we can remove it with root's files in it
    running = {
        suite: subprocess.Popen(
            [*sudo, *environ, source / "packaging/deb", suite, directory / suite],
            stdout=subprocess.DEVNULL,
        )
        for suite in SUITES
    }
    failed = [suite for suite, process in running.items() if process.wait() != 0]
    if failed:
        raise ReleaseError(f"the package for {', '.join(failed)} could not be built")
    return {suite: built_files(directory / suite) for suite in SUITES}


def built_files(directory: Path) -> list[Path]:
    """Return what a build has left for the repository."""
    return sorted(path for kind in _KINDS for path in directory.glob(kind))


def distributions(source: Path, output: Path) -> None:
    """Build the sdist, and from that the wheel. Raise ReleaseError."""
    environ = os.environ | {"SOURCE_DATE_EPOCH": str(version_source.epoch(source))}
    # No isolation: what builds is in our environment, with hashes (requirements.txt).
    argv = [sys.executable, "-m", "build", "--no-isolation", "--outdir", output, source]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True)
    if done.returncode != 0:
        raise ReleaseError(f"the sdist or the wheel could not be built: {done.stdout}{done.stderr}")


def arrange(
    output: Path, debs: dict[str, list[Path]], signer: Signer, url: str, version: str
) -> None:
    """Add the packages, the APT repository and the sums to `output`."""
    for files in debs.values():
        for file in files:
            if file.suffix == ".deb" and "-dbgsym_" not in file.name:
                # Forges rename what is attached to a tag, "~" among it, and then the
                # sums name other files. apt reads the version in the package.
                shutil.copy(file, output / file.name.replace("~", "."))
    apt_repository.make(output / "apt", debs, signer, url.rstrip("/"))
    packed = output / f"spyglass-apt-{version}.tar.gz"
    subprocess.run(
        ["tar", "-C", output, "--sort=name", "--owner=0", "--group=0", "-czf", packed, "apt"],
        check=True,
    )
    sums(output, signer)


def sums(output: Path, signer: Signer) -> None:
    """Write and sign SHA256SUMS, for `sha256sum --check`."""
    files = sorted(path for path in output.iterdir() if path.is_file())
    path = output / "SHA256SUMS"
    path.write_text(
        "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    )
    if not signer.unsigned:
        signer.detach_sign(path, path.with_suffix(".asc"))
        signer.export(
            output / apt_repository.KEY, (output / apt_repository.KEY).with_suffix(".gpg")
        )


def _git(tree: Path, *words: str) -> str:
    argv: Sequence[str | Path] = ["git", "-C", tree, *words]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise ReleaseError(f"git {words[0]}: {' '.join(done.stderr.split())}")
    return done.stdout
