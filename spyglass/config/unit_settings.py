"""Which values the settings of the units may have: the checks that the rows of the
table (settings.py) name.

Each takes the value from the file and returns it as `spyglass apply` uses it, or raises
ValueError with what was expected and, for one entry of several, the entry. Only the
administrator's commands import this module; a wake does not.

Pure: whether a user, group, directory or file exists is checked by `spyglass apply`
(spyglass/ops/).
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Any

from spyglass.config.setting_types import Flag, Size
from spyglass.runtime.addresses import packed_ip

LEAST_MEMORY = 16 << 20
"""Bytes below which no app starts: Master, zygote and one worker of the welcome page
take about 20 MiB.
"""

_ADDRESS = "expected a port (8001), address:port, [v6]:port, an absolute path, or { path = ..., group = ..., mode = ... }"
_PATHS = "expected a path, or a list of paths"
_VARIABLES = 'expected a table of variables, { NAME = "text" }'
_CREDENTIALS = 'expected a table, { NAME = "/path" }, or a list of names'

# The names of users and groups that systemd accepts (strict mode, systemd.exec(5)), or
# their numbers. Whether getpwnam(3) finds one is checked later.
_ACCOUNT = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,30}|[0-9]{1,9}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
_QUOTA = re.compile(r"[1-9][0-9]{0,4}%")
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]"
)  # of control characters, systemd accepts only tabs and newlines in a variable
# systemd sets these for each service, and Spyglass trusts their values.
_OF_SYSTEMD = re.compile(
    r"(LISTEN_|NOTIFY_|WATCHDOG_|SYSTEMD_).*|MAINPID|INVOCATION_ID|(STATE|CACHE|RUNTIME|LOGS|CREDENTIALS)_DIRECTORY"
)


@dataclass(frozen=True)
class Address:
    """Where an app listens: a port on every address (`host` is ""), a port on one, or a
    unix socket (`path`, with its group and mode).
    """

    port: int = 0
    host: str = ""  # as inet_ntop(3) writes it, without brackets
    path: str = ""
    group: str = ""
    mode: str = ""  # octal, as chmod(1) accepts it

    @property
    def stream(self) -> str:
        """The value of ListenStream= (systemd.socket(5)), also valid in the file."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or (f"{host}:{self.port}" if host else str(self.port))

    @property
    def may_be_missing(self) -> bool:
        """True if the machine may lack this address: early in a boot, as the standby of
        another machine, or without IPv6 ([::1]).
        """
        return self.host not in ("", "::", "0.0.0.0") and not self.host.startswith("127.")  # noqa: S104, nothing is bound

    def __str__(self) -> str:
        return self.stream

    def __repr__(self) -> str:
        return repr(self.stream)


_LONGEST = (
    128 << 10
    # Bytes of one variable (MAX_ARG_STRLEN, execve(2)); a line of a unit may have
    # eight times as many
)
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\"'\\\\]")


def unfit(text: str) -> str:
    """Return why `text` cannot be a word or a path in a unit file; "" if it can.

    Nearly every directive has its own rules for quotes, backslashes and spaces
    (systemd.syntax(7), systemd.service(5)). A line break ends the value in all of them:
    the rest would be a line of its own, such as ExecStartPre=+. No path needs these.
    """
    if found := _UNFIT.search(text):
        return f"must not contain {found[0]!r}, which a unit file cannot hold"
    if text != text.strip():
        return "must not begin or end with a space, which systemd would strip"
    return "is too long for a unit file" if len(text.encode()) > _LONGEST else ""


def address(value: object) -> Address:
    """Return the address that one entry of `listen` means. Raise ValueError."""
    if isinstance(value, dict):
        return _unix_socket(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(_ADDRESS, value)
    path = value.removeprefix("unix:")  # as in `--bind`
    if path.startswith("/"):
        return Address(path=_path(path, _ADDRESS))
    host, colon, port = value.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536) or (colon and not host):
        raise ValueError(_ADDRESS, value)
    return Address(int(port), _host(host, value) if colon else "")


def _host(text: str, value: str) -> str:
    in_brackets = text.startswith("[") and text.endswith("]")
    host = text[1:-1] if in_brackets else text
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if packed_ip(host) is None or in_brackets != (family == socket.AF_INET6):
        raise ValueError(
            "expected a numeric address before the port, in brackets if it is IPv6", value
        )
    return socket.inet_ntop(family, socket.inet_pton(family, host))


