"""`spyglass doctor`: what on this machine breaks Spyglass, why it matters, how to fix
it.

The checks are in ops/doctor_checks/. This collects their findings and prints them.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from spyglass.ops import app_status, apps, terminal
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.doctor_checks import apps as app_checks
from spyglass.ops.doctor_checks import machine, units
from spyglass.ops.terminal import colourize

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from spyglass.ops.finding import Finding

COMMAND = Command(
    "doctor",
    "look for what is wrong with units, sockets and the machine, say why it matters and how to "
    "fix it",
    operands=(
        Operand(
            "NAME",
            "check only these apps, and the machine (default: all)",
            optional=True,
            many=True,
        ),
    ),
    options=(Option("--json", help="print JSON; docs/looking.md has the keys"),),
    more="exit status: 0 nothing is wrong, apart from hints; 1 something is; 4 there is no such "
    "app",
    group="Look",
    brief="look for what is wrong, and say how to fix it",
)


def run(options: argparse.Namespace) -> int:
    terminal.escape_unencodable()
    findings = examine(options.names)
    if options.json:
        print(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        for line in render(findings, coloured=terminal.is_coloured(sys.stdout, os.environ)):
            print(line)
    return 1 if any(finding.grave for finding in findings) else 0


def examine(wanted: Sequence[str] = ()) -> list[Finding]:
    """Return all findings: the machine's, then app by app, grave ones first.

    `wanted` limits the apps. Raise NoSuchAppError if one of them does not exist.
    """
    wanted = [app_status.resolve(name) for name in wanted]
    names = [name for name in wanted or app_status.names() if name != app_status.DEFAULT]
    found = app_status.query(
        [*names, app_status.DEFAULT],
        dict.fromkeys((*app_status.PROPERTIES, *units.PROPERTIES)),
    )
    if found[-1].socket.get("LoadState") != "loaded":
        found.pop()
    known = {name: apps.read(name) for name in apps.names()}
    findings = machine.examine([app.service for app in found])
    for app in found:
        own = [
            *units.examine(app.name, app.socket, app.service),
            *app_checks.examine(app, known),
        ]
        findings += sorted(own, key=lambda finding: not finding.grave)
    return [*findings, *app_checks.leftovers(found, wanted)]


def render(findings: Sequence[Finding], *, coloured: bool = False) -> list[str]:
    """Return the findings as lines for a terminal."""
    lines = []
    for finding in findings:
        lines.append(
            colourize(
                f"{finding.where}: {finding.what}", "fault" if finding.grave else "hint", coloured
            )
        )
        lines.append(f"    {finding.why}")
        lines += [f"      $ {command}" for command in finding.cure]
        lines.append("")
    grave = sum(finding.grave for finding in findings)
    if not findings:
        return ["nothing wrong"]
    rest = len(findings) - grave
    noted = f"{rest} worth knowing" if rest else ""
    wrong = f"{grave} {'thing' if grave == 1 else 'things'} wrong" if grave else "nothing wrong"
    return [*lines, ", ".join(part for part in (wrong, noted) if part)]
