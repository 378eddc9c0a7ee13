"""The drop-ins' text: from an app's settings to what stands in spyglass@NAME.socket.d/
and spyglass@NAME.service.d/.

Pure, but for reading what is there. One file of ours in each directory, whose head says
from what it was made and holds a digest of the whole, so that it is known whether
it was edited since: a file that is not as it was written is not ours to overwrite or
delete. An app that asks for nothing beyond the template has no drop-in.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

from spyglass.config.unit_settings import CONTROL, unfit
from spyglass.errors import ConfigError
from spyglass.ops.atomic_files import read_untrusted_or_empty
from spyglass.ops.systemctl import service_of, socket_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.config.settings import Config
    from spyglass.config.unit_settings import Address

DIRECTORY = "/etc/systemd/system"
# Before "override.conf", which `systemctl edit` makes: the administrator's own word is
# the last one.
FILE = "10-spyglass.conf"
STATE = "/var/lib/spyglass"
CREDENTIAL_STORES = (
    "/etc/credstore",
    "/run/credstore",
    "/usr/local/lib/credstore",
    "/usr/lib/credstore",
)

# user_namespaces(7): how many there may be, 0 with hardening-runtime; and what is
# missing where the kernel has none.
_USER_NAMESPACES, _KIND = "/proc/sys/user/max_user_namespaces", "/proc/self/ns/user"

_MADE = "# Made by `spyglass apply`"
_DIGEST = re.compile(r"^# digest: ([0-9a-f]{16})\n", re.M)


def path_of(unit: str) -> str:
    """Where our drop-in for `unit` is, or would be."""
    return os.path.join(DIRECTORY, f"{unit}.d", FILE)


def base_of(name: str, config: Config) -> str:
    """What paths in the file are relative to: `directory`, which is itself relative to
    where the service starts.
    """
    return os.path.normpath(os.path.join(STATE, name, config.directory))


def drop_ins(name: str, config: Config, command: str = "") -> dict[str, str]:
    """Texts by path, "" for a drop-in that is not needed. `command` is the Spyglass to
    run, if it is not the one in the template.
    """
    socket, service = socket_of(name), service_of(name)
    return {
        path_of(socket): _text(name, socket, "Socket", socket_lines(config.listen)),
        path_of(service): _text(
            name, service, "Service", service_lines(config, base_of(name, config), command)
        ),
    }


def _text(name: str, unit: str, section: str, lines: list[str]) -> str:
    if not lines:
        return ""
    from spyglass.config.settings import file_for

    head = (
        f"{_MADE} from {file_for(name)}: change it there, and apply again.\n"
        f"# What has no setting there goes into a drop-in of your own, which counts for more: systemctl edit {unit}\n"
    )
    body = f"\n[{section}]\n" + "".join(f"{line}\n" for line in lines)
    return f"{head}# digest: {_digest(head + body)}\n{body}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[
        :16
    ]  # against accidents, not against attackers


def is_untouched(text: str) -> bool:
    """Whether a drop-in is as `spyglass apply` wrote it, whichever version of it."""
    found = _DIGEST.search(text)
    return (
        found is not None
        and text.startswith(_MADE)
        and _digest(_DIGEST.sub("", text, count=1)) == found[1]
    )


def is_ours(text: str) -> bool:
    """Whether `spyglass apply` wrote it in the beginning."""
    return text.startswith(_MADE)


# The socket


def socket_lines(addresses: tuple[Address, ...]) -> list[str]:
    """The [Socket] section; nothing for the address that an app has by itself."""
    if not addresses:
        return []
    # The empty one takes the template's away.
    lines = ["ListenStream=", *(f"ListenStream={_plain(address.stream)}" for address in addresses)]
    if any(address.port and not address.host for address in addresses):
        lines.append(
            "BindIPv6Only=both"
        )  # a port is IPv6 and IPv4, whatever the sysctl net.ipv6.bindv6only says
    elif any(_also_ipv4(address, addresses) for address in addresses):
        lines.append(
            "BindIPv6Only=ipv6-only"
        )  # or [::] would take the port of the IPv4 address, too
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
    return address.host == "::" and any(
        other.port == address.port and "." in other.host for other in addresses
    )


# The service

# What DynamicUser= implies, and a named user needs stated:
# docs/sandbox.md. Not RemoveIPC=: it would delete the shared memory of all other
# programs of that user whenever the app exits.
_NAMED = (
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "PrivateTmp=yes",
    "NoNewPrivileges=yes",
    "RestrictSUIDSGID=yes",
)


def service_lines(config: Config, base: str, command: str = "") -> list[str]:
    """The [Service] section. Relative paths are joined to `base`."""
    lines: list[str] = []
    if command:
        run = f'"{_plain(command)}"' if " " in command else _plain(command)
        # The empty ones take the template's away.
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
        # Byte code is code: a process that can write or replace it can become the app.
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
    """Return False if this machine allows none, so that systemd cannot start a service
    with PrivateUsers=yes.
    """
    return os.path.exists(_KIND) and read_untrusted_or_empty(_USER_NAMESPACES).strip() != "0"


LIMITS = ("MemoryHigh", "MemoryMax", "CPUQuota")
"""What systemd has a running service follow when it reads the units again; all else
counts from the next start.
"""


def limits(config: Config) -> dict[str, object]:
    given = dict(
        zip(LIMITS, (config.memory_high, config.memory_max, config.cpu_quota), strict=True)
    )
    return {key: value for key, value in given.items() if value}


def _credential(name: str, path: str) -> str:
    encrypted = not path and not in_store(name) and in_store(name, ".encrypted")
    return f"LoadCredential{'Encrypted' if encrypted else ''}={_plain(name)}" + (
        f":{_plain(path)}" if path else ""
    )


def in_store(name: str, kind: str = "") -> str:
    """Where systemd will find a credential that is given by its name alone, "" if
    nowhere; `kind` may be ".encrypted".
    """
    paths = (os.path.join(store + kind, name) for store in CREDENTIAL_STORES)
    return next((path for path in paths if os.path.exists(path)), "")


# Values


def _plain(text: str) -> str:
    """`text` as the value of any directive. Everything that is not made up here goes
    through this or _quoted(). Raises ConfigError.
    """
    if why := unfit(text):
        raise ConfigError(f"{text!r}: {why}")
    return text.replace("%", "%%")  # a specifier, to systemd


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


def _quoted(text: str) -> str:
    """`text`, of which only these control characters are allowed, between double
    quotes, where C escapes count.
    """
    escaped = "".join(_ESCAPES.get(character, character) for character in text)
    if CONTROL.search(escaped):
        raise ConfigError(f"{text[:60]!r}: a unit file cannot hold such a control character")
    return escaped.replace("%", "%%")
