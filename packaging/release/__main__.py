"""Makes a release, and keeps the version in one place. `make release` and `make version`
run this.

usage: python packaging/release version [--check]
       python packaging/release make --key KEY|--unsigned --url URL [--tree TREE] OUTPUT

KEY is the fingerprint of a key in GnuPG's keyring, or a file with a secret key. URL is
where the directory `apt` of the release will be served. A mistake is one line on
stderr, and status 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import release_files
import version_source
from signing import Signer, SigningError

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    version = commands.add_parser(
        "version", help="write the version of CHANGELOG.md where it must be"
    )
    version.add_argument("--check", action="store_true", help="only name the files that differ")
    make = commands.add_parser("make", help="build, sign and arrange everything")
    make.add_argument("--key", default="")
    make.add_argument("--unsigned", action="store_true")
    make.add_argument("--url", default="")
    make.add_argument("--tree", type=Path, default=ROOT)
    make.add_argument("output", type=Path)
    options = parser.parse_args()
    try:
        if options.command == "version":
            return version_source.update(ROOT, dry=options.check)
        with Signer(options.key, unsigned=options.unsigned) as signer:
            release_files.release(options.tree, options.output, signer, options.url)
    except (release_files.ReleaseError, SigningError, version_source.VersionError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
