"""`spyglass units`: the units for a Spyglass that pip installed, without the package.

`install` writes what the Debian package would have brought, and does what its scripts
do: systemd reads the units, and apps that are awake are restarted, because their
Masters run the previous program. `remove` undoes that. Nothing is written before
everything was validated; if systemd rejects a unit, the previous files are restored.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import spyglass
from spyglass.config import settings
from spyglass.errors import ConfigError
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.files import atomic_files
from spyglass.ops.guards import locks
from spyglass.ops.guards.undo import UndoneError, undone_on_failure
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import pip_environment, pip_units, unit_directives

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from spyglass.ops.units.pip_units import UnitFile

COMMAND = Command(
    "units",
    "install, remove or show systemd's units for a Spyglass that pip installed; the Debian "
    "package has its own",
    operands=(
        Operand(
            "ACTION",
            "install: write them to /etc/systemd/system, or update them; remove: delete them; "
            "show: print which are installed",
            choices=("install", "remove", "show"),
        ),
    ),
    options=(
        Option("-n", "--dry-run", help="only show what would change"),
        Option(
            "--socket-group",
            value="GROUP",
            help="group of the web server, which may connect to the apps' unix sockets (default: "
            f"that of the installed units, or {pip_units.WEB_SERVER_GROUP})",
        ),
    ),
    group="Server",
    brief="install systemd's units for a Spyglass from pip",
    changes=True,
    more="exit status: 0 done, or nothing to do; show: 1 if the units are not those of this Spyglass",
)

_BOOTED = "/run/systemd/system"  # sd_booted(3)


def run(options: argparse.Namespace) -> int:
    if options.action == "show":
        return _show()
    if not options.dry_run and os.geteuid() != 0:
        raise ConfigError(f"only root may change units: sudo {_named()} units {options.action}")
    with contextlib.nullcontext() if options.dry_run else locks.held("units", "changing units"):
        if options.action == "install":
            return _install(options.socket_group, options.dry_run)
        return _remove(options.dry_run)


# Installing


def _install(socket_group: str | None, dry: bool) -> int:
    """Write the units that differ. Raise ConfigError, UndoneError."""
    before = pip_units.installed()
    _refuse_conflicts(before.values())
    command = pip_environment.command()
    group = socket_group or before["spyglass@.socket"].socket_group or pip_units.WEB_SERVER_GROUP
    pip_environment.refuse_unknown_group(group)
    pip_environment.refuse_unsafe()
    texts = pip_units.wanted(command, group)
    changes = {
        file.path: texts[file.path] for file in before.values() if file.text != texts[file.path]
    }
    if dry:
        atomic_files.print_diff(atomic_files.unified_diff(changes))
        print(f"would write {_count(changes)}" if changes else "nothing to do")
        return 0
    pip_environment.compile_packages()
    os.makedirs(settings.DIRECTORY, 0o755, exist_ok=True)
    if not changes:
        print(f"nothing to do: the units of Spyglass {spyglass.__version__} are installed")
        return 0
    restarted = _write(changes, {file.path: file.text for file in before.values()})
    verb = (
        "updated in" if any(before[os.path.basename(path)].text for path in changes) else "wrote to"
    )
    _print_files(f"{verb} {pip_units.DIRECTORY}:", changes)
    print(f"they run {command[-1]}, Spyglass {spyglass.__version__}")
    for line in [*restarted, *_hints(command[-1])]:
        print(line)
    return 0


def _refuse_conflicts(files: Iterable[UnitFile]) -> None:
    """Raise ConfigError if a package has units, or if files in the way are not ours."""
    if found := pip_units.packaged():
        raise ConfigError(
            f"{found[0]}: the Debian package is installed and has its own units: use those, or "
            "first remove the package (apt remove spyglass)"
        )
    faults = [_fault(file) for file in files if file.text and not file.is_untouched]
    if faults:
        raise ConfigError(faults[0], also=[*faults[1:], "nothing was changed"])


def _fault(file: UnitFile) -> str:
    """Return what is wrong with a file that must not be overwritten or deleted."""
    if not file.is_ours:
        return f"{file.path}: was not made by 'spyglass units install': move it away first"
    return (
        f"{file.path}: has been edited since it was made: move your changes to a drop-in "
        f"(systemctl edit {file.name}), then delete it"
    )


def _write(changes: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Write the files and make systemd follow. Return what else was done (lines).

    Raise UndoneError after the previous files were restored.
    """
    is_booted = os.path.isdir(_BOOTED)
    with undone_on_failure() as steps:
        if is_booted:
            # Undone last: when the files are back.
            reload = functools.partial(systemctl.ask, "daemon-reload")
            steps.begin("systemd could not be reloaded", reload, change=False)
        for path, text in changes.items():
            back = functools.partial(_replace, path, before[path])
            steps.begin(f"{path} could not be restored", back)
            _replace(path, text)
        if not is_booted:
            return ["systemd is not running here: it reads them at the next boot"]
        # A template is verified by an instance of it.
        names = [os.path.basename(path).replace("@.", "@a.") for path in changes]
        said = [line for line in systemctl.verify(names) if any(path in line for path in changes)]
        if said:
            raise UndoneError(f"systemd rejects the units: {said[0]}")
        systemctl.ask("daemon-reload")
    return _restart_awake(map(os.path.basename, changes))


def _replace(path: str, text: str) -> None:
    """Write a file, or delete it if `text` is ""; its directory stays in any case."""
    if text:
        atomic_files.write(path, text)
    elif os.path.lexists(path):
        os.unlink(path)


