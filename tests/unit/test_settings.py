"""Settings: their sources, their types, and the error line for each kind of mistake."""

import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.config import foreign_names
from spyglass.config import settings as config
from spyglass.config.setting_errors import default_text
from spyglass.config.setting_types import NEVER, Unit
from spyglass.config.settings import SERVER_SETTINGS, SETTINGS, UNIT_SETTINGS, Config, load
from spyglass.errors import EX_CONFIG, ConfigError

SECONDS = 'expected a number of seconds, or "500ms", "5m", "1h", "never"'
ABOVE = 'expected a number of seconds above 0 and below 1e+08, or "never"'
AT_LEAST = 'expected a number of seconds of at least 0 and below 1e+08, or "never"'
ACCESS_LOG = 'expected true, false, "combined", "json", or a format'
FORMAT = f"{ACCESS_LOG} with 1 to 40 directives such as %h"
DIRECTIVES = (
    "expected %h %a %l %u %t %r %m %U %q %H %s %>s %b %B %D %T %X %P %A %{Field-Name}i or %%"
)
PROXIES = "expected addresses, networks (10.0.0.0/8), unix or *"
PROXY_LIST = f"{PROXIES}; a list, or separated by commas"
FORWARDED = "expected for, proto, host, port, by, prefix, scheme, server, ssl, forwarded; a list, or separated by commas"
IGNORED = "expected a path (/health, /api/*), agent:NAME, listener:NAME or websocket:PATH"
IGNORE = "expected paths, agent:NAME, listener:NAME, websocket:PATH; a list, or separated by commas"
EVERYBODY = "expected an entry that does not match every request"
DIGITS = "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit"
SIZE = 'expected a number of bytes, or "64K", "1M", "2G"'


@pytest.fixture
def toml(tmp_path):
    def write(text):
        file = tmp_path / "blog.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(file)

    return write


def complaint(file=None, environ=None, options=None):
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {}, options or {})
    assert caught.value.exit_status == EX_CONFIG
    assert caught.value.file == file  # the one to fix
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Values


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('app = "blog:app"', "blog:app"),
        ('directory = ""', ""),
        ("workers = 256", 256),
        ("preload = false", False),
        ("idle_timeout = 90", 90.0),
        ("idle_timeout = 0", 0.0),
        ('idle_timeout = "never"', 0.0),
        ('write_timeout = "never"', NEVER),
        ("header_timeout = 0.25", 0.25),
        ('header_timeout = "250ms"', 0.25),
        ('idle_timeout = "90"', 90.0),
        ('idle_timeout = "90s"', 90.0),
        ('idle_timeout = "1.5m"', 90.0),
        ('idle_timeout = "2min"', 120.0),
        ('idle_timeout = "1h"', 3600.0),
        ("log_slow = 1", 1.0),
        ('log_slow = "1s"', 1.0),
        ('log_slow = "never"', 0.0),
        ("max_body = 0", 0),
        ("max_body = 4096", 4096),
        ('max_body = "64K"', 64 << 10),
        ('max_body = "1m"', 1 << 20),
        ('max_body = "2G"', 2 << 30),
        ('max_body = "4096"', 4096),
        ('log_level = "debug"', "debug"),
        ('"workers" = 3', 3),
        ("trusted_proxies = []", ""),
        ('trusted_proxies = ["10.0.0.0/8", "unix"]', "10.0.0.0/8, unix"),
        ('trusted_proxies = "10.0.0.0/8,unix"', "10.0.0.0/8, unix"),
        ('trusted_proxies = ""', ""),
        ("forwarded_headers = []", ""),
        ('forwarded_headers = ["for", "host", "forwarded"]', "for, host, forwarded"),
        (
            'forwarded_headers = ["X-Forwarded-For", "x-forwarded-prefix", "Forwarded"]',
            "for, prefix, forwarded",
        ),
        ('forwarded_headers = "for,proto"', "for, proto"),
        ("proxy_protocol = true", True),
        ("idle_ignore = []", ()),
        ('idle_ignore = ""', ()),
        ('idle_ignore = "/health"', ("/health",)),
        (
            'idle_ignore = ["/", "/api/*", "agent:Mozilla/5.0 (a, b)", " listener: metrics "]',
            ("/", "/api/*", "agent:Mozilla/5.0 (a, b)", "listener: metrics"),
        ),
        ("access_log = true", True),
        ("access_log = false", False),
        ('access_log = "combined"', "combined"),
        ('access_log = "json"', "json"),
        ("access_log = '%h \"%r\" %>s'", '%h "%r" %>s'),
    ],
)
def test_file_sets_value(toml, line, value):
    got = getattr(load(toml(line), {}, {}), line.split()[0].strip('"'))
    assert (got, type(got)) == (value, type(value))


