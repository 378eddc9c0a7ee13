#!/usr/bin/python3
"""Generate the man pages, the completions for bash and zsh, and the reference pages of
the documentation from the table of settings and the declarations of the commands.

usage: python3 packaging/manual OUTPUT
       python3 packaging/manual --reference DOCS

OUTPUT then holds spyglass.1, spyglass.toml.5 and spyglass@.service.8, spyglass.bash
(for bash-completion, which looks for it as completions/spyglass) and _spyglass (for
zsh, in its $fpath). DOCS gets settings.md and commands.md of the documentation. Only
the standard library and the spyglass of this source tree are needed. The prose is in the
files of this directory, with placeholders such as @SETTINGS@. The man pages are mdoc(7).

The date of the pages is $SOURCE_DATE_EPOCH, so that two builds of one source give the
same bytes, or else today.
"""

from __future__ import annotations

import calendar
import os
import re
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parents[1]))

import completion  # noqa: E402
import mdoc  # noqa: E402
import reference  # noqa: E402

from spyglass import __version__  # noqa: E402
from spyglass.config import setting_errors  # noqa: E402
from spyglass.config.setting_types import Setting  # noqa: E402
from spyglass.config.settings import SERVER_SETTINGS, UNIT_SETTINGS  # noqa: E402
from spyglass.ops import server_commands  # noqa: E402
from spyglass.ops.command_table import all_commands  # noqa: E402
from spyglass.ops.server_commands import setting_options  # noqa: E402

PAGES = ("spyglass.1", "spyglass.toml.5", "spyglass@.service.8")
UNIT = HERE.parent / "systemd" / "spyglass@.service"


def page(name: str) -> str:
    """Return the man page `name`, filled in from the file of that name."""
    source = (HERE / name).read_text("utf-8")
    known = {command.name: command for command in all_commands()}
    pieces = re.split(r"^@COMMAND ([a-z-]+)@\n((?:(?!@|\.El).*\n)*)", source, flags=re.MULTILINE)
    made = pieces[0]
    for command, prose, rest in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        if command in known:  # the prose may be written before its command
            made += (
                mdoc.entry(
                    known.pop(command), prose, options=command not in server_commands.COMMANDS
                )
                + "\n"
            )
        made += rest
    values = {
        "DATE": _date(),
        "VERSION": __version__,
        "SYNOPSIS": "\n".join(mdoc.synopsis(command) for command in all_commands()),
        "COMMANDS": "\n".join(mdoc.entry(command) for command in known.values()),
        "OPTIONS": _options(),
        "SETTINGS": _settings(SERVER_SETTINGS) if name.endswith(".5") else _settings_in_short(),
        "UNITS": _settings(UNIT_SETTINGS),
        "SANDBOX": _sandbox(),
    }
    filled = re.sub(
        r"@([A-Z]+)@\n?",
        lambda word: values[word[1]] + ("\n" if word[0].endswith("\n") and values[word[1]] else ""),
        made,
    )
    return mdoc.filled(filled)


def _date() -> str:
    made = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    return f"{calendar.month_name[made.tm_mon]} {made.tm_mday}, {made.tm_year}"


def _options() -> str:
    """Return the options of the server's commands that are not settings."""
    options = {
        option.flags[0]: option
        for command in server_commands.COMMANDS.values()
        for option in command.options
    }
    return "\n".join(
        f".It {mdoc.invocation(option)}\n{mdoc.text(mdoc.sentence(option.help))}"
        for option in options.values()
    )


def _settings_in_short() -> str:
    return "\n".join(
        f".It {mdoc.invocation(option)}\n{mdoc.text(mdoc.sentence(option.help))}"
        for option in setting_options()
    )


def _settings(settings: list[Setting]) -> str:
    lines = []
    for setting in settings:
        lines += [
            f".It Ic {mdoc.escape(setting.name)}",
            mdoc.text(mdoc.sentence(setting.meaning)),
            ".br",
            mdoc.text(f"({setting.kind}; default `{setting_errors.default_text(setting)}`)"),
        ]
    return "\n".join(lines)


def _sandbox() -> str:
    """Return the lines of the unit from its user on, without comments."""
    lines = UNIT.read_text("utf-8").partition("\nDynamicUser=")
    return "\n".join(
        mdoc.escape(line)
        for line in ("DynamicUser=" + lines[2]).splitlines()
        if line and not line.startswith("#")
    )


def _manual() -> dict[str, str]:
    return {name: page(name) for name in PAGES} | {
        "spyglass.bash": completion.bash(),
        "_spyglass": completion.zsh(),
    }


def main(argv: list[str]) -> int:
    words = argv[1:] if argv[:1] == ["--reference"] else argv
    if len(words) != 1 or words[0].startswith("-"):
        print(__doc__.partition("\n\n")[2].partition("\n\n")[0], file=sys.stderr)
        return 2
    output = Path(words[0])
    made = _manual() if words is argv else reference.pages()
    output.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        (output / name).write_text(content, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
