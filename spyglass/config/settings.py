"""Every setting, once: its name, type, default, meaning and check.

A setting comes from the TOML file, from SPYGLASS_NAME in the environment, or from
--name on the command line; later ones take precedence. They are read once into a frozen
Config that is passed down. Help, man pages and documentation come from the same table.

Some are for the units: `spyglass apply` makes drop-ins of them, and a wake skips them.
"""

from __future__ import annotations

import os

from spyglass.config.setting_types import (
    Choice,
    Choices,
    CommaText,
    Count,
    Entries,
    Flag,
    FlagOrText,
    Seconds,
    Setting,
    Size,
    Text,
    Unit,
    UrlPath,
)
from spyglass.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "SPYGLASS_"
DIRECTORY = "/etc/spyglass"
X_FORWARDED = ("for", "proto", "host", "port", "by", "prefix", "scheme", "server", "ssl")


class Config:
    """What was configured; frozen. `values` is read through the attributes, `file` is
    the TOML file's path or None.
    """

    app = Text(
        "",
        "`module:callable`, `module:factory()`, `module` (its `application` or `app`), or the path "
        "of a .py or .wsgi file; empty: the welcome page",
    )
    directory = Text(".", "working directory of the app, and the first place it imports from")
    interface = Choice(
        "auto",
        ("auto", "wsgi", "asgi"),
        "how the app is called; auto: as an ASGI app if calling it makes a coroutine, else WSGI",
    )
    venv = Text(
        "",
        "virtual environment with the packages of the app (same Python version); relative to "
        "`directory`",
    )
    workers = Count(2, "number of worker processes", least=1, most=256)
    threads = Count(
        4,
        "calls of the app that one worker runs at a time; 1 for an app that is not thread-safe",
        least=1,
        most=256,
    )
    preload = Flag(
        True, "load the app once and fork the workers from it; false: each worker loads the app"
    )
    start_timeout = Seconds(
        60,
        "time limit for loading the app and for its `post_fork()`; after that, clients get a 503",
    )
    idle_timeout = Seconds(
        30, "exit after this long without an open connection; 0: never", zero=True
    )
    idle_ignore = Entries(
        (),
        "paths, agent:NAME, listener:NAME, websocket:PATH; a list, or separated by commas",
        "requests that do not count as activity for `idle_timeout`: paths (/health, /api/*), "
        "User-Agents (agent:NAME), sockets (listener:NAME), WebSockets (websocket:/live/*)",
        check="spyglass.policy.idle_ignore:check_entry",
    )
    request_timeout = Seconds(
        60,
        "longest time without output from one call of the app; after that, its worker is replaced",
    )
    graceful_timeout = Seconds(30, "time limit for requests in progress when the server stops")
    header_timeout = Seconds(10, "time limit for a complete request head; after that, 408")
    body_timeout = Seconds(30, "longest pause within a request body; after that, 408")
    body_min_rate = Size(
        500,
        "bytes per second that a request body must average over each `body_timeout`; below that, "
        "408; 0: no minimum",
    )
    write_timeout = Seconds(
        60,
        "longest time in which a client accepts no byte of a response; after that, its connection "
        "is closed",
    )
    keepalive_timeout = Seconds(
        5,
        "how long an idle connection is kept open for the next request; must be shorter than "
        "`idle_timeout`",
    )
    max_head = Size(
        64 << 10, "largest request head; above that, 431, or 414 for the request line", least=256
    )
    max_fields = Count(100, "most headers in a request; above that, 431", least=1, most=10_000)
    max_body = Size(1 << 30, "largest request body; above that, 413; 0: no request may have one")
    body_memory = Size(
        1 << 20,
        "largest request body kept in memory; a larger one goes to a file in the cache directory",
    )
    bodies_memory = Size(
        64 << 20,
        "memory for all request bodies of a worker; when it is full, small ones are written to "
        "files, too",
    )
    bodies_disk = Size(
        4 << 30,
        "disk space for all request bodies of a worker; when it is full, a slow upload is closed "
        "or the next gets a 503; 0: no files",
    )
    websocket_max_size = Size(1 << 20, "largest message of a WebSocket; above that, it is closed")
    websocket_ping = Seconds(20, "ping a WebSocket after this long a silence; 0: never", zero=True)
    websocket_compression = Flag(False, "compress the messages of WebSockets that offer it")
    max_connections = Count(
        1000,
        "connections of one worker; more wait in the kernel's queue until others have been idle "
        "for a second",
        least=1,
        most=1_000_000,
    )
    max_requests = Count(
        0, "replace a worker after about this many requests, between two requests; 0: never"
    )
    max_memory = Size(
        0,
        "replace a worker, between two requests, when its share of the memory (PSS) exceeds this; "
        "0: never",
    )
    trusted_proxies = CommaText(
        "127.0.0.1, ::1, unix",
        "addresses, networks (10.0.0.0/8), unix or *; a list, or separated by commas",
        "proxies whose `forwarded_headers` and PROXY header are trusted; those of other clients "
        "never are",
        check="spyglass.policy.trusted_proxies:trusted",
    )
    forwarded_headers = Choices(
        "for, proto",
        (*X_FORWARDED, "forwarded"),
        "x-forwarded-",
        "X-Forwarded headers that the trusted proxies set, and `forwarded` for Forwarded; the app "
        "does not see the others, which a client may have sent",
    )
    proxy_protocol = Flag(
        False, "expect a PROXY header, version 1 or 2, on each connection, or close it"
    )
    script_name = UrlPath(
        "path below which a web server passes requests to the app; requests outside get a 404",
        check="spyglass.policy.url_prefix:check",
    )
    access_log = FlagOrText(
        False,
        ("combined", "json"),
        "a format",
        "log a line for each request: true for a short one, combined for Apache's, json, or a "
        'format such as %h %t "%r" %>s %b',
        check="spyglass.policy.access_log_format:formatter",
    )
    log_slow = Seconds(
        0, "log a line for each request that takes this long or longer; 0: none", zero=True
    )
    log_level = Choice(
        "info",
        ("error", "warning", "info", "debug"),
        "least severe messages that are logged; debug follows each connection",
    )
    debug = Flag(False, "show tracebacks to clients; never use it in public")

    enabled = Unit(
        True,
        Flag.kind,
        "false: the app is off, and neither a boot nor `spyglass apply` starts it",
        check="spyglass.config.unit_settings:flag",
    )
    listen = Unit(
        (),
        'port, "address:port", "[v6]:port", path, { path, group, mode }; or a list',
        "addresses on which the app listens",
        check="spyglass.config.unit_settings:listen",
        instead="/run/spyglass/NAME.sock",
    )
    user = Unit(
        "",
        "text",
        "system user to run as; without it, a dynamic user that exists only while the app runs",
        check="spyglass.config.unit_settings:user",
        instead="spyglass-NAME",
    )
    group = Unit(
        "",
        "text",
        "system group to run as, which also owns the files that the app creates",
        check="spyglass.config.unit_settings:group",
        instead="the group of the user",
    )
    umask = Unit(
        "",
        'text, "0027"',
        "permissions that files of the app do not get; 0027: the group may read them, 0022: all "
        "users may",
        check="spyglass.config.unit_settings:umask",
        instead="0077",
    )
    environment = Unit(
        {},
        "table of texts",
        "environment variables for the app; no secrets: every user of the machine can read them",
        check="spyglass.config.unit_settings:environment",
    )
    environment_file = Unit(
        (),
        "path, or a list",
        "files of environment variables, which systemd reads as root; only root may be able to "
        "replace them",
        check="spyglass.config.unit_settings:paths",
    )
    credentials = Unit(
        {},
        "table of NAME = PATH, or a list of names",
        "secrets, which the app finds as files in $CREDENTIALS_DIRECTORY",
        check="spyglass.config.unit_settings:credentials",
    )
    memory_high = Unit(
        0,
        Size.kind,
        "above this, all of the app's processes together are slowed down and their memory is "
        "reclaimed; 0: no limit",
        check="spyglass.config.unit_settings:memory",
    )
    memory_max = Unit(
        0,
        Size.kind,
        "above this, one of the app's processes is killed; 0: no limit",
        check="spyglass.config.unit_settings:memory",
    )
    cpu_quota = Unit(
        "",
        'percentage of one processor, "50%"',
        "most processor time for all of the app's processes together; 200%: two processors",
        check="spyglass.config.unit_settings:quota",
    )
    writable = Unit(
        (),
        "path, or a list",
        "paths that the app may write to, besides its state and cache directories; relative to "
        "`directory`",
        check="spyglass.config.unit_settings:paths",
    )
    network = Unit(
        True,
        Flag.kind,
        "false: the app serves requests, but can connect to nothing but unix sockets",
        check="spyglass.config.unit_settings:flag",
    )
    allow_jit = Unit(
        False,
        Flag.kind,
        "true: memory may be written and then executed, which numba, polars, Node.js and Java need",
        check="spyglass.config.unit_settings:flag",
    )

    def __init__(self, values: Mapping[str, object] | None = None, file: str | None = None) -> None:
        self.values = {name: setting.default for name, setting in SETTINGS.items()} | dict(
            values or {}
        )
        self.file = file
        if self.idle_timeout and "keepalive_timeout" not in (values or {}):
            # A short idle_timeout alone means "exit sooner". It must not be refused for
            # a keepalive_timeout that the administrator has not set.
            self.values["keepalive_timeout"] = min(self.keepalive_timeout, self.idle_timeout / 2)

    @property
    def one_process(self) -> bool:
        """True if a process may load the app only when the previous one has exited."""
        return self.workers == 1 and not self.preload


