"""What a rename makes of texts that name the old app, and steps that are all undone."""

import os
import signal

import pytest

from spyglass.ops import command_table
from spyglass.ops.files import atomic_files
from spyglass.ops.guards.undo import UndoneError, undone_on_failure
from spyglass.ops.move import app_footprint
from spyglass.ops.move.app_footprint import renamed
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import unit_directives


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ('listen = "/run/spyglass/blog.sock"', 'listen = "/run/spyglass/news.sock"'),
        ('p = "/etc/spyglass/blog.password"', 'p = "/etc/spyglass/news.password"'),
        ("DB=/var/lib/spyglass/blog/db", "DB=/var/lib/spyglass/news/db"),
        ("/var/lib/private/spyglass/blog", "/var/lib/private/spyglass/news"),
        ("/var/cache/spyglass/blog:", "/var/cache/spyglass/news:"),
        ("After=spyglass@blog.socket", "After=spyglass@news.socket"),
        ("# then `spyglass apply blog`", "# then `spyglass apply news`"),
        ("# Settings of the app blog, for", "# Settings of the app news, for"),
        # What has the name by chance stays.
        ('app = "blog.wsgi:application"', None),
        ('directory = "/srv/blog"', None),
        ('p = "/etc/spyglass/blog2.password"', None),
        ('p = "/etc/spyglass/blog-old.password"', None),
        ('p = "/etc/spyglass/my-blog.password"', None),
        ('p = "/srv/etc/spyglass/blog.password"', None),
        ('p = "/run/spyglass/blog2.sock"', None),
        ("spyglass@blogs.service", None),
        ("xspyglass@blog.service", None),
        ("/var/lib/spyglass/shop/blog", None),
    ],
)
def test_only_what_belongs_to_the_app_by_its_name_is_replaced(text, then):
    assert renamed(text, "blog", "news") == (text if then is None else then)


def test_a_name_with_marks_of_patterns_is_taken_literally():
    assert renamed("/etc/spyglass/1.env /etc/spyglass/a-b.env", "a-b", "1") == (
        "/etc/spyglass/1.env /etc/spyglass/1.env"
    )


def test_masks_are_those_of_a_boot_and_those_that_last(tmp_path, monkeypatch):
    lasting, passing = tmp_path / "etc", tmp_path / "run"
    monkeypatch.setattr(unit_directives, "DIRECTORY", str(lasting))
    monkeypatch.setattr(systemctl, "RUNTIME_UNITS", str(passing))
    for directory in (lasting, passing):
        directory.mkdir()
        (directory / "spyglass@a.socket").symlink_to("/dev/null")
        (directory / "spyglass@b.socket").symlink_to("/elsewhere")  # the administrator's
        (directory / "spyglass@c.socket").touch()
    assert app_footprint.masks("a") == [f"{path}/spyglass@a.socket" for path in (lasting, passing)]
    assert app_footprint.masks("b") == app_footprint.masks("c") == []
    (lasting / "spyglass@a.socket").unlink()
    assert app_footprint.masks("a") == [f"{passing}/spyglass@a.socket"]


def test_what_is_masked_until_the_next_boot_has_a_command_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(systemctl, "RUNTIME_UNITS", str(tmp_path))
    unit = "spyglass@a.service"
    assert systemctl.unmask_command(unit) == f"systemctl unmask {unit}"
    (tmp_path / unit).symlink_to("/dev/null")
    assert systemctl.unmask_command(unit) == f"systemctl unmask --runtime {unit}"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    return tmp_path


def state(directory):
    return {path.name: path.read_text() for path in directory.iterdir()}


@pytest.mark.parametrize("end", [OSError(28, "No space left", "/x"), KeyboardInterrupt()])
def test_all_steps_are_undone_in_reverse(files, end):
    with pytest.raises(UndoneError, match="all changes were undone"), undone_on_failure() as steps:  # noqa: PT012
        steps.move(f"{files}/a", f"{files}/c")
        steps.write(f"{files}/c", "changed")
        steps.write(f"{files}/b", "")
        steps.write(f"{files}/new", "new")
        assert state(files) == {"c": "changed", "new": "new"}
        raise end
    assert state(files) == {"a": "a", "b": "b"}


def test_steps_that_succeed_stay(files):
    with undone_on_failure() as steps:
        steps.move(f"{files}/a", f"{files}/c")
    assert state(files) == {"c": "a", "b": "b"}


def test_nothing_is_moved_onto_another_file(files):
    with pytest.raises(UndoneError, match="File exists"), undone_on_failure() as steps:
        steps.move(f"{files}/a", f"{files}/b")
    assert state(files) == {"a": "a", "b": "b"}


def test_what_cannot_be_undone_is_named_and_the_rest_is_undone(files):
    def fail():
        raise OSError(1, "Operation not permitted")

    with (  # noqa: PT012
        pytest.raises(UndoneError, match="boom; the door could not be shut: Operation not"),
        undone_on_failure() as steps,
    ):
        steps.move(f"{files}/a", f"{files}/c")
        steps.begin("the door could not be shut", fail)
        raise RuntimeError("boom")
    assert state(files) == {"a": "a", "b": "b"}


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("rename ../x a", 78),
        ("export ../x", 78),
        ("remove ../x", 78),
        ("run ../x ls", 125),
        ("shell ../x", 125),
    ],
)
def test_what_cannot_be_a_name_is_called_a_name(capsys, monkeypatch, line, status):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert command_table.run(line.split()) == status
    assert "not a valid app name: '../x': expected 1 to 22 of a-z" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_undoes_all_and_a_second_one_does_not_disturb_that(files, capsys, number):
    before = signal.getsignal(signal.SIGINT)

    def disturbed():
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), each)

    with pytest.raises(SystemExit) as ended, undone_on_failure() as steps:  # noqa: PT012
        steps.move(f"{files}/a", f"{files}/c")
        steps.begin("disturbed", disturbed)
        os.kill(os.getpid(), number)
    assert ended.value.code == 128 + number
    assert state(files) == {"a": "a", "b": "b"}
    assert capsys.readouterr().err == "spyglass: interrupted; all changes were undone\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_on_a_full_disk_nothing_has_changed_and_that_is_said(files, monkeypatch):
    before = state(files)

    def full(path, *_args, **_more):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(atomic_files, "write", full)
    with (  # noqa: PT012
        pytest.raises(UndoneError, match=r"No space left on device; all changes were undone$"),
        undone_on_failure() as steps,
    ):
        steps.move(f"{files}/a", f"{files}/c")
        steps.write(f"{files}/b", "then")
    assert state(files) == before
