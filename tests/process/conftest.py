"""Gives each test as many servers as it wants, and asks each of them at the end whether
anything was wrong.
"""

import contextlib

import pytest

from .fake_systemd import APPS, FakeSystemd
from .lookout_process import Lookout


@pytest.fixture(scope="session")
def pycache(tmp_path_factory):
    """Where all servers keep their byte code, so that only the first wake of a module
    compiles it.
    """
    return tmp_path_factory.mktemp("pycache")


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL that runs; see there."""
    from .postgres import Postgres

    cluster = Postgres()
    try:
        yield cluster.start()
    finally:
        cluster.end()


@pytest.fixture
def systemd(tmp_path, pycache):
    """systemd(app, **settings) -> a FakeSystemd that serves it; see there. Without a
    directory, the app is one of ours.
    """
    with _several(tmp_path / "systemd") as several:

        def new(app="plain:app", **settings):
            if "directory" not in settings and app:
                settings["directory"] = APPS
            return several(lambda place: FakeSystemd(place, pycache, app, **settings))

        yield new


@pytest.fixture
def lookout(tmp_path, pycache):
    """lookout(app, **settings) -> a running Lookout; see there."""
    with _several(tmp_path / "lookout") as several:
        yield lambda *app, **settings: several(
            lambda place: Lookout(place, pycache, *app, **settings)
        )


@contextlib.contextmanager
def _several(where):
    """As many as a test wants, each with an empty directory; all are ended before any
    complaint of one is heard.
    """
    running = []

    def make(one):
        place = where / str(len(running))
        place.mkdir(parents=True)
        running.append(one(place))
        return running[-1]

    yield make
    complaints = []
    for each in running:
        try:
            each.close()
        except AssertionError as error:
            complaints.append(str(error))
    assert not complaints, "\n\n".join(complaints)