def _restart_awake(changed: Iterable[str]) -> list[str]:
    """Restart the apps that are awake and whose service is one of these units: their
    Masters run the previous program, some of whose files are gone. Return a line.
    """
    names: list[str] = []
    for unit in changed:
        if unit.endswith(".service"):
            names += systemctl.units(unit.replace("@.", "@*."))
    awake = [name for name in names if systemctl.run("is-active", "--quiet", name).returncode == 0]
    if not awake:
        return []
    # Running requests finish first, which may take long.
    systemctl.ask("try-restart", "--no-block", *awake)
    return [f"restarted: {', '.join(awake)} (running requests finish first)"]


def _hints(command: str) -> list[str]:
    """Return what remains to do (lines)."""
    on_path = shutil.which("spyglass")
    lines = []
    if on_path is None or os.path.realpath(on_path) != os.path.realpath(command):
        lines += [
            "To have the command on every user's PATH:",
            f"  ln -s {shlex.quote(command)} /usr/local/bin/spyglass",
        ]
    name = "spyglass" if on_path and not lines else command
    return [*lines, "Next:", f"  {name} new NAME DIRECTORY", f"  {name} apply NAME"]


# Removing


def _remove(dry: bool) -> int:
    """Delete our units. Raise ConfigError if one was edited, or if apps need them."""
    there = [file for file in pip_units.installed().values() if file.is_ours]
    faults = [_fault(file) for file in there if not file.is_untouched]
    # With the package's units below, apps go on with those.
    if not pip_units.packaged():
        faults += _users()
    if faults:
        raise ConfigError(faults[0], also=[*faults[1:], "nothing was changed"])
    if not there:
        print(f"nothing to do: no units of 'spyglass units install' in {pip_units.DIRECTORY}")
        return 0
    if dry:
        _print_files(f"would be deleted from {pip_units.DIRECTORY}:", [file.path for file in there])
        return 0
    for file in there:
        os.unlink(file.path)
    lines = []
    if os.path.isdir(_BOOTED):
        systemctl.ask("daemon-reload")
        systemctl.run("reset-failed", "spyglass.service", "spyglass.socket")
        lines = _restart_awake(file.name for file in there)
    for directory in (settings.DIRECTORY, "/run/spyglass"):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    _print_files(f"deleted from {pip_units.DIRECTORY}:", [file.path for file in there])
    kept = [path for path in (settings.DIRECTORY, unit_directives.STATE) if os.path.isdir(path)]
    for line in [*lines, *([f"left: {', '.join(kept)}"] if kept else [])]:
        print(line)
    return 0


def _users() -> list[str]:
    """Return why the units are still needed (lines)."""
    if not os.path.isdir(_BOOTED):
        return []
    names = [
        *systemctl.units("spyglass@*.socket"),
        *systemctl.units("spyglass@*.service"),
        "spyglass.socket",
        "spyglass.service",
    ]
    shown = systemctl.show(dict.fromkeys(names), ["ActiveState", "UnitFileState"])
    used = [
        name
        for name, unit in shown.items()
        if unit["UnitFileState"] == "enabled" or unit["ActiveState"] not in ("inactive", "failed")
    ]
    apps = dict.fromkeys(name.partition("@")[2].rpartition(".")[0] for name in used if "@" in name)
    faults = [
        f"these apps still need the units: {', '.join(apps)}: spyglass remove {' '.join(apps)}"
    ]
    default = [name for name in used if "@" not in name]
    return [
        *(faults if apps else []),
        *(
            [f"{default[0]} is still in use: systemctl disable --now {' '.join(default)}"]
            if default
            else []
        ),
    ]


# Showing


def _show() -> int:
    """Print where the units come from. Return 1 if they are not those that this
    Spyglass would install.
    """
    package, files = pip_units.packaged(), pip_units.installed()
    ours = [file for file in files.values() if file.is_ours]
    for path in package:
        hidden = files.get(os.path.basename(path))
        print(
            f"{path}: the package's{', hidden by ' + hidden.path if hidden and hidden.text else ''}"
        )
    for file in files.values():
        if file.text or not package:
            print(f"{file.path}: {_state(file)}")
    if ours:
        print(
            f"they run {ours[-1].command}; group of unix sockets: {files['spyglass@.socket'].socket_group}"
        )
    if package:
        if ours:
            print(f"To use the package's units: {_named()} units remove")
        return 1 if ours else 0
    if len(ours) == len(files) and all(
        file.is_untouched and file.version == spyglass.__version__ for file in ours
    ):
        return 0
    print(f"To install those of Spyglass {spyglass.__version__}: {_named()} units install")
    return 1


def _state(file: UnitFile) -> str:
    """Return the state of a file in words."""
    if not file.text:
        return "not installed"
    if not file.is_ours:
        return "not made by 'spyglass units install'"
    return f"of Spyglass {file.version}{'' if file.is_untouched else ', edited since'}"


def _print_files(heading: str, paths: Iterable[str]) -> None:
    """Print the names of these files below a heading."""
    print(heading)
    print(f"  {', '.join(map(os.path.basename, paths))}")


def _named() -> str:
    """Return how to call this command again."""
    return shlex.quote(sys.argv[0]) if "/" in sys.argv[0] else "spyglass"


def _count(changes: Mapping[str, str]) -> str:
    return f"{len(changes)} {'unit' if len(changes) == 1 else 'units'} to {pip_units.DIRECTORY}"
