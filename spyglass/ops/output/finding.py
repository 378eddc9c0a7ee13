"""A finding of `spyglass doctor`: one thing that is wrong, why it matters, how to fix
it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from spyglass import printable

# Characters of a line: two paths and a sentence.
_LONGEST = 8 << 10


def systemctl(verb: str, unit: str) -> str:
    """Return a systemctl command for a shell."""
    return shlex.join(["systemctl", verb, unit])


@dataclass
class Finding:
    """One thing that is wrong. `what` and `why` are sentences, `cure` are shell
    commands (lines).

    With `grave` False everything works, and the finding is only worth knowing. With
    `inspected` False nothing was found, because `what` could not be looked at. `where`
    is the app's name or "machine". The names of these attributes are keys of `--json`.
    """

    where: str
    what: str
    why: str
    cure: list[str] = field(default_factory=list)
    grave: bool = True
    inspected: bool = True

    def __post_init__(self) -> None:
        # Apps choose the names of some files in these texts. A line break in one would
        # look like another command, which an administrator might run.
        self.where, self.what, self.why = (
            printable.one_line(text, _LONGEST) for text in (self.where, self.what, self.why)
        )
        self.cure = [printable.one_line(command, _LONGEST) for command in self.cure]


def not_inspected(where: str, what: str, why: str) -> Finding:
    """Return that `what` could not be looked at, and `why`."""
    return Finding(where, what, why, [], grave=False, inspected=False)
