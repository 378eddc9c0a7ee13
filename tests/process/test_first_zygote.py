"""The first zygote of a wake is forked before the settings are read, and learns them and
the listeners later. A systemd-python that waits keeps a Master between the two.
"""

import os
import signal

import pytest
import systemd as systemd_python

from .fake_systemd import ROOT
from .processes import children, look_at, workers
from .visitor import Visitor, visit

APP = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""
# The Master imports it for the listeners. Later ones find that `go` is there.
WAITS = """
import os, pathlib, time
go = pathlib.Path({go!r})
pathlib.Path({there!r}).touch()
while not go.exists():
    time.sleep(0.01)
__path__ = {path!r}
"""


@pytest.fixture
def site(tmp_path):
    """A directory with an app."""
    directory = tmp_path / "site"
    directory.mkdir()
    (directory / "app.py").write_text(APP)
    return directory


class Waiting:
    """A server whose Master waits before it asks for the listeners."""

    def __init__(self, systemd, site, settings=""):
        self._go = site / "go"
        package = site / "before" / "systemd"
        package.mkdir(parents=True)
        there = site / "there"
        text = WAITS.format(go=str(self._go), there=str(there), path=list(systemd_python.__path__))
        (package / "__init__.py").write_text(text)
        file = site / "settings"
        file.write_text(f'app = "app:app"\nidle_timeout = 60\nworkers = 1\n{settings}')
        self.life = systemd(
            None,
            directory=site,
            arguments=["--config", str(file)],
            environ={"PYTHONPATH": f"{package.parent}:{ROOT}"},
        )
        self.client = Visitor(self.life.address)
        self.client.send()
        self.life.until(there.exists, "the Master does not ask for the listeners")
        [self.zygote] = children(self.life.run.pid)

    def go(self):
        self._go.touch()

    def is_served(self):
        self.go()
        return self.client.answer().text == "served"


@pytest.fixture
def waiting(systemd, site):
    made = []

    def make(settings=""):
        made.append(Waiting(systemd, site, settings))
        return made[-1]

    yield make
    for each in made:
        each.go()
        each.client.sock.close()


def test_it_is_told_the_settings(waiting):
    it = waiting('log_level = "debug"\n')
    assert it.is_served()
    it.life.until_workers(1)
    assert [each.pid for each in children(it.life.run.pid)] == [it.zygote.pid]
    it.life.until_logged("accepting, pid")  # a worker's, at that level


@pytest.mark.parametrize("everybody", [False, True], ids=["the Master", "the whole group"])
def test_told_to_stop_meanwhile_they_leave_and_the_client_waits_for_the_next(waiting, everybody):
    it = waiting()
    life, first = it.life, it.life.run
    (life.signal_all if everybody else life.signal)(signal.SIGTERM)
    assert it.is_served()
    life.until(lambda: first.ended, "it has not stopped")
    assert (first.status, first.left_behind) == (0, [])
    assert look_at(it.zygote.pid) is None
    assert "error" not in life.log


def test_end_of_the_master_ends_it(waiting):
    it = waiting()
    first = it.life.run
    it.life.signal(signal.SIGKILL)
    it.life.until(lambda: first.cleared, "a zygote is left")
    assert it.is_served()


def test_signals_for_the_whole_group_do_not(waiting):
    it = waiting()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGALRM):
        os.kill(it.zygote.pid, number)
    assert it.is_served()
    assert [each.pid for each in children(it.life.run.pid)] == [it.zygote.pid]
    assert "error" not in it.life.log


def test_its_death_is_that_of_an_app_that_loads(waiting):
    it = waiting()
    os.kill(it.zygote.pid, signal.SIGKILL)
    it.go()
    assert it.client.answer().status == 503
    it.life.until_logged("the app's process was killed by SIGKILL while it was being loaded")


@pytest.mark.parametrize(
    "arguments", [["--wrokers", "1"], ["--workers", "none"], ["--config", "/proc/nonexistent"]]
)
def test_there_is_none_when_the_settings_are_wrong(systemd, arguments):
    life = systemd(arguments=arguments, idle_timeout=60)
    assert visit(life.address).status == 503
    life.until_ready()
    assert children(life.run.pid) == []
    assert "Traceback" not in life.log


def test_settings_of_any_size_reach_it(systemd, site):
    """These are too many for one message."""
    entries = [f"/status/{number:06d}/and/more" for number in range(5_000)]
    file = site / "settings"
    file.write_text(f'app = "app:app"\nidle_timeout = 60\nworkers = 1\nidle_ignore = {entries!r}\n')
    life = systemd(None, directory=site, arguments=["--config", str(file)])
    assert visit(life.address).text == "served"
    life.until_ready()
    assert len(children(life.run.pid)) == 1
    assert len(workers(life.run.pid)) == 1
    assert "error" not in life.log
