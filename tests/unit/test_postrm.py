"""What a purge of the package deletes, in a tree of its own (DPKG_ROOT, dpkg(1)): what
nobody would ever find, and nothing of an app's.
"""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "debian" / "spyglass.postrm"
PRIVATE, STATE = "var/lib/private/spyglass", "var/lib/spyglass"


@pytest.fixture
def purge(tmp_path):
    """Run the script over a tree of these paths, "PATH/" for a directory and "PATH ->
    TARGET" for a link; returns what is left.
    """

    def run(*paths, verb="purge"):
        for line in paths:
            path, _, target = line.partition(" -> ")
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            if target:
                (tmp_path / path).symlink_to(target)
            elif path.endswith("/"):
                (tmp_path / path).mkdir(exist_ok=True)
            else:
                (tmp_path / path).touch()
        subprocess.run(
            ["sh", str(SCRIPT), verb], env=os.environ | {"DPKG_ROOT": str(tmp_path)}, check=True
        )
        return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}

    return run


KEPT = [
    ["empty/"], ["data/empty/"], ["dangling -> /nowhere"], ["current -> releases/1"], ["releases/.spyglass-counters"], ["a\nb/"], ["-rf/"], ["$(touch x)"],
    [".spyglass-counters/file"], ["note.spyglass-reload"],
]  # fmt: skip


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("place", [PRIVATE, STATE])
def test_what_an_app_has_stored_stays_whatever_it_is(purge, kept, place):
    left = purge(
        *(f"{place}/blog/{path}" for path in kept),
        f"{place}/blog/.spyglass-counters.new",
        f"{place}/blog/.spyglass-reload",
        f"{place}/blog/.spyglass-report",
    )
    for path in kept:
        assert f"{place}/blog/{path.partition(' -> ')[0].rstrip('/')}" in left
    assert not {
        path
        for path in left
        if path.partition("blog/.spyglass-")[2] in ("counters.new", "reload", "report")
    }


def test_what_is_spyglasss_goes(purge):
    left = purge(
        f"{PRIVATE}/blog/.spyglass-counters", f"{PRIVATE}/shop/", f"{STATE}/blog -> ../private/spyglass/blog", f"{STATE}/shop -> ../private/spyglass/shop",
        f"{STATE}/named/.spyglass-counters", "var/cache/spyglass/blog/x", "run/spyglass-admin/units", "run/spyglass-run/7",
    )  # fmt: skip
    assert left == {"var", "var/lib", "var/lib/private", "var/cache", "run"}


def test_links_that_turn_an_app_on_or_off_go(purge):
    units = "etc/systemd/system"
    left = purge(
        f"{units}/sockets.target.wants/spyglass@a.socket -> /usr/lib/systemd/system/spyglass@.socket",
        f"{units}/spyglass@b.socket -> /dev/null",
        f"{units}/other.socket -> /dev/null",
        f"{units}/spyglass@c.socket",
    )
    files = {path for path in left if path.endswith(".socket")}
    assert files == {f"{units}/other.socket", f"{units}/spyglass@c.socket"}


def test_a_link_of_an_app_that_has_stored_something_stays(purge):
    left = purge(f"{PRIVATE}/blog/data", f"{STATE}/blog -> ../private/spyglass/blog")
    assert {f"{PRIVATE}/blog/data", f"{STATE}/blog"} <= left


def test_a_state_directory_that_is_a_link_is_not_followed(purge):
    left = purge(
        "srv/blog/.spyglass-counters", "srv/blog/empty/", f"{STATE}/blog -> ../../../srv/blog"
    )
    assert {"srv/blog/.spyglass-counters", "srv/blog/empty", f"{STATE}/blog"} <= left


def test_a_removal_deletes_nothing_but_locks(purge):
    left = purge(f"{PRIVATE}/blog/.spyglass-counters", "run/spyglass-admin/units", verb="remove")
    assert f"{PRIVATE}/blog/.spyglass-counters" in left
    assert "run/spyglass-admin" not in left
