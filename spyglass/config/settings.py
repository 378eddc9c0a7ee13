"""Every setting, once: its name, type, default and meaning.

A setting comes from the TOML file, from SPYGLASS_NAME in the environment, or from
--name on the command line; the later is the stronger. They are read once into a frozen
Config that is passed down. Help text and documentation are made from the same table.

Some are for the units, not for the server: `spyglass apply` makes drop-ins of them.
They stand in the same file, and a wake passes them by.

argparse and dataclasses would each add a third of a bare interpreter's start to every
wake, hence the few lines of our own.
"""

from __future__ import annotations

import os

from spyglass.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

PREFIX = "SPYGLASS_"
DIRECTORY = "/etc/spyglass"


class Setting:
    """One setting: `default`, `meaning` (str, for people), and how its value is
    checked. Reads as a frozen attribute of Config.
    """

    name = ""
    kind = ""

    def __init__(self, default: object, meaning: str) -> None:
        self.default = default
        self.meaning = meaning

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, config: Config, value: object) -> None:
        raise AttributeError(f"{self.name}: a configuration is read once and never changed")

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    def check(self, value: object) -> object:
        """The value of a TOML entry as the server uses it; ValueError with what was
        expected.
        """
        raise NotImplementedError

    def parse(self, text: str) -> object:
        """The value of an environment variable or an option."""
        return self.check(text)


class Text(Setting):
    kind = "text"

    def __get__(self, config: Config, owner: type | None = None) -> str:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError("expected text")
        return value


class Choice(Text):
    def __init__(self, default: str, choices: tuple[str, ...], meaning: str) -> None:
        super().__init__(default, meaning)
        self.kind = ", ".join(choices)
        self.choices = choices

    def check(self, value: object) -> object:
        if value not in self.choices:
            raise ValueError(f"expected one of {self.kind}")
        return value


class Proxies(Text):
    kind = "addresses, networks, unix, *; a list, or separated by commas"

    def check(self, value: object) -> object:
        entries: list[str] = []
        for entry in value if isinstance(value, list) else [value]:
            if not isinstance(entry, str) or (
                isinstance(value, list) and (not entry.strip() or "," in entry)
            ):
                raise ValueError("expected addresses, networks (10.0.0.0/8), unix or *", entry)
            entries += entry.split(",")
        text = ", ".join(entry.strip() for entry in entries)
        if text != self.default:
            from spyglass.policy.trusted_proxies import (
                trusted,
            )  # who leaves it as it is does not pay for it before it is needed

            trusted(text)
        return text


X_FORWARDED = ("for", "proto", "host", "port", "by", "prefix", "scheme", "server", "ssl")


class Forwarded(Text):
    kind = f"{', '.join(X_FORWARDED)}, forwarded; a list, or separated by commas"

    def check(self, value: object) -> object:
        if isinstance(value, str):
            value = value.split(",") if value.strip() else []
        if not isinstance(value, list):
            raise ValueError(f"expected {self.kind}")
        names = []
        for entry in value:
            name = (
                entry.strip().lower().removeprefix("x-forwarded-") if isinstance(entry, str) else ""
            )
            if name not in (*X_FORWARDED, "forwarded"):
                raise ValueError(f"expected {self.kind}", entry)
            names.append(name)
        return ", ".join(names)


_FLAGS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class Flag(Setting):
    kind = "true or false"

    def __get__(self, config: Config, owner: type | None = None) -> bool:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value

    def parse(self, text: str) -> object:
        if text.lower() not in _FLAGS:
            raise ValueError("expected true or false")
        return _FLAGS[text.lower()]


class AccessLog(Setting):
    kind = 'true, false, "combined", "json", or a format'

    def __get__(self, config: Config, owner: type | None = None) -> bool | str:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        if not isinstance(value, bool | str):
            raise ValueError('expected true, false, "combined", "json", or a format')
        if isinstance(value, str) and value not in ("combined", "json"):
            from spyglass.policy.access_log_format import (
                formatter,
            )  # only who makes up a format pays for it

            formatter(value)
        return value

    def parse(self, text: str) -> object:
        lower = text.lower()
        return _FLAGS[lower] if lower in _FLAGS else self.check(text)


