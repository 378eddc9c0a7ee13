"""The settings in force, as root's commands find them at a real Master's descriptors."""

import os

from spyglass.master.settings_record import NAME, parse

from .processes import members
from .visitor import visit


def record_of(pid):
    """What the process `pid` has recorded, None if it has no record."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        try:
            if os.readlink(path).startswith(f"/memfd:{NAME} "):
                with open(path, errors="surrogateescape") as stream:
                    return parse(stream.read())
        except FileNotFoundError:
            pass  # closed meanwhile
    return None


def test_the_record_follows_what_is_in_force(systemd, tmp_path):
    file = tmp_path / "site.toml"
    file.write_text("workers = 2\nidle_timeout = 60\n")
    life = systemd("plain:app", arguments=("--config", str(file)))
    visit(life.address, "/")
    life.until(lambda: record_of(life.run.pid), "nothing is recorded")
    assert record_of(life.run.pid).settings["workers"] == 2

    # When a reload has ended, its settings are recorded; those of one that fails are
    # not.
    file.write_text("workers = 3\nidle_timeout = 60\n")
    assert life.reload().wait(30) == 0
    assert record_of(life.run.pid).settings["workers"] == 3
    file.write_text("workers = 4\nidle_timeout = 60\napp = 1\n")
    assert life.reload().wait(30) != 0
    assert record_of(life.run.pid).settings["workers"] == 3

    # The processes of a later generation are forked with it, and close it.
    others = members(life.run.pid, but=life.run.pid)
    assert len(others) >= 4
    assert [each for each in others if record_of(each.pid)] == []
