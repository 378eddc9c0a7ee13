"""Attempts to load the app that failed: what the journal gets, and when another attempt
is worth making.
"""

import os
import time

import pytest

from spyglass.errors import LoadError
from spyglass.master.failed_loads import FailedLoads, Trouble

from .fake_log import FakeLog


@pytest.fixture
def app(tmp_path):
    path = tmp_path / "app.py"
    path.write_text("import blgo")
    os.utime(path, (1000, 1000))
    return path


def trouble(*files, count=1, began=2000.0, now=50.0):
    return Trouble(LoadError("boom", files=[str(file) for file in files]), count, began, now)


def test_another_try_waits_for_its_pause():
    first, third = trouble(), trouble(count=3)
    assert [first.may_retry(now) for now in (50.0, 50.4, 50.5)] == [False, False, True]
    assert [third.may_retry(now) for now in (50.5, 51.9, 52.0)] == [False, False, True]


def write_longer(path):
    path.write_text("import blog  # mended")
    os.utime(path, (1000, 1000))


def replace_with_alike(path):
    """As editors and deployments do it: a new file of the same size and time under the
    old name.
    """
    other = path.with_suffix(".new")
    other.write_text("import blog")
    os.utime(other, (1000, 1000))
    other.rename(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.utime(path, (3000, 3000)),
        lambda path: os.utime(path, (999, 999)),
        write_longer,
        replace_with_alike,
        os.unlink,
    ],
    ids=["touched", "set back", "longer", "replaced", "deleted"],
)
def test_a_file_that_changes_is_worth_a_try_at_once(app, change):
    broken = trouble("/proc/nonexistent", app)
    assert not broken.may_retry(50.0)
    change(app)
    assert broken.may_retry(50.0)


def test_what_cannot_be_the_name_of_a_file_is_not_looked_at(app):
    """An error may say that it comes from anywhere."""
    broken = trouble(
        "a\0b", "\ud800", "x" * 100_000, app, *[f"/{number}" for number in range(1000)]
    )
    assert str(app) in broken.error.files
    assert len(broken.error.files) <= 256
    broken.error.files.append("a\0b")
    assert not Trouble(broken.error, 1, 2000.0, 50.0).may_retry(50.0)


def test_so_is_one_that_appears(tmp_path):
    broken = trouble(tmp_path / "blgo.py")
    assert not broken.may_retry(50.0)
    (tmp_path / "blgo.py").write_text("")
    assert broken.may_retry(50.0)


@pytest.mark.parametrize(
    ("what", "mtime", "at_once"),
    [
        ("before the try", 1999, False),
        ("while it ran", 2001, True),
        ("by a clock that is wrong", time.time() + 3600, False),
    ],
    ids=["before", "during", "wrong-clock"],
)
def test_a_file_that_was_mended_while_the_try_still_ran(app, what, mtime, at_once):
    """The app read the old one and its failure was noticed after the new one was
    written: no further change will come.
    """
    os.utime(app, (mtime, mtime))
    assert trouble(app).may_retry(50.0) is at_once


# What the journal gets


def test_the_same_failure_again_gets_one_line_until_the_app_has_answered():
    journal = FakeLog()
    loads = FailedLoads(journal)
    for _ in range(2):
        loads.add("failing", LoadError("boom", "traceback"))
    assert journal.lines == ["failing: boom\ntraceback", "still failing: boom"]
    assert (loads.in_a_row, loads.total) == (2, 2)
    loads.forget()
    loads.add("failing", LoadError("boom", "traceback"))
    assert journal.lines[2:] == ["failing: boom\ntraceback"]
    assert (loads.in_a_row, loads.total) == (1, 3)


def test_each_reload_that_fails_gets_its_details_and_is_not_one_in_a_row():
    journal = FakeLog()
    loads = FailedLoads(journal)
    for _ in range(2):
        loads.add_requested("reload failed", LoadError("boom", "traceback"))
    assert journal.lines == ["reload failed: boom\ntraceback"] * 2
    assert (loads.in_a_row, loads.total) == (0, 2)


def test_details_that_the_journal_has_are_not_repeated():
    journal = FakeLog()
    error = LoadError("boom", "traceback")
    error.told = True
    FailedLoads(journal).add("failing", error)
    assert journal.lines == ["failing: boom"]