SETTINGS: dict[str, Setting] = {
    name: entry for name, entry in vars(Config).items() if isinstance(entry, Setting)
}
SERVER_SETTINGS = [entry for entry in SETTINGS.values() if not isinstance(entry, Unit)]
UNIT_SETTINGS = [entry for entry in SETTINGS.values() if isinstance(entry, Unit)]


def load(
    file: str | None, environ: Mapping[str, str], options: Mapping[str, str], units: bool = False
) -> Config:
    """Read the settings from `file` (path of a TOML file, or None), then `environ`,
    then `options` (setting name to text).

    The settings of the units are checked and in the Config if `units` is true; else
    they have their defaults there. Raise ConfigError, one line that names the place and
    the setting, for anything unknown, mistyped or contradictory.
    """
    text, table = ("", {}) if file is None else _read_toml(file)
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    faults: list[str] = []

    def place(name: str) -> str:
        # Imported only for a mistake: a wake has none to report.
        from spyglass.config.setting_errors import place_in

        return places[name] or place_in(file or "", text, name)

    for origin, name, value in _entries(table, environ, options):
        places[name] = origin
        setting = SETTINGS.get(name)
        if isinstance(setting, Unit) and not origin and not units:
            continue
        try:
            if setting is None or (isinstance(setting, Unit) and origin):
                raise LookupError
            # A plain str: the app's name becomes `__module__` of its classes, by which
            # pickle looks them up, and a _Word would not do.
            values[name] = (
                setting.parse(str(value)) if isinstance(value, _Word) else setting.check(value)
            )
        except (LookupError, ValueError) as error:
            from spyglass.config.setting_errors import fault

            faults.append(
                f"{place(name)}: {fault(name, value, error, SETTINGS, in_file=not origin)}"
            )
    if faults:
        raise ConfigError(faults[0], file, faults[1:])
    config = Config(values, file)
    if config.idle_timeout and config.keepalive_timeout >= config.idle_timeout:
        from spyglass.config.setting_errors import kept_too_long

        why = kept_too_long(config.keepalive_timeout, config.idle_timeout)
        raise ConfigError(f"{place('keepalive_timeout')}: {why}", file)
    return config


