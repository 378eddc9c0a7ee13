"""Settings of the units: their values, the error line for each mistake, and that the
server ignores them.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.config.settings import SETTINGS, UNIT_SETTINGS, load
from spyglass.config.unit_settings import Address, address
from spyglass.errors import ConfigError

ADDRESS = "expected a port (8001), address:port, [v6]:port, an absolute path, or { path = ..., group = ..., mode = ... }"
NUMERIC = "expected a numeric address before the port, in brackets if it is IPv6"
PATHS = "expected a path, or a list of paths"
VARIABLES = 'expected a table of variables, { NAME = "text" }'
CREDENTIALS = 'expected a table, { NAME = "/path" }, or a list of names'
MEMORY = 'expected a number of bytes, or "64K", "1M", "2G" from 16M to 1048576G'
UMASK = 'expected text of three or four octal digits, "0027", not '
QUOTA = 'expected a percentage of one processor, "50%", or of several, "200%"'
UNITS = [setting.name for setting in UNIT_SETTINGS]


@pytest.fixture
def toml(tmp_path):
    def write(text):
        file = tmp_path / "blog.toml"
        file.write_text(text)
        return str(file)

    return write


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("listen = 8001", (Address(8001),)),
        ('listen = "8001"', (Address(8001),)),
        (
            'listen = ["127.0.0.1:8001", "[::1]:8001"]',
            (Address(8001, "127.0.0.1"), Address(8001, "::1")),
        ),
        ('listen = "[0:0::1]:8001"', (Address(8001, "::1"),)),
        ('listen = "/run/blog.sock"', (Address(path="/run/blog.sock"),)),
        ('listen = "unix:/run/blog.sock"', (Address(path="/run/blog.sock"),)),
        (
            'listen = [8001, { path = "/run/a.sock", group = "caddy", mode = "0660" }]',
            (Address(8001), Address(path="/run/a.sock", group="caddy", mode="0660")),
        ),
        (
            'listen = { path = "/run/a.sock", mode = 0o666 }',
            (Address(path="/run/a.sock", mode="0666"),),
        ),
        ('[[listen]]\npath = "/run/a.sock"', (Address(path="/run/a.sock"),)),
        ('user = "blog"', "blog"),
        ('user = ""', ""),
        ('group = "www-data"', "www-data"),
        ('group = "33"', "33"),
        ('umask = "0027"', "0027"),
        ('umask = "022"', "022"),
        ('umask = ""', ""),
        (
            'environment = { DJANGO_SETTINGS_MODULE = "blog.settings", PORTS = 2 }',
            {"DJANGO_SETTINGS_MODULE": "blog.settings", "PORTS": "2"},
        ),
        ('[environment]\nTEXT = "a\\nb %i $HOME \\""', {"TEXT": 'a\nb %i $HOME "'}),
        ('environment_file = ".env"', (".env",)),
        ('environment_file = [".env", "/etc/blog.env"]', (".env", "/etc/blog.env")),
        ('credentials = ["db", "key=/etc/blog.key"]', {"db": "", "key": "/etc/blog.key"}),
        (
            'credentials = { db = "", "tls.key" = "/etc/blog.key" }',
            {"db": "", "tls.key": "/etc/blog.key"},
        ),
        ('memory_high = "300M"', 300 << 20),
        ("memory_max = 0", 0),
        ('cpu_quota = "150%"', "150%"),
        ('writable = "media"', ("media",)),
        ('writable = ["media", "/srv/shared"]', ("media", "/srv/shared")),
        ("network = false", False),
        ("allow_jit = true", True),
    ],
)
def test_file_sets_value(toml, line, value):
    file = toml(line)
    name = line.split()[0].strip("[]")
    assert getattr(load(file, {}, {}, units=True), name) == value
    assert getattr(load(file, {}, {}), name) == SETTINGS[name].default


@pytest.mark.parametrize(
    ("text", "stream"),
    [(8001, "8001"), ("127.0.0.1:80", "127.0.0.1:80"), ("[::]:80", "[::]:80"), ("unix:/a", "/a")],
)
def test_address_is_shown_as_in_a_unit(text, stream):
    assert address(text).stream == stream
    assert address(address(text).stream) == address(text)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("listen = 0", f"{ADDRESS}, not '0'"),
        ("listen = 65536", f"{ADDRESS}, not '65536'"),
        ("listen = true", f"{ADDRESS}, not true"),
        ("listen = []", f"{ADDRESS}, not []"),
        ('listen = ":8001"', f"{ADDRESS}, not ':8001'; write 8001"),
        ('listen = "blog.sock"', f"{ADDRESS}, not 'blog.sock'"),
        ('listen = "@blog"', f"{ADDRESS}, not '@blog'"),
        ('listen = "localhost:8001"', f"{NUMERIC}, not 'localhost:8001'; write \"127.0.0.1:8001\""),
        ('listen = "::1:8001"', f"{NUMERIC}, not '::1:8001'"),
        ('listen = "[127.0.0.1]:8001"', f"{NUMERIC}, not '[127.0.0.1]:8001'"),
        ('listen = "/run/../etc/a"', "expected a path without .., not '/run/../etc/a'"),
        ('listen = { path = "/a", mode = "rw" }', "expected a mode such as \"0660\", not 'rw'"),
        ('listen = { path = "/a", mode = 660 }', "expected a mode such as \"0660\", not '1224'"),
        ('listen = { path = "/a", group = "a b" }', "expected the name of a group, not 'a b'"),
        ('listen = { path = "a" }', f"{ADDRESS}, not {{'path': 'a'}}"),
        ('listen = { path = "/a", owner = "b" }', f"{ADDRESS}, not {{'path': '/a', 'owner': 'b'}}"),
        ("group = 33", "expected the name of a group, not 33"),
        ('group = "a:b"', "expected the name of a group, not 'a:b'"),
        (
            'group = "root"',
            "expected a group other than root: it can read much of the machine, not 'root'",
        ),
        # 27 is 0o33, which is not what was meant.
        ("umask = 27", UMASK + "27"),
        ("umask = 0o027", UMASK + "23"),
        ('umask = "27"', UMASK + "'27'"),
        ('umask = "0029"', UMASK + "'0029'"),
        ('umask = "u=rwx"', UMASK + "'u=rwx'"),
        ('umask = "00027"', UMASK + "'00027'"),
        (
            'umask = "0777"',
            "expected a umask that leaves the app access to its files, 0077 at most, not '0777'",
        ),
        (
            'umask = "0000"',
            "expected a umask that does not let all users change the app's files, such as 0022, not '0000'",
        ),
        ("user = 0", "expected the name of a user, not 0"),
        ('user = "a b"', "expected the name of a user, not 'a b'"),
        (
            'user = "root"',
            "expected a user other than root: an app that clients can reach must not be root, not 'root'",
        ),
        ("environment = 1", f"{VARIABLES}, not 1"),
        ('environment = { "A B" = "c" }', f"{VARIABLES}, not {{'A B': 'c'}}"),
        ("environment = { DEBUG = true }", f"{VARIABLES}, not {{'DEBUG': True}}"),
        (
            "environment = { SPYGLASS_WORKERS = 3 }",
            "expected no SPYGLASS_ variable: set it in this file, as a setting, not 'SPYGLASS_WORKERS'",
        ),
        (
            'environment = { LISTEN_FDS = "1" }',
            "expected no variable that systemd sets itself, not 'LISTEN_FDS'",
        ),
        ("environment_file = 1", f"{PATHS}, not 1"),
        ('environment_file = [""]', f"{PATHS}, not ''"),
        ('credentials = "db"', f"{CREDENTIALS}, not 'db'"),
        ("credentials = [1]", f"{CREDENTIALS}; a path is absolute, not ''"),
        ('credentials = ["a/b"]', f"{CREDENTIALS}; a path is absolute, not 'a/b'"),
        ('credentials = ["a=b"]', f"{CREDENTIALS}; a path is absolute, not 'a=b'"),
        ('credentials = ["a", "a=/b"]', "expected each name once, not ['a', 'a=/b']"),
        ('memory_max = "1M"', f"{MEMORY}, not '1M'"),
        ("memory_max = false", 'expected a number of bytes, or "64K", "1M", "2G", not false'),
        ("cpu_quota = 50", f'{QUOTA}, not 50; write "50%"'),
        ('cpu_quota = "0%"', f"{QUOTA}, not '0%'"),
        ('writable = ["a\\nb"]', f"{PATHS}, not 'a\\nb'"),
        ("network = 0", "expected true or false, not 0; write false"),
    ],
)
def test_mistake_is_named_with_its_line(toml, line, says):
    file = toml(f"workers = 2\n{line}\n")
    name = line.split()[0]
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {}, units=True)
    assert str(caught.value) == f"{file}:2: {name}: {says}"
    # The server does not read it, so it keeps serving.
    assert load(file, {}, {}).workers == 2


@pytest.mark.parametrize("name", UNITS)
def test_environment_and_command_line_cannot_set_them(name):
    place = f"{name} configures the units: set it in the TOML file, then run 'spyglass apply'"
    for environ, options, where in (
        ({f"SPYGLASS_{name.upper()}": "x"}, {}, f"SPYGLASS_{name.upper()}"),
        ({}, {name: "x"}, SETTINGS[name].option),
    ):
        for units in (False, True):
            with pytest.raises(ConfigError) as caught:
                load(None, environ, options, units=units)
            assert str(caught.value) == f"{where}: {place}"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["path", "group", "mode", "A"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
)


@given(st.sampled_from(UNITS), anything)
def test_any_value_is_accepted_or_refused_in_one_line(name, value):
    try:
        SETTINGS[name].check(value)
    except ValueError as error:
        assert "\n" not in error.args[0]


@given(st.integers(1, 65535), st.ip_addresses())
def test_any_ip_address_with_a_port_is_accepted(port, ip):
    text = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
    if "%" not in text:
        assert address(str(address(text))) == address(text)
