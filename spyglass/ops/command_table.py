"""The administrator's commands: which there are, and a command line to one of them.

Each is a module of this package with HELP (one line), `arguments(parser)`, which says
what it takes, and `run(options)`, which does it and returns the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from spyglass.errors import StartError, UsageError
from spyglass.ops.untrusted_text import filtered

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: tuple[str, ...] = ("new", "apply", "remove", "list", "status", "doctor")


class Command(Protocol):
    HELP: str

    def arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> int: ...


def command(name: str) -> Command:
    return cast(Command, importlib.import_module(f"spyglass.ops.commands.{name}"))


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all commands do."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; '{self.prog} --help' says more")


def parser(name: str) -> argparse.ArgumentParser:
    """What the command called `name` takes."""
    module = command(name)
    made = _Parser(prog=f"spyglass {name}", description=module.HELP, allow_abbrev=False)
    module.arguments(made)
    return made


@filtered()
def run(argv: Sequence[str]) -> int:
    """Run a command line whose first word is one of COMMANDS; returns the exit
    status.
    """
    try:
        return command(argv[0]).run(parser(argv[0]).parse_args(argv[1:]))
    except StartError as error:
        for line in (str(error), *getattr(error, "also", ())):
            print(f"spyglass: {line}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130


def overview() -> str:
    """One line for each command, for `spyglass --help`."""
    return "\n".join(f"{name:<9}{command(name).HELP}" for name in COMMANDS)