TEXTS = [
    ("app", "blog:app", "blog:app"),
    ("workers", "007", 7),
    ("preload", "no", False),
    ("debug", "On", True),
    ("debug", "1", True),
    ("debug", "FALSE", False),
    ("idle_timeout", "0", 0.0),
    ("idle_timeout", "never", 0.0),
    ("request_timeout", "never", NEVER),
    ("idle_timeout", "2.5", 2.5),
    ("header_timeout", ".5", 0.5),
    ("log_slow", "500ms", 0.5),
    ("max_head", "64k", 64 << 10),
    ("max_body", "17", 17),
    ("max_requests", "5000", 5000),
    ("max_memory", "300M", 300 << 20),
    ("log_level", "error", "error"),
    ("trusted_proxies", "*", "*"),
    ("trusted_proxies", " ::1,unix ,10.0.0.0/8", "::1, unix, 10.0.0.0/8"),
    ("trusted_proxies", "", ""),
    ("forwarded_headers", "for, ssl ,Host", "for, ssl, host"),
    ("forwarded_headers", "", ""),
    ("proxy_protocol", "yes", True),
    (
        "idle_ignore",
        "/health, agent:kube-probe ,listener:metrics",
        ("/health", "agent:kube-probe", "listener:metrics"),
    ),
    ("idle_ignore", "", ()),
    ("access_log", "true", True),
    ("access_log", "Off", False),
    ("access_log", "combined", "combined"),
    ("access_log", "json", "json"),
    ("access_log", "%h %{User-Agent}i\t%D é %%", "%h %{User-Agent}i\t%D é %%"),
]


@pytest.mark.parametrize(("name", "text", "value"), TEXTS)
def test_environment_and_command_line_set_value(name, text, value):
    for got in (load(None, {f"SPYGLASS_{name.upper()}": text}, {}), load(None, {}, {name: text})):
        assert getattr(got, name) == value
        assert isinstance(getattr(got, name), type(value))


def test_later_sources_take_precedence(toml):
    file = toml("workers = 3\nmax_fields = 3\nmax_connections = 3")
    got = load(
        file,
        {"SPYGLASS_MAX_FIELDS": "4", "SPYGLASS_MAX_CONNECTIONS": "4"},
        {"max_connections": "5"},
    )
    assert (got.workers, got.max_fields, got.max_connections) == (3, 4, 5)


def test_other_variables_are_ignored():
    assert (
        load(None, {"PATH": "/bin", "SPYGLAS_WORKERS": "x", "spyglass_workers": "x"}, {}).values
        == Config().values
    )


def test_defaults():
    """What docs/settings.md and the man page promise, so that a change of one of these
    is a decision.
    """
    assert load(None, {}, {}).values == {
        **dict(app="", directory=".", interface="auto", venv=""),
        **dict(workers=2, threads=4, preload=True),
        **dict(
            start_timeout=60,
            idle_timeout=30,
            idle_ignore=(),
            request_timeout=60,
            graceful_timeout=30,
        ),
        **dict(header_timeout=10, body_timeout=30, write_timeout=60, keepalive_timeout=5),
        **dict(
            max_head=64 << 10,
            max_fields=100,
            max_body=1 << 30,
            body_memory=1 << 20,
            websocket_max_size=1 << 20,
            websocket_ping=20.0,
            websocket_compression=False,
            max_connections=1000,
        ),
        **dict(body_min_rate=500, bodies_memory=64 << 20, bodies_disk=4 << 30),
        **dict(max_requests=0, max_memory=0),
        **dict(
            trusted_proxies="127.0.0.1, ::1, unix",
            forwarded_headers="for, proto",
            proxy_protocol=False,
            script_name="",
        ),
        **dict(access_log=False, log_slow=0, log_level="info", debug=False),
        **dict(
            enabled=True,
            listen=(),
            user="",
            group="",
            umask="",
            environment={},
            environment_file=(),
            credentials={},
            memory_high=0,
            memory_max=0,
            cpu_quota="",
        ),
        **dict(writable=(), network=True, allow_jit=False),
    }


