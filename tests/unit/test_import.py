"""What `spyglass import` takes of an archive, before it changes anything."""

import argparse
import importlib
import io
import os

import pytest

from spyglass.config import settings
from spyglass.errors import ConfigError
from spyglass.ops.files import path_ownership
from spyglass.ops.guards import locks
from spyglass.ops.guards.undo import Steps
from spyglass.ops.move import app_archive, app_footprint, rename_plan
from spyglass.ops.move.app_archive import ArchiveError, Manifest, Member, Writer, manifest_text
from spyglass.ops.move.stored_data import StoredDataError, Unpacker
from spyglass.ops.status import state_directory

importing = importlib.import_module("spyglass.ops.commands.import")
TOML = b'app = "blog:app"\nlisten = "/run/spyglass/blog.sock"\n'


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    for name in ("lib", "run", "etc"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(state_directory, "STATE", str(tmp_path / "lib"))
    monkeypatch.setattr(locks, "DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(app_footprint, "taken", lambda name, dynamic: [])
    monkeypatch.setattr(path_ownership, "weakness", lambda path: "")
    return tmp_path


def archive(
    *texts, name="blog", data=True, end=True, after=(), entries=2, size=3, first="manifest.json"
):
    """An archive with these (name, text)."""
    stream = io.BytesIO()
    made = Writer(stream, compressed=True)
    manifest = Manifest(name, "1", "2026", "host", entries, size)
    made.add_text(first, manifest_text(manifest), 0)
    for each, text in texts:
        made.add_text(each, text, 0)
    if data:
        made.add(Member("state", "directory", 0o750, 0, 0))
        made.add(Member("state/db", "file", 0o600, 3, 0), io.BytesIO(b"abc"))
    for each, text in after:
        made.add_text(each, text, 0)
    if end:
        made.close()
    else:
        made._tar.close()
        made._output.finish()
    stream.seek(0)
    return stream


def read(stream, **options):
    steps = Steps()
    chosen = argparse.Namespace(name=None, drop_ins=False, no_drop_ins=False)
    for key, value in options.items():
        setattr(chosen, key, value)
    try:
        return importing._read(stream, chosen, steps)
    finally:
        assert steps.undo() == []
        assert not steps.changed


SETTINGS = ("settings.toml", TOML)
DROP_IN = ("drop-ins/service/own.conf", b"[Service]\nUMask=0027\n")


def test_all_of_an_app_is_read():
    made = read(archive(SETTINGS, ("files/env", b"A=1\n"), ("files/key", b"\xff\0"), DROP_IN), drop_ins=True)  # fmt: skip
    assert made.files == {
        f"{settings.DIRECTORY}/blog.toml": (TOML, 0o644),
        f"{settings.DIRECTORY}/blog.env": (b"A=1\n", 0o600),
        f"{settings.DIRECTORY}/blog.key": (b"\xff\0", 0o600),
    }
    assert made.drop_ins == {"/etc/systemd/system/spyglass@blog.service.d/own.conf": DROP_IN[1]}
    assert made.config.app == "blog:app"
    assert (made.unpacker.entries, made.unpacker.bytes) == (2, 3)


def test_another_name_has_paths_of_its_own():
    made = read(archive(SETTINGS, ("files/key", b"/etc/spyglass/blog.key")), name="news")
    text, _ = made.files[f"{settings.DIRECTORY}/news.toml"]
    assert text == b'app = "blog:app"\nlisten = "/run/spyglass/news.sock"\n'
    assert made.files[f"{settings.DIRECTORY}/news.key"][0] == b"/etc/spyglass/blog.key"  # a secret
    assert made.target.endswith("/lib/private/spyglass/news")


def test_an_app_that_has_stored_nothing():
    made = read(archive(SETTINGS, data=False))
    assert (made.unpacker, made.staged) == (None, "")


@pytest.mark.parametrize(
    ("stream", "error", "why"),
    [
        (archive(data=False), ArchiveError, "has no settings"),
        (archive(("settings.toml", b"app = "), data=False), ConfigError, "settings.toml:1"),
        (archive(("settings.toml", b"wrokers = 3\n")), ConfigError, "settings.toml:1: .*wrokers"),
        (archive(("settings.toml", b"\xff")), ConfigError, "not UTF-8"),
        (archive(SETTINGS, ("files/env", b"A=\xff\n")), ArchiveError, "files/env: not UTF-8"),
        (archive(SETTINGS, SETTINGS), ArchiveError, "unexpected"),
        (archive(SETTINGS, ("files/toml", TOML)), ArchiveError, "files/toml: unexpected"),
        (archive(SETTINGS, ("files/a/b", b"x")), ArchiveError, "files/a/b: unexpected"),
        (archive(SETTINGS, ("files/.hidden", b"x")), ArchiveError, "unexpected"),
        (archive(SETTINGS, ("files/a b", b"x")), ArchiveError, "unexpected"),
        (archive(SETTINGS, ("other", b"x")), ArchiveError, "other: unexpected"),
        (archive(SETTINGS, ("drop-ins/timer/x.conf", b"x")), ArchiveError, "unexpected"),
        (archive(SETTINGS, ("drop-ins/service/x", b"x")), ArchiveError, "unexpected"),
        (archive(SETTINGS, ("drop-ins/service/10-spyglass.conf", b"x")), ArchiveError, "apply' makes"),
        (archive(SETTINGS, ("files/big", b"x" * (app_archive.TEXT_LIMIT + 1))), ArchiveError, "not a file of at most"),
        (archive(SETTINGS, *[(f"files/f{n}", b"x") for n in range(200)]), ArchiveError, "unexpected"),
        (archive(SETTINGS, DROP_IN), ConfigError, "with --drop-ins or --no-drop-ins"),
        (archive(SETTINGS, after=[("files/late", b"x")]), ArchiveError, "unexpected"),
        (archive(SETTINGS, end=False), ArchiveError, "cut off"),
        (archive(SETTINGS, end=False, after=[("end.json", b'{"entries": 3, "bytes": 3}')]), ArchiveError, "not complete"),
        (archive(SETTINGS, after=[("end.json", b'{"entries": 2, "bytes": 3}')]), ArchiveError, "after the end"),
        (archive(SETTINGS, size=1 << 60), StoredDataError, "not enough space"),
        (archive(SETTINGS, first="settings.toml"), ArchiveError, "not an archive"),
        (archive(SETTINGS, name="../x"), ConfigError, "not a valid app name"),
        (archive(SETTINGS, name="_default"), ConfigError, "not a valid app name"),
    ],
)  # fmt: skip
def test_what_is_refused(stream, error, why, places):
    stream.seek(0)
    with pytest.raises(error, match=why) as caught:
        read(stream)
    assert str(caught.value).isprintable()
    files = [path for path in places.rglob("*") if path.is_file()]
    assert [path for path in files if path != places / "run/import"] == []  # a lock
    assert list(places.rglob(".import-*")) == []


def test_a_name_that_is_taken_is_refused_before_anything_is_unpacked(monkeypatch, places):
    monkeypatch.setattr(app_footprint, "taken", lambda name, dynamic: ["/etc/spyglass/blog.env"])
    with pytest.raises(ConfigError, match=r"already: /etc/spyglass/blog\.env.*--name NEW"):
        read(archive(SETTINGS))
    assert list((places / "lib").iterdir()) == []


def test_what_a_killed_import_has_left_is_swept(places):
    left = places / "lib/private/spyglass/.import-old/state"
    left.mkdir(parents=True)
    (left / "db").write_text("old")
    read(archive(SETTINGS))
    assert list((places / "lib/private/spyglass").iterdir()) == []


def test_two_commands_that_judge_settings_at_once_do_not_mix_them(monkeypatch):
    load = settings.load

    def disturbed(*args, **more):
        monkeypatch.setattr(settings, "load", load)
        child = os.fork()
        if not child:
            os._exit(rename_plan.parsed('user = "other"\n', "theirs").user != "other")
        assert os.waitpid(child, 0)[1] == 0
        return load(*args, **more)

    monkeypatch.setattr(settings, "load", disturbed)
    assert rename_plan.parsed('user = "one"\n', "ours").user == "one"


def test_names_in_the_report_make_no_lines(monkeypatch, capsys):
    link = "../../x\nFORGED: all is well"
    made = importing.Import(Manifest("blog", "1", "2026", "host", 2, 0), "blog")
    made.unpacker = Unpacker("/nowhere", (0, 0))
    made.unpacker.links_out = [f"state/l -> {link}"]
    monkeypatch.setattr(importing.apply_plan, "plan", lambda names: ([], []))
    importing._report(made)
    assert not [line for line in capsys.readouterr().out.split("\n") if line.startswith("FORGED")]


def test_a_closed_stdin_is_said():
    class Closed(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, _buffer):
            raise OSError(9, "Bad file descriptor")

    with pytest.raises(ArchiveError, match="cannot be read: Bad file descriptor"):
        read(Closed())
