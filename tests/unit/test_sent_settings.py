"""The settings on their way to a zygote that was forked before they were read."""

import marshal
import socket

import pytest

from spyglass.config import sent_settings
from spyglass.config.settings import SETTINGS, Config, load

# One of each type, beyond the defaults.
FILE = """
app = "größe:app"
directory = "/srv/blog"
workers = 3
preload = false
idle_timeout = "90s"
idle_ignore = ["/health", "agent:probe"]
max_body = "2G"
trusted_proxies = ["10.0.0.0/8", "unix"]
forwarded_headers = ["for", "host"]
script_name = "/blog"
access_log = "combined"
log_level = "debug"
listen = [8001, { path = "/run/blog.sock", mode = "0660" }]
environment = { A = "b" }
credentials = { key = "/etc/key" }
memory_max = "1G"
"""


@pytest.fixture
def pair():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        near.setblocking(False)
        yield near, far


@pytest.fixture
def configured(tmp_path):
    """With all kinds of values; from the environment and the command line, too."""
    file = tmp_path / "blog.toml"
    file.write_text(FILE)
    environ = {"SPYGLASS_THREADS": "7", "SPYGLASS_VENV": "/srv/\udcff"}
    return load(str(file), environ, {"debug": "yes", "interface": "wsgi"})


def is_plain(value):
    if isinstance(value, dict):
        return type(value) is dict and all(map(is_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(is_plain, value))
    return type(value) in (str, int, float, bool, type(None))


def test_all_values_are_plain(configured):
    assert [name for name, value in Config().values.items() if not is_plain(value)] == []
    assert [name for name, value in configured.values.items() if not is_plain(value)] == []


def test_what_is_sent_is_received(pair, configured):
    near, far = pair
    assert sent_settings.send(near, configured)
    received = sent_settings.receive(far)
    assert received.values == configured.values
    assert received.file == configured.file
    for name in SETTINGS:
        found, sent = getattr(received, name), getattr(configured, name)
        assert (found, type(found)) == (sent, type(sent))
    with pytest.raises(AttributeError, match="no setting 'wrokers'"):
        received.wrokers  # noqa: B018


@pytest.mark.parametrize("more", [0, 1])
def test_what_is_too_large_is_not_sent(pair, more):
    near, far = pair
    long = Config({"app": "a" * 1000})
    beside = len(marshal.dumps((long.values, None))) - 1000
    config = Config({"app": "a" * (sent_settings.LARGEST - beside + more)})
    assert sent_settings.send(near, config) is not bool(more)
    if not more:
        assert sent_settings.receive(far).app == config.app


def test_channel_that_holds_no_more_does_not_keep_the_master(pair):
    near, _ = pair
    config = Config({"app": "a" * (sent_settings.LARGEST // 2)})
    sent = 0
    while sent_settings.send(near, config):
        sent += 1
        assert sent < 1000
    assert sent > 0


def test_process_that_has_exited_is_sent_nothing(pair):
    near, far = pair
    far.close()
    assert not sent_settings.send(near, Config())


@pytest.mark.parametrize("unread", [False, True])
def test_master_that_has_exited_has_sent_nothing(pair, unread):
    near, far = pair
    if unread:
        far.send(b"spawned")
    near.close()
    assert sent_settings.receive(far) is None
