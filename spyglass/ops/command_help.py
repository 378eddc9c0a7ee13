"""The help of `spyglass`, of its commands and of its settings, generated from their
declarations and the table of settings.

A function returns text for a terminal of `width` columns, 80 if the output is none.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from spyglass.config.setting_errors import default_text
from spyglass.config.setting_types import Unit
from spyglass.config.settings import SERVER_SETTINGS, UNIT_SETTINGS
from spyglass.ops.command_declaration import GROUPS, Command, Option
from spyglass.ops.output.terminal import colourize
from spyglass.ops.server_commands import setting_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spyglass.config.setting_types import Setting

WIDTH = 80  # of a terminal, if it is unknown
WIDEST = 120  # a longer line is hard to read
_COLUMN = 20  # in which the description of an option begins
_SERVER = (
    "Set them in the TOML file (workers = 4), in the environment (SPYGLASS_WORKERS=4) or as an "
    "option of serve, lookout and check (--workers 4); later ones take precedence. A setting that "
    "is true or false is an option without a value: --debug, --no-debug."
)
_OPTIONS = "Settings are options, too; 'spyglass help settings' explains them:"
_UNITS = "Set these only in the TOML file; 'spyglass apply' makes the units follow."


def overview(commands: Sequence[Command], width: int = WIDTH, *, coloured: bool = False) -> str:
    """Return the help of `spyglass` itself: one screen of 80 columns and 24 lines, the
    last one for the prompt.
    """
    usage = "usage: spyglass COMMAND ..."
    about = "Serve Python web apps that sleep while unused."
    lines = [f"{usage}    {about}"] if width >= WIDTH else [usage, *_wrapped(about, width)]
    lines.append("")
    groups = dict.fromkeys((*GROUPS, *(command.group for command in commands if command.group)))
    indent = 2 + max(map(len, groups))
    for group in groups:
        heading = group
        for command in commands:
            if command.group == group:
                start = colourize(f"{heading:<{indent}}", "title", coloured)
                text = _brief(command, min(width - 1 - indent - 9, _BRIEF))
                lines.append(f"{start}{command.name:<9}{text}")
                heading = ""
    lines += _wrapped(
        "More: spyglass help COMMAND | help settings | help SETTING | --version", width
    )
    return "\n".join(lines)


_BRIEF = 58  # columns: wider than that, the lines would be of very different lengths


def _brief(command: Command, width: int) -> str:
    """Return what the command does, in one line of `width` columns."""
    text = command.brief or command.help
    for end in ";:,":
        if len(text) > width:
            text = text.partition(end)[0]
    return textwrap.shorten(text, width, placeholder=" …")


def page(command: Command, width: int = WIDTH) -> str:
    """Return the help of one command."""
    lines = [*_usage_lines(command, width), "", *_wrapped(_sentence(command.help), width)]
    operands = [each for each in command.operands if each.help]
    if operands:
        lines += ["", "Arguments:"]
        for operand in operands:
            lines += _described(operand.value, operand.help, width)
    lines += ["", "Options:"]
    for option in command.options:
        lines += _described(_invocation(option), option.help + _repeated(option), width)
    lines += _described("-h, --help", "show this help", width)
    if command.settings:
        names = ", ".join(option.flags[0] for option in setting_options())
        lines += ["", *_wrapped(_OPTIONS, width), *_wrapped(names, width, 2)]
    if command.more:
        lines += ["", *_wrapped(_sentence(command.more), width)]
    return "\n".join(lines)


def usage(command: Command) -> list[str]:
    """Return the words of the usage line, each to be kept on one line."""
    words = ["spyglass", command.name]
    for operand in command.operands:
        word = operand.value + (" ..." if operand.many else "")
        if not operand.rest:
            words.append(f"[{word}]" if operand.optional else word)
    for option in command.options:
        word = f"{option.flags[0]} {option.value}".strip() + (" ..." if option.many else "")
        if option.excludes:
            words[-1] = f"{words[-1][:-1]} | {word}]"
        else:
            words.append(f"[{word}]")
    if command.settings:
        words.append("[--SETTING VALUE ...]")
    return words + [f"[--] {operand.value} ..." for operand in command.operands if operand.rest]


def _usage_lines(command: Command, width: int) -> list[str]:
    first, *words = usage(command)
    lines = [f"usage: {first} {words.pop(0)}"]
    indent = " " * (len(lines[0]) + 1)
    for word in words:
        if len(lines[-1]) + 1 + len(word) >= width:
            lines.append(indent + word)
        else:
            lines[-1] += f" {word}"
    return lines


def all_settings(width: int = WIDTH, *, coloured: bool = False) -> str:
    """Return the help of all settings."""
    lines = []
    for title, how, settings in (
        ("Settings of the server", _SERVER, SERVER_SETTINGS),
        ("Settings of the units", _UNITS, UNIT_SETTINGS),
    ):
        lines += [colourize(title, "title", coloured), "", *_wrapped(how, width), ""]
        for setting in settings:
            lines += [*_setting_lines(setting, width, coloured), ""]
    return "\n".join(lines[:-1])


def one_setting(setting: Setting, width: int = WIDTH, *, coloured: bool = False) -> str:
    """Return the help of one setting: what it means, what it takes, where it is set."""
    places = (
        "Only in the TOML file; then run 'spyglass apply'."
        if isinstance(setting, Unit)
        else f"In the TOML file: {setting.name} = VALUE. In the environment: "
        f"SPYGLASS_{setting.name.upper()}=VALUE. As an option of serve, lookout and check: "
        f"{next(_invocation(each) for each in setting_options() if each.setting is setting)}."
    )
    return "\n".join([*_setting_lines(setting, width, coloured), "", *_wrapped(places, width)])


def _setting_lines(setting: Setting, width: int, coloured: bool) -> list[str]:
    text = f"{setting.meaning} ({setting.kind}; default {default_text(setting)})"
    return [colourize(setting.name, "title", coloured), *_wrapped(text, width, 4)]


def _described(head: str, text: str, width: int) -> list[str]:
    """Return lines with `head` to the left and `text` beside it, or below if `head` is
    too long.
    """
    lines = _wrapped(text, width, _COLUMN)
    if len(head) + 2 < _COLUMN:
        return [f"  {head:<{_COLUMN - 2}}{lines[0].lstrip()}", *lines[1:]]
    return [f"  {head}", *lines]


def _invocation(option: Option) -> str:
    return ", ".join(f"{flag} {option.value}".strip() for flag in option.flags)


def _repeated(option: Option) -> str:
    return "; may be given several times" if option.many else ""


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    # A line as wide as the terminal would make some of them begin an empty one.
    space = " " * indent
    return textwrap.wrap(
        text, width - 1, initial_indent=space, subsequent_indent=space, break_on_hyphens=False
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