def _unix_socket(table: dict[str, Any]) -> Address:
    path, group, mode = table.get("path"), table.get("group", ""), table.get("mode", "")
    if (
        set(table) - {"path", "group", "mode"}
        or not isinstance(path, str)
        or not path.startswith("/")
    ):
        raise ValueError(_ADDRESS, table)
    if not isinstance(group, str) or (group and not _ACCOUNT.fullmatch(group)):
        raise ValueError("expected the name of a group", group)
    if isinstance(mode, int):
        mode = f"{mode:04o}"  # TOML has octal numbers, 0o660
    if mode and not re.fullmatch(r"0?[0-7]{3}", mode):
        raise ValueError('expected a mode such as "0660"', mode)
    return Address(path=_path(path, _ADDRESS), group=group, mode=mode)


def listen(value: object) -> tuple[Address, ...]:
    entries = value if isinstance(value, list) else [value]
    if not entries:
        raise ValueError(_ADDRESS)
    return tuple(address(entry) for entry in entries)


def _path(value: object, expected: str = _PATHS) -> str:
    if not isinstance(value, str) or not value or unfit(value):
        raise ValueError(expected, value)
    if value.startswith("/") and ".." in value.split("/"):
        raise ValueError("expected a path without ..", value)
    return value


def paths(value: object) -> tuple[str, ...]:
    return tuple(_path(entry) for entry in (value if isinstance(value, list) else [value]))


def user(value: object) -> str:
    if not isinstance(value, str) or (value and not _ACCOUNT.fullmatch(value)):
        raise ValueError("expected the name of a user", value)
    if value in ("root", "0"):
        raise ValueError(
            "expected a user other than root: an app that clients can reach must not be root",
            value,
        )
    return value


def group(value: object) -> str:
    if not isinstance(value, str) or (value and not _ACCOUNT.fullmatch(value)):
        raise ValueError("expected the name of a group", value)
    if value in ("root", "0"):
        raise ValueError("expected a group other than root: it can read much of the machine", value)
    return value


def umask(value: object) -> str:
    # Not a number: 27 would be 0o33, and TOML refuses 0027.
    if not isinstance(value, str) or (value and not re.fullmatch("0?[0-7]{3}", value)):
        raise ValueError('expected text of three or four octal digits, "0027"', value)
    if value and int(value, 8) & 0o700:
        raise ValueError(
            "expected a umask that leaves the app access to its files, 0077 at most", value
        )
    if value and not int(value, 8) & 0o002:
        raise ValueError(
            "expected a umask that does not let all users change the app's files, such as 0022",
            value,
        )
    return value


def environment(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(_VARIABLES)
    for name, text in value.items():
        if (
            not _VARIABLE.fullmatch(name)
            or isinstance(text, bool)
            or not isinstance(text, str | int | float)
            or CONTROL.search(str(text))
        ):
            raise ValueError(_VARIABLES, {name: text})
        if len(str(text).encode()) > _LONGEST:
            raise ValueError(f"expected at most {_LONGEST} bytes, the limit of the kernel", name)
        if name.startswith("SPYGLASS_") and name != "SPYGLASS_PURE":
            raise ValueError(
                "expected no SPYGLASS_ variable: set it in this file, as a setting", name
            )
        if _OF_SYSTEMD.fullmatch(name):
            raise ValueError("expected no variable that systemd sets itself", name)
    return {name: str(text) for name, text in value.items()}


def credentials(value: object) -> dict[str, str]:
    """Return paths by name; "" for one that systemd looks up itself (/etc/credstore,
    systemd.exec(5)).
    """
    if isinstance(value, list):
        pairs = [
            str(entry).partition("=")[::2] if isinstance(entry, str) else ("", "")
            for entry in value
        ]
        if len(dict(pairs)) < len(pairs):
            raise ValueError("expected each name once")
    elif isinstance(value, dict):
        pairs = [(name, path if isinstance(path, str) else "?") for name, path in value.items()]
    else:
        raise ValueError(_CREDENTIALS)
    for name, path in pairs:
        if not _CREDENTIAL.fullmatch(name) or (path and not path.startswith("/")):
            raise ValueError(
                f"{_CREDENTIALS}; a path is absolute", f"{name}={path}" if path else name
            )
        if path:
            _path(path)
    return {name.strip(): path for name, path in pairs}


def memory(value: object) -> object:
    return (
        value
        if value == 0 and not isinstance(value, bool)
        else Size(0, "", least=LEAST_MEMORY).check(value)
    )


def quota(value: object) -> str:
    if not isinstance(value, str) or (value and not _QUOTA.fullmatch(value)):
        raise ValueError(
            'expected a percentage of one processor, "50%", or of several, "200%"', value
        )
    return value


flag = Flag(True, "").check
