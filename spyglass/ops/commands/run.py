"""`spyglass run`: a command as the app runs, in the sandbox of its unit.

For what an administrator does beside serving: migrations, accounts, backups. Root types
it, and the app's user runs it (run/run_unit.py).
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from spyglass.errors import StartError, UsageError
from spyglass.ops.command_declaration import AN_APP, Command, Operand, Option
from spyglass.ops.guards import running_commands
from spyglass.ops.guards.privileges import require_root
from spyglass.ops.run import run_preparation, run_unit
from spyglass.ops.run.enter_app import NOT_RUN
from spyglass.ops.run.run_channel import Request
from spyglass.ops.status import known_apps

if TYPE_CHECKING:
    import argparse

OPTIONS = (
    Option(
        "--no-sandbox",
        help="without the sandbox, but with the app's user, environment and limits",
    ),
    Option(
        "--writable",
        value="PATH",
        help="a directory or file, beginning at the app's directory, that the sandbox makes "
        "writable; file permissions still apply",
        many=True,
    ),
)
STATUSES = (
    "exit status: that of the command, 128 + N if signal N ended it; 2 wrong usage; 125 the "
    "command was not run; 126 it cannot be executed; 127 it was not found. On a terminal, Ctrl-] "
    "typed three times within a second ends a command that ignores Ctrl-C"
)
COMMAND = Command(
    "run",
    "run a command as an app: with its user, directory, environment, credentials, virtual "
    "environment, limits and sandbox, whether or not the app is awake",
    operands=(
        AN_APP,
        Operand(
            "COMMAND",
            "the command and its arguments, `manage.py migrate`; a .py file is run by the app's "
            "Python",
            rest=True,
        ),
    ),
    options=OPTIONS,
    changes=True,
    more=STATUSES,
)
# What programs ask the terminal's kind by.
_TERMINAL = ("TERM", "COLORTERM", "NO_COLOR")


def run(options: argparse.Namespace) -> int:
    if not options.command:
        raise UsageError(f"run: which command? spyglass run {options.name} COMMAND ...")
    return run_as(options, options.command)


def _typed(options: argparse.Namespace, words: list[str]) -> list[str]:
    """Return the command line, without `spyglass`."""
    bare = ["--no-sandbox"] if options.no_sandbox else []
    opened = [f"--writable={path}" for path in options.writable or ()]
    return ["run" if words else "shell", options.name, *bare, *opened, *words]


def run_as(options: argparse.Namespace, words: list[str]) -> int:
    """Run `words`, or the app's Python shell for []; return the exit status."""
    try:
        known_apps.examine_name(options.name)
        what = "run a command as an app, which has a user of its own"
        require_root(what, *_typed(options, words))
        run_preparation.require_systemd()
        run_preparation.find_app(options.name)
        shown = any(map(os.isatty, range(3)))
        variables = {name: os.environ[name] for name in _TERMINAL if name in os.environ}
        with ExitStack() as data:
            # Until the command runs. A rename may have had the lock before.
            data.enter_context(running_commands.data_locked(options.name))
            app = run_preparation.find_app(options.name)
            writable = run_preparation.writable_paths(app, options.writable or [])
            return run_unit.run(
                app.name,
                run_preparation.service_texts(app),
                Request(words, variables if shown else {}),
                begun=data.close,
                sandbox=not options.no_sandbox,
                writable=writable,
            )
    except StartError as error:
        for line in error.lines:
            print(f"spyglass: {line}", file=sys.stderr)
        return NOT_RUN