@pytest.mark.parametrize("name", [setting.name for setting in SERVER_SETTINGS])
def test_shown_default_parses_to_the_default(name):
    setting = SETTINGS[name]
    shown = default_text(setting)
    assert setting.parse("" if shown == "none" else shown) == setting.default


# Mistakes


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        # Unknown
        ("\nworker = 2", 2, "unknown setting 'worker', did you mean 'workers'?"),
        ("colour = 2", 1, "unknown setting 'colour'"),
        (
            *("[server]\nworkers = 2", 1),
            "unknown table [server]: settings belong to no table, so delete this line",
        ),
        ("Workers = 2", 1, "unknown setting 'Workers', did you mean 'workers'?"),
        ("SPYGLASS_WORKERS = 2", 1, "unknown setting 'SPYGLASS_WORKERS', did you mean 'workers'?"),
        ("max-body = 2", 1, "unknown setting 'max-body', did you mean 'max_body'?"),
        # Other servers' names
        ("timeout = 30", 1, "unknown setting 'timeout': it is 'request_timeout' here"),
        ('http-socket = ":80"', 1, "unknown setting 'http-socket': it is 'listen' here"),
        ("processes = 4", 1, "unknown setting 'processes': it is 'workers' here"),
        ("lazy-apps = true", 1, "unknown setting 'lazy-apps': write 'preload = false'"),
        ('[env]\nA = "1"', 1, "unknown table [env]: it is 'environment' here"),
        (
            *('worker_class = "gevent"', 1),
            "unknown setting 'worker_class': there is one kind of worker; "
            "`threads` says how many calls it runs at a time",
        ),
        ("reload = true", 1, "unknown setting 'reload': run 'spyglass reload NAME' after a change"),
        ('"wor\\tkers" = 1', None, "unknown setting 'wor\\tkers', did you mean 'workers'?"),
        # Text
        ("app = 1", 1, "app: expected text, not 1"),
        ("app = true", 1, "app: expected text, not true"),
        ('app = ["a"]', 1, "app: expected text, not ['a']; write \"a\""),
        ('app = "a\\u0000b"', 1, "app: expected text, not 'a\\x00b'"),
        # Whole numbers
        ('# two\nworkers = "two"', 2, "workers: expected a whole number, not 'two'"),
        ('workers = "2"', 1, "workers: expected a whole number, not '2'; write 2"),
        ("workers = 2.0", 1, "workers: expected a whole number, not 2.0; write 2"),
        ("workers = true", 1, "workers: expected a whole number, not true"),
        ("workers = 0", 1, "workers: expected a whole number from 1 to 256, not 0"),
        ("workers = 257", 1, "workers: expected a whole number from 1 to 256, not 257"),
        ("workers = -1", 1, "workers: expected a whole number from 1 to 256, not -1"),
        ("workers.many = 1", 1, "workers: expected a whole number, not {'many': 1}"),
        ("\n\n[workers]\nmany = 1", 3, "workers: expected a whole number, not {'many': 1}"),
        # Seconds
        ('  idle_timeout = "30x"', 1, f"idle_timeout: {SECONDS}, not '30x'"),
        ('idle_timeout = "5 m"', 1, f"idle_timeout: {SECONDS}, not '5 m'; write 300"),
        ('idle_timeout = "m"', 1, f"idle_timeout: {SECONDS}, not 'm'"),
        ('header_timeout = "0s"', 1, f"header_timeout: {ABOVE}, not '0s'"),
        ("idle_timeout = true", 1, f"idle_timeout: {SECONDS}, not true"),
        ("idle_timeout = -1", 1, f"idle_timeout: {AT_LEAST}, not -1"),
        ("idle_timeout = nan", 1, f"idle_timeout: {AT_LEAST}, not nan"),
        ("idle_timeout = inf", 1, f"idle_timeout: {AT_LEAST}, not inf"),
        ('header_timeout = "Never"', 1, f"header_timeout: {SECONDS}, not 'Never'; write \"never\""),
        ("header_timeout = 0", 1, f"header_timeout: {ABOVE}, not 0"),
        # Sizes
        ('max_body = "1X"', 1, f"max_body: {SIZE}, not '1X'"),
        ('max_body = "1 M"', 1, f"max_body: {SIZE}, not '1 M'; write \"1M\""),
        ('max_body = "K"', 1, f"max_body: {SIZE}, not 'K'"),
        ('max_body = ""', 1, f"max_body: {SIZE}, not ''"),
        ('max_body = "1.5G"', 1, f"max_body: {SIZE}, not '1.5G'; write \"1536M\""),
        ("max_body = 1.5", 1, f"max_body: {SIZE}, not 1.5"),
        ("max_head = 255", 1, f"max_head: {SIZE} from 256 to 1048576G, not 255"),
        # The rest
        ('debug = "yes"', 1, "debug: expected true or false, not 'yes'; write true"),
        ("debug = 1", 1, "debug: expected true or false, not 1; write true"),
        (
            'log_level = "loud"',
            1,
            "log_level: expected one of error, warning, info, debug, not 'loud'",
        ),
        ("log_level = 3", 1, "log_level: expected one of error, warning, info, debug, not 3"),
        (
            f'log_level = "{"x" * 100}"',
            1,
            f"log_level: expected one of error, warning, info, debug, not '{'x' * 56}...",
        ),
        ("trusted_proxies = 1", 1, f"trusted_proxies: {PROXY_LIST}, not 1"),
        ("trusted_proxies = true", 1, f"trusted_proxies: {PROXY_LIST}, not true"),
        ("trusted_proxies = [1]", 1, f"trusted_proxies: {PROXY_LIST}, not 1"),
        ('trusted_proxies = ["::1,unix"]', 1, f"trusted_proxies: {PROXY_LIST}, not '::1,unix'"),
        ('trusted_proxies = ["::1", "nginx"]', 1, f"trusted_proxies: {PROXIES}, not 'nginx'"),
        ('trusted_proxies = "::1, nginx"', 1, f"trusted_proxies: {PROXIES}, not 'nginx'"),
        ('trusted_proxies = [""]', 1, f"trusted_proxies: {PROXY_LIST}, not ''"),
        (
            'trusted_proxies = "10.0.0.1/8"',
            1,
            "trusted_proxies: expected a network, with only zeros after its first 8 bits, not '10.0.0.1/8'",
        ),
        ("forwarded_headers = true", 1, f"forwarded_headers: {FORWARDED}, not true"),
        ("forwarded_headers = [1]", 1, f"forwarded_headers: {FORWARDED}, not 1"),
        ('forwarded_headers = ["for", "uri"]', 1, f"forwarded_headers: {FORWARDED}, not 'uri'"),
        ('forwarded_headers = "for,"', 1, f"forwarded_headers: {FORWARDED}, not ''"),
        ('forwarded_headers = "*"', 1, f"forwarded_headers: {FORWARDED}, not '*'"),
        ("proxy_protocol = 2", 1, "proxy_protocol: expected true or false, not 2"),
        ("idle_ignore = 0", 1, f"idle_ignore: {IGNORE}, not 0"),
        ("idle_ignore = [1]", 1, f"idle_ignore: {IGNORE}, not 1"),
        ('idle_ignore = ["health"]', 1, f"idle_ignore: {IGNORED}, not 'health'"),
        ('idle_ignore = ["/health,/ready", ""]', 1, f"idle_ignore: {IGNORED}, not ''"),
        ("access_log = 1", 1, f"access_log: {ACCESS_LOG}, not 1; write true"),
        ("access_log = []", 1, f"access_log: {ACCESS_LOG}, not []"),
        ('access_log = "true"', 1, f"access_log: {FORMAT}, not 'true'; write true"),
        ('access_log = ""', 1, f"access_log: {FORMAT}, not ''"),
        # Not TOML at all
        (
            "workers = 2\nworkers = 3",
            2,
            "workers is set twice, first in line 1: delete one of the lines",
        ),
        ("workers = 2\nworkers", 2, "= and a value are missing: workers = VALUE"),
        ("\nworkers = ", 2, "workers has no value: delete the line, or write workers = VALUE"),
        ("workers = two", 1, "workers: expected a whole number, not two"),
        # What tomllib itself does not make a TOMLDecodeError of:
        ("workers = " + "9" * 5000, 1, "not TOML: " + DIGITS),
        ("a = " + "[" * 100_000, 1, "not TOML: it is nested too deeply"),
    ],
)
def test_mistake_in_the_file_is_named_with_its_line(toml, text, line, says):
    file = toml(text)
    assert complaint(file) == f"{file}:{line}: {says}" if line else f"{file}: {says}"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("workers", "two", "expected a whole number, not 'two'"),
        ("workers", "", "expected a whole number, not ''"),
        ("workers", " 2", "expected a whole number, not ' 2'; write 2"),
        ("workers", "1_0", "expected a whole number, not '1_0'"),
        ("workers", "٢", "expected a whole number, not '٢'"),
        ("workers", "-1", "expected a whole number, not '-1'"),
        ("workers", "0", "expected a whole number from 1 to 256, not '0'"),
        ("idle_timeout", "1e3", f"{SECONDS}, not '1e3'"),
        ("idle_timeout", "nan", f"{SECONDS}, not 'nan'"),
        ("idle_timeout", ".", f"{SECONDS}, not '.'"),
        ("idle_timeout", "1.2.3", f"{SECONDS}, not '1.2.3'"),
        ("write_timeout", "0.0", f"{ABOVE}, not '0.0'"),
        ("max_body", "1KB", f"{SIZE}, not '1KB'; write 1K"),
        ("max_body", "-1", f"{SIZE}, not '-1'"),
        ("debug", "maybe", "expected true or false, not 'maybe'"),
        ("trusted_proxies", "unix,", f"{PROXY_LIST}, not ''"),
        ("trusted_proxies", "a\nb", f"{PROXIES}, not 'a\\nb'"),
        ("idle_ignore", "/health,", f"{IGNORED}, not ''"),
        (
            "idle_ignore",
            "https://example.org/health",
            f"{IGNORED}, not 'https://example.org/health'",
        ),
        ("idle_ignore", "user-agent:curl", f"{IGNORED}, not 'user-agent:curl'"),
        ("idle_ignore", "agent: ", f"{IGNORED}, not 'agent:'"),
        ("idle_ignore", "/a\nb", f"{IGNORED}, not '/a\\nb'"),
        ("idle_ignore", "*", f"{IGNORED}, not '*'"),
        ("idle_ignore", "/health,/*", f"{EVERYBODY}, not '/*'"),
        ("idle_ignore", "agent:*", f"{EVERYBODY}, not 'agent:*'"),
        ("idle_ignore", "listener:**", f"{EVERYBODY}, not 'listener:**'"),
        (
            "idle_ignore",
            "/health?probe=1",
            "expected a path without a query: queries are not compared, not '/health?probe=1'",
        ),
        (
            "idle_ignore",
            "/health/[0-9]",
            "expected a path as in a request; the only wildcard is *, not '/health/[0-9]'",
        ),
        (
            "idle_ignore",
            "websocket:live",
            "expected a path behind websocket:, not 'websocket:live'",
        ),
        (
            "idle_ignore",
            "websocket:/live?a",
            "expected a path without a query: queries are not compared, not 'websocket:/live?a'",
        ),
        (
            "idle_ignore",
            "listener:[::]:80",
            "expected a name that FileDescriptorName= could have, not 'listener:[::]:80'",
        ),
        ("access_log", "short", f"{FORMAT}, not 'short'"),
        ("access_log", "%%", f"{FORMAT}, not '%%'"),
        ("access_log", "%h" * 41, f"{FORMAT}, not '{'%h' * 28}..."),
        ("access_log", "%h %Z", f"{DIRECTIVES}, not '%Z'"),
        ("access_log", "%h %", f"{DIRECTIVES}, not '%'"),
        ("access_log", "%h %>b", f"{DIRECTIVES}, not '%>b'"),
        ("access_log", "%{Referer}o", f"{DIRECTIVES}, not '%{{Referer}}o'"),
        ("access_log", "%{Referer}", f"{DIRECTIVES}, not '%{{Referer}}'"),
        ("access_log", "%{Referer", f"{DIRECTIVES}, not '%{{Referer'"),
        ("access_log", "%{}i", f"{DIRECTIVES}, not '%{{}}i'"),
        ("access_log", "%{X_Name}i", f"{DIRECTIVES}, not '%{{X_Name}}i'"),
        ("access_log", "%{a b}i", f"{DIRECTIVES}, not '%{{a b}}i'"),
        ("access_log", "%h\n%h", "expected a format without control characters, not '%h\\n%h'"),
        ("access_log", "%h\x9b", "expected a format without control characters, not '%h\\x9b'"),
        (
            "access_log",
            "%h" + "é" * 500,
            f"expected a format of at most 1000 bytes, not '%h{'é' * 54}...",
        ),
        ("log_level", "a\nb", "expected one of error, warning, info, debug, not 'a\\nb'"),
    ],
)
def test_mistake_elsewhere_is_named_with_its_place(name, text, says):
    variable = f"SPYGLASS_{name.upper()}"
    assert complaint(environ={variable: text}) == f"{variable}: {name}: {says}"
    assert complaint(options={name: text}) == f"--{name.replace('_', '-')}: {name}: {says}"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("worker", ", did you mean 'SPYGLASS_WORKERS'?"),
        ("zzz", ""),
        ("timeout", ": it is 'SPYGLASS_REQUEST_TIMEOUT' here"),
        ("bind", ": it is 'listen' here, in the TOML file"),
        ("lazy_apps", ": write 'SPYGLASS_PRELOAD=false'"),
        ("daemon", ": systemd runs the server and knows its processes"),
    ],
)
def test_unknown_variable_is_refused(name, says):
    variable = f"SPYGLASS_{name.upper()}"
    assert complaint(environ={variable: "2"}) == f"{variable}: unknown setting {name!r}{says}"


