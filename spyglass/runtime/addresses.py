"""Addresses of sockets as text, numbers of passed descriptors, and what the errors of
accept(2) mean; for processes that open listening sockets and for those that get them.
"""

from __future__ import annotations

import errno
import os

from spyglass.runtime.fast_imports import socket

FIRST_FD = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)

EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Errors of accept(2) when descriptors or memory have run out."""
GONE = frozenset((errno.EBADF, errno.ENOTSOCK, errno.EINVAL))
"""Errors of accept(2) when the listener was closed, its descriptor reused for something
else, or when it does not listen any more.
"""
ACCEPT_PAUSE = 0.5
"""Seconds without accepting after one of these errors."""


def address_text(sock: socket.socket) -> str:
    """Return the address to which a socket is bound, as `--bind` takes it."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(address)}"
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
    return f"{host}:{address[1]}"


def packed_ip(text: str) -> bytes | None:
    """Return an IP address in network order, 4 or 16 bytes; None if `text` is not one.
    An IPv4 address mapped to IPv6 is IPv4 (RFC 4291 2.5.5.2).

    inet_pton(3) accepts no leading zeros, no short forms and no zone. `ipaddress` gives
    the same, and is slow to import.
    """
    if len(text) > _LONGEST:
        return None
    try:
        if ":" not in text:
            return socket.inet_pton(socket.AF_INET, text)
        return plain_ip(socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):
        return None


_LONGEST = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
_MAPPED = bytes(10) + b"\xff\xff"


def plain_ip(packed: bytes) -> bytes:
    """Return a packed address, as IPv4 if it is an IPv4 address mapped to IPv6."""
    return packed[12:] if len(packed) == 16 and packed.startswith(_MAPPED) else packed


def ip_text(packed: bytes) -> str:
    """Return a packed address as text, in the one recommended form (RFC 5952)."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
