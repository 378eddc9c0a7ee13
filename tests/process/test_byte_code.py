"""Byte code of earlier releases does not pile up: it is swept when the app is about to
sleep, and after a reload.
"""

import signal
import sys

import pytest

from .visitor import visit

APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'%s']\n"


@pytest.fixture
def site(systemd, tmp_path):
    """site(**settings) -> a FakeSystemd whose app lies in `current`, a link to a
    release of which there is byte code in the cache.
    """

    def serve(**settings):
        for name in ("1", "2"):
            (tmp_path / "releases" / name).mkdir(parents=True)
            (tmp_path / "releases" / name / "app.py").write_text(APP % name)
            byte_code(tmp_path, name).parent.mkdir(parents=True)
            byte_code(tmp_path, name).write_text("")
        (tmp_path / "current").symlink_to("releases/2")
        return systemd(
            "app",
            directory=tmp_path / "current",
            workers=1,
            environ={"CACHE_DIRECTORY": str(tmp_path / "cache")},
            **settings,
        )

    return serve


def byte_code(tmp_path, release):
    return (
        tmp_path
        / "cache"
        / "pycache"
        / str(tmp_path)[1:]
        / "releases"
        / release
        / f"app.{sys.implementation.cache_tag}.pyc"
    )


def remove_first(tmp_path):
    (tmp_path / "releases" / "1" / "app.py").unlink()


def test_before_it_sleeps(site, tmp_path):
    life = site(idle_timeout=0.3)
    remove_first(tmp_path)
    assert visit(life.address).text == "2"
    life.until_asleep(1)
    assert not byte_code(tmp_path, "1").exists()
    assert byte_code(tmp_path, "2").exists()


def test_after_a_reload(site, tmp_path):
    life = site(idle_timeout=60)
    assert visit(life.address).text == "2"
    remove_first(tmp_path)
    life.signal(signal.SIGHUP)
    life.until(lambda: not byte_code(tmp_path, "1").exists(), "it is still there")
    assert byte_code(tmp_path, "2").exists()
