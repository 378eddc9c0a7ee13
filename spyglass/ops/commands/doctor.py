"""`spyglass doctor`: what on this machine breaks Spyglass, why it matters, how to fix
it.

The checks are in ops/doctor_checks/. This collects their findings and prints them.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from spyglass.ops.app import apps
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.doctor_checks import apps as app_checks
from spyglass.ops.doctor_checks import machine, running, secrets, units
from spyglass.ops.output import terminal
from spyglass.ops.output.terminal import colourize
from spyglass.ops.status import app_status

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from spyglass.ops.output.finding import Finding

COMMAND = Command(
    "doctor",
    "look for what is wrong with units, sockets and the machine, and say why it matters and how to "
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
    more="exit status: 0 nothing is wrong, apart from hints; 1 something is; 3 nothing was found, "
    "but not everything could be inspected (as root, it can); 4 there is no such app",
    group="Look",
    brief="look for what is wrong, and say how to fix it",
)


def run(options: argparse.Namespace) -> int:
    terminal.escape_unencodable()
    findings = examine(options.names)
    if options.json:
        print(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        coloured = terminal.is_coloured(sys.stdout, os.environ)
        limit = terminal.width_limit(sys.stdout, os.environ)
        for line in render(findings, limit, coloured=coloured):
            print(line)
    if any(finding.grave for finding in findings):
        return 1
    return 0 if all(finding.inspected for finding in findings) else 3


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
    known = {name: apps.read(name) for name in apps.names() if app_status.is_name(name)}
    findings = machine.examine([app.service for app in found])
    for app in found:
        own = [
            *units.examine(app.name, app.socket, app.service, app.obstacle),
            *app_checks.examine(app, known),
            *running.examine(app),
            *secrets.examine(app.name, known.get(app.name)),
            *running.uninspected(app, known.get(app.name)),
        ]
        findings += sorted(own, key=lambda finding: not finding.grave)
    findings += app_checks.leftovers(found, wanted)
    for app in found:
        own = [finding for finding in findings if finding.where == app.name]
        findings += running.unexplained(app, own)
    return findings


def render(
    findings: Sequence[Finding], limit: int | None = None, *, coloured: bool = False
) -> list[str]:
    """Return the findings as lines for a terminal, of at most `limit` letters (None: no
    limit). Commands to copy stay whole.
    """
    lines = []
    for finding in findings:
        if finding.inspected:
            kind = "fault" if finding.grave else "hint"
            for line in terminal.wrapped(f"{finding.where}: {finding.what}", limit, 8):
                lines.append(colourize(line, kind, coloured))
            lines += terminal.wrapped(f"    {finding.why}", limit, 4)
            lines += [f"      $ {command}" for command in finding.cure]
            lines.append("")
    gaps = [finding for finding in findings if not finding.inspected]
    for line in _gaps(gaps, limit):
        lines.append(colourize(line, "hint", coloured))
    lines += [""] if gaps else []
    return [*lines, summary(findings)]


def _gaps(gaps: Sequence[Finding], limit: int | None) -> list[str]:
    """Return the lines about what was not inspected; one line for all apps of which
    that is the same.
    """
    where: dict[tuple[str, str], list[str]] = {}
    for gap in gaps:
        where.setdefault((gap.what, gap.why), []).append(gap.where)
    lines = []
    for (what, why), names in where.items():
        line = f"not inspected: {what} ({', '.join(names)}): {why}"
        lines += terminal.wrapped(line, limit, 4)
    return lines


def summary(findings: Sequence[Finding]) -> str:
    """Return the last line. It never says that nothing is wrong where nothing was
    looked at.
    """
    grave = sum(finding.grave for finding in findings)
    gaps = sum(not finding.inspected for finding in findings)
    rest = len(findings) - grave - gaps
    wrong = f"{grave} {'thing' if grave == 1 else 'things'} wrong" if grave else "nothing wrong"
    if gaps and not grave:
        wrong = "nothing wrong in what was inspected"
    missing = f"{gaps} not inspected" if gaps else ""
    if gaps and os.geteuid():
        missing += " (run it as root)"
    noted = f"{rest} worth knowing" if rest else ""
    return ", ".join(part for part in (wrong, noted, missing) if part)
