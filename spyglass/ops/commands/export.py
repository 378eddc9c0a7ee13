"""`spyglass export NAME`: everything that a machine has of an app but its code, in one
file for `spyglass import`.

Meanwhile the app is held back: no connection wakes it, so no file changes while it is
copied. Clients wait in the socket's queue. The archive holds secrets, so it is root's,
mode 0600, and never overwrites another file.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from spyglass import __version__
from spyglass.config import settings
from spyglass.errors import ConfigError, UsageError
from spyglass.ops.app import apps
from spyglass.ops.command_declaration import AN_APP, Command, Option
from spyglass.ops.guards import locks, running_commands
from spyglass.ops.guards.privileges import require_root
from spyglass.ops.guards.termination_signals import exit_on_termination_signals
from spyglass.ops.move import app_archive, app_footprint, stored_data
from spyglass.ops.move.app_archive import ArchiveError, Manifest
from spyglass.ops.move.stored_data import StoredDataError, Survey
from spyglass.ops.output import terminal
from spyglass.ops.status import known_apps, state_directory
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import service_of
from spyglass.ops.units import unit_directives
from spyglass.printable import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import BinaryIO

    from spyglass.ops.app.apps import App

COMMAND = Command(
    "export",
    "write an app's settings, secrets, drop-ins and stored data into one file, for 'spyglass "
    "import' on this or another machine; its code is not in it",
    operands=(AN_APP,),
    options=(
        Option(
            "-o",
            "--output",
            value="FILE",
            help="the new file, compressed unless it ends in .tar (default: stdout, for a pipe)",
        ),
        Option(
            "--stop",
            help="if the app is awake, let it finish its requests first; new clients wait until "
            "the export is done",
        ),
    ),
    changes=True,
    more="The file holds secrets: the app's variables, credentials that are in /etc/spyglass, and "
    "what the app stores. Exit status: 0; 1 it failed, and there is no file; 4 there is no such app; "
    "78 the app cannot be exported",
    group="Move",
    brief="write an app's settings and data into one file",
)

_LONGEST_NAME = 200  # characters of a file's name in the report


def run(options: argparse.Namespace) -> int:
    name = options.name
    known_apps.examine_name(name)
    require_root("export apps", "export", name)
    known_apps.refuse_unknown([name])
    to_stdout = options.output in (None, "-")
    if to_stdout and os.isatty(1):
        raise UsageError(
            "the archive would go to the terminal: name a file, -o FILE, or use a pipe"
        )
    app = apps.read(name)
    if app.faults:
        raise ConfigError(app.faults[0], also=[*app.faults[1:], "nothing was exported"])
    output = None if to_stdout else options.output
    try:
        with (
            running_commands.data_locked(name),
            exit_on_termination_signals(),
            _held_back(name, stop=options.stop),
            _output(output) as stream,
        ):
            found = _write(app, stream, compressed=not (output or "").endswith(".tar"))
    except OSError as error:
        where = error.filename or output or "stdout"
        raise StoredDataError(f"{where}: {error.strerror}; nothing was exported") from error
    _report(app, found, options.output, sys.stderr if to_stdout else sys.stdout)
    return 0


@contextmanager
def _held_back(name: str, *, stop: bool) -> Iterator[None]:
    """Keep the app asleep for the block, while its lock is held. Raise StoredDataError
    if it is awake, unless it is to `stop`.
    """
    running_commands.refuse_running([name], "exported")
    service = service_of(name)
    systemctl.hold_back(service, locks.path_of(running_commands.lock_of(name)))
    if stop:
        systemctl.ask("stop", service)
    state = systemctl.show([service], ["ActiveState"])[service]["ActiveState"]
    if state not in ("inactive", "failed"):
        raise StoredDataError(
            f"{name} is awake, and may change its files while they are copied: wait until it is "
            "asleep, or use --stop: it finishes its requests first, and new clients wait"
        )
    yield


@contextmanager
def _output(path: str | None) -> Iterator[BinaryIO]:
    """Open the new file `path`, or stdout for None. A file is deleted on failure."""
    if path is None:
        with os.fdopen(os.dup(1), "wb") as stream:
            try:
                yield stream
                stream.flush()
            except BrokenPipeError:
                # Closing would try to write what is left once more.
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                raise ArchiveError("the reader of the archive has closed the pipe") from None
        return
    directory, name = os.path.split(path)
    try:
        # Held: another user may replace it before a failure deletes the file.
        where = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be created: {error.strerror}") from None
    try:
        yield from _new_file(where, name, path)
    finally:
        os.close(where)


def _new_file(where: int, name: str, path: str) -> Iterator[BinaryIO]:
    """Create the file `name` in the directory open as `where`, and yield it. `path` is
    for the message.
    """
    try:
        # O_EXCL follows no link: in a directory of other users that is all it takes.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=where)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be created: {error.strerror}") from None
    try:
        with os.fdopen(fd, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=where)
        raise


def _write(app: App, stream: BinaryIO, *, compressed: bool) -> Survey:
    """Write the archive. Return what there is of stored data."""
    directory = _directory(app)
    found = stored_data.survey(directory) if directory else Survey()
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    host = socket.gethostname()
    manifest = Manifest(app.name, __version__, made, host, found.entries, found.bytes)
    archive = app_archive.Writer(stream, compressed=compressed)
    archive.add_text(app_archive.MANIFEST, app_archive.manifest_text(manifest), time.time())
    _add_text(archive, app_archive.SETTINGS, app.file)
    for path in own_files(app):
        suffix = os.path.basename(path).removeprefix(f"{app.name}.")
        _add_text(archive, f"{app_archive.FILES}/{suffix}", path)
    for path in own_drop_ins(app.name):
        kind = os.path.dirname(path).removesuffix(".d").rpartition(".")[2]
        _add_text(archive, f"{app_archive.DROP_INS}/{kind}/{os.path.basename(path)}", path)
    if directory:
        stored_data.pack(directory, archive)
    archive.close()
    return found


def _add_text(archive: app_archive.Writer, name: str, path: str) -> None:
    """Add a file of root's. Raise ConfigError if it is too large."""
    with open(path, "rb") as stream:
        text = stream.read(app_archive.TEXT_LIMIT + 1)
        mtime = os.fstat(stream.fileno()).st_mtime
    if len(text) > app_archive.TEXT_LIMIT:
        raise ConfigError(f"{path}: larger than 1 MiB: move it out of {settings.DIRECTORY}")
    archive.add_text(name, text, mtime)


