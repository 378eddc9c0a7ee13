"""Guides for those who come from elsewhere leave nothing out."""

import json
import os
import pathlib
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from code_blocks import code_blocks
from gunicorn import config as gunicorn

from spyglass.config import command_line, foreign_names
from spyglass.config.settings import SETTINGS

ROOT = pathlib.Path(__file__).parents[2]
GUIDES = ROOT / "docs/guides"


def rows(guide, heading):
    """The left and the right column of the table below a heading."""
    lines = (
        (GUIDES / guide)
        .read_text("utf-8")
        .partition(f"## {heading}\n")[2]
        .partition("\n## ")[0]
        .splitlines()
    )
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in lines
        if line.startswith("| ")
    ][1:]


def test_every_option_of_gunicorn_has_a_word():
    options = {
        name
        for left, _ in rows("from-gunicorn.md", "Every option")
        for name in re.findall("`([a-z0-9_]+)`", left)
    }
    assert options == {setting.name for setting in gunicorn.KNOWN_SETTINGS}


def options_of_uvicorn():
    """As its --help lists them; of a pair with --no-, the first."""
    shown = subprocess.run(
        [sys.executable, "-m", "uvicorn", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1"},
    ).stdout
    return set(re.findall("^  --([a-z0-9-]+)", shown, re.MULTILINE)) - {"help", "version"}


def test_every_option_of_uvicorn_has_a_word():
    named = {
        name
        for left, _ in rows("from-uvicorn.md", "Every option")
        for name in re.findall("`([a-z0-9-]+)`", left)
    }
    assert named == options_of_uvicorn()


def test_every_option_of_gunicorn_s_uvicorn_worker_has_a_word():
    """What the worker takes from gunicorn's configuration, as its source has it."""
    (source,) = pathlib.Path(find_spec("uvicorn").origin).parent.glob("workers.py")
    used = set(re.findall(r"self\.cfg\.(\w+)", source.read_text("utf-8")))
    named = {
        name
        for left, _ in rows("from-uvicorn.md", "gunicorn with uvicorn's worker")
        for name in re.findall("`([a-z_]+)`", left)
    }
    assert used - {"settings"} <= named
    assert {"worker_class", "timeout", "max_requests"} <= named


def test_every_option_of_uvicorn_is_answered():
    options = {foreign_names.plain(name) for name in options_of_uvicorn()}
    assert options - set(SETTINGS) <= {*foreign_names.OURS, *foreign_names.NONE}


def test_they_name_settings_that_there_are():
    """What stands first in the right column is a setting, unless it is somebody else's
    word.
    """
    others = {"sync", "post_fork", "atexit"}
    for guide, heading in (
        ("from-gunicorn.md", "Every option"),
        ("from-uvicorn.md", "Every option"),
        ("from-uwsgi.md", "Every option that is often seen"),
    ):
        for _, right in rows(guide, heading):
            for name in re.findall(r"^`([a-z_]+)`", right):
                assert name in SETTINGS | dict.fromkeys(others), f"{guide}: {name}"


@pytest.mark.parametrize(
    ("guide", "heading"),
    [
        ("from-gunicorn.md", "Every option"),
        ("from-uvicorn.md", "Every option"),
        ("from-uwsgi.md", "Every option that is often seen"),
    ],
)
def test_message_about_an_unknown_setting_says_what_the_guide_says(guide, heading):
    """Of an option that the guide has, `spyglass check` knows the same counterpart."""
    for left, right in rows(guide, heading):
        names = re.findall("`([a-z][a-z0-9_-]*)`", left)
        settings = [name for name in re.findall("`([a-z_]+)", right) if name in SETTINGS]
        for name in map(foreign_names.plain, names):
            if name in foreign_names.OURS:
                assert foreign_names.OURS[name].partition(" = ")[0] in settings, name
            elif name not in SETTINGS:
                assert name in foreign_names.NONE, f"{guide}: {name}"
                assert not any(
                    right.startswith(f"`{setting}`") and setting not in foreign_names.NONE[name]
                    for setting in settings
                ), name


def test_every_option_of_gunicorn_is_answered():
    options = {setting.name for setting in gunicorn.KNOWN_SETTINGS}
    assert options - set(SETTINGS) <= {*foreign_names.OURS, *foreign_names.NONE}


def test_container_of_the_recipe_has_what_is_compiled_with_and_a_command_that_is_one():
    page = (ROOT / "docs/recipes.md").read_text("utf-8")
    [recipe] = [block.text for block in code_blocks(page) if block.language == "dockerfile"]
    packages = re.findall(r"install --yes --no-install-recommends (.*?) \\\n", recipe)
    needed = re.findall(r"^RUN_PACKAGES := (.*?) \\\n", (ROOT / "Makefile").read_text(), re.M)
    assert packages == needed
    name, *words = json.loads(re.findall(r"^CMD (.*)$", recipe, re.M)[0])
    parsed = command_line.parse(words)
    assert (name, parsed.command, parsed.binds) == ("spyglass", "lookout", ["0.0.0.0:8000"])