class Ignored(Setting):
    kind = "paths, agent:NAME, listener:NAME; a list, or separated by commas"

    def __get__(self, config: Config, owner: type | None = None) -> tuple[str, ...]:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        entries = value
        if isinstance(value, str):
            entries = value.split(",") if value.strip() else []
        if not isinstance(entries, list):
            raise ValueError(f"expected {self.kind}")
        for entry in entries:
            from spyglass.policy.idle_ignore import (
                check_entry,
            )  # who ignores nobody does not pay for it

            if not isinstance(entry, str):
                raise ValueError(f"expected {self.kind}", entry)
            check_entry(entry.strip())
        return tuple(entry.strip() for entry in entries)


class Count(Setting):
    kind = "whole number"

    def __init__(self, default: int, meaning: str, least: int = 0, most: int = 2**31) -> None:
        super().__init__(default, meaning)
        self.least = least
        self.most = most

    def __get__(self, config: Config, owner: type | None = None) -> int:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"expected a {self.kind}")
        if not self.least <= value <= self.most:
            raise ValueError(f"expected a {self.kind} from {self.least} to {self.most}")
        return value

    def parse(self, text: str) -> object:
        # int() would take "1_000", " 7 " and digits of other scripts as well.
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"expected a {self.kind}")
        return self.check(int(text))


UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Size(Count):
    kind = 'number of bytes, or "64K", "1M", "2G"'

    def __init__(self, default: int, meaning: str, least: int = 0) -> None:
        super().__init__(default, meaning, least, 1 << 50)

    def check(self, value: object) -> object:
        return self.parse(value) if isinstance(value, str) else super().check(value)

    def parse(self, text: str) -> object:
        number, unit = text, 1
        if text[-1:].upper() in UNITS:
            number, unit = text[:-1], UNITS[text[-1].upper()]
        if not (number.isascii() and number.isdigit()):
            raise ValueError(f"expected a {self.kind}")
        return self.check(int(number) * unit)


NEVER = (
    10.0**8
    # Seconds, three years. A number, so that whatever is made of it is one that systemd
    # and the kernel take, too
)


class Seconds(Setting):
    kind = 'number of seconds, or "never"'
    most = NEVER

    def __init__(self, default: float, meaning: str, zero: bool = False) -> None:
        super().__init__(float(default), meaning)
        self.zero = zero

    def __get__(self, config: Config, owner: type | None = None) -> float:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        if value == "never":
            return 0.0 if self.zero else NEVER
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"expected a {self.kind}")
        if not (0 < value <= self.most or (self.zero and value == 0)):
            least = "of at least 0" if self.zero else "above 0"
            raise ValueError(
                f'expected a number of seconds {least} and below {self.most:.0e}, or "never"'
            )
        return float(value)

    def parse(self, text: str) -> object:
        if text == "never":
            return self.check(text)
        digits = text.replace(".", "", 1)
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"expected a {self.kind}")
        return self.check(float(text))


class Unit(Setting):
    """What `spyglass apply` makes the units from; only in the file. The server has no
    use for it, and does not look at the value.
    """

    def __init__(self, default: object, kind: str, meaning: str, instead: str = "") -> None:
        super().__init__(default, meaning)
        self.kind = kind
        self.instead = instead  # what there is without it, in words

    def __get__(self, config: Config, owner: type | None = None) -> Any:
        return config.values[self.name]

    def check(self, value: object) -> object:
        from spyglass.config.unit_settings import check

        return check(self.name, value)


