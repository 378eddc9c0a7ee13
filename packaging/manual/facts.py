"""What there is to tell of the commands, from where it is said already: cli.py's help
for those of the server, argparse for all others.

Man pages, completion and the documentation's tables are made of it, so that none of
them can know a command or option that there is not.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field

from spyglass import cli
from spyglass.config import setting_types as types
from spyglass.config import settings as config
from spyglass.ops import command_table

SERVERS = cli._SERVERS


@dataclass
class Option:
    """An option or, where `flags` is empty, an argument: `value` is the name of its
    value ("" for none), `values` are all there are.

    `is_setting` (bool): it is one of the table of settings, which is told of as a
    whole.
    """

    flags: list[str]
    value: str
    help: str
    values: list[str] = field(default_factory=list)
    optional: bool = True
    many: bool = False
    is_setting: bool = False


@dataclass
class Command:
    name: str
    help: str
    arguments: list[Option]
    options: list[Option]
    more: str = ""  # what argparse prints below the options


def all_commands() -> list[Command]:
    return [
        *(_of_the_server(name) for name in SERVERS),
        *(_of_the_administrator(name) for name in command_table.COMMANDS),
    ]


# Those of the server


def _of_the_server(name: str) -> Command:
    """What the help text says of it. Raises LookupError where it says nothing."""
    usage = re.search(rf"^ *(?:usage: )?spyglass {name}\b(.*)$", cli._USAGE, re.MULTILINE)
    summary = re.search(rf"^{name}  +(.+(?:\n {{8,}}.+)*)$", cli._USAGE, re.MULTILINE)
    if usage is None or summary is None:
        raise LookupError(f"the help text of spyglass does not tell of the command {name!r}")
    words = usage[1]
    arguments = [
        Option([], word, "", optional=True)
        for word in re.findall(r"(?:[A-Z]+ \| )?\[[A-Z]+\]", words)
    ]
    for each in arguments:
        each.value = re.sub(r"[][]", "", each.value)
    found = re.findall(r"(--[a-z-]+) ([A-Z]+)( \.\.\.)?", words)
    options = [
        Option([flag], value, _help_of(flag), many=bool(dots)) for flag, value, dots in found
    ]
    if "--SETTING" in words:
        options += settings()
    return Command(name, " ".join(summary[1].split()), arguments, options)


def _help_of(flag: str) -> str:
    found = re.search(rf"^  {flag} [A-Z]+ +(.+)$", cli._USAGE, re.MULTILINE)
    if found is None:
        raise LookupError(f"the help text of spyglass does not tell of {flag}")
    return found[1].strip()


def settings() -> list[Option]:
    """All settings that a command line takes: not those of the units."""
    return [_option_of(setting) for setting in of_the_server()]


def of_the_server() -> list[types.Setting]:
    return config.SERVER_SETTINGS


def of_the_units() -> list[types.Setting]:
    return config.UNIT_SETTINGS


def _option_of(setting: types.Setting) -> Option:
    if isinstance(setting, types.Flag):
        return Option(
            [setting.option, f"--no-{setting.option[2:]}"], "", setting.meaning, is_setting=True
        )
    return Option(
        [setting.option], "VALUE", setting.meaning, known_values(setting), is_setting=True
    )


def known_values(setting: types.Setting) -> list[str]:
    """Those worth offering: all of a choice, the words of one that takes words and
    more.
    """
    if isinstance(setting, types.Choice):
        return list(setting.choices)
    if isinstance(setting, types.Flag):
        return ["true", "false"]
    if isinstance(setting, types.FlagOrText):
        return ["true", "false", *setting.words]
    return []


# Those of the administrator


def _of_the_administrator(name: str) -> Command:
    parser = command_table.parser(name)
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    arguments = [_argument(action) for action in actions if not action.option_strings]
    options = [
        _option(action)
        for action in actions
        if action.option_strings and "--help" not in action.option_strings
    ]
    return Command(name, parser.description or "", arguments, options, parser.epilog or "")


def _argument(action: argparse.Action) -> Option:
    optional = action.nargs in ("?", "*", argparse.REMAINDER)
    many = action.nargs in ("*", "+", argparse.REMAINDER)
    return Option(
        [], _value(action) or action.dest.upper(), _help(action), _choices(action), optional, many
    )


def _option(action: argparse.Action) -> Option:
    value = (
        ""
        if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction)
        else _value(action) or action.dest.upper()
    )
    many = isinstance(action, argparse._AppendAction)
    return Option(
        list(action.option_strings),
        value,
        _help(action),
        _choices(action),
        not action.required,
        many,
    )


def _value(action: argparse.Action) -> str:
    return action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())


def _choices(action: argparse.Action) -> list[str]:
    return [str(choice) for choice in action.choices or ()]


def _help(action: argparse.Action) -> str:
    """With argparse's own %(default)s and the like filled in."""
    return (action.help or "") % {**vars(action), "prog": "spyglass"} if action.help else ""
