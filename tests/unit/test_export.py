"""The new file of `spyglass export`, in a directory that another user may change."""

import pytest

from spyglass.errors import ConfigError
from spyglass.ops.commands import export


def test_a_failure_deletes_the_new_file_and_no_other(tmp_path):
    place, other = tmp_path / "place", tmp_path / "other"
    place.mkdir()
    other.mkdir()
    (other / "x.tar").write_text("another")
    with pytest.raises(RuntimeError), export._output(str(place / "x.tar")):  # noqa: PT012
        place.rename(tmp_path / "moved")
        place.symlink_to(other)
        raise RuntimeError
    assert (other / "x.tar").read_text() == "another"
    assert list((tmp_path / "moved").iterdir()) == []


def test_a_file_that_is_gone_already_is_no_second_failure(tmp_path):
    with pytest.raises(RuntimeError), export._output(str(tmp_path / "x.tar")):  # noqa: PT012
        (tmp_path / "x.tar").unlink()
        raise RuntimeError


@pytest.mark.parametrize("link", [False, True])
def test_nothing_is_overwritten(tmp_path, link):
    (tmp_path / "kept").write_text("kept")
    path = tmp_path / ("link" if link else "kept")
    if link:
        path.symlink_to("nowhere")
    with (
        pytest.raises(ConfigError, match="cannot be created: File exists"),
        export._output(str(path)),
    ):
        pass
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted({"kept", path.name})


def test_it_is_for_root_alone_and_complete(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with export._output("x.tar") as stream:
        stream.write(b"all")
    assert (tmp_path / "x.tar").read_bytes() == b"all"
    assert (tmp_path / "x.tar").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", "missing/x.tar", "kept/x.tar", "dir/"])
def test_what_cannot_be_made_is_said(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "dir").mkdir()
    with pytest.raises(ConfigError, match="cannot be created: "), export._output(name):
        pass