class Config:
    """What was configured; frozen. `values` is read through the attributes, `file` is
    the TOML file's path or None.
    """

    app = Text(
        "",
        "`module:callable`, `module` (its `application` or `app`), or the path of a .py or .wsgi file; empty: the welcome page",
    )
    directory = Text(".", "working directory of the app and first place it imports from")
    venv = Text(
        "",
        "virtual environment whose packages the app imports (same Python version); relative to `directory`",
    )
    workers = Count(2, "worker processes", least=1, most=256)
    threads = Count(
        4,
        "calls of the app that one worker makes at a time; 1: one after the other, for an app that is not thread-safe",
        least=1,
        most=256,
    )
    preload = Flag(
        True, "load the app once and fork the workers from it; false: each worker loads it"
    )
    start_timeout = Seconds(
        60, "loading the app, and its `post_fork()`, may take this long; then visitors get a 503"
    )
    idle_timeout = Seconds(
        30, "leave after this long without an open connection; 0: never", zero=True
    )
    idle_ignore = Ignored(
        (),
        "whose requests do not put off the leaving: paths (/health, /api/*), User-Agents (agent:NAME), listener:NAME",
    )
    request_timeout = Seconds(
        60,
        "one call of the app may take this long without giving any output; then its worker is replaced",
    )
    graceful_timeout = Seconds(30, "when stopping, requests under way may take this long to end")
    header_timeout = Seconds(10, "a request's head must have arrived after this long; then 408")
    body_timeout = Seconds(30, "a request's body may pause this long; then 408")
    body_min_rate = Size(
        500,
        "bytes a second that a request's body must bring, in each `body_timeout` anew; then 408; 0: none",
    )
    write_timeout = Seconds(
        60,
        "a client may take nothing of a response for this long, not a byte; then its connection is closed",
    )
    keepalive_timeout = Seconds(
        5,
        "an idle connection is kept for another request this long; must be shorter than `idle_timeout`",
    )
    max_head = Size(
        64 << 10, "largest request head; beyond: 431, or 414 if it is the request line", least=256
    )
    max_fields = Count(100, "most header fields of a request; beyond: 431", least=1, most=10_000)
    max_body = Size(1 << 30, "largest request body; beyond: 413; 0: no request may have one")
    body_memory = Size(
        1 << 20,
        "a request body up to this size stays in memory, a larger one goes to a file in the cache directory",
    )
    bodies_memory = Size(
        64 << 20, "memory for all request bodies of a worker; beyond, small ones go to files, too"
    )
    bodies_disk = Size(
        4 << 30,
        "disk for all request bodies of a worker; beyond, a slow one is closed or the next gets 503; 0: no files",
    )
    max_connections = Count(
        1000,
        "connections of one worker; more wait in the kernel's queue, until others are idle for a second",
        least=1,
        most=1_000_000,
    )
    max_requests = Count(
        0,
        "a worker that has answered about this many requests is replaced by a fresh one, between requests; 0: never",
    )
    max_memory = Size(
        0,
        "a worker whose share of the memory (PSS) has grown beyond this is replaced, between requests; 0: never",
    )
    trusted_proxies = Proxies(
        "127.0.0.1, ::1, unix",
        "whose `forwarded_headers` and PROXY header are believed; those of others never",
    )
    forwarded_headers = Forwarded(
        "for, proto",
        "which of their fields count; others may be a client's, and the app does not see them",
    )
    proxy_protocol = Flag(
        False, "every connection begins with a PROXY header, version 1 or 2; one without is closed"
    )
    access_log = AccessLog(
        False,
        'a line for each request: true for a short one, combined for Apache\'s, json, or a format, such as %h %t "%r" %>s %b',
    )
    log_level = Choice(
        "info",
        ("error", "warning", "info", "debug"),
        "what is logged; debug tells the life of each connection",
    )
    debug = Flag(False, "show tracebacks to visitors; never in public")

    listen = Unit(
        (),
        'port, "address:port", "[v6]:port", path, { path, group, mode }; or a list',
        "where visitors come",
        "/run/spyglass/NAME.sock",
    )
    user = Unit(
        "",
        "text",
        "who the app is; without it, somebody who exists only while it is awake",
        "spyglass-NAME",
    )
    group = Unit(
        "",
        "text",
        "group that the app runs as, and that the files it creates belong to",
        "that of the user",
    )
    umask = Unit(
        "",
        'text, "0027"',
        "permissions that its files do not get; 0027: the group may read them, 0022: all users may",
        "0077",
    )
    environment = Unit(
        {},
        "table of texts",
        "variables for the app; no secrets, for every user of the machine can read them",
    )
    environment_file = Unit(
        (),
        "path, or a list",
        "files of variables, which systemd reads as root: only root may be able to replace them",
    )
    credentials = Unit(
        {},
        "table of NAME = PATH, or a list of names",
        "secrets, which the app finds as files in $CREDENTIALS_DIRECTORY",
    )
    memory_high = Unit(
        0,
        Size.kind,
        "beyond this all of the app's processes together are slowed down and their memory reclaimed; 0: never",
    )
    memory_max = Unit(0, Size.kind, "beyond this one of the app's processes is killed; 0: never")
    cpu_quota = Unit(
        "",
        '"50%" of one processor',
        "most processor time that all of the app's processes get together; 200%: two",
    )
    writable = Unit(
        (),
        "path, or a list",
        "where the app may write, beside its state and cache directories; relative to `directory`",
    )
    network = Unit(
        True,
        Flag.kind,
        "false: the app can be visited, but reaches nothing itself, only unix sockets",
    )
    allow_jit = Unit(
        False,
        Flag.kind,
        "true: memory may be written and then executed, which numba, polars, Node.js and Java need",
    )

    def __init__(self, values: Mapping[str, object] | None = None, file: str | None = None) -> None:
        self.values = {name: setting.default for name, setting in SETTINGS.items()} | dict(
            values or {}
        )
        self.file = file
        if self.idle_timeout and "keepalive_timeout" not in (values or {}):
            # Whoever shortens the one without a thought of the other means "leave
            # sooner", not a contradiction.
            self.values["keepalive_timeout"] = min(self.keepalive_timeout, self.idle_timeout / 2)

    @property
    def one_process(self) -> bool:
        """True when never more than one process may have the app loaded: another begins
        when the one before has exited.
        """
        return self.workers == 1 and not self.preload


