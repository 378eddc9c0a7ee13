"""How listening sockets are named and numbered, for those who open them and those who
are given them.
"""

from __future__ import annotations

import errno
import os

from spyglass.runtime.fast_imports import socket

FIRST_FD = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)

EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""What accept(2) says when descriptors or memory have run out."""
GONE = frozenset((errno.EBADF, errno.ENOTSOCK, errno.EINVAL))
"""What it says when the listener has been closed, when something else has its
descriptor, when it does not listen any more.
"""
ACCEPT_PAUSE = 0.5
"""Seconds without accepting after that."""


def address_text(sock: socket.socket) -> str:
    """The address a socket is bound to, as `--bind` takes it."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(address)}"
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
    return f"{host}:{address[1]}"


def packed_ip(text: str) -> bytes | None:
    """An IP address in network order, 4 or 16 bytes; None for what is none. An IPv4
    address that IPv6 carries is IPv4 (RFC 4291 2.5.5.2).

    By inet_pton(3), which takes no leading zeros, no short forms and no zone;
    `ipaddress` does no more, and takes longer to import.
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
    return packed[12:] if len(packed) == 16 and packed.startswith(_MAPPED) else packed


def ip_text(packed: bytes) -> str:
    """An address as people write it, the one way for each (RFC 5952)."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
