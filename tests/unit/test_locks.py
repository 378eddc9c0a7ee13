"""Locks of the administrator's commands: one at a time, and nobody else can take
them.
"""

import fcntl
import os
import threading

import pytest

from spyglass.errors import StartError
from spyglass.ops import command_table, locks


def test_one_at_a_time(capfd, monkeypatch):
    monkeypatch.setattr(locks, "_NOTICE_AFTER", 0.0)
    order = []
    waits, told = threading.Event(), locks.time.sleep

    def sleep(seconds):
        waits.set()
        told(seconds)

    monkeypatch.setattr(locks.time, "sleep", sleep)

    def second():
        with locks.held("units", "changing units"):
            order.append("second")

    with locks.held("units", "changing units"), locks.held("another", "checking a"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert capfd.readouterr().err == "waiting: another command is changing units\n"


def test_it_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(locks, "_TIMEOUT", 0.0)
    said = r"another command has been changing units for 0 s: find the process with fuser -v .*/units, then retry"
    with (
        locks.held("units", "changing units"),
        pytest.raises(locks.LockedError, match=said),
        locks.held("units", "changing units"),
    ):
        pytest.fail("two at a time")
    with locks.held("units", "changing units"):
        pass


def test_nobody_else_can_open_them():
    with locks.held("units", "changing units"):
        assert os.stat(locks.DIRECTORY).st_mode & 0o777 == 0o700
        assert os.stat(f"{locks.DIRECTORY}/units").st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.symlink_to("/etc"),
        lambda path: path.touch(),
        lambda path: (path.mkdir(), path.chmod(0o777)),
    ],
)
def test_a_place_that_is_not_roots_alone_is_none(tmp_path, monkeypatch, put):
    path = tmp_path / "locks"
    put(path)
    if path.is_symlink():
        path.unlink()
        (tmp_path / "theirs").mkdir(mode=0o777)
        (tmp_path / "theirs").chmod(0o777)
        path.symlink_to("theirs")
    monkeypatch.setattr(locks, "DIRECTORY", str(path))
    with pytest.raises(StartError), locks.held("units", "changing units"):
        pytest.fail("with a lock that others may take")


def test_what_others_lock_holds_nobody_up(tmp_path, monkeypatch, capsys):
    """Any user can open /etc/spyglass and what is in it."""
    monkeypatch.setattr("spyglass.config.settings.DIRECTORY", str(tmp_path))
    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        assert command_table.run(["apply", "--dry-run", "a"]) in (69, 78)
    finally:
        os.close(fd)
