"""What is saved for an app now, in the terms in which its running generation can be
compared with it (running_settings.py): settings, unit files, environment files and
credentials.

Nothing of it belongs to the app but the settings file's values: systemd reads these
files as root, and so only root can replace them (files/path_ownership.py).
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.config.command_line import parse
from spyglass.errors import StartError
from spyglass.master import settings_record
from spyglass.ops.app import app_interpreter, apps, env_files
from spyglass.ops.apply import running_process
from spyglass.ops.files import atomic_files
from spyglass.ops.output.untrusted_text import lines_of
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import service_of
from spyglass.ops.units import directive_changes, unit_directives, unit_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spyglass.ops.app.apps import App
    from spyglass.ops.apply.running_process import Running

    Properties = Mapping[str, str]

# Set by systemd in a service's environment, and in no file of the app's
# (systemd.exec(5)).
_SYSTEMDS = (
    *("PATH", "LANG", "LANGUAGE", "USER", "LOGNAME", "HOME", "SHELL", "TERM", "TMPDIR"),
    *("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "NOTIFY_SOCKET", "FDSTORE"),
    *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"),
    *("WATCHDOG_PID", "WATCHDOG_USEC", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE"),
    *("STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "RUNTIME_DIRECTORY"),
    *("CONFIGURATION_DIRECTORY", "CREDENTIALS_DIRECTORY", "LOG_NAMESPACE"),
)


@dataclass
class Source:
    """A file that systemd reads for the app: when it was last `touched` (wall clock),
    0.0 if it does not exist.
    """

    path: str
    touched: float = 0.0
    variables: dict[str, str] = field(default_factory=dict)  # of an environment file
    digest: str = ""  # of a credential; "" where that cannot be compared


@dataclass
class Saved:
    """What is saved. `settings` are those that a reload would read, None if they are
    faulty. `units` are the texts of the service's unit file and drop-ins by path, with
    the drop-in that `apply` would write; `current` the texts on disk.

    `times` are when each unit file and directory of drop-ins was last changed.
    """

    settings: dict[str, object] | None = None
    file: Source = field(default_factory=lambda: Source(""))
    units: dict[str, str] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    environment_files: list[Source] = field(default_factory=list)
    credentials: dict[str, Source] = field(default_factory=dict)
    # Names of variables that come from elsewhere: the units, systemd and its manager.
    other_variables: set[str] = field(default_factory=set)


def drop_ins(app: App) -> dict[str, str]:
    """Return the drop-ins that `apply` would write, by path; {} where it would refuse
    to.
    """
    if app.faults:
        return {}
    try:
        program = app.program
        if app.config.venv and not program.command:
            program = app_interpreter.program_for(os.path.join(app.base, app.config.venv))
        wanted = unit_directives.drop_ins(app.name, app.config, program.command)
    except StartError:
        return {}
    return {
        path: text
        for path, text in wanted.items()
        if not (current := atomic_files.read_untrusted_or_empty(path))
        or unit_directives.is_untouched(current)
    }


def look(app: App, service: Properties, running: Running, wanted: Mapping[str, str]) -> Saved:
    """Return what is saved of an app whose service has these properties (PROPERTIES).

    `wanted` are the texts that `apply` would write, by path.
    """
    saved = Saved(file=Source(app.file, touched(app.file)))
    saved.settings = _settings(app, running)
    saved.units = unit_texts(app.name, service, wanted)
    saved.current = unit_texts(app.name, service, {})
    paths = list(saved.current)
    directories = {os.path.dirname(path) for path in paths[1:]}
    if running.record is not None:
        directories |= {os.path.dirname(path) for path in running.record.units if ".d/" in path}
    saved.times = {path: touched(path) for path in [*paths, *directories]}
    _look_at_sources(app, saved)
    saved.other_variables = _other_variables(saved, running)
    return saved


def unit_texts(name: str, service: Properties, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return {path: text} of the app's service unit and its drop-ins, in their order of
    precedence; those in `wanted` as they will be.

    They are those on disk, which systemd may not have read yet (`daemon-reload`).
    """
    unit = service_of(name)
    ours = unit_directives.path_of(unit)
    known = [service.get("FragmentPath", ""), *service.get("DropInPaths", "").split(), ours]
    found = {
        path: _text(path)
        for path in (*settings_record.unit_paths(unit), *known)
        # A link to /dev/null masks the drop-ins of its name in other directories.
        if os.path.exists(path) and not os.path.isdir(path)
    }
    found |= {ours: wanted[ours]} if ours in wanted else {}
    return {path: text for path, text in effective(unit, found).items() if text}