def test_names_of_other_servers_lead_to_settings():
    assert {setting.partition(" = ")[0] for setting in foreign_names.OURS.values()} <= set(SETTINGS)
    names = [*foreign_names.OURS, *foreign_names.NONE]
    assert set(names).isdisjoint(SETTINGS)
    assert len(set(names)) == len(names)
    for name in names:
        assert foreign_names.plain(f"--{name.replace('_', '-')}") == name
    for why in foreign_names.NONE.values():
        assert not why.endswith(".")


def test_values_that_replace_a_setting_are_valid(toml):
    for setting in foreign_names.OURS.values():
        if " = " in setting:
            load(toml(setting), {}, {}, units=True)


def test_unreadable_file_is_named_with_the_reason(tmp_path, toml):
    missing = str(tmp_path / "missing.toml")
    assert complaint(missing) == f"{missing}: cannot be read: No such file or directory"
    assert complaint(str(tmp_path)) == f"{tmp_path}: cannot be read: Is a directory"
    latin = toml(b'app = "caf\xe9"')
    assert (
        complaint(latin)
        == f"{latin}:1: not UTF-8: byte 0xe9; if it is Latin-1: iconv -f LATIN1 -t UTF-8"
    )


@given(
    st.text()
    | st.lists(
        st.sampled_from([*SETTINGS, "=", '"', "[", "]", "\n", "1", "true", ".", "#", "'''"])
    ).map("".join)
)
def test_any_file_is_a_configuration_or_refused_in_one_line(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(text.encode("utf-8", "replace"))
    try:
        load(str(file), {}, {})
    except ConfigError as error:
        assert "\n" not in str(error)


# Idle and kept alive


@pytest.mark.parametrize(
    ("options", "keepalive"),
    [
        ({}, 5),
        ({"idle_timeout": "2"}, 1),
        ({"idle_timeout": "10"}, 5),
        ({"idle_timeout": "0"}, 5),
        ({"idle_timeout": "0", "keepalive_timeout": "3600"}, 3600),
        ({"idle_timeout": "5", "keepalive_timeout": "4.9"}, 4.9),
        ({"keepalive_timeout": "29"}, 29),
    ],
)
def test_short_idle_timeout_alone_shortens_keepalive_timeout(options, keepalive):
    assert load(None, {}, options).keepalive_timeout == keepalive


CONTRADICTION = "must be shorter than idle_timeout, 5 s, or a kept-alive connection would always prevent the idle exit"


def test_contradiction_is_named_where_keepalive_timeout_is_set(toml):
    options = {"idle_timeout": "5", "keepalive_timeout": "5"}
    assert (
        complaint(options=options) == f"--keepalive-timeout: keepalive_timeout: 5 s {CONTRADICTION}"
    )
    file = toml("workers = 2\nkeepalive_timeout = 6\nidle_timeout = 5")
    assert complaint(file) == f"{file}:2: keepalive_timeout: 6 s {CONTRADICTION}"
    file = toml('keepalive_timeout = "never"\nidle_timeout = 5')
    assert complaint(file) == f"{file}:1: keepalive_timeout: never {CONTRADICTION}"


def test_endless_keepalive_is_allowed_without_idle_exit():
    assert (
        load(None, {}, {"idle_timeout": "never", "keepalive_timeout": "never"}).keepalive_timeout
        == NEVER
    )


def test_error_has_all_mistakes(toml):
    """The server logs the first one; `spyglass check` prints all."""
    file = toml("wrokers = 2\nthreads = 0\nidle_timeout = 5")
    with pytest.raises(ConfigError) as caught:
        load(file, {"SPYGLASS_DEBUG": "perhaps"}, {"max_body": "much"})
    assert [str(caught.value), *caught.value.also] == [
        f"{file}:1: unknown setting 'wrokers', did you mean 'workers'?",
        f"{file}:2: threads: expected a whole number from 1 to 256, not 0",
        "SPYGLASS_DEBUG: debug: expected true or false, not 'perhaps'",
        f"--max-body: max_body: {SIZE}, not 'much'",
    ]


# Rows of the table


@pytest.mark.parametrize("name", SETTINGS)
def test_every_row_has_what_it_needs(name):
    setting = SETTINGS[name]
    assert setting.kind
    assert setting.meaning.strip(" .") == setting.meaning != ""
    assert default_text(setting)
    assert setting.checker or not isinstance(setting, Unit)
    if setting.checker:
        module, _, function = setting.checker.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("name", SETTINGS)
def test_every_row_checks_its_value(name):
    with pytest.raises(ValueError, match="expected") as caught:
        SETTINGS[name].check(object())
    assert caught.value.args[0].startswith("expected ")


def test_setting_is_for_the_server_or_for_the_units():
    assert sorted(map(id, [*SERVER_SETTINGS, *UNIT_SETTINGS])) == sorted(map(id, SETTINGS.values()))


# Frozen, named


@pytest.mark.parametrize("name", SETTINGS)
def test_configuration_is_frozen(name):
    got = Config()
    with pytest.raises(AttributeError):
        setattr(got, name, getattr(got, name))


@pytest.mark.parametrize("name", ["a", "7", "my-blog", "my_blog", "a" * 22, "0--__"])
def test_name_has_a_file(name):
    assert config.file_for(name) == f"/etc/spyglass/{name}.toml"


@pytest.mark.parametrize(
    "name", ["", "-a", "_a", "a" * 23, "A", "a.b", "a/b", "..", "a b", "é", "a\n", "²", "a@b"]
)
def test_invalid_instance_name_is_refused(name):
    with pytest.raises(ConfigError) as caught:
        config.file_for(name)
    assert str(caught.value).endswith(
        ": expected 1 to 22 of a-z, 0-9, - and _, the first a letter or digit"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["1K", 1024, 1 << 51])
def test_limits_of_a_size_are_sizes(value):
    with pytest.raises(ValueError, match=', or "64K", "1M", "2G" from 16M to 1048576G$'):
        config.SETTINGS["memory_max"].check(value)
