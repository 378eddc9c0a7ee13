"""Shell completion for `spyglass`: commands, their options, the values of options that
have few, and the names of the apps.
"""

from __future__ import annotations

import re
from pathlib import Path

from spyglass.config import settings
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.command_table import all_commands
from spyglass.ops.server_commands import setting_options

_HERE = Path(__file__).parent
# The kind of a value, by the option or by the name of its value.
_KINDS = {
    "NAME": "app",
    "APP": "source",
    "FILE": "file",
    "DIRECTORY": "directory",
    "--directory": "directory",
    "--venv": "directory",
}
_KINDS |= {"--app": "source", "--config": "toml", "PATH": "file"}
_ZSH = {
    "app": "_spyglass_apps",
    "file": "_files",
    "directory": "_files -/",
    "source": '_files -g "*.(py|wsgi)"',
    "toml": '_files -g "*.toml"',
    "app or source": '{ _spyglass_apps; _files -g "*.(py|wsgi)" }',
}


def _options(command: Command) -> list[Option]:
    return [*command.options, *(setting_options() if command.settings else ())]


def _kind(command: Command, option: Option | Operand) -> str:
    """Return the kind of its value: one of the above, "|" and all words that it may be,
    or "".
    """
    if option.choices:
        return "|" + " ".join(option.choices)
    if option.value == "TOPIC":
        return " ".join(("|settings", *(each.name for each in all_commands()), *settings.SETTINGS))
    if " | " in option.value:
        return "app or source"
    kind = next((_KINDS[word] for word in (*option.flags, option.value) if word in _KINDS), "")
    return (
        "" if kind == "app" and command.name == "new" else kind
    )  # a new app cannot have the name of an existing one


def bash() -> str:
    options, values = [], []
    for command in all_commands():
        names = " ".join(flag for option in _options(command) for flag in option.flags)
        valued = " ".join(
            flag for option in _options(command) if option.value for flag in option.flags
        )
        kinds = [
            "file" if each.rest else _kind(command, each) or "any" for each in command.operands
        ] + ["..."] * any(each.many or each.rest for each in command.operands)
        options += [
            f"        {command.name})",
            f"            options='{names}'",
            f"            valued=' {valued} '",
        ]
        options += [
            f"            kinds=({' '.join(repr(kind) for kind in kinds)})",
            "            ;;",
        ]
        for option in _options(command):
            kind = _kind(command, option)
            if option.value and kind:
                names = " | ".join(f"'{command.name} {flag}'" for flag in option.flags)
                values.append(f"            {names}) _spyglass_offer '{kind}' ;;")
    commands = " ".join(command.name for command in all_commands())
    return _fill(
        "spyglass.bash", COMMANDS=commands, OPTIONS="\n".join(options), VALUES="\n".join(values)
    )


def zsh() -> str:
    commands = "\n".join(
        f"                {_quoted(command.name + ':' + command.help)}"
        for command in all_commands()
    )
    arguments = []
    for command in all_commands():
        specs = [
            "'(- *)--help[show the help]'",
            *(_spec(command, option) for option in _options(command)),
        ]
        for index, each in enumerate(command.operands, 1):
            if each.rest:  # completed as a command line of its own
                specs.append(f"'*::{each.value.lower()}:_normal'")
                continue
            place = "*" if each.many else f"{index}{':' if each.optional else ''}"
            specs.append(_quoted(f"{place}:{each.value.lower()}:{_action(command, each)}"))
        lines = " \\\n".join(f"                        {spec}" for spec in specs)
        arguments.append(
            f"                {command.name})\n                    _arguments -S \\\n{lines}\n                    ;;"
        )
    return _fill("_spyglass", COMMANDS=commands, ARGUMENTS="\n".join(arguments))


def _spec(command: Command, option: Option) -> str:
    """Return an option for _arguments of zsh: '--name=[help]:value:action', several
    names in braces.
    """
    help = re.sub(r"([][:])", r"\\\1", option.help.replace("`", ""))
    value = f":{option.value.lower()}:{_action(command, option)}" if option.value else ""
    exclusive = (
        "*" if option.many else f"({' '.join(option.flags)})" if len(option.flags) > 1 else ""
    )
    rest = _quoted(f"[{help}]{value}")
    names = [
        flag + ("=" if option.value and flag.startswith("--") else "") for flag in option.flags
    ]
    shown = "{" + ",".join(names) + "}" if len(names) > 1 else names[0]
    return (f"'{exclusive}'" if exclusive else "") + shown + rest


def _action(command: Command, option: Option | Operand) -> str:
    kind = _kind(command, option)
    return f"({kind[1:]})" if kind.startswith("|") else _ZSH.get(kind, "")


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "'\\''") + "'"


def _fill(name: str, **values: str) -> str:
    values["DIRECTORY"] = settings.DIRECTORY
    return re.sub(r"@([A-Z]+)@", lambda word: values[word[1]], (_HERE / name).read_text("utf-8"))
