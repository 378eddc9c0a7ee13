"""The declarations of all commands, and the help that is generated from them."""

import pytest

from spyglass.config import settings
from spyglass.config.command_line import SERVER_COMMANDS
from spyglass.config.setting_errors import default_text
from spyglass.config.setting_types import Unit
from spyglass.ops.command_table import COMMANDS, all_commands, help_of


def test_every_command_is_declared_once_under_its_name():
    names = [command.name for command in all_commands()]
    assert names == [*SERVER_COMMANDS, *COMMANDS]
    assert len(set(names)) == len(names)


def test_help_has_every_setting_with_meaning_and_default():
    text = " ".join(help_of("").split())
    for setting in settings.SETTINGS.values():
        assert f" {setting.name if isinstance(setting, Unit) else setting.option}" in text
        assert f"{setting.meaning} ({setting.kind}; default {default_text(setting)})" in text
    for flag in ("--no-preload", "--no-debug"):
        assert flag in text


@pytest.mark.parametrize("name", ["", *(command.name for command in all_commands())])
def test_help_fits_a_terminal(name):
    assert max(map(len, help_of(name).splitlines())) < 80


@pytest.mark.parametrize("command", all_commands(), ids=lambda command: command.name)
def test_help_of_a_command_has_all_that_is_declared(command):
    text = help_of(command.name)
    words = " ".join(text.split())
    assert text.startswith(f"usage: spyglass {command.name}")
    assert command.help[1:] in words
    for each in (*command.operands, *command.options):
        assert each.help in words
        assert each.value in words
        for flag in each.flags:
            assert f" {flag}" in words
    assert ("--keepalive-timeout" in words) == command.settings
    assert f"  {command.name} " in help_of("")
