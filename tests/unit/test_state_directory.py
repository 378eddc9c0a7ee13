"""What is wrong with an app's directories: dangling links, two directories of one app.
Owners: tests/system/test_state.py.
"""

import pytest

from spyglass.ops.status import state_directory


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(state_directory, "STATE", str(tmp_path / "lib"))
    monkeypatch.setattr(state_directory, "CACHE", str(tmp_path / "cache"))
    for base in ("lib", "cache"):
        (tmp_path / base / "private" / "spyglass" / "blog").mkdir(parents=True)
        (tmp_path / base / "spyglass").mkdir()
        (tmp_path / base / "spyglass" / "blog").symlink_to("../private/spyglass/blog")
    return tmp_path


def test_directories_as_systemd_makes_them(places):
    assert state_directory.examine("blog", "") == []
    assert state_directory.examine("new", "") == []
    assert state_directory.examine("blog", "root") == []
    assert state_directory.examine("blog", "no-such-user") == []


def test_dangling_link_is_found(places):
    target = places / "lib" / "private" / "spyglass" / "blog"
    target.rmdir()
    [finding] = state_directory.examine("blog", "")
    assert finding.what == f"{places}/lib/spyglass/blog is a link to {target}, which does not exist"
    assert (finding.grave, finding.cure) == (True, [f"rm {places}/lib/spyglass/blog"])
    (places / "lib" / "spyglass" / "blog").unlink()
    assert state_directory.examine("blog", "") == []


@pytest.mark.parametrize(("base", "cure"), [("lib", "mv {0} {0}.old"), ("cache", "rm -r {0}")])
def test_directory_instead_of_the_link_is_found(places, base, cure):
    public = places / base / "spyglass" / "blog"
    public.unlink()
    public.mkdir()
    private = places / base / "private" / "spyglass" / "blog"
    [finding] = state_directory.examine("blog", "")
    assert finding.cure[0] == cure.format(private)
    assert state_directory.examine("blog", "root") == []  # then that is where it belongs
    private.rmdir()
    assert state_directory.examine("blog", "") == []  # systemd moves it there
