"""Try an app before `apply` activates it, as `spyglass check` does: in its sandbox,
with the units as they will be.

What the check prints is kept back. Only the reason of a failure is reported: the
administrator has asked for something else, and `spyglass check NAME` has the rest.
"""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from spyglass.errors import StartError
from spyglass.ops.apply import saved_settings
from spyglass.ops.check import sandboxed_check
from spyglass.ops.output.untrusted_text import lines_of
from spyglass.printable import one_line

if TYPE_CHECKING:
    from spyglass.ops.apply.apply_plan import Step

_LONGEST = 500  # characters of a reason
_REASON = re.compile(r"(?:spyglass: |[^ ]{1,300}: cannot be served: )(.+)")


def broken_apps(steps: list[Step]) -> dict[str, str]:
    """Return {name: reason} of the apps of these steps that could not be served."""
    found = {}
    for step in steps:
        if why := why_broken(step):
            found[step.name] = why
    return found


def why_broken(step: Step) -> str:
    """Return why the app cannot be loaded in its sandbox (one line), "" if it can."""
    wanted = saved_settings.drop_ins(step.app)
    texts = saved_settings.unit_texts(step.name, step.service, wanted)
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            ended = sandboxed_check.run_in_sandbox(
                step.name, texts.values(), [], step.app.config.start_timeout
            )
    except StartError as error:
        return f"it could not be tried: {one_line(str(error), _LONGEST)}"
    if ended.status == 0:
        return ""
    return _reason(err.getvalue(), ended)


def _reason(said: str, ended: sandboxed_check.CheckResult) -> str:
    """Return the reason of a check that has failed, from its output, part of which may
    be the app's.
    """
    if ended.faults:
        return one_line(ended.faults[0], _LONGEST)
    for line in reversed(lines_of(said) if said else []):
        if found := _REASON.fullmatch(line):
            return one_line(found[1], _LONGEST)
    return one_line(ended.messages[0] if ended.messages else f"its check ended: {ended.result}")
