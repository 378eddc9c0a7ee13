"""The man pages from packaging/manual: they are complete, and the tools that check man
pages find no fault.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from spyglass import __version__
from spyglass.config import setting_errors, settings
from spyglass.config.command_line import SERVER_COMMANDS
from spyglass.config.setting_types import Unit
from spyglass.ops import command_table

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ["spyglass.1", "spyglass.toml.5", "spyglass@.service.8"]
ENVIRON = {
    **os.environ,
    "SOURCE_DATE_EPOCH": "1700000000",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": "C.UTF-8",
    "MANWIDTH": "200",
}


# That a page must not say what it belongs to is a custom of NetBSD's; what it refers to
# may be a page of a package that is not here.
NO_FAULT = (
    "operating system explicitly specified",
    "outdated mandoc.db",
    "referenced manual not found",
)


def make(output):
    # As a package's build has it: no packages but Python's own.
    subprocess.run(
        [sys.executable, "-S", ROOT / "packaging" / "manual", output],
        check=True,
        env=ENVIRON,
        timeout=60,
    )
    return output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("manual"))


def shown(page):
    """What a reader sees, in one line."""
    text = subprocess.run(
        ["man", "-P", "cat", "-l", page],
        check=True,
        capture_output=True,
        text=True,
        env=ENVIRON,
        timeout=60,
    ).stdout
    # Long words may be divided; bold and underlined letters are said twice on a
    # typewriter.
    return " ".join(re.sub(".\x08", "", re.sub("\u2010\n *", "", text)).split())


def test_all_pages_are_made(made):
    assert set(NAMES) <= set(os.listdir(made))


@pytest.mark.parametrize("name", NAMES)
def test_mandoc_finds_no_fault(made, name):
    said = subprocess.run(
        ["mandoc", "-Tlint", made / name], capture_output=True, text=True, env=ENVIRON, timeout=60
    ).stdout
    assert [line for line in said.splitlines() if not any(text in line for text in NO_FAULT)] == []


@pytest.mark.parametrize("name", NAMES)
def test_groff_finds_no_fault(made, name):
    """With the options of lintian."""
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", made / name]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**ENVIRON, "MANWIDTH": "80"}, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_all_placeholders_are_filled(made, name):
    text = (made / name).read_text()
    assert re.findall(r"@[A-Z]+.*@", text) == []
    assert text.startswith(".Dd November 14, 2023\n")
    assert f".Os Spyglass {__version__}\n" in text


def test_two_builds_give_the_same_bytes(made, tmp_path):
    again = make(tmp_path)
    assert [(again / name).read_bytes() for name in NAMES] == [
        (made / name).read_bytes() for name in NAMES
    ]


def test_every_setting_has_its_type_and_default(made):
    text = shown(made / "spyglass.toml.5")
    options = shown(made / "spyglass.1")
    for setting in settings.SETTINGS.values():
        meaning = " ".join(setting.meaning.replace("`", "").split())[1:]  # it begins with a capital
        assert (
            f"{meaning}. ({setting.kind}; default {setting_errors.default_text(setting)})" in text
        )
        if not isinstance(setting, Unit):
            assert meaning in options
            assert f" {setting.option} " in options.replace(",", " ")


def test_every_command_has_all_its_options(made):
    text = shown(made / "spyglass.1").replace(",", " ")
    commands_told = text[text.index(" COMMANDS ") :]
    for name in (*SERVER_COMMANDS, *command_table.COMMANDS):
        assert f"spyglass {name}" in text
        assert f" {name} " in commands_told
    for name in command_table.COMMANDS:
        for action in command_table.parser(name)._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert f" {option} " in commands_told, f"{name} {option}"
