"""Whether an address that is asked for can be had: what systemd would say at the start
of a socket, said before.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from spyglass.config import unit_settings
from spyglass.ops import address_owners

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spyglass.config.unit_settings import Address

_MAX_PATH_BYTES = 107  # bytes of sockaddr_un.sun_path, unix(7)
_PRIVILEGED = 1024


def conflicts(one: Address, other: Address) -> bool:
    """Whether two apps cannot both have these: the same, or one of them takes every
    address of the port.
    """
    if one.path or other.path:
        return one.path == other.path
    if one.port != other.port:
        return False
    if one.host == other.host or not one.host or not other.host or "::" in (one.host, other.host):
        return True
    return "0.0.0.0" in (one.host, other.host) and ":" not in one.host + other.host  # noqa: S104, nothing is bound


def why_unavailable(address: Address) -> str:
    """Return why systemd could not listen there now (one line), or "". Of no use
    for an address that is one's own already.
    """
    if address.path:
        return _invalid_path(address.path) or address_owners.path_conflict(address.path)
    if address.port < _PRIVILEGED and os.geteuid() != 0:
        return ""  # we may not try it; systemd may
    if address.host:
        return address_owners.port_conflict(
            address.stream, {"FreeBind": "yes" if address.may_be_missing else "no"}
        )
    # A port alone is IPv6 and IPv4 in one, and IPv4 where there is no IPv6, as with
    # systemd.
    has_ipv6 = os.path.exists("/proc/net/if_inet6")
    every = "[::]" if has_ipv6 else "0.0.0.0"  # noqa: S104, as above
    return address_owners.port_conflict(f"{every}:{address.port}", {"BindIPv6Only": "both"})


def is_unassigned(address: Address) -> bool:
    """Return True if this machine does not have the address now, so that nothing
    arrives there.
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
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        return f"its path is longer than the {_MAX_PATH_BYTES} bytes that a unix socket's may have"
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)  # what is missing, systemd makes
    return "" if os.path.isdir(parent) else f"{parent} is not a directory"


def is_not_listening(addresses: Iterable[Address], systemd: int = 1) -> bool:
    """Whether systemd does not listen on one of these, which a unit of its has: it
    closes all when it reads others there.

    A service that is awake listens on them as long as it lives, so it matters who does.
    Only root can see that; to other users no socket is deaf. A unix socket whose file
    was deleted counts as well, for no client can find it.
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
    """What a socket unit listens on, as far as `listen` could say it; `state` is what
    systemd shows of it, `Listen` at least.
    """
    found = []
    for text in address_owners.addresses(state):
        try:
            found.append(unit_settings.address(text))
        except ValueError:
            pass  # an abstract socket, one of a network interface
    return found
