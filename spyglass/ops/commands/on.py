"""`spyglass on`: turn apps on that `spyglass off` or systemctl has turned off.

Their sockets are unmasked, and the rest is what `spyglass apply NAME` does. An app that
cannot be applied stays off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.config.setting_errors import place_in
from spyglass.errors import ConfigError
from spyglass.ops.app import apps
from spyglass.ops.apply.apply_report import Outcome
from spyglass.ops.command_declaration import APPS, Command
from spyglass.ops.commands import apply
from spyglass.ops.files import atomic_files
from spyglass.ops.guards import locks
from spyglass.ops.guards.privileges import require_root
from spyglass.ops.status import known_apps
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import socket_of

if TYPE_CHECKING:
    import argparse

COMMAND = Command(
    "on",
    "turn apps on that were turned off: they listen again, now and after each boot",
    operands=(APPS,),
    options=(apply.NO_CHECK, apply.VERBOSE),
    changes=True,
    group="Set up",
    brief="turn apps on again",
    more="exit status: as of 'spyglass apply'",
)


def run(options: argparse.Namespace) -> int:
    names = known_apps.resolve(options.names)
    require_root("turn apps on", "on", *names)
    _refuse_settings(names)
    outcome = Outcome()
    unmasked = _unmask(names)
    done = False
    try:
        apply.apply(outcome, names, named=True, check=not options.no_check)
        done = True
    finally:
        again = [name for name in unmasked if not done or name in outcome.faulty]
        if again:
            systemctl.run("mask", *map(socket_of, again))
        if options.verbose:
            atomic_files.print_diff(outcome.diff)
    return apply.report(outcome)


def _refuse_settings(names: list[str]) -> None:
    """Raise ConfigError for an app that its file turns off."""
    found = []
    for name in names:
        app = apps.read(name)
        if not app.faults and not app.config.enabled:
            text = atomic_files.read_untrusted_or_empty(app.file)
            place = place_in(app.file, text, "enabled")
            found.append(f"{place}: enabled = false: change it there, then: spyglass apply {name}")
    if found:
        raise ConfigError(found[0], also=[*found[1:], "nothing was changed"])


def _unmask(names: list[str]) -> list[str]:
    """Unmask the sockets of these apps, and return the names of those that were
    masked.
    """
    with locks.held("units", "changing units"):
        shown = systemctl.show(map(socket_of, names), ["LoadState"])
        masked = [name for name in names if shown[socket_of(name)]["LoadState"] == "masked"]
        if masked:
            sockets = [socket_of(name) for name in masked]
            systemctl.ask("unmask", *sockets)
            systemctl.run("unmask", "--runtime", *sockets)
    return masked
