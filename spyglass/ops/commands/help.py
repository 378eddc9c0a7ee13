"""`spyglass help`: all commands, one command, all settings, or one setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.ops import command_table
from spyglass.ops.command_declaration import Command, Operand

if TYPE_CHECKING:
    import argparse

COMMAND = Command(
    "help",
    "show all commands, or explain one command, all settings, or one setting",
    operands=(Operand("TOPIC", "a command, 'settings', or a setting", optional=True),),
    more="'spyglass' alone and 'spyglass --help' show all commands, 'spyglass COMMAND --help' "
    "explains one. Exit status: 0; 2 there is no such topic",
    group="",
)


def run(options: argparse.Namespace) -> int:
    command_table.print_help(options.topic or "")
    return 0
