"""The help of `spyglass` and of its commands, for a terminal of 80 columns, generated
from their declarations and the table of settings.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from spyglass.config.setting_errors import default_text
from spyglass.config.settings import UNIT_SETTINGS
from spyglass.ops.command_declaration import Command, Option
from spyglass.ops.server_commands import setting_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spyglass.config.setting_types import Setting

_WIDTH = 79
_COLUMN = 20  # in which the description of an option begins
_SETTINGS = (
    "Settings: NAME = VALUE in the TOML file, SPYGLASS_NAME in the environment, or an option; "
    "later ones take precedence:"
)
_UNITS = "Settings of the units, only in the TOML file; 'spyglass apply' makes the units follow:"


def overview(commands: Sequence[Command]) -> str:
    """Return the help of `spyglass` itself."""
    lines = [
        "usage: spyglass COMMAND ...",
        "       spyglass --version | --help",
        "",
        *_wrapped("Serve Python web apps that sleep while no client uses them."),
        "",
        "Commands:",
    ]
    for command in commands:
        lines += _described(command.name, command.help, 11)
    lines += ["", "'spyglass COMMAND --help' shows the options and exit statuses of a command."]
    return "\n".join([*lines, *_all_settings(units=True)])


def page(command: Command) -> str:
    """Return the help of one command."""
    lines = [*_usage_lines(command), "", *_wrapped(_sentence(command.help))]
    operands = [each for each in command.operands if each.help]
    if operands:
        lines += ["", "Arguments:"]
        for operand in operands:
            lines += _described(operand.value, operand.help)
    lines += ["", "Options:"]
    for option in command.options:
        lines += _described(_invocation(option), option.help + _repeated(option))
    lines += _described("-h, --help", "show this help")
    if command.more:
        lines += ["", *_wrapped(_sentence(command.more))]
    if command.settings:
        lines += _all_settings(units=False)
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


def _usage_lines(command: Command) -> list[str]:
    first, *words = usage(command)
    lines = [f"usage: {first} {words.pop(0)}"]
    indent = " " * (len(lines[0]) + 1)
    for word in words:
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append(indent + word)
        else:
            lines[-1] += f" {word}"
    return lines


def _all_settings(*, units: bool) -> list[str]:
    lines = ["", *_wrapped(_SETTINGS)]
    for option in setting_options():
        if option.setting is not None:
            lines += _setting(_invocation(option), option.setting)
    if units:
        lines += ["", *_wrapped(_UNITS)]
        for setting in UNIT_SETTINGS:
            lines += _setting(setting.name, setting)
    return lines


def _setting(head: str, setting: Setting) -> list[str]:
    text = f"{setting.meaning} ({setting.kind}; default {default_text(setting)})"
    return ["", f"  {head}", *_wrapped(text, 8)]


def _described(head: str, text: str, column: int = _COLUMN) -> list[str]:
    """Return lines with `head` to the left and `text` from `column` on."""
    lines = _wrapped(text, column)
    if len(head) + 2 < column:
        return [f"  {head:<{column - 2}}{lines[0].lstrip()}", *lines[1:]]
    return [f"  {head}", *lines]


def _invocation(option: Option) -> str:
    return ", ".join(f"{flag} {option.value}".strip() for flag in option.flags)


def _repeated(option: Option) -> str:
    return "; may be given several times" if option.many else ""


def _wrapped(text: str, indent: int = 0) -> list[str]:
    space = " " * indent
    return textwrap.wrap(
        text, _WIDTH, initial_indent=space, subsequent_indent=space, break_on_hyphens=False
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
