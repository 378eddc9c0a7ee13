"""Decide whether an app can have an address, before systemd tries.

A socket that cannot bind fails as a whole: all of the app's addresses are then refused.
So `apply` and `check` find out first what systemd would only find out when it starts
the socket.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from spyglass.config import unit_settings
from spyglass.ops.addresses import address_owners

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spyglass.config.unit_settings import Address

_MAX_PATH_BYTES = 107  # bytes of sockaddr_un.sun_path, unix(7)


def conflicts(one: Address, other: Address) -> bool:
    """Return True if two apps cannot have these addresses together: they are equal, or
    one of them takes the whole port.
    """
    if one.path or other.path:
        return one.path == other.path
    if one.port != other.port:
        return False
    if one.host == other.host or not one.host or not other.host or "::" in (one.host, other.host):
        return True
    return "0.0.0.0" in (one.host, other.host) and ":" not in one.host + other.host  # noqa: S104, nothing is bound


def why_unavailable(address: Address) -> str:
    """Return why systemd could not listen on `address` now (one line), or "".

    Not for an address that the app holds already. An ordinary user cannot try ports
    below 1024 and gets "".
    """
    if address.path:
        return _invalid_path(address.path) or address_owners.path_conflict(address.path)
    if address.port < address_owners.PRIVILEGED and os.geteuid() != 0:
        return ""  # systemd may bind it, we may not
    if address.host:
        return address_owners.port_conflict(
            address.stream, {"FreeBind": "yes" if address.may_be_missing else "no"}
        )
    # As systemd does: a port alone is an IPv6 socket that takes IPv4, too; IPv4 alone
    # where the kernel has no IPv6.
    has_ipv6 = os.path.exists("/proc/net/if_inet6")
    every = "[::]" if has_ipv6 else "0.0.0.0"  # noqa: S104, as above
    return address_owners.port_conflict(f"{every}:{address.port}", {"BindIPv6Only": "both"})


def is_unassigned(address: Address) -> bool:
    """Return True if no interface of this machine has the address now, so that no
    connection arrives.
    """
    if not address.may_be_missing:
        return False
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address.host, 0))
    except OSError as error:
        return error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return False


def _invalid_path(path: str) -> str:
    """Return why no unix socket can ever be created at `path`, or ""."""
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        return f"the path is longer than {_MAX_PATH_BYTES} bytes, the limit for a unix socket"
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)  # systemd creates missing directories
    return "" if os.path.isdir(parent) else f"{parent} is not a directory"


def not_held_by_systemd(addresses: Iterable[Address], systemd: int = 1) -> bool:
    """Return True if systemd (process id `systemd`) does not listen on one of
    `addresses`, which an active socket unit has.

    It closes all of them when it reads other addresses at a daemon-reload. A service
    that is awake still holds its copies, so it matters which process listens. Only root
    can see that; for other users this returns False unless the file of a unix socket
    was deleted.
    """
    held = address_owners.sockets_of(systemd)
    for address in addresses:
        if address.path and address_owners.is_missing(address.path):
            return True
        inodes = (
            address_owners.unix_inodes(address.path)
            if address.path
            else address_owners.tcp_inodes(address.port)
        )
        if held and not held & {f"socket:[{inode}]" for inode in inodes}:
            return True
    return False


def addresses_of(state: Mapping[str, str]) -> list[Address]:
    """Return the addresses of a socket unit that the setting `listen` can express.

    `state` are its properties, with `Listen` at least.
    """
    found = []
    for text in address_owners.addresses(state):
        try:
            found.append(unit_settings.address(text))
        except ValueError:
            pass  # an abstract socket, or one bound to an interface
    return found
