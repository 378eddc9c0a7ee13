"""Which paths another user could replace, and how files of other users are read."""

import os
import socket
import stat

import pytest

from spyglass.errors import ConfigError
from spyglass.ops.app import app_detection, app_interpreter, apps
from spyglass.ops.files import atomic_files, path_ownership
from spyglass.runtime import untrusted_files


@pytest.fixture
def foreign(monkeypatch):
    """Make these paths another user's, whichever user runs the test."""
    theirs = set()
    really = os.lstat

    def lstat(path):
        status = really(path)
        return os.stat_result((*status[:4], 4242, *status[5:])) if str(path) in theirs else status

    monkeypatch.setattr(path_ownership.os, "lstat", lstat)
    return lambda *paths: theirs.update(map(str, paths))


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "env").touch()
    return tmp_path


def test_paths_of_root_have_no_weakness(tree):
    assert path_ownership.weakness(f"{tree}/a/b/env") == ""
    assert path_ownership.weakness(f"{tree}/a/./b/../b/env") == ""
    assert path_ownership.weakness(f"{tree}/none/there") == ""


@pytest.mark.parametrize("weak", ["a", "a/b", "a/b/env"])
@pytest.mark.parametrize("mode", [0o020, 0o002, 0o1002])
def test_component_writable_by_others(tree, weak, mode):
    path = tree / weak
    path.chmod(stat.S_IMODE(path.stat().st_mode) | mode)
    assert path_ownership.weakness(f"{tree}/a/b/env").startswith(
        f"{path} is writable by other users (mode "
    )


@pytest.mark.parametrize("weak", ["a", "a/b", "a/b/env"])
def test_component_of_another_user(tree, foreign, weak):
    foreign(tree / weak)
    assert (
        path_ownership.weakness(f"{tree}/a/b/env")
        == f"{tree / weak} belongs to user 4242, which could replace it while root opens it"
    )


def test_links_are_checked_and_followed(tree, foreign):
    (tree / "way").symlink_to("a/b")
    (tree / "absolute").symlink_to(tree / "way" / "env")
    assert path_ownership.weakness(f"{tree}/absolute") == ""
    foreign(tree / "a")
    assert path_ownership.weakness(f"{tree}/absolute").startswith(f"{tree}/a belongs to")
    foreign(tree / "way")
    assert path_ownership.weakness(f"{tree}/absolute").startswith(f"{tree}/way belongs to")
    assert path_ownership.weakness(f"{tree}/way/../../a/b/env").startswith(
        f"{tree}/way belongs to"
    ), "a link's parent is that of its target"


def test_loop_of_links_ends(tree):
    (tree / "one").symlink_to("two")
    (tree / "two").symlink_to("one")
    assert "loop of symbolic links" in path_ownership.weakness(f"{tree}/one/x")


def test_only_foreign_links_matter_for_writable(tree, foreign):
    (tree / "link").symlink_to("a")
    foreign(tree / "a", tree / "a" / "b")
    assert path_ownership.foreign_link(f"{tree}/link/b") == ""
    foreign(tree / "link")
    assert path_ownership.foreign_link(f"{tree}/link/b") == f"{tree}/link"


# Reading


def a_pipe(path):
    os.mkfifo(path)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def a_directory(path):
    path.mkdir()


def a_device(path):
    path.symlink_to("/dev/zero")


def a_pipe_behind_a_link(path):
    os.mkfifo(f"{path}.pipe")
    path.symlink_to(f"{path}.pipe")


@pytest.mark.parametrize("put", [a_pipe, a_socket, a_directory, a_device, a_pipe_behind_a_link])
@pytest.mark.parametrize("links", [False, True])
@pytest.mark.timeout(20)
def test_only_regular_files_are_read(tmp_path, put, links):
    put(tmp_path / "file")
    with pytest.raises(OSError, match=r"regular|symbolic|No such device"):
        untrusted_files.read(str(tmp_path / "file"), 10, links=links)
    assert atomic_files.read_untrusted_or_empty(str(tmp_path / "file")) == ""


