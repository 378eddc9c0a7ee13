"""Sign with GnuPG, by a key in the keyring of the user or by one from a file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path


class SigningError(Exception):
    """The key cannot be used; the message is one line."""


class Signer:
    """Signs files, as a context manager. `key` is a fingerprint, or the path of a file
    with a secret key. With `unsigned` it signs nothing. Raise SigningError.

    A key from a file is never added to the keyring of the user: it has one of its own,
    which is removed at the end.
    """

    def __init__(self, key: str, *, unsigned: bool = False) -> None:
        if bool(key) == unsigned:
            raise SigningError(
                "KEY=... and UNSIGNED=yes exclude each other"
                if key
                else "name the key that signs the release, KEY=fingerprint or KEY=file, or say UNSIGNED=yes"
            )
        self.unsigned = unsigned
        self.fingerprint = ""
        self._key = key
        self._environ = dict(os.environ)
        self._home: str | None = None

    def __enter__(self) -> Signer:
        if not self.unsigned:
            try:
                self._open()
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._home is not None:
            self._run("gpgconf", "--kill", "all")
            shutil.rmtree(self._home, ignore_errors=True)

    def _open(self) -> None:
        key = self._key
        if "/" in key or Path(key).exists():
            if not Path(key).is_file():
                raise SigningError(f"KEY={key}: there is no such file")
            self._home = tempfile.mkdtemp(prefix="spyglass-release-")
            self._environ["GNUPGHOME"] = self._home
            self._gpg("--import", key)
            key = ""
        elif not re.fullmatch(r"[0-9A-Fa-f]{40}", key.replace(" ", "")):
            raise SigningError(
                f"KEY={key}: expected a fingerprint of 40 digits, or the path of a file"
            )
        said = self._gpg("--with-colons", "--list-secret-keys", *([key] if key else []))
        found = re.findall(r"^sec:.*\n(?:.*\n)*?fpr:+([0-9A-F]{40}):", said, re.M)
        if len(found) != 1:
            raise SigningError(f"KEY={self._key}: {len(found)} secret keys are there, expected one")
        self.fingerprint = found[0]

    def clear_sign(self, source: Path, target: Path) -> None:
        """Write the text of `source` with a signature around it."""
        self._sign("--clear-sign", source, target)

    def detach_sign(self, source: Path, target: Path) -> None:
        """Write the signature of `source`, in ASCII."""
        self._sign("--detach-sign", source, target)

    def export(self, armoured: Path, binary: Path) -> None:
        """Write the public key, in ASCII and in binary form."""
        for target, how in ((armoured, ["--armor"]), (binary, [])):
            self._gpg(*how, "--output", str(target), "--export", self.fingerprint)

    def _sign(self, how: str, source: Path, target: Path) -> None:
        self._gpg(
            "--armor", "--digest-algo", "SHA512", "--local-user", f"{self.fingerprint}!",
            "--output", str(target), how, str(source),
        )  # fmt: skip

    def _gpg(self, *words: str) -> str:
        done = self._run("gpg", "--batch", "--yes", "--quiet", *words)
        if done.returncode != 0:
            raise SigningError(f"KEY={self._key}: gpg: {' '.join(done.stderr.split())}")
        return done.stdout

    def _run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, capture_output=True, text=True, env=self._environ)
