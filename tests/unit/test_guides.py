"""Guides for those who come from elsewhere leave nothing out."""

import pathlib
import re

from gunicorn import config as gunicorn

from spyglass.config.settings import SETTINGS

GUIDES = pathlib.Path(__file__).parents[2] / "docs/guides"


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


def test_they_name_settings_that_there_are():
    """What stands first in the right column is a setting, unless it is somebody else's
    word.
    """
    others = {"sync", "post_fork", "atexit"}
    for guide, heading in (
        ("from-gunicorn.md", "Every option"),
        ("from-uwsgi.md", "Every option that is often seen"),
    ):
        for _, right in rows(guide, heading):
            for name in re.findall(r"^`([a-z_]+)`", right):
                assert name in SETTINGS | dict.fromkeys(others), f"{guide}: {name}"
