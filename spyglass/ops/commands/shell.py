"""`spyglass shell`: a Python prompt as the app runs, with the app loaded.

A Unix shell is `spyglass run NAME bash`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.ops.command_declaration import AN_APP, Command
from spyglass.ops.commands.run import OPTIONS, STATUSES, run_as

if TYPE_CHECKING:
    import argparse

COMMAND = Command(
    "shell",
    "open a Python prompt as an app, like `run`, with the app loaded as `app`; what comes from a "
    "pipe or a file is run as a script",
    operands=(AN_APP,),
    options=OPTIONS,
    changes=True,
    more=STATUSES.replace("that of the command", "that of the prompt or script"),
)


def run(options: argparse.Namespace) -> int:
    return run_as(options, [])
