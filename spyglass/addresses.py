"""How listening sockets are named and numbered, for those who open them and those who are given them."""

from __future__ import annotations

import errno
import os

from spyglass.lean import socket

FIRST_FD = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)

EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""What accept(2) says when descriptors or memory have run out."""
ACCEPT_PAUSE = 0.5
"""Seconds without accepting after that."""


def address_text(sock: socket.socket) -> str:
    """The address a socket is bound to, as `--bind` takes it."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(address)}"
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
    return f"{host}:{address[1]}"
