"""Translate an app's settings to the drop-ins of its socket and service units.

Pure, but for reading what exists. There is one drop-in of ours per unit. Its header
names the settings file and holds a digest of the whole, so an edited file is
recognized: it is the administrator's then, and never overwritten or deleted. An app
that needs nothing beyond the template has no drop-in.

Changing the header's or a comment's wording here makes every drop-in differ from what
`apply` would write: `doctor` would report each app as changed after an upgrade.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spyglass.config.unit_settings import CONTROL, unfit
from spyglass.errors import ConfigError
from spyglass.ops.files import digest_header
from spyglass.ops.files.atomic_files import read_untrusted_or_empty
from spyglass.ops.systemd.systemctl import service_of, socket_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.config.settings import Config
    from spyglass.config.unit_settings import Address

DIRECTORY = "/etc/systemd/system"
# Sorts before "override.conf", which `systemctl edit` makes, so that the
# administrator's drop-in takes precedence.
FILE = "10-spyglass.conf"
STATE = "/var/lib/spyglass"
CREDENTIAL_STORES = (
    "/etc/credstore",
    "/run/credstore",
    "/usr/local/lib/credstore",
    "/usr/lib/credstore",
)

# user_namespaces(7): the limit, 0 with hardening-runtime; the second path is missing if
# the kernel has none.
_USER_NAMESPACES, _KIND = "/proc/sys/user/max_user_namespaces", "/proc/self/ns/user"

_MADE = "# Made by `spyglass apply`"


def path_of(unit: str) -> str:
    """Return the path of our drop-in for `unit`, whether or not it exists."""
    return os.path.join(DIRECTORY, f"{unit}.d", FILE)


def base_of(name: str, config: Config) -> str:
    """Return the directory that paths in the settings file are relative to:
    `directory`.

    `directory` itself is relative to the service's working directory.
    """
    return os.path.normpath(os.path.join(STATE, name, config.directory))


def drop_ins(name: str, config: Config, command: str = "") -> dict[str, str]:
    """Return {path: text} of both drop-ins; "" for one that is not needed.

    `command` is the Spyglass to run, "" for the template's. Raise ConfigError if a
    value cannot stand in a unit file.
    """
    socket, service = socket_of(name), service_of(name)
    return {
        path_of(socket): _text(
            name, socket, "Socket", _off_lines(config) + socket_lines(config.listen)
        ),
        path_of(service): _text(
            name, service, "Service", service_lines(config, base_of(name, config), command)
        ),
    }


def _text(name: str, unit: str, section: str, lines: list[str]) -> str:
    """Return the text of a drop-in, "" without lines."""
    if not lines:
        return ""
    from spyglass.config.settings import file_for

    head = (
        f"{_MADE} from {file_for(name)}: change it there, and apply again.\n"
        f"# What has no setting there goes into a drop-in of your own, which counts for more: systemctl edit {unit}\n"
    )
    body = f"\n[{section}]\n" + "".join(f"{line}\n" for line in lines)
    return digest_header.signed(head, body)


def is_untouched(text: str) -> bool:
    """Return True if a drop-in is exactly as some version of `spyglass apply` wrote
    it.
    """
    return text.startswith(_MADE) and digest_header.is_untouched(text)


def is_ours(text: str) -> bool:
    """Return True if `spyglass apply` created it; it may have been edited since."""
    return text.startswith(_MADE)


# The socket

_OFF = "# enabled = false: this socket is neither started nor enabled."


def _off_lines(config: Config) -> list[str]:
    # A comment, by which `apply` tells a socket that it has disabled from one that an
    # administrator has.
    return [] if config.enabled else [_OFF]


def is_off(text: str) -> bool:
    """Return True if a socket's drop-in was made from `enabled = false`."""
    return is_ours(text) and f"\n{_OFF}\n" in text


def socket_lines(addresses: tuple[Address, ...]) -> list[str]:
    """Return the lines of the [Socket] section; [] for the default address."""
    if not addresses:
        return []
    # An empty assignment resets the list, which has the template's address.
    lines = ["ListenStream=", *(f"ListenStream={_plain(address.stream)}" for address in addresses)]
    if any(address.port and not address.host for address in addresses):
        # A port alone is IPv6 and IPv4, whatever the sysctl net.ipv6.bindv6only is.
        lines.append("BindIPv6Only=both")
    elif any(_also_ipv4(address, addresses) for address in addresses):
        # Otherwise [::] would take the IPv4 address's port as well.
        lines.append("BindIPv6Only=ipv6-only")
    if any(address.may_be_missing for address in addresses):
        lines += [
            "# An address may come late at a boot, or be on another machine for now. Without this the socket would fail then,",
            "# and with it all other addresses of the app.",
            "FreeBind=yes",
        ]
    for address in addresses:
        lines += [
            f"{key}={_plain(value)}"
            for key, value in (("SocketGroup", address.group), ("SocketMode", address.mode))
            if value
        ]
    return list(dict.fromkeys(lines))