class _Word(str):
    """A value from the environment or the command line: text, not typed by TOML."""


def _entries(
    table: Mapping[str, object], environ: Mapping[str, str], options: Mapping[str, str]
) -> Iterator[tuple[str, str, object]]:
    """Yield (origin, name, value) of all that is set, in order of precedence. The
    origin is "" for the file; a name may be unknown.
    """
    for name, value in table.items():
        yield "", name, value
    for variable, word in environ.items():
        if variable.startswith(PREFIX) and variable != "SPYGLASS_PURE":  # no setting
            yield variable, variable[len(PREFIX) :].lower(), _Word(word)
    for name, word in options.items():
        yield SETTINGS[name].option, name, _Word(word)


def _read_toml(file: str) -> tuple[str, dict[str, object]]:
    from spyglass.config import plain_toml  # in here: an app without a file needs none

    try:
        with open(file, "rb") as stream:
            data = stream.read()
        text = data.decode()
        return text, plain_toml.loads(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}", file) from None
    except (ValueError, RecursionError) as error:  # tomllib makes no TOMLDecodeError of these two
        from spyglass.config import toml_errors

        line, why = toml_errors.explain_error(data, error, SETTINGS)
        raise ConfigError(f"{file}:{line}: {why}", file) from None


def file_for(name: str) -> str:
    """Return the path of an app's settings file, /etc/spyglass/NAME.toml.

    Raise ConfigError for a name that could not be a unit's instance: it may hold a-z,
    0-9, - and _, 22 characters at most, so that spyglass-NAME is a valid name for the
    service's user (systemd.exec(5), User=).
    """
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-_"
    if not (
        0 < len(name) <= 22 and all(letter in letters for letter in name) and name[0] not in "-_"
    ):
        raise ConfigError(
            f"--name {name!r}: expected 1 to 22 of a-z, 0-9, - and _, the first a letter or digit"
        )
    return os.path.join(DIRECTORY, f"{name}.toml")
