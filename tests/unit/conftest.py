"""Hypothesis as a test on a busy machine wants it (no clock decides, nothing is left in
the tree); workers to turn by hand, and generations.
"""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from .fake_zygote import NOW, Played
from .stepped_worker import Worker, echo

settings.register_profile("spyglass", deadline=None, database=None, print_blob=True)
settings.load_profile("spyglass")


@pytest.fixture
def start(tmp_path):
    """Starts a worker's loop: start(app, **settings)."""
    made = []

    def make(app=echo, **settings):
        made.append(Worker(tmp_path, app, **settings))
        made[-1].turns(1)
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def breed():
    """A generation that serves: breed(**settings)."""
    made = []

    def make(**settings):
        made.append(Played(**settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def killed(monkeypatch):
    """What would have been sent: (pid, signal), in order."""
    sent = []
    monkeypatch.setattr(
        "spyglass.master.hung_processes.os.kill", lambda pid, number: sent.append((pid, number))
    )
    return sent


@pytest.fixture
def clock(monkeypatch):
    """The time, as a list of one: what is heard of the zygote is heard then."""
    time = [NOW]
    monkeypatch.setattr("spyglass.master.generation.time.monotonic", lambda: time[0])
    return time


@pytest.fixture
def _anyone_may_enter(tmp_path):
    """Other users can enter tmp_path, however deep below /tmp it is."""
    for directory in (tmp_path, *tmp_path.parents):
        if Path(tempfile.gettempdir()) in directory.parents:
            directory.chmod(0o755)


@pytest.fixture(autouse=True)
def _root(tmp_path_factory):
    """What is root's on a machine is the test's own here, and looked at below its
    directory only: /tmp is everybody's.
    """
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # of its own, so that a test that undoes its patches keeps these
        patch.setattr("spyglass.ops.files.path_ownership._ROOT", os.geteuid())
        patch.setattr("spyglass.ops.files.path_ownership._TOP", str(tmp_path_factory.getbasetemp()))
        patch.setattr(
            "spyglass.ops.guards.locks.DIRECTORY", str(tmp_path_factory.getbasetemp() / "locks")
        )
        yield
