"""Values of settings as text: each line that is shown can be pasted into a file."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.config import settings
from spyglass.config.setting_text import assignment, spoken, toml
from spyglass.config.settings import SETTINGS


@pytest.mark.parametrize(
    "line",
    [
        'app = "blog:app"',
        "workers = 3",
        "preload = false",
        'max_body = "1G"',
        'max_body = "1536K"',
        "max_body = 1000",
        "max_body = 0",
        "idle_timeout = 2",
        "idle_timeout = 2.5",
        'request_timeout = "never"',
        "log_slow = 0.25",
        'idle_ignore = ["/health", "agent:x"]',
        'idle_ignore = "/health"',
        'trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]',
        'trusted_proxies = "unix"',
        'trusted_proxies = ""',
        'access_log = "%h \\"%r\\" %>s"',
        "access_log = true",
        "listen = 8001",
        'listen = "[::1]:8001"',
        'listen = [8001, "/run/x"]',
        'listen = { path = "/run/x", group = "www", mode = "0660" }',
        'environment = { A = "b", B = "\\"" }',
        'credentials = { key = "/etc/key", "a.b" = "" }',
        'credentials = ["key"]',
        'memory_max = "512M"',
        'writable = ["a", "b"]',
        "enabled = false",
        'cpu_quota = "50%"',
    ],
)
def test_line_of_a_file_is_shown_as_it_was_written(tmp_path, line):
    name = line.partition(" ")[0]
    file = tmp_path / "a.toml"
    file.write_text(line)
    value = settings.load(str(file), {}, {}, units=True).values[name]
    assert assignment(SETTINGS[name], value) == line


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_default_can_be_written(setting):
    value = tomllib.loads(assignment(setting, setting.default))[setting.name]
    if setting.name not in ("listen", "idle_ignore", "environment_file", "writable"):
        assert setting.check(value) == setting.default


@given(
    st.recursive(
        st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(-1e9, 1e9),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    )
)
def test_any_value_is_valid(value):
    assert tomllib.loads(f"x = {toml(value)}") == {"x": value}


def test_value_that_is_too_long_is_a_comment():
    line = assignment(SETTINGS["environment"], {"A": "b" * 2000})
    assert tomllib.loads(line) == {}
    assert line == "# environment: 2010 characters"


def test_names_are_aligned():
    assert assignment(SETTINGS["workers"], 3, 12) == "workers      = 3"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("max_body", 2 << 30, "2G"),
        ("memory_max", 1 << 29, "512M"),
        ("idle_timeout", 30.0, "30s"),
        ("request_timeout", 1e8, "never"),
        ("log_slow", 0.0, "never"),
        ("log_slow", 0.1, "0.1s"),
        ("preload", False, "false"),
        ("idle_ignore", ("/a", "/b"), "/a, /b"),
        ("app", "a:b", "a:b"),
    ],
)
def test_values_in_a_sentence(name, value, text):
    assert spoken(SETTINGS[name], value) == text
