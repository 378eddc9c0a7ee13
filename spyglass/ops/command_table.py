"""The administrator's commands: the list of them, and from a command line to one.

To add a command, add its name to COMMANDS and its file to spyglass/ops/commands/. The
file declares it (`COMMAND`) and has `run(options)`, which does it and returns the exit
status. `options` has one attribute for each declared operand and option.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from spyglass.errors import StartError, UsageError
from spyglass.ops import command_help, server_commands
from spyglass.ops.command_declaration import Command
from spyglass.ops.untrusted_text import filtered

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: tuple[str, ...] = (
    "new", "apply", "remove", "list", "status", "doctor", "wake", "run", "shell", "logs",
    "rename", "export", "import",
)  # fmt: skip


class CommandModule(Protocol):
    COMMAND: Command

    def run(self, options: argparse.Namespace) -> int: ...


def _module(name: str) -> CommandModule:
    return cast(CommandModule, importlib.import_module(f"spyglass.ops.commands.{name}"))


def find(name: str) -> Command | None:
    """Return the declaration of the administrator's command `name`, None if there is
    none.
    """
    return _module(name).COMMAND if name in COMMANDS else None


def all_commands() -> list[Command]:
    """Return the declarations of all commands, the server's first."""
    return [*server_commands.COMMANDS.values(), *(_module(name).COMMAND for name in COMMANDS)]


def help_of(name: str) -> str:
    """Return the help of the command `name`, or of `spyglass` itself for ""."""
    commands = all_commands()
    for command in commands:
        if command.name == name:
            return command_help.page(command)
    return command_help.overview(commands)


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, as all commands do, and has our help."""

    def __init__(self, command: Command) -> None:
        super().__init__(prog=f"spyglass {command.name}", allow_abbrev=False)
        self._command = command

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'")

    def format_help(self) -> str:
        return command_help.page(self._command) + "\n"


def parser(name: str) -> argparse.ArgumentParser:
    """Return a parser for the command `name`, made from its declaration."""
    command = _module(name).COMMAND
    made = _Parser(command)
    for operand in command.operands:
        if operand.rest:
            continue
        how = {(True, False): "?", (True, True): "*", (False, True): "+"}
        made.add_argument(
            operand.dest,
            nargs=how.get((operand.optional, operand.many)),
            metavar=operand.value,
            default=operand.default,
        )
    for option in command.options:
        if not option.value:
            made.add_argument(*option.flags, action="store_true")
        else:
            made.add_argument(
                *option.flags,
                action="append" if option.many else "store",
                type=int if isinstance(option.default, int) else str,
                metavar=option.value,
                default=option.default,
                choices=option.choices or None,
            )
    return made


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line that begins with one of COMMANDS. Raise
    UsageError.
    """
    command = _module(argv[0]).COMMAND
    own, rest = split_rest(command, argv[1:])
    options = parser(argv[0]).parse_args(own)
    for operand in command.operands:
        if operand.rest:
            setattr(options, operand.dest, rest)
    return options


def split_rest(command: Command, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that are the command's own, and those of its operand `rest`.

    The latter begin behind the other operands, or behind a "--" there: any option after
    that is not the command's own.
    """
    if not any(operand.rest for operand in command.operands):
        return list(words), []
    valued = {flag for option in command.options if option.value for flag in option.flags}
    missing = len(command.operands) - 1
    index = 0
    while index < len(words):
        word = words[index]
        if word == "--" and not missing:
            return list(words[:index]), list(words[index + 1 :])
        if word in valued:
            index += 1  # and its value
        elif not word.startswith("-"):
            if not missing:
                break
            missing -= 1
        index += 1
    return list(words[:index]), list(words[index:])


@filtered()
def run(argv: Sequence[str]) -> int:
    """Run a command line that begins with one of COMMANDS. Return the exit status."""
    try:
        return _module(argv[0]).run(parse(argv))
    except StartError as error:
        for line in error.lines:
            print(f"spyglass: {line}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