SETTINGS: dict[str, Setting] = {
    name: entry for name, entry in vars(Config).items() if isinstance(entry, Setting)
}


def load(
    file: str | None, environ: Mapping[str, str], options: Mapping[str, str], units: bool = False
) -> Config:
    """Read the settings from `file` (path of a TOML file, or None), then `environ`,
    then `options` (setting name to text).

    Those for the units are checked, and in the Config, if `units` is true; else they
    have their defaults there. Raises ConfigError, one line that names the place and the
    setting, for anything unknown, mistyped or contradictory.
    """
    try:
        return _load(file, environ, options, units)
    except ConfigError as error:
        error.file = file
        raise


def _load(
    file: str | None, environ: Mapping[str, str], options: Mapping[str, str], units: bool
) -> Config:
    text, table = ("", {}) if file is None else _read_toml(file)
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    faults: list[str] = []

    def place(name: str) -> str:
        from spyglass.config.setting_errors import (
            place_in,
        )  # only where it is told of, for that is a search

        return places[name] or place_in(file or "", text, name)

    for origin, name, value in _entries(table, environ, options):
        places[name] = origin
        setting = SETTINGS.get(name)
        if isinstance(setting, Unit) and not origin and not units:
            continue
        try:
            if setting is None or (isinstance(setting, Unit) and origin):
                raise LookupError
            # As a plain str: of an app that is named so, pickle could not tell what is
            # called that.
            values[name] = (
                setting.parse(str(value)) if isinstance(value, _Word) else setting.check(value)
            )
        except (LookupError, ValueError) as error:
            from spyglass.config.setting_errors import fault

            faults.append(f"{place(name)}: {fault(name, value, error)}")
    if faults:
        raise ConfigError(faults[0], also=faults[1:])
    config = Config(values, file)
    if config.idle_timeout and config.keepalive_timeout >= config.idle_timeout:
        kept = "never" if config.keepalive_timeout == NEVER else f"{config.keepalive_timeout:g} s"
        raise ConfigError(
            f"{place('keepalive_timeout')}: keepalive_timeout: {kept} must be shorter than "
            f"idle_timeout, {config.idle_timeout:g} s, or a kept-alive connection would always hold off the leaving"
        )
    return config


class _Word(str):
    """A value that came as text from the environment or the command line, not typed by
    TOML.
    """


def _entries(
    table: Mapping[str, object], environ: Mapping[str, str], options: Mapping[str, str]
) -> Iterator[tuple[str, str, object]]:
    """Where something is set ("" in the file), the name of it, which may be of no
    setting, and to what.
    """
    for name, value in table.items():
        yield "", name, value
    for variable, word in environ.items():
        if variable.startswith(PREFIX):
            yield variable, variable[len(PREFIX) :].lower(), _Word(word)
    for name, word in options.items():
        yield SETTINGS[name].option, name, _Word(word)


def _read_toml(file: str) -> tuple[str, dict[str, object]]:
    # Half of what a hello-world wake may cost; an app without a file does not pay for
    # it
    import tomllib

    try:
        with open(file, "rb") as stream:
            text = stream.read().decode()
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 at byte {error.start}") from None
    except (ValueError, RecursionError) as error:  # tomllib makes no TOMLDecodeError of these two
        from spyglass.config.setting_errors import not_toml

        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(not_toml(file, text, why)) from None


def file_for(name: str) -> str:
    """The file of the app called `name`: /etc/spyglass/NAME.toml.

    Raises ConfigError for a name that could not be a unit's instance: it may hold a-z,
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
