"""What `spyglass apply` says: one line for each app, with what was done and why.

Functions from a plan's step to text; printing is the command's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.config.setting_errors import place_in
from spyglass.ops.addresses import address_conflicts, how_to_reach
from spyglass.ops.apply import running_settings
from spyglass.ops.apply.running_settings import Action
from spyglass.ops.files import atomic_files
from spyglass.ops.units import unit_directives

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spyglass.ops.apply.apply_plan import Step

_SHOWN = 3  # differences in a line


@dataclass
class Outcome:
    """What became of the steps of a plan.

    `faulty` are the apps that were not applied, with their faults (lines), `broken`
    those that cannot be loaded, and `failed` those whose reload or restart failed, with
    the reason. `is_dry` (bool): nothing was done.
    """

    steps: list[Step] = field(default_factory=list)
    faulty: dict[str, list[str]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    orphans: dict[str, str] = field(default_factory=dict)
    diff: list[str] = field(default_factory=list)
    is_dry: bool = False


def lines(outcome: Outcome) -> list[str]:
    """Return what to print about the apps that were applied, or would be."""
    found: list[str] = []
    idle = 0
    for step in outcome.steps:
        worth = step.has_work or step.is_newer or step.trouble or step.why_off == "disabled"
        if step.is_named or worth:
            found += _app_lines(step, outcome)
        else:
            idle += 1
    if not found and not outcome.faulty:
        return ["nothing to do"]
    if idle:
        found.append(f"{idle} other app{'' if idle == 1 else 's'}: nothing to do")
    return found


def _app_lines(step: Step, outcome: Outcome) -> list[str]:
    opened = "" if step.why_off else f"; {reached(step)}"
    found = [f"{step.name}: {_done(step, outcome)}{opened}"]
    what = list(dict.fromkeys(each.what for each in step.differences))
    if len(what) > _SHOWN and not step.is_new:
        found += [f"  {_as_setting(each)}" for each in what]
    if step.is_new and not step.why_off:
        for address in step.app.addresses:
            lines = how_to_reach.in_front(address.path) if address.path else []
            found += [f"  in {line}" for line in lines]
    return found + (_remarks(step) if step.has_work else [])


def _as_setting(what: str) -> str:
    """Return "workers: 2 -> 3" for "workers 2 -> 3", and other differences as they
    are.
    """
    name, _, change = what.partition(" ")
    return f"{name}: {change}" if " -> " in change else what


def _done(step: Step, outcome: Outcome) -> str:
    """Return what was done for an app, or would be."""
    be = "would be " if outcome.is_dry else ""
    what = running_settings.summary(step.differences, _SHOWN)
    why = f" ({what})" if what and not step.is_new else ""
    if step.why_off:
        return _off(step, be)
    if step.name in outcome.failed:
        return _failed(step, outcome, why)
    if step.restarts_socket:
        missing = " (its file was deleted)" if step.file_missing else ""
        return f"socket {be}restarted{missing or why or ' (its addresses have changed)'}"
    if step.starts_socket:
        listens = "would listen" if outcome.is_dry else "listens"
        return f"{listens}{why}"
    if step.action is not Action.UNITS:
        return f"{be}{'reloaded' if step.action is Action.RELOAD else 'restarted'}{why}"
    if step.only_enables:
        return f"{be}enabled, so it listens after a boot, too{why}"
    if step.is_awake and step.changes_units:
        return f"{be}applied{why}"
    if not step.is_awake and (step.changes_units or step.is_newer):
        return f"asleep, applies at the next wake{why}"
    return "nothing to do" + (f", but it is failing: {step.trouble}" if step.trouble else "")


def _off(step: Step, be: str) -> str:
    text = atomic_files.read_untrusted_or_empty(step.app.file)
    where = place_in(step.app.file, text, "enabled")
    return {
        "masked": f"off; to turn it on: spyglass on {step.name}",
        "setting": f"{f'{be}turned off' if step.turns_off else 'off'} (enabled = false, {where})",
        "disabled": f"off, its socket was disabled; to turn it on: spyglass on {step.name}",
    }[step.why_off]


def _failed(step: Step, outcome: Outcome, why: str) -> str:
    reason = outcome.failed[step.name]
    if reason == outcome.broken.get(step.name):
        reason = ""  # it has been printed as a warning
    rest = f": {reason}" if reason else ""
    if step.action is Action.RELOAD:
        return f"not reloaded{why}, the old settings stay in force{rest}"
    return f"restarted{why}, and is failing{rest}"


def _remarks(step: Step) -> list[str]:
    """Return lines about what the administrator may not expect."""
    found = []
    for address in step.app.addresses:
        if address_conflicts.is_unassigned(address):
            found.append(
                f"no interface of this machine has {address.host} now; {address} works as soon as one does"
            )
    if not unit_directives.has_user_namespaces():
        found.append(
            "runs without PrivateUsers=: this machine allows no user namespaces (sysctl user.max_user_namespaces)"
        )
    if step.app.program.version:
        found.append(
            f"runs on Spyglass {step.app.program.version} from its environment, not on the package's version"
        )
    return [f"{step.name}: {each}" for each in found]


def reached(step: Step) -> str:
    """Return how to reach the app: "open http://localhost:8001/"."""
    return how_to_reach.sentence((each.stream for each in step.app.addresses), step.app.config)


def complaints(outcome: Outcome) -> Iterator[str]:
    """Yield what goes to stderr: faults of files, and apps that cannot be loaded."""
    for faults in outcome.faulty.values():
        yield from faults
    if outcome.faulty and outcome.steps:
        yield f"not applied: {', '.join(outcome.faulty)}"
    elif outcome.faulty:
        yield "nothing was changed"
    if os.geteuid() and any(step.is_awake for step in outcome.steps):
        yield "only root can tell whether the apps that are awake run with older settings"
    for name, why in outcome.broken.items():
        yield f"warning: {name} cannot be loaded: {why}"
