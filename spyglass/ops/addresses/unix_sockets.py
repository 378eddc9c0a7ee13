"""Find out which unix sockets listen at a path, from the kernel (sock_diag(7)).

/proc/net/unix is not trustworthy. It shows names unescaped, line breaks included: any
user can bind an abstract name that looks like the line of another socket. And a name is
only what was passed to bind(2): in a mount namespace of its own, which any user may
make, "/run/spyglass/blog.sock" is another file. So a socket counts as listening at a
path only if it is bound to the very file that is there (device and inode), or if PID 1
holds it.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG, linux/netlink.h
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY, linux/sock_diag.h
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_LISTENING = 1 << 10  # TCP_LISTEN as a bit; unix sockets use the same states
_SHOW_NAME, _SHOW_FILE = 1, 2  # UDIAG_SHOW_NAME, UDIAG_SHOW_VFS, linux/unix_diag.h
_NAME, _FILE = 0, 1
_HEADER, _MESSAGE, _ATTRIBUTE = (
    struct.Struct("=IHHII"),
    struct.Struct("=BBBBIII"),
    struct.Struct("=HH"),
)
# proc(5): fixed columns, then the name, which is the rest of the line with all blanks.
_ROW = re.compile(
    rb"[0-9a-f]+: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) [0-9A-F]{4} [0-9A-F]{2} +([0-9]+)(?: (.*))?",
    re.S,
)
_ACCEPTS = 0x10000  # __SO_ACCEPTCON


def listening_at(path: str, pid1_sockets: Callable[[], set[str]]) -> set[str]:
    """Return the inodes (digits) of the sockets that listen at `path`.

    `pid1_sockets()` returns "socket:[INODE]" for each socket that PID 1 holds.
    """
    try:
        status = os.lstat(path)
        there = (
            status.st_ino & 0xFFFFFFFF,
            os.major(status.st_dev) << 20 | os.minor(status.st_dev),
        )
    except OSError:
        there = None
    name = os.fsencode(path)
    return {
        str(inode)
        for inode, bound, file in _listeners()
        if bound == name
        and ((there is not None and file in (there, None)) or f"socket:[{inode}]" in pid1_sockets())
    }


def _listeners() -> Iterator[tuple[int, bytes, tuple[int, int] | None]]:
    """Return an iterator over (inode, name, file) of the listening unix sockets.

    `file` is (inode, device), None if the kernel does not say.
    """
    try:
        return iter(list(_query_kernel()))
    except OSError:  # the kernel has no unix_diag, or a container forbids it
        return _read_proc()


def _query_kernel() -> Iterator[tuple[int, bytes, tuple[int, int] | None]]:
    """Yield what _listeners() returns, from sock_diag(7). Raise OSError."""
    question = struct.pack(
        "=BBHIIIII",
        socket.AF_UNIX,
        0,
        0,
        _LISTENING,
        0,
        _SHOW_NAME | _SHOW_FILE,
        0xFFFFFFFF,
        0xFFFFFFFF,
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.settimeout(10)
        kernel.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _DUMP, 0, 0) + question)
        while True:
            answer = kernel.recv(1 << 20)
            while answer:
                length, kind, *_ = _HEADER.unpack_from(answer)
                if kind == _DONE:
                    return
                if kind == _ERROR or length < _HEADER.size + _MESSAGE.size:
                    raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
                yield _parse_message(answer[_HEADER.size : length])
                answer = answer[_aligned(length) :]


def _parse_message(message: bytes) -> tuple[int, bytes, tuple[int, int] | None]:
    """Return (inode, name, file) of one message: a fixed part, then attributes."""
    inode = _MESSAGE.unpack_from(message)[4]
    name, file, at = b"", None, _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        value = message[at + _ATTRIBUTE.size : at + length]
        if kind == _NAME:
            name = value if value.startswith(b"\0") else value.rstrip(b"\0")
        elif kind == _FILE:
            file = struct.unpack("=II", value)
        at += _aligned(max(length, _ATTRIBUTE.size))
    return inode, name, file


def _aligned(length: int) -> int:
    """Return `length` rounded up to netlink's alignment."""
    return (length + 3) & ~3


def _read_proc() -> Iterator[tuple[int, bytes, tuple[int, int] | None]]:
    """Yield what _listeners() returns, from /proc/net/unix, which has no files."""
    try:
        with open("/proc/net/unix", "rb") as stream:
            rows = [_ROW.fullmatch(line.removesuffix(b"\n")) for line in stream]
    except OSError:
        return
    for row in rows:
        if row is not None and int(row[1], 16) & _ACCEPTS and row[3]:
            yield int(row[2]), row[3], None
