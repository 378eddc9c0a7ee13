"""Files that are replaced atomically, and their diffs."""

import io
import os
import stat

import pytest

from spyglass.ops.files import atomic_files


def test_file_is_written_whole_and_world_readable(tmp_path):
    path = tmp_path / "new" / "a.conf"
    old_umask = os.umask(0o077)
    try:
        atomic_files.write(str(path), "é\n")
    finally:
        os.umask(old_umask)
    assert path.read_text("utf-8") == atomic_files.read(str(path)) == "é\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    atomic_files.write(str(path), "b\n")
    assert [entry.read_text() for entry in path.parent.iterdir()] == ["b\n"]


def test_empty_text_removes_file_and_directory(tmp_path):
    path, other = tmp_path / "d" / "a.conf", tmp_path / "d" / "b.conf"
    atomic_files.write(str(path), "a\n")
    other.touch()
    atomic_files.write(str(path), "")
    assert list(path.parent.iterdir()) == [other]
    other.unlink()
    atomic_files.write(str(path), "a\n")
    atomic_files.write(str(path), "")
    assert list(tmp_path.iterdir()) == []
    atomic_files.write(str(path), "")
    assert atomic_files.read(str(path)) == ""


def test_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "a.conf"
    atomic_files.write(str(path), "a\n")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_files.write(str(path), "b\n")
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["a\n"]


def test_new_file_does_not_replace_one(tmp_path):
    path = tmp_path / "a.toml"
    atomic_files.write(str(path), "a\n", new=True)
    with pytest.raises(FileExistsError):
        atomic_files.write(str(path), "b\n", new=True)
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["a\n"]


def test_unified_diff(tmp_path):
    changed, made, gone = (str(tmp_path / name) for name in ("changed", "made", "gone"))
    atomic_files.write(changed, "a\nb\n")
    atomic_files.write(gone, "a\n")
    assert atomic_files.unified_diff({changed: "a\nc\n", made: "a\n", gone: ""}) == [
        *(f"--- {changed}", f"+++ {changed}", "@@ -1,2 +1,2 @@", " a", "-b", "+c"),
        *("--- /dev/null", f"+++ {made}", "@@ -0,0 +1 @@", "+a"),
        *(f"--- {gone}", "+++ /dev/null", "@@ -1 +0,0 @@", "-a"),
    ]
    assert atomic_files.unified_diff({changed: "a\nb\n"}) == []


def test_invalid_utf8_is_preserved_and_printable(tmp_path):
    path = tmp_path / "a.conf"
    path.write_bytes(b"caf\xe9\n")
    atomic_files.write(str(path), atomic_files.read(str(path)) + "b\n")
    assert path.read_bytes() == b"caf\xe9\nb\n"
    assert "-caf�" in atomic_files.unified_diff({str(path): ""})


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "colours"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_diff_is_coloured_in_terminals_only(monkeypatch, stream, environ, colours):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    shown = stream()
    atomic_files.print_diff(["--- a", "+++ b", "@@ -1 +1 @@", " same", "-a", "+b"], shown)
    plain = "--- a\n+++ b\n@@ -1 +1 @@\n same\n-a\n+b\n"
    coloured = "\033[1m--- a\033[m\n\033[1m+++ b\033[m\n\033[36m@@ -1 +1 @@\033[m\n same\n\033[31m-a\033[m\n\033[32m+b\033[m\n"
    assert shown.getvalue() == (coloured if colours else plain)


@pytest.mark.parametrize("text", ["x", ""])
def test_error_names_the_file_that_was_to_be_written(tmp_path, text):
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(OSError, match=r"/file'$") as caught:
        atomic_files.write(str(path), text)
    assert caught.value.filename == str(path)
    path.rmdir()
    path.write_text("x")
    with pytest.raises(FileExistsError):
        atomic_files.write(str(path), "y", new=True)