def test_reading_stops_at_the_limit(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    link.symlink_to(path)
    assert (
        untrusted_files.read(str(path), 3)
        == untrusted_files.read(str(link), 3, links=True)
        == b"\0\0\0"
    )
    assert len(atomic_files.read_untrusted_or_empty(str(link))) == atomic_files.UNTRUSTED_LIMIT
    with pytest.raises(OSError, match="symbolic"):
        untrusted_files.read(str(link), 3)


@pytest.mark.parametrize("put", [a_pipe, a_device, a_pipe_behind_a_link])
@pytest.mark.timeout(20)
def test_pyvenv_cfg_that_is_no_file(tmp_path, put):
    put(tmp_path / "pyvenv.cfg")
    with pytest.raises(ConfigError, match="not a virtual environment"):
        app_interpreter.version_in(str(tmp_path))


@pytest.mark.parametrize("put", [a_pipe, a_device])
@pytest.mark.timeout(20)
def test_sources_that_are_no_files(tmp_path, put):
    for name in ("manage.py", "wsgi.py", "app.py"):
        put(tmp_path / name)
    assert app_detection.detect(str(tmp_path)).found == []


@pytest.mark.parametrize(
    "source",
    [
        "(" * 50_000,
        "-" * 500_000 + "1",
        "a." * 300_000 + "a",
        "app = '\\d'\n" * 1000,
        "x = 1\0",
        "a = " + "[" * 90,
    ],
)
def test_sources_that_cannot_be_parsed(tmp_path, source, capfd):
    (tmp_path / "app.py").write_text(source)
    found = [each.app for each in app_detection.detect(str(tmp_path)).found]
    assert found in ([], ["app:app"])
    assert capfd.readouterr() == ("", "")


def test_search_for_byte_code_is_bounded(tmp_path):
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "file").touch()
    (tmp_path / "cache").symlink_to("away")
    assert not atomic_files.contains_files(str(tmp_path / "cache"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "link").symlink_to("/")
    assert not atomic_files.contains_files(str(tmp_path / "deep"))
    (tmp_path / "deep" / "/".join("d" * 70)).mkdir(parents=True)
    assert atomic_files.contains_files(str(tmp_path / "deep")), "too deep to look at is not empty"
    for number in range(20):
        (tmp_path / "wide" / str(number)).mkdir(parents=True)
    assert not atomic_files.contains_files(str(tmp_path / "wide"), limit=20)
    assert len(list(atomic_files.walk_untrusted(str(tmp_path / "wide"), limit=20))) == 20
    assert len(list(atomic_files.walk_untrusted(str(tmp_path / "deep"), limit=1000))) == 67, (
        "a link, 65 directories, and None for the rest"
    )
    assert list(atomic_files.walk_untrusted(str(tmp_path / "cache"), limit=20)) == []
    assert atomic_files.contains_files(str(tmp_path / "wide"), limit=19), (
        "nor is what has too much in it"
    )


# An app's file


@pytest.fixture
def app(tmp_path, monkeypatch):
    monkeypatch.setattr("spyglass.config.settings.DIRECTORY", str(tmp_path / "etc"))
    monkeypatch.setattr("spyglass.ops.files.user_access.inaccessible", lambda who, wanted: {})
    (tmp_path / "etc").mkdir()
    (tmp_path / "srv").mkdir()

    def examined(text):
        (tmp_path / "etc" / "a.toml").write_text(f'directory = "{tmp_path}/srv"\n{text}\n')
        found = apps.read("a")
        apps.examine(found, [found])
        return found.faults

    return examined


@pytest.mark.parametrize(
    ("text", "weak", "says"),
    [
        (
            'environment_file = ".env"',
            "srv",
            "environment_file: {srv}/.env: {srv} belongs to user 4242",
        ),
        (
            'environment_file = ".env"',
            "srv/.env",
            "environment_file: {srv}/.env: {srv}/.env belongs to user 4242",
        ),
        (
            'credentials = {{ db = "{srv}/.env" }}',
            "srv",
            "credentials: db: {srv}/.env: {srv} belongs to user 4242",
        ),
        ('listen = "{srv}/a.sock"', "srv", "listen: {srv}/a.sock: {srv} belongs to user 4242"),
        ('writable = "link"', "srv/link", "writable: {srv}/link: {srv}/link is a symbolic link"),
        (
            'writable = ["media", "media/x"]',
            "",
            "writable: {srv}/media/x is in {srv}/media, which is writable already",
        ),
        (
            'credentials = {{ db = "{srv}/media" }}',
            "",
            "credentials: db: {srv}/media is not a file",
        ),
    ],
)
def test_files_that_systemd_opens_must_be_root_s(app, foreign, tmp_path, text, weak, says):
    srv = tmp_path / "srv"
    (srv / ".env").touch()
    (srv / "media" / "x").mkdir(parents=True)
    (srv / "link").symlink_to("media")
    if weak:
        assert app(text.format(srv=srv)) == []
        foreign(tmp_path / weak)
    [fault] = app(text.format(srv=srv))
    assert fault.startswith(f"{tmp_path}/etc/a.toml:2: {says.format(srv=srv)}")


@pytest.mark.parametrize("name", ["a.toml", "a.env"])
@pytest.mark.timeout(20)
def test_settings_directory_writable_by_others(app, tmp_path, name):
    etc = tmp_path / "etc"
    (etc / "a.env").touch()
    assert app("") == []
    (etc / name).chmod(0o664)
    [fault] = app("")
    assert fault.startswith(f"{etc}/{name}: {etc}/{name} is writable by other users")
    (etc / name).unlink()
    os.mkfifo(etc / name)
    found = apps.read("a")
    apps.examine(found, [found])
    assert found.faults == [f"{etc}/{name}: not a regular file"]
