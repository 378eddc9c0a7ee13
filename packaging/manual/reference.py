"""The pages of the documentation that say what there is: every setting, every
command.
"""

from __future__ import annotations

import re
from pathlib import Path

import facts
from facts import Command, Option

from spyglass.config import setting_errors
from spyglass.config.setting_types import Setting

_HERE = Path(__file__).parent


def pages() -> dict[str, str]:
    """The pages by their names."""
    return {
        "settings.md": _fill(
            "settings.md",
            SETTINGS=_settings(facts.of_the_server()),
            UNITS=_settings(facts.of_the_units()),
        ),
        "commands.md": _fill(
            "commands.md",
            COMMANDS="\n\n".join(_command(command) for command in facts.all_commands()),
        ),
    }


def _fill(name: str, **values: str) -> str:
    text = re.sub(r"@([A-Z]+)@", lambda word: values[word[1]], (_HERE / name).read_text("utf-8"))
    heading, rest = text.split("\n", 1)
    return f"{heading}\n\n<!-- Made by `make docs` from packaging/manual/{name} and what the code says of itself. -->\n{rest}"


def _settings(settings: list[Setting]) -> str:
    rows = [
        f"| `{each.name}` | {_cell(setting_errors.default_text(each))} | {_cell(each.meaning)} | {_cell(each.kind)} |"
        for each in settings
    ]
    return "\n".join(["| setting | default | | takes |", "|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    """As a table takes it: outside of `code`, < and * would be markup."""
    pieces = text.replace("|", r"\|").split("`")
    return "`".join(
        piece if index % 2 else re.sub(r"([*<_])", r"\\\1", piece)
        for index, piece in enumerate(pieces)
    )


def _command(command: Command) -> str:
    lines = [
        f"## `spyglass {command.name}`",
        "",
        _sentence(_cell(command.help)),
        "",
        f"    {_usage(command)}",
    ]
    told = [
        each for each in (*command.arguments, *command.options) if each.help and not each.is_setting
    ]
    if told:
        lines += [
            "",
            "| | |",
            "|---|---|",
            *(f"| {_name(each)} | {_cell(each.help)}{_values(each)} |" for each in told),
        ]
    if any(option.is_setting for option in command.options):
        lines += [
            "",
            "Each setting of the server is an option, too, with dashes for underscores: [settings](settings.md).",
        ]
    if command.more:
        lines += ["", command.more]
    return "\n".join(lines)


def _usage(command: Command) -> str:
    words = ["spyglass", command.name]
    for each in command.arguments:
        word = each.value + (" ..." if each.many else "")
        words.append(f"[{word}]" if each.optional else word)
    for option in command.options:
        if not option.is_setting:
            word = f"{option.flags[0]} {option.value}".strip()
            words.append(
                (f"[{word}]" if option.optional else word) + (" ..." if option.many else "")
            )
    return " ".join(words) + (
        " [--SETTING VALUE ...]" if any(option.is_setting for option in command.options) else ""
    )


def _name(each: Option) -> str:
    return ", ".join(f"`{f'{name} {each.value}'.strip()}`" for name in each.flags or [""])


def _values(each: Option) -> str:
    return "; one of " + ", ".join(f"`{value}`" for value in each.values) if each.values else ""


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")