def _also_ipv4(address: Address, addresses: Iterable[Address]) -> bool:
    """Return True if `address` is [::] and an IPv4 address has the same port."""
    return address.host == "::" and any(
        other.port == address.port and "." in other.host for other in addresses
    )


# The service

# DynamicUser= implies these; for a named user they must be stated: docs/sandbox.md. Not
# RemoveIPC=: whenever the app exits, it would delete the shared memory of all other
# programs of that user.
_NAMED = (
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "PrivateTmp=yes",
    "NoNewPrivileges=yes",
    "RestrictSUIDSGID=yes",
)
IMPLIED = {
    "User": frozenset(("DynamicUser", *(line.partition("=")[0] for line in _NAMED))),
    "ListenStream": frozenset(("BindIPv6Only", "FreeBind")),
    "ExecStart": frozenset(("ExecReload",)),
    "Group": frozenset(("CacheDirectoryMode",)),
    "UMask": frozenset(("CacheDirectoryMode",)),
}
"""Directives that follow from the value of another one."""


def service_lines(config: Config, base: str, command: str = "") -> list[str]:
    """Return the lines of the [Service] section. Relative paths are joined to `base`.
    Raise ConfigError.
    """
    lines: list[str] = []
    if command:
        run = f'"{_plain(command)}"' if " " in command else _plain(command)
        # An empty assignment resets the list, which has the template's command.
        lines += [
            "ExecStart=",
            f"ExecStart={run} serve --name %i",
            "ExecReload=",
            f"ExecReload={run} reload",
        ]
    if config.user:
        lines += ["DynamicUser=no", f"User={_plain(config.user)}", *_NAMED]
    lines += [
        f"{key}={_plain(value)}"
        for key, value in (("Group", config.group), ("UMask", config.umask))
        if value
    ]
    if config.group or config.umask:
        # Byte code is code: a process that can replace it can become the app.
        lines.append("CacheDirectoryMode=0700")
    lines += [
        f'Environment="{name}={_quoted(value)}"' for name, value in config.environment.items()
    ]
    lines += [
        f"EnvironmentFile={_plain(os.path.join(base, path))}" for path in config.environment_file
    ]
    lines += [_credential(name, path) for name, path in config.credentials.items()]
    lines += [f"{key}={value}" for key, value in limits(config).items()]
    lines += [f'ReadWritePaths="{_plain(os.path.join(base, path))}"' for path in config.writable]
    if not config.network:
        lines.append("PrivateNetwork=yes")
    if config.allow_jit:
        lines.append("MemoryDenyWriteExecute=no")
    if not has_user_namespaces():
        lines += [
            "# Without user namespaces (user.max_user_namespaces=0) systemd could not start the service.",
            "PrivateUsers=no",
        ]
    return lines


def has_user_namespaces() -> bool:
    """Return False if this machine allows no user namespaces: systemd cannot start a
    service with PrivateUsers=yes then.
    """
    return os.path.exists(_KIND) and read_untrusted_or_empty(_USER_NAMESPACES).strip() != "0"


LIMITS = ("MemoryHigh", "MemoryMax", "CPUQuota")
"""Directives that systemd applies to a running service at a daemon-reload. Others take
effect at the next start.
"""


def limits(config: Config) -> dict[str, object]:
    """Return {directive: value} of the limits that are set."""
    given = dict(
        zip(LIMITS, (config.memory_high, config.memory_max, config.cpu_quota), strict=True)
    )
    return {key: value for key, value in given.items() if value}


def _credential(name: str, path: str) -> str:
    """Return the LoadCredential= line of a credential; `path` may be ""."""
    encrypted = not path and not in_store(name) and in_store(name, ".encrypted")
    return f"LoadCredential{'Encrypted' if encrypted else ''}={_plain(name)}" + (
        f":{_plain(path)}" if path else ""
    )


def in_store(name: str, kind: str = "") -> str:
    """Return the path where systemd will find a credential given by name only, or "".
    `kind` may be ".encrypted".
    """
    paths = (os.path.join(store + kind, name) for store in CREDENTIAL_STORES)
    return next((path for path in paths if os.path.exists(path)), "")


# Values


def _plain(text: str) -> str:
    """Return `text` as the value of any directive. Raise ConfigError if it cannot be
    one.

    Every value that comes from a settings file goes through this or _quoted(): a line
    break would add directives, and "%" starts a specifier.
    """
    if why := unfit(text):
        raise ConfigError(f"{text!r}: {why}")
    return text.replace("%", "%%")


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


def _quoted(text: str) -> str:
    """Return `text` for use between double quotes, where systemd undoes C escapes.

    Raise ConfigError for a control character other than line break and tab.
    """
    escaped = "".join(_ESCAPES.get(character, character) for character in text)
    if CONTROL.search(escaped):
        raise ConfigError(f"{text[:60]!r}: a unit file cannot contain this control character")
    return escaped.replace("%", "%%")
