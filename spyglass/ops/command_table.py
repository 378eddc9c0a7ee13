"""The administrator's commands: the list of them, and from a command line to one.

To add a command, add its name to COMMANDS and its file to spyglass/ops/commands/. The
file declares it (`COMMAND`) and has `run(options)`, which does it and returns the exit
status. `options` has one attribute for each declared operand and option.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from spyglass.config.setting_errors import hint, similar
from spyglass.config.settings import SETTINGS
from spyglass.errors import StartError, UsageError
from spyglass.ops import command_help, server_commands
from spyglass.ops.command_declaration import Command
from spyglass.ops.output import terminal
from spyglass.ops.output.untrusted_text import filtered
from spyglass.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: tuple[str, ...] = (
    "new", "apply", "off", "on", "remove", "list", "status", "doctor", "wake", "run", "shell",
    "logs", "metrics", "rename", "export", "import", "units", "help",
)  # fmt: skip

# What other tools call a command of ours.
_MEANT = {
    "add": "new", "create": "new", "init": "new", "install": "new", "deploy": "apply", "up": "apply",
    "delete": "remove", "rm": "remove", "uninstall": "remove", "ls": "list", "ps": "list",
    "info": "status", "show": "status", "log": "logs", "journal": "logs", "tail": "logs",
    "disable": "off", "stop": "off", "down": "off", "enable": "on", "start": "wake",
    "restart": "reload", "exec": "run", "mv": "rename", "move": "rename", "backup": "export",
    "restore": "import", "runserver": "lookout", "dev": "lookout", "validate": "check",
    "test": "check",
}  # fmt: skip


_DIGITS = 10  # of a number on a command line, at most one less


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


def help_of(topic: str, width: int = command_help.WIDTH, *, coloured: bool = False) -> str:
    """Return the help of a command, of a setting, of all "settings", or of `spyglass`
    itself for "". Raise UsageError.
    """
    commands = {command.name: command for command in all_commands()}
    if topic in commands:
        return command_help.page(commands[topic], width)
    if topic == "settings":
        return command_help.all_settings(width, coloured=coloured)
    name = topic.replace("-", "_")
    if name in SETTINGS:
        return command_help.one_setting(SETTINGS[name], width, coloured=coloured)
    if topic:
        near = similar(topic, (*commands, "settings", *SETTINGS))
        more = f"did you mean 'spyglass help {near}'?" if near else "'spyglass help' lists commands"
        raise UsageError(f"no help on {topic!r}: it is no command and no setting; {more}")
    listed = sorted(commands.values(), key=lambda command: command.name in server_commands.COMMANDS)
    return command_help.overview(listed, width, coloured=coloured)


def print_help(topic: str) -> None:
    """Print the help of `topic`, as help_of() has it, to fit the terminal."""
    width = terminal.width_limit(sys.stdout, os.environ) or command_help.WIDTH
    coloured = terminal.is_coloured(sys.stdout, os.environ)
    print(help_of(topic, min(width, command_help.WIDEST), coloured=coloured))


def unknown(word: str) -> str:
    """Return what is wrong with a command line that begins with `word`, and what may be
    meant.
    """
    names = (*server_commands.COMMANDS, *COMMANDS)
    if word.startswith("-"):
        return f"the command comes first, then {word!r}; 'spyglass help' lists the commands"
    if ":" in word or word.endswith((".py", ".wsgi")):
        return f"unknown command {word!r}; to serve an app: spyglass lookout {word}"
    meant = _MEANT.get(word, "")
    near = meant if meant in names else similar(word, names)
    more = f", did you mean {near!r}?" if near else "; 'spyglass help' lists the commands"
    return f"unknown command {word!r}{more}"


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, as all commands do, and has our help."""

    def __init__(self, command: Command) -> None:
        super().__init__(prog=f"spyglass {command.name}", allow_abbrev=False)
        self._command = command

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'")

    def print_help(self, file: object = None) -> None:
        print_help(self._command.name)

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the options. Raise UsageError, for an unknown option with a similar
        one.
        """
        options, rest = self.parse_known_args(words)
        for word in rest:
            flag = word.partition("=")[0]
            if flag.startswith("-"):
                self.error(f"unknown option {flag!r}{hint(flag, self._option_string_actions)}")
            self.error(f"unexpected argument {word!r}")
        return options


def _number(text: str) -> int:
    """Return the value of an option that is a number. Raise ArgumentTypeError."""
    if text.isascii() and text.isdigit() and len(text) < _DIGITS:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number below 1e{_DIGITS - 1}, not {text!r}")


def parser(name: str) -> _Parser:
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
            choices=operand.choices or None,
        )
    for option in command.options:
        if not option.value:
            made.add_argument(*option.flags, action="store_true")
        else:
            made.add_argument(
                *option.flags,
                action="append" if option.many else "store",
                type=_number if isinstance(option.default, int) else str,
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
    options = parser(argv[0]).parse_words(own)
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
    """Run a command line that begins with none of the server's commands. Return the
    exit status.

    One without a command asks for help: what it prints is no error, as with systemctl.
    """
    first = argv[0] if argv else "help"
    try:
        if first in ("--help", "-h"):
            print_help(argv[1] if len(argv) > 1 else "")
            return 0
        if first in ("--version", "-V", "version"):
            from spyglass import __version__
            from spyglass.runtime import compiled_engine

            print(f"spyglass {__version__} ({compiled_engine.description()})")
            return 0
        if first not in COMMANDS:
            raise UsageError(unknown(first))
        return _module(first).run(parse([first, *argv[1:]]))
    except StartError as error:
        for line in error.lines:
            print(f"spyglass: {line}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        # Of the machine: a full disk, a current directory that is gone.
        where = f"{error.filename}: " if error.filename else ""
        print(f"spyglass: {one_line(f'{where}{error.strerror or error}')}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