def effective(unit: str, units: Mapping[str, str]) -> dict[str, str]:
    """Return those of `units` that count for a service, in their order of precedence.

    Its own unit file comes before its template's, and a directory of /etc before others
    (the order of `units`). Of drop-ins with one name the most specific one counts; they
    are read in the order of their names (systemd.unit(5)).
    """
    main = [path for path in units if ".d/" not in path]
    main.sort(key=lambda path: os.path.basename(path) != unit)
    drop_ins: dict[str, str] = {}
    for folder in (f"{unit}.d", f"{unit.partition('@')[0]}@.service.d", ""):
        for path in units:
            if ".d/" in path and os.path.dirname(path).endswith(folder):
                drop_ins.setdefault(os.path.basename(path), path)
    paths = [*main[:1], *(drop_ins[name] for name in sorted(drop_ins))]
    return {path: units[path] for path in paths}


def _text(path: str) -> str:
    return atomic_files.read_untrusted_or_empty(path, surrogates=True)


def touched(path: str) -> float:
    """Return when the file or its name was last changed, 0.0 if there is none."""
    try:
        status, link = os.stat(path), os.lstat(path)
    except OSError:
        return 0.0
    return max(status.st_mtime, status.st_ctime, link.st_ctime)


def _settings(app: App, running: Running) -> dict[str, object] | None:
    """Return the settings that a reload would read, None if they are faulty."""
    words = running.words
    try:
        arguments = parse(words[words.index("serve") :] if "serve" in words else ["serve"])
        file = arguments.file
        if file is None or not os.path.isabs(file) or apps.why_untrusted(file):
            return None
        return settings.load(file, running.environ, arguments.options).values
    except StartError:
        return None


def _look_at_sources(app: App, saved: Saved) -> None:
    """Fill in the environment files and the credentials."""
    found = directive_changes.directives(saved.units.values(), "Service")
    for value in found.get("EnvironmentFile", ()):
        pattern = _plain(value.removeprefix("-"), app.name)
        for path in sorted(glob.glob(pattern)) or [pattern]:
            variables = {}
            if not apps.why_untrusted(path):
                text = _text(path)
                variables = dict(env_files.parse(text).found)
            saved.environment_files.append(Source(path, touched(path), variables))
    for key in ("LoadCredential", "LoadCredentialEncrypted"):
        for value in found.get(key, ()):
            name, _, path = value.partition(":")
            kind = ".encrypted" if key.endswith("Encrypted") else ""
            path = _plain(path, app.name) or unit_directives.in_store(name, kind)
            digest = "" if kind else running_process.digest(path)
            saved.credentials[name] = Source(path, touched(path), digest=digest)


def _other_variables(saved: Saved, running: Running) -> set[str]:
    """Return the names of variables that are in no environment file."""
    units = [*saved.units.values(), *(running.record.units.values() if running.record else ())]
    found = {*_SYSTEMDS}
    for text in units:
        for line in unit_files.parse(text):
            if line.key in ("Environment", "PassEnvironment"):
                found |= {word.strip("\"'").partition("=")[0] for word in line.value.split()}
    if running.environ.keys() - found:
        # `systemctl set-environment`, and DefaultEnvironment= of the manager.
        said = systemctl.run("show-environment").stdout
        found |= {line.partition("=")[0] for line in lines_of(said)}
    return found


def _plain(value: str, name: str) -> str:
    """Return a path with its specifiers resolved; "" if it has others than %i and
    %%.
    """
    text = value.replace("%i", name).replace("%%", "\0")
    return "" if "%" in text else text.replace("\0", "%")
