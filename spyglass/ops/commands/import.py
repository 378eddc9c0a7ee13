"""`spyglass import FILE`: what `spyglass export` has written, on this machine.

The archive is not trusted (move/app_archive.py), and nothing is changed before it was
read to its end: the stored data is unpacked beside its place, where only root can go.
The app is not started: its code comes by other means, and its settings say what it may
do here, so an administrator reads them first.
"""

from __future__ import annotations

import fcntl
import glob
import io
import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.errors import ConfigError, StartError, UsageError
from spyglass.ops.app import env_files
from spyglass.ops.apply import apply_plan
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.files import path_ownership, user_access
from spyglass.ops.guards import locks
from spyglass.ops.guards.privileges import require_root
from spyglass.ops.guards.undo import undone_on_failure
from spyglass.ops.move import app_archive, app_footprint, rename_plan
from spyglass.ops.move.app_archive import ArchiveError, Manifest, Reader
from spyglass.ops.move.stored_data import Unpacker
from spyglass.ops.output import terminal
from spyglass.ops.status import known_apps, state_directory
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import unit_directives
from spyglass.printable import one_line
from spyglass.runtime import untrusted_files

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from spyglass.ops.guards.undo import Steps

COMMAND = Command(
    "import",
    "bring an app to this machine from a file of 'spyglass export': settings, secrets, stored "
    "data; does not start it",
    operands=(Operand("FILE", "the file, or - for stdin"),),
    options=(
        Option("--name", value="NEW", help="name of the app here (default: its old one)"),
        Option("--drop-ins", help="import the administrator's drop-ins of its units, too"),
        Option("--no-drop-ins", help="leave them out"),
    ),
    changes=True,
    more="systemd follows drop-ins with root's rights, so a file that has any needs one of the "
    "two options. Exit status: 0; 1 it failed, and all was undone; 78 it cannot be imported here, "
    "and nothing was changed",
    group="Move",
    brief="bring in an app from a file of 'spyglass export'",
)

_SUFFIX = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_DROP_IN = re.compile(r"(service|socket)/([A-Za-z0-9_][A-Za-z0-9@._-]{0,99}\.conf)")
_STAGING = ".import-"  # begins the names of directories with data that is unpacked


@dataclass
class Import:
    """What the archive holds, with the paths and texts that it will have here."""

    manifest: Manifest
    name: str
    config: settings.Config = field(default_factory=settings.Config)
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)  # path: text, mode
    drop_ins: dict[str, bytes] = field(default_factory=dict)
    unpacker: Unpacker | None = None
    staged: str = ""  # where the stored data is, to be moved to `target`
    target: str = ""


def run(options: argparse.Namespace) -> int:
    require_root("import apps", "import", options.file)
    if options.drop_ins and options.no_drop_ins:
        raise UsageError("--drop-ins and --no-drop-ins exclude each other")
    with _input(options.file) as stream, undone_on_failure() as steps:
        made = _read(stream, options, steps)
        with locks.held("units", "changing units"):
            _refuse_taken(made)
            _place(made, steps)
    _report(made)
    return 0


