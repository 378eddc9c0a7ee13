"""What `spyglass doctor` tells of: one thing that is not as it should be."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from spyglass.runtime import printable

# Characters of a line: two paths, and what is wrong with them
_LONGEST = 8 << 10


def systemctl(verb: str, unit: str) -> str:
    """A command for a shell."""
    return shlex.join(["systemctl", verb, unit])


@dataclass
class Finding:
    """Something that is not as it should be. `what` and `why` are for people, `cure`
    (list of str) is for a shell: a line each.

    `grave`: something does not work, or will not; else it is worth knowing and no more.
    """

    where: str  # the app's name, or "machine"
    what: str
    why: str
    cure: list[str] = field(default_factory=list)
    grave: bool = True

    def __post_init__(self) -> None:
        # Apps choose the names of some files in these texts. A line break in one would
        # look like another command, and an administrator might run it.
        self.where, self.what, self.why = (
            printable.one_line(text, _LONGEST) for text in (self.where, self.what, self.why)
        )
        self.cure = [printable.one_line(command, _LONGEST) for command in self.cure]