def _directory(app: App) -> str:
    """Return the directory with the app's data, "" if it has none yet. Raise
    ConfigError for what root must not follow.
    """
    public, private = state_directory.places(state_directory.STATE, app.name)
    path = private if os.path.islink(public) or not os.path.lexists(public) else public
    if os.path.islink(public) and os.path.realpath(public) != private:
        path = os.path.realpath(public)  # an administrator's link, in a directory of root's
    if not os.path.lexists(path):
        return ""
    if os.path.islink(path) or not os.path.isdir(path):
        raise ConfigError(f"{path} is not a directory")
    return path


def own_files(app: App) -> list[str]:
    """Return the files in /etc/spyglass, besides the settings, that the app uses:
    NAME.env, and those that its settings name. Raise ConfigError.
    """
    named = [os.path.join(app.base, path) for path in app.config.environment_file]
    named += [path for path in app.config.credentials.values() if path]
    wanted = {apps.variables_file(app.name), *named}
    found = [path for path in app_footprint.files(app.name) if path in wanted]
    for path in found:
        if why := apps.why_untrusted(path):
            raise ConfigError(f"{path}: {why}")
    return found


def own_drop_ins(name: str) -> list[str]:
    """Return the administrator's drop-ins of the app's units."""
    ours = {unit_directives.path_of(unit) for unit in systemctl.app_units([name])}
    return [
        path
        for directory in app_footprint.drop_in_directories(name)
        for path in (os.path.join(directory, file) for file in sorted(os.listdir(directory)))
        if path not in ours and path.endswith(".conf") and stat.S_ISREG(os.lstat(path).st_mode)
    ]


def _report(app: App, found: Survey, output: str | None, stream: TextIO) -> None:
    """Print what is in the archive, and what is not."""
    where = "" if output in (None, "-") else f" to {output} (mode 0600)"
    size = terminal.entries_text(found.entries, found.bytes)
    print(f"{app.name}: exported{where}; stored data: {size}", file=stream)
    secrets = own_files(app)
    print(f"secrets in plain text: {', '.join([*secrets, 'whatever the app stores'])}", file=stream)
    if drop_ins := own_drop_ins(app.name):
        print(f"drop-ins: {', '.join(drop_ins)}", file=stream)
    if found.omitted:
        names = ", ".join(one_line(each, _LONGEST_NAME) for each in found.omitted[:10])
        print(f"sockets and pipes are left out: {names}", file=stream)
    for what, path in left_behind(app):
        print(f"not in it: {what} {path}", file=stream)


def left_behind(app: App) -> list[tuple[str, str]]:
    """Return what the app uses besides: (what it is, path)."""
    public, _ = state_directory.places(state_directory.STATE, app.name)
    found = [] if app.base == public else [("the code,", app.base)]
    if app.config.venv:
        venv = os.path.normpath(os.path.join(app.base, app.config.venv))
        found.append(("the virtual environment,", venv))
    found += [("the data in", os.path.join(app.base, path)) for path in app.config.writable]
    known = own_files(app)
    for name, path in app.config.credentials.items():
        if path not in known:
            found.append(("the credential", f"{name} ({path or 'from a credential store'})"))
    for path in (os.path.join(app.base, path) for path in app.config.environment_file):
        if path not in known:
            found.append(("the variables in", path))
    return [each for each in found if not each[1].startswith(f"{public}/")]