@contextmanager
def _input(path: str) -> Iterator[io.RawIOBase]:
    """Open the archive. Raise ConfigError."""
    if path == "-":
        if os.isatty(0):
            raise UsageError("stdin is a terminal: give the file, or a pipe")
        with io.FileIO(os.dup(0)) as stream:
            yield stream
        return
    try:
        fd = untrusted_files.open_regular(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    with io.FileIO(fd) as stream:
        yield stream


# Reading


def _read(stream: io.RawIOBase, options: argparse.Namespace, steps: Steps) -> Import:
    """Read and judge the whole archive. Raise ArchiveError, ConfigError, OSError."""
    reader = Reader(stream)
    members = reader.members()
    first = next(members, None)
    if first is None or first.name != app_archive.MANIFEST:
        raise ArchiveError("not an archive of 'spyglass export'")
    manifest = app_archive.parse_manifest(reader.read_text())
    known_apps.examine_name(manifest.name)
    made = Import(manifest, options.name or manifest.name)
    known_apps.examine_name(made.name)
    texts: dict[str, bytes] = {}
    ended = False
    for member in members:
        top = member.name.partition("/")[0]
        if ended:
            raise ArchiveError(f"{member.name}: after the end of the archive")
        if top == app_archive.STATE:
            if made.unpacker is None:
                _judge(made, texts, options)
                _stage(made, steps)
            assert made.unpacker is not None
            made.unpacker.unpack(member, reader)
        elif member.name == app_archive.END:
            counts = (made.unpacker.entries, made.unpacker.bytes) if made.unpacker else (0, 0)
            app_archive.check_end(reader.read_text(), *counts)
            ended = True
        elif member.name in texts or made.unpacker is not None or len(texts) >= 100:
            raise ArchiveError(f"{member.name}: unexpected in an archive")
        else:
            texts[member.name] = reader.read_text()
    if not ended:
        raise ArchiveError("the archive is cut off: it has no end")
    if made.unpacker is None:
        _judge(made, texts, options)
    else:
        made.unpacker.finish()
    return made


def _judge(made: Import, texts: dict[str, bytes], options: argparse.Namespace) -> None:
    """Check everything but the stored data, as `spyglass check` would, and fill in
    `made`. Raise ArchiveError, ConfigError.
    """
    if app_archive.SETTINGS not in texts:
        raise ArchiveError("the archive has no settings")
    for name, text in texts.items():
        top, _, rest = name.partition("/")
        here = _for_this_name(made, text)
        if name == app_archive.SETTINGS:
            made.files[settings.file_for(made.name)] = here, 0o644
        elif top == app_archive.FILES and _SUFFIX.fullmatch(rest) and rest != "toml":
            path = os.path.join(settings.DIRECTORY, f"{made.name}.{rest}")
            made.files[path] = (here if rest == "env" else text), 0o600
        elif top == app_archive.DROP_INS and (found := _DROP_IN.fullmatch(rest)):
            if found[2] == unit_directives.FILE:
                raise ArchiveError(f"{name}: 'spyglass apply' makes this one")
            directory = f"spyglass@{made.name}.{found[1]}.d"
            path = os.path.join(unit_directives.DIRECTORY, directory, found[2])
            made.drop_ins[path] = here
        else:
            raise ArchiveError(f"{name}: unexpected in an archive")
    whole = made.files[settings.file_for(made.name)][0].decode(errors="surrogateescape")
    made.config = rename_plan.parsed(whole, app_archive.SETTINGS)
    variables = env_files.parse(texts.get("files/env", b"").decode(errors="surrogateescape"))
    if variables.fatal:
        raise ArchiveError(f"files/env: {variables.faults[0][1]}")
    _refuse_taken(made)
    if made.drop_ins and not (options.drop_ins or options.no_drop_ins):
        what = ", ".join(name for name in texts if name.startswith(f"{app_archive.DROP_INS}/"))
        raise ConfigError(
            f"the archive has drop-ins, which systemd follows with root's rights: {what}: read them "
            "(tar -xOf FILE drop-ins), then import with --drop-ins or --no-drop-ins"
        )
    if options.no_drop_ins:
        made.drop_ins.clear()


def _for_this_name(made: Import, text: bytes) -> bytes:
    """Return a text of the app with the paths of its name here."""
    if made.name == made.manifest.name:
        return text
    whole = text.decode(errors="surrogateescape")
    return app_footprint.renamed(whole, made.manifest.name, made.name).encode(
        errors="surrogateescape"
    )


def _refuse_taken(made: Import) -> None:
    taken = app_footprint.taken(made.name, dynamic=not made.config.user)
    if taken:
        raise ConfigError(
            f"there is something of an app {made.name!r} already: {', '.join(taken)}: import this one "
            f"under another name, --name NEW, or move all of that away first; nothing was changed"
        )


def _stage(made: Import, steps: Steps) -> None:
    """Make the directory into which the stored data is unpacked, beside its place."""
    public, private = state_directory.places(state_directory.STATE, made.name)
    made.target = public if made.config.user else private
    parent = os.path.dirname(made.target)
    if not made.config.user:
        os.makedirs(os.path.dirname(parent), 0o700, exist_ok=True)  # /var/lib/private
    for directory in (parent, os.path.dirname(public)):
        os.makedirs(directory, 0o755, exist_ok=True)
        if why := path_ownership.weakness(directory):
            raise ConfigError(f"{why}: refusing to unpack the app's data there")
    # Or another import would sweep away what this one has made and not yet locked.
    with locks.held("import", "beginning an import"):
        _sweep(parent)
        staging = tempfile.mkdtemp(prefix=_STAGING, dir=parent)
        # Held until the process ends: tells _sweep() that it is in use.
        fcntl.flock(os.open(staging, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX)
    steps.begin(
        f"{staging} could not be removed",
        lambda: shutil.rmtree(staging, ignore_errors=True),
        change=False,
    )
    made.staged = os.path.join(staging, app_archive.STATE)
    owner = (0, 0)  # a dynamic user gets all of it from systemd at the first start
    if made.config.user:
        try:
            account = user_access.account(made.config.user, made.config.group)
            owner = (account.uid or 0, account.gid or 0)
        except KeyError:
            pass  # as above; `apply` asks for the user
    made.unpacker = Unpacker(made.staged, owner)
    made.unpacker.check_space(made.manifest.bytes, made.manifest.entries)


def _sweep(parent: str) -> None:
    """Remove what imports that were killed have left."""
    for path in glob.glob(os.path.join(parent, f"{_STAGING}*")):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass  # of one that runs
        finally:
            os.close(fd)


# Changing


def _place(made: Import, steps: Steps) -> None:
    """Put everything in its place. Raise OSError, RefusedError."""
    if made.staged:
        public, _ = state_directory.places(state_directory.STATE, made.name)
        steps.move(made.staged, made.target)
        os.rmdir(os.path.dirname(made.staged))
        if made.target != public:
            steps.begin(f"{public} could not be removed", lambda: _remove_link(public))
            os.symlink(os.path.relpath(made.target, os.path.dirname(public)), public)
    for path, text in made.drop_ins.items():
        steps.write(path, text.decode(errors="surrogateescape"))
    for path, (text, mode) in made.files.items():
        steps.write(path, text.decode(errors="surrogateescape"), mode)
    if made.drop_ins:
        steps.begin("systemd could not be reloaded", lambda: systemctl.ask("daemon-reload"))
        systemctl.ask("daemon-reload")


def _remove_link(path: str) -> None:
    if os.path.islink(path):
        os.unlink(path)


def _report(made: Import) -> None:
    """Print what was imported, and what is to be done before the app can be applied."""
    name, manifest = made.name, made.manifest
    print(
        f"{name}: imported, from {manifest.name} on {manifest.host}, exported {manifest.made} by "
        f"Spyglass {manifest.version}"
    )
    for path in [*made.files, *made.drop_ins]:
        print(f"  {path}")
    if made.unpacker is not None:
        public, _ = state_directory.places(state_directory.STATE, name)
        amount = terminal.entries_text(made.unpacker.entries, made.unpacker.bytes)
        print(f"  {public}: {amount}")
        for link in made.unpacker.links_out[:10]:
            print(f"  {one_line(link, 400)}: a link that leads out of the app's data")
    file = settings.file_for(name)
    sys.stdout.flush()
    try:
        _, faults = apply_plan.plan([name])
    except StartError as error:
        faults = error.lines
    if faults:
        print("Before it can run here:")
        for line in faults:
            print(f"  {line}")
    print(
        f"Next: install its code, read {file}, which says what the app may do here, then spyglass "
        f"check {name} and spyglass apply {name}"
    )
