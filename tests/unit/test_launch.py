"""Reading the configuration and forking a zygote: what may fail, and as what."""

import os

import pytest

from spyglass.config.settings import Config
from spyglass.errors import ConfigError, LoadError
from spyglass.master.launch import Launcher
from spyglass.runtime.poller import Poller
from spyglass.runtime.shared_memory import Shared

from .fake_log import FakeLog


class Log(FakeLog):
    level = None

    def set_level(self, level):
        self.level = level


@pytest.fixture
def launcher():
    """launcher(read): one that reads the configuration by `read()`."""
    shared, poller = Shared([], 8), Poller()
    yield lambda read: Launcher(read, shared, poller, Log(), lambda: None)
    poller.abandon()
    for fd in (shared.bell, shared.poke, shared.lifeline, shared._held):
        os.close(fd)


def test_a_wrong_configuration_is_a_failed_load_with_the_file_to_watch(launcher):
    def read():
        raise ConfigError("wrokers: no such setting", "/etc/spyglass/blog.toml")

    with pytest.raises(LoadError) as caught:
        launcher(read).read_config()
    assert caught.value.summary == "wrokers: no such setting"
    assert caught.value.files == ["/etc/spyglass/blog.toml"]


def test_a_configuration_is_in_force_only_when_it_is_followed(launcher):
    it = launcher(lambda: Config({"workers": 7, "log_level": "debug"}))
    config = it.read_config()
    assert it.config.workers != 7
    it.follow(config)
    assert it.config.workers == 7
    assert it._log.level == 7  # LOG_DEBUG


def test_an_unknown_listener_in_idle_ignore_is_named(launcher):
    it = launcher(lambda: Config({"idle_ignore": ["listener:metrix"]}))
    it.read_config()
    assert len(it._log.lines) == 1
    assert "no listener is named 'listener:metrix'" in it._log.lines[0]


def test_no_process_to_be_had_is_a_failed_load(launcher, monkeypatch):
    def fork():
        raise OSError(11, "Resource temporarily unavailable")

    it = launcher(Config)
    free = it._shared.board.free
    monkeypatch.setattr("spyglass.master.beginning.os.fork", fork)
    with pytest.raises(LoadError, match="cannot start a process for the app: Resource temp"):
        it.start(Config(), first=True)
    assert it._shared.board.free == free
