"""`spyglass apply`: bring into force what is saved, after any change.

It compares the files in /etc/spyglass with the units and with what each running app was
started with, and does the least that is needed: nothing, a reload, a restart, or a
restart of the socket. A file with a fault keeps only its own app from being applied.
The units of all others change together, or are restored together. A second run has
nothing to do.

What it says is printed after the work, not during it: a reader that is slow, or has
closed the pipe, must not hold up systemd or the lock.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.errors import EX_CONFIG
from spyglass.ops.app import apps, orphaned_apps
from spyglass.ops.apply import applied_files, apply_report
from spyglass.ops.apply.apply_plan import plan_applicable
from spyglass.ops.apply.apply_report import Outcome
from spyglass.ops.apply.apply_transaction import apply_units, restarts
from spyglass.ops.apply.running_settings import Action
from spyglass.ops.check import app_trial
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.files import atomic_files
from spyglass.ops.guards import locks
from spyglass.ops.guards.privileges import require_root
from spyglass.ops.guards.termination_signals import exit_on_termination_signals
from spyglass.ops.output import terminal
from spyglass.ops.status import known_apps, state_directory
from spyglass.ops.status.app_status import FAILING
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import service_of
from spyglass.printable import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from typing import TextIO

    from spyglass.ops.apply.apply_plan import Step

NO_CHECK = Option("--no-check", help="do not try the apps in their sandboxes first")
VERBOSE = Option("-v", "--verbose", help="show the changes of the units' files, too")
COMMAND = Command(
    "apply",
    "bring into force what is saved: settings, NAME.env, environment files, credentials; reloads "
    "or restarts only what needs it, and starts listening",
    operands=(
        Operand("NAME", "an app, /etc/spyglass/NAME.toml (default: all)", optional=True, many=True),
    ),
    options=(Option("-n", "--dry-run", help="only show what would be done"), NO_CHECK, VERBOSE),
    changes=True,
    group="Set up",
    brief="bring into force what the files in /etc/spyglass say",
    more="exit status: 0 what is saved is in force, or will be at the next wake; 1 a step, a reload "
    "or a restart failed; 4 there is no such app; 69 there is no systemd, or it is busy with another "
    "command; 78 a file has a mistake or an app is failing, and the others were applied",
)


def run(options: argparse.Namespace) -> int:
    names = known_apps.resolve(options.names)
    everything = names or apps.names()
    if not everything:
        print(
            f"nothing to do: there is no app in {settings.DIRECTORY}; create one with 'spyglass new'"
        )
        _print_orphans(orphaned_apps.query())
        return 0
    if not options.dry_run:
        also = ", or --dry-run to see what would change"
        require_root("change units", "apply", *names, also=also)
    outcome = Outcome(is_dry=options.dry_run)
    try:
        apply(outcome, everything, named=bool(names), check=not options.no_check)
    finally:
        if options.verbose:
            # The lock is released: a reader may be slow.
            atomic_files.print_diff(outcome.diff)
    return report(outcome)


def apply(outcome: Outcome, names: list[str], *, named: bool, check: bool) -> None:
    """Bring into force what is saved for these apps, and fill in the outcome.

    `named` (bool): the administrator has named them. `check` (bool): try those whose
    code or settings take effect. Raise UndoneError, RefusedError or LockedError.
    """
    tried: dict[str, str] = {}
    if check and not outcome.is_dry:
        # Before the lock is taken: an app may take a minute to load.
        steps, _ = plan_applicable(names, named=named)
        tried = {step.name: step.files for step in steps}
        outcome.broken = app_trial.broken_apps([step for step in steps if step.activates])
    # A dry run only reads, so ordinary users, who cannot take a lock, may do it.
    with nullcontext() if outcome.is_dry else locks.held("units", "changing units"):
        outcome.steps, outcome.faulty = plan_applicable(names, named=named)
        outcome.orphans = orphaned_apps.query()
        for step in outcome.steps:
            outcome.diff += atomic_files.unified_diff(step.changes)
        if outcome.is_dry:
            return
        # A terminal that is closed half-way must not leave sockets stopped.
        with exit_on_termination_signals():
            apply_units(outcome.steps)
            outcome.failed = _act(outcome.steps)
        # What was saved since the trial is for the next apply.
        applied_files.remember(
            {
                step.name: step.files
                for step in outcome.steps
                if step.files
                and step.name not in outcome.broken | outcome.failed
                and step.files == tried.get(step.name, step.files)
            }
        )


def _act(steps: Iterable[Step]) -> dict[str, str]:
    """Reload and restart the services that need it. Return {name: reason} of those that
    could not be.
    """
    acting = [step for step in steps if step.action > Action.UNITS]
    reloading = [service_of(step.name) for step in acting if step.action is Action.RELOAD]
    restarting = [
        service_of(step.name)
        for step in acting
        if step.action is not Action.RELOAD and not restarts(step)
    ]
    # Of each verb one command: systemd does all at the same time, and what became of
    # each is asked afterwards. An app that has fallen asleep meanwhile is left alone.
    complaint = ""
    for verb, services in (("try-reload-or-restart", reloading), ("try-restart", restarting)):
        if services:
            done = systemctl.run(verb, *services)
            complaint = done.stderr if done.returncode else complaint
    shown = systemctl.show(map(service_of, [step.name for step in acting]), _PROPERTIES)
    return {
        step.name: why
        for step in acting
        if (why := _why_failed(step, shown[service_of(step.name)], complaint))
    }


_PROPERTIES = ("ActiveState", "StatusText")


def _why_failed(step: Step, service: dict[str, str], complaint: str) -> str:
    """Return why a service was not reloaded or restarted, "" if it was."""
    status = one_line(service.get("StatusText", ""))
    for sign in (f"{FAILING}: ", "reload failed: "):
        before, found, reason = status.partition(sign)
        if found and (not before or sign != f"{FAILING}: "):
            return reason
    if service.get("ActiveState") in ("failed", "activating") or service_of(step.name) in complaint:
        return f"see journalctl -u {service_of(step.name)}"
    return ""


def report(outcome: Outcome) -> int:
    """Print what was done, and return the exit status."""
    for line in apply_report.complaints(outcome):
        _print(f"spyglass: {line}", sys.stderr)
    for line in apply_report.lines(outcome) if outcome.steps else ():
        # Not wrapped: the command in it is to be copied.
        print(line) if "; try curl " in line else _print(line)
    for step in outcome.steps:
        for note in step.app.remarks if step.has_work else step.app.notes:
            _print(f"{step.name}: {note}")
        for finding in state_directory.examine(step.name, step.app.config.user):
            if finding.inspected:
                # Not wrapped: the commands in it are to be copied.
                print(f"{finding.where}: {finding.what}: {'; '.join(finding.cure)}")
    _print_orphans(outcome.orphans)
    failing = any(step.trouble and not step.has_work for step in outcome.steps)
    if outcome.faulty or outcome.broken or failing:
        return EX_CONFIG
    return 1 if outcome.failed else 0


def _print(line: str, stream: TextIO | None = None) -> None:
    stream = stream or sys.stdout
    limit = terminal.width_limit(stream, os.environ)
    hang = len(line) - len(line.lstrip(" ")) + 2
    for part in terminal.wrapped(line, limit, hang):
        print(part, file=stream, flush=stream is sys.stderr)


def _print_orphans(orphans: dict[str, str]) -> None:
    """Print a line about each orphan. One may hold the address that a new name asks
    for.
    """
    for name, what in orphans.items():
        _print(f"{name}: {orphaned_apps.describe(name, what)}")
