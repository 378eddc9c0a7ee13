"""Plan what `spyglass rename` does: nothing is changed here, and all that could fail
later is found first, as far as that is possible.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.errors import ConfigError
from spyglass.ops.addresses import address_conflicts
from spyglass.ops.app import apps
from spyglass.ops.apply import apply_plan
from spyglass.ops.files import atomic_files
from spyglass.ops.guards import locks
from spyglass.ops.move import app_footprint
from spyglass.ops.status import known_apps, state_directory
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import service_of, socket_of
from spyglass.ops.units import unit_directives

if TYPE_CHECKING:
    from spyglass.ops.app.apps import App


_PROPERTIES = ("LoadState", "ActiveState", "UnitFileState")


@dataclass
class Rename:
    """What to do: `moves` are (old path, new path) in order, `links` (old, new, new
    target) symbolic links to make again, `texts` (path after the moves, text now, text
    then) of files that name the old paths, `drop_ins` our drop-ins by path after the
    moves.
    """

    old: str
    new: str
    app: App  # as it will be; its `file` is still the old one
    listens: bool
    enabled: bool
    is_masked: bool
    moves: list[tuple[str, str]] = field(default_factory=list)
    links: list[tuple[str, str, str]] = field(default_factory=list)
    texts: list[tuple[str, str, str]] = field(default_factory=list)
    drop_ins: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)  # unix sockets that have another path then

    def moved(self, path: str) -> str:
        """Return where `path` will be."""
        for source, target in self.moves:
            if path == source or path.startswith(f"{source}/"):
                return target + path[len(source) :]
        return path


def plan(old: str, new: str) -> Rename:
    """Return what to do to rename the app. Raise ConfigError if it cannot be done,
    NoSuchAppError if there is no app `old`.
    """
    for name in (old, new):
        known_apps.examine_name(name)
    if old == new:
        raise ConfigError(f"{old} has this name already")
    known_apps.refuse_unknown([old])
    app = _applicable(old)
    taken = app_footprint.taken(new, dynamic=not app.config.user)
    if taken:
        raise ConfigError(
            f"there is something of an app {new!r} already: {', '.join(taken)}; "
            "choose another name, or move all of that away first"
        )
    _examine_units(old)
    shown = systemctl.show([socket_of(old)], _PROPERTIES)[socket_of(old)]
    made = Rename(
        old,
        new,
        app,
        listens=shown["ActiveState"] == "active",
        enabled=shown["UnitFileState"] == "enabled",
        is_masked=shown["LoadState"] == "masked",
    )
    if made.is_masked:
        for path in app_footprint.masks(old):
            target = os.path.join(os.path.dirname(path), socket_of(new))
            made.links.append((path, target, os.devnull))
        _plan_enabling(made)
    _plan_files(made)
    _plan_state(made)
    _plan_texts(made)
    return made


def _applicable(name: str) -> App:
    """Return the app. Raise ConfigError unless its files are in order and applied: a
    rename must not bring other changes into force, nor lose any.
    """
    steps, faults = apply_plan.plan([name])
    if faults:
        also = [*faults[1:], f"fix this first, then rename {name}; nothing was changed"]
        raise ConfigError(faults[0], also=also)
    [step] = steps
    if step.changes and step.is_listening:
        raise ConfigError(
            f"{settings.file_for(name)} has changes that are not in force: spyglass apply {name}, "
            "then rename it"
        )
    return step.app


def _examine_units(name: str) -> None:
    """Raise ConfigError if there are unit files that a rename cannot take along."""
    masks = app_footprint.masks(name)
    others = [each for each in app_footprint.other_unit_files(name) if each not in masks]
    if others:
        raise ConfigError(
            f"{others[0]}: only drop-ins in {unit_directives.DIRECTORY}/{service_of(name)}.d and "
            f"{socket_of(name)}.d are renamed: move it there, or delete it, then rename {name}"
        )


def _plan_enabling(made: Rename) -> None:
    """Plan the move of the link by which a masked socket is enabled, which systemctl
    shows as masked only.
    """
    source, target = map(app_footprint.enabling, (made.old, made.new))
    if os.path.islink(source):
        made.links.append((source, target, os.readlink(source)))


def _plan_files(made: Rename) -> None:
    """Plan the moves of files in /etc/spyglass and of directories of drop-ins."""
    for path in app_footprint.files(made.old):
        suffix = os.path.basename(path).removeprefix(made.old)
        made.moves.append((path, os.path.join(settings.DIRECTORY, f"{made.new}{suffix}")))
    for path in app_footprint.drop_in_directories(made.old):
        if os.path.islink(path) or not os.path.isdir(path):
            raise ConfigError(f"{path} is not a directory")
        kind = path.removesuffix(".d").rpartition(".")[2]
        unit = f"spyglass@{made.new}.{kind}"
        made.moves.append((path, os.path.join(unit_directives.DIRECTORY, f"{unit}.d")))


def _plan_state(made: Rename) -> None:
    """Plan the moves of stored data, behind the links of a dynamic user."""
    for base in (state_directory.STATE, state_directory.CACHE):
        public, private = state_directory.places(base, made.old)
        new_public, new_private = state_directory.places(base, made.new)
        for path in (public, private):
            if os.path.ismount(path):
                raise ConfigError(
                    f"{path} is a mount point: unmount it, rename {made.old}, and mount it for "
                    f"{made.new}"
                )
        if os.path.lexists(private):
            made.moves.append((private, new_private))
        if os.path.islink(public):
            target = os.readlink(public)
            inside = os.path.normpath(os.path.join(os.path.dirname(public), target)) == private
            then = os.path.relpath(new_private, os.path.dirname(new_public)) if inside else target
            made.links.append((public, new_public, then))
        elif os.path.lexists(public):
            made.moves.append((public, new_public))


def _plan_texts(made: Rename) -> None:
    """Plan the new texts of files that name the old paths, and our drop-ins."""
    ours = {unit_directives.path_of(unit) for unit in systemctl.app_units([made.old])}
    for source, target in made.moves:
        if source in (settings.file_for(made.old), apps.variables_file(made.old)):
            _plan_text(made, source, target)
        elif target.endswith(".d"):
            for name in sorted(os.listdir(source)):
                path = os.path.join(source, name)
                if path not in ours and os.path.isfile(path) and not os.path.islink(path):
                    _plan_text(made, path, os.path.join(target, name))
    then = {path: text for path, _, text in made.texts}.get(settings.file_for(made.new))
    if then is not None:
        made.app.config = parsed(then, made.app.file)
    _plan_addresses(made)
    if made.listens or any(os.path.lexists(path) for path in ours):
        program = made.app.program.command
        made.drop_ins = unit_directives.drop_ins(made.new, made.app.config, program)


def _plan_text(made: Rename, source: str, target: str) -> None:
    text = atomic_files.read(source)
    then = app_footprint.renamed(text, made.old, made.new)
    if then != text:
        made.texts.append((target, text, then))


def parsed(text: str, file: str) -> settings.Config:
    """Return the settings in `text`, which will be in another file than `file`."""
    # Where only root can go, and of this process: two commands may judge at once.
    os.makedirs(locks.DIRECTORY, 0o700, exist_ok=True)
    draft = os.path.join(locks.DIRECTORY, f"settings-{os.getpid()}.toml")
    atomic_files.write(draft, text, 0o600)
    try:
        return settings.load(draft, {}, {}, units=True)
    except ConfigError as error:
        lines = [line.replace(draft, file) for line in error.lines]
        raise ConfigError(lines[0], also=lines[1:]) from None
    finally:
        os.unlink(draft)


def _plan_addresses(made: Rename) -> None:
    """Check the addresses that the app does not have yet: unix sockets of the new
    name.
    """
    before = apps.read(made.old).addresses
    after = apps.App(made.new, made.app.file, made.app.config).addresses
    made.gone = [each.path for each in before if each.path and each not in after]
    others = [apps.read(name) for name in apps.names() if name != made.old]
    for address in after:
        if address in before:
            continue
        why = address_conflicts.why_unavailable(address)
        for other in others:
            if any(address_conflicts.conflicts(address, each) for each in other.addresses):
                why = f"in use by the app {other.name} ({other.file})"
        if why:
            raise ConfigError(f"{made.app.file}: listen: {address} for {made.new}: {why}")
