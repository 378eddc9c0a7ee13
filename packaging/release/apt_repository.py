"""An APT repository as static files, for any web server: one suite for each release of
Debian (repository format: wiki.debian.org/DebianRepository/Format).

    OUTPUT/dists/SUITE/InRelease, Release, Release.gpg     signed
    OUTPUT/dists/SUITE/main/binary-ARCH, main/source       indices, also by hash
    OUTPUT/pool/SUITE                                      the packages
    OUTPUT/spyglass.asc, spyglass.gpg                      the public key
    OUTPUT/spyglass-SUITE.sources, INSTALL.txt             what an administrator needs

The indices name everything by its SHA-256, and the signature covers the indices.
`by-hash` keeps a client that comes while the files are replaced from reading the index
of one release with the signature of another.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from signing import Signer

COMPONENT = "main"
KEY = "spyglass.asc"
KEY_PATH = f"/etc/apt/keyrings/{KEY}"
_INDICES = {"packages": "binary-{}/Packages", "sources": "source/Sources"}


def make(output: Path, suites: Mapping[str, Sequence[Path]], signer: Signer, url: str) -> None:
    """Make the repository in `output` from the files of each suite: packages, and their
    source packages. `url` is where it will be served.
    """
    for suite, files in suites.items():
        pool = output / "pool" / suite
        pool.mkdir(parents=True)
        for file in files:
            shutil.copy(file, pool)
        architectures = sorted(
            {file.stem.rpartition("_")[2] for file in files if file.suffix == ".deb"}
        )
        _index(output, suite, architectures)
        _sign(output / "dists" / suite, signer)
        (output / f"spyglass-{suite}.sources").write_text(
            sources(suite, architectures, signer, url)
        )
    if not signer.unsigned:
        signer.export(output / KEY, (output / KEY).with_suffix(".gpg"))
    (output / "INSTALL.txt").write_text(instructions(list(suites), signer, url))


def _index(output: Path, suite: str, architectures: Sequence[str]) -> None:
    """Write the indices of a suite, and the Release file that has their hashes."""
    base = output / "dists" / suite
    pool = f"pool/{suite}"
    texts = {
        f"{COMPONENT}/binary-{each}/Packages": _ftparchive(output, "--arch", each, "packages", pool)
        for each in architectures
    }
    texts[f"{COMPONENT}/source/Sources"] = _ftparchive(output, "sources", pool)
    for name, text in texts.items():
        path = base / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.with_name(f"{path.name}.xz").write_bytes(lzma.compress(text.encode()))
    fields = {
        "Origin": "Spyglass",
        "Label": "Spyglass",
        "Suite": suite,
        "Codename": suite,
        "Architectures": " ".join(architectures),
        "Components": COMPONENT,
        "Description": f"Spyglass for Debian {suite}",
    }
    options = [f"--option=APT::FTPArchive::Release::{key}={value}" for key, value in fields.items()]
    # It also fills the by-hash directories.
    options.append("--option=APT::FTPArchive::DoByHash=true")
    release = _ftparchive(output, *options, "release", f"dists/{suite}")
    (base / "Release").write_text(release)


def _ftparchive(output: Path, *words: str) -> str:
    # Its database and configuration would be those of the machine.
    weak = [f"--option=APT::FTPArchive::{kind}=false" for kind in ("MD5", "SHA1")]
    argv = ["apt-ftparchive", "--quiet", *weak, *words]
    done = subprocess.run(argv, cwd=output, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout


def _sign(base: Path, signer: Signer) -> None:
    """Sign a suite in both ways that apt knows."""
    if not signer.unsigned:
        signer.clear_sign(base / "Release", base / "InRelease")
        signer.detach_sign(base / "Release", base / "Release.gpg")


def sources(suite: str, architectures: Sequence[str], signer: Signer, url: str) -> str:
    """Return the .sources file for a suite (sources.list(5))."""
    trust = "Trusted: yes" if signer.unsigned else f"Signed-By: {KEY_PATH}"
    return (
        f"Types: deb\nURIs: {url}\nSuites: {suite}\nComponents: {COMPONENT}\n"
        f"Architectures: {' '.join(architectures)}\n{trust}\n"
    )


def instructions(suites: Sequence[str], signer: Signer, url: str) -> str:
    """Return what an administrator types."""
    key = (
        "This repository is NOT SIGNED: apt would not notice that its packages were\n"
        "replaced on the way. Use it for tests only.\n"
        if signer.unsigned
        else f"""\
The repository is signed with the key
    {signer.fingerprint}
Fetch it, and compare the fingerprint with the one that the project publishes:

    install -d /etc/apt/keyrings
    curl --fail --output {KEY_PATH} {url}/{KEY}
    gpg --show-keys {KEY_PATH}
"""
    )
    return f"""\
Spyglass for Debian: {", ".join(suites)}

As root. {key}
Then tell apt of it, here for {suites[-1]}, and install:

    curl --fail --output /etc/apt/sources.list.d/spyglass.sources {url}/spyglass-{suites[-1]}.sources
    apt update
    apt install spyglass
"""
