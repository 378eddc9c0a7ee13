"""Locks of the administrator's commands: one runs at a time, and other users cannot
take them.
"""

import fcntl
import os
import threading

import pytest

from spyglass.errors import StartError
from spyglass.ops import command_table
from spyglass.ops.guards import locks


def test_commands_run_one_at_a_time(capfd, monkeypatch):
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


def test_waiting_for_a_lock_times_out(monkeypatch):
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


def test_other_users_cannot_open_locks():
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
def test_directory_writable_by_others_is_rejected(tmp_path, monkeypatch, put):
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


def test_locks_of_other_users_do_not_block_commands(tmp_path, monkeypatch, capsys):
    """Any user can open /etc/spyglass and lock it."""
    monkeypatch.setattr("spyglass.config.settings.DIRECTORY", str(tmp_path))
    (tmp_path / "a.toml").write_text("listen = -1\n")
    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        assert command_table.run(["apply", "--dry-run", "a"]) in (69, 78)
    finally:
        os.close(fd)
