"""Whether the addresses of an app's socket are free, and what holds those that are not.

A socket unit that is active holds them itself. Of one that is not, each address is
bound to, as systemd would do it, and given back at once; nothing listens there, so no
client can connect meanwhile. A path is looked up in the kernel's table: to connect to
it would wake the app that it belongs to.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from spyglass.ops import path_ownership, systemctl, unix_sockets
from spyglass.ops.untrusted_text import lines_of, number
from spyglass.runtime.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "Result",
    "Listen",
    "BindIPv6Only",
    "FreeBind",
    "NeedDaemonReload",
    "UnitFileState",
)

_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp (proc(5))
# IP_FREEBIND and IPV6_FREEBIND (ip(7), linux/in6.h), which Python's socket module does
# not have.
_FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}


def addresses(state: Mapping[str, str]) -> list[str]:
    """Where a socket unit listens or would, "host:port", "[v6]:port" or a path; `state`
    is what systemd shows of it (PROPERTIES).
    """
    entries = [line.rpartition(" (") for line in lines_of(state.get("Listen", ""))]
    return [address for address, _, kind in entries if kind == "Stream)"]


def not_listening(state: Mapping[str, str]) -> list[str]:
    """Return the addresses of an active socket unit that do not listen: systemd closes
    all of them when it reads that they are others.

    A unix socket whose file was deleted listens still, but no client can find it any
    more.
    """
    found = []
    for address in addresses(state):
        if address.startswith("/"):
            listens = bool(unix_inodes(address)) and not is_missing(address)
        else:
            port = _port(address)
            listens = port < 0 or bool(tcp_inodes(port))
        if not listens:
            found.append(address)
    return found


def is_missing(path: str) -> bool:
    """Return True if no socket is found at `path`: its file was deleted, or replaced by
    something else.
    """
    try:
        return not stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as error:
        return error.errno in (
            errno.ENOENT,
            errno.ENOTDIR,
            errno.ELOOP,
        )  # otherwise we may not look


def missing(state: Mapping[str, str]) -> list[str]:
    """Return the unix sockets of an active socket unit whose files are gone."""
    if state.get("ActiveState") != "active":
        return []
    return [
        address for address in addresses(state) if address.startswith("/") and is_missing(address)
    ]


def remove_stale(path: str) -> None:
    """Delete the file of a unix socket on which nothing listens any more: a client
    would get "refused" instead of "no such file".

    But not where another user could lead us to another one's.
    """
    if path_ownership.weakness(os.path.dirname(path)):
        return
    with suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not unix_inodes(path):
            os.unlink(path)


def conflicts(state: Mapping[str, str]) -> list[str]:
    """What keeps a socket unit that is not active from listening, a line for each
    address.
    """
    found = []
    for address in addresses(state):
        if address.startswith("/"):
            why = path_conflict(address)
        elif address.startswith(("@", "vsock:")):
            why = ""
        else:
            why = port_conflict(address, state)
        if why:
            found.append(f"{address}: {why}")
    return found


def port_conflict(address: str, state: Mapping[str, str]) -> str:
    """Why "host:port" or "[v6]:port" cannot be listened on, "" when it can; what
    `state` has of PROPERTIES matters.
    """
    host, _, port = address.rpartition(":")
    host, _, scope = host.strip("[]").partition("%")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as systemd does: closed connections hold nothing
            if (
                state.get("FreeBind") == "yes"
            ):  # an address that is not there yet may be bound to as well, and its port be taken
                sock.setsockopt(*_FREEBIND[family], 1)
            if family == socket.AF_INET6 and state.get("BindIPv6Only") in ("both", "ipv6-only"):
                sock.setsockopt(
                    socket.IPPROTO_IPV6,
                    socket.IPV6_V6ONLY,
                    int(state["BindIPv6Only"] == "ipv6-only"),
                )
            where = (
                (host, int(port), 0, socket.if_nametoindex(scope) if scope else 0)
                if family == socket.AF_INET6
                else (host, int(port))
            )
            sock.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"in use by {holder(tcp_inodes(int(port)))}"
        if error.errno == errno.EADDRNOTAVAIL:
            return "this machine has no such address, and FreeBind= is not set"
        if error.errno == errno.EAFNOSUPPORT:
            return "this kernel has no IPv6"
        return error.strerror or str(error)
    return ""


def path_conflict(path: str) -> str:
    """Why a unix socket cannot be made at `path`, "" when it can."""
    inodes = unix_inodes(path)
    if inodes:
        # Systemd removes what is in its way
        return f"in use by {holder(inodes)}; starting this socket would take it over"
    if os.path.lexists(path) and not _is_socket(path):
        return "there is a file of that name, which is no socket"
    return ""


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(os.lstat(path).st_mode)


def tcp_inodes(port: int) -> set[str]:
    """Return the inodes of the sockets that listen on `port`."""
    return {
        fields[9]
        for file in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in _table(file)
        if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port
    }


def unix_inodes(path: str) -> set[str]:
    """Return the inodes of the sockets that listen at `path`."""
    return unix_sockets.listening_at(path, lambda: sockets_of(1))


def _table(file: str) -> Iterator[list[str]]:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            next(stream)
            for line in stream:
                yield line.split()
    except OSError:
        return


def holder(inodes: set[str]) -> str:
    """Return what holds one of these sockets: a socket unit, or a program and its
    unit.
    """
    wanted = {f"socket:[{inode}]" for inode in inodes}
    pids = [int(pid) for pid in os.listdir("/proc") if pid.isdigit()]
    # systemd has the sockets of its units, and so have their services: theirs is the
    # better name.
    for pid in sorted(pids, key=lambda pid: (pid == 1, pid)):
        if wanted & sockets_of(pid):
            return (
                _socket_unit(wanted) or "a socket unit"
                if pid == 1
                else f"{_name(pid)} (pid {pid}{_unit(pid)})"
            )
    return "another program"


def _socket_unit(wanted: set[str]) -> str:
    # systemd tells the path or the port of each unit, not the inode; there are few, and
    # one of them it is.
    listeners: dict[str, set[str]] = {}
    for line in systemctl.ask("list-sockets", "--no-legend", "--full", "--plain").split("\n"):
        # LISTEN UNIT ACTIVATES, and a path may have blanks in it.
        unit = next((word for word in reversed(line.split()) if word.endswith(".socket")), "")
        address = line.rpartition(f" {unit}")[0].strip()
        inodes = unix_inodes(address) if address.startswith("/") else tcp_inodes(_port(address))
        listeners.setdefault(unit, set()).update(f"socket:[{inode}]" for inode in inodes)
    return next((unit for unit, inodes in listeners.items() if inodes & wanted), "")


def _port(address: str) -> int:
    return number(address.rpartition(":")[2], -1)


def sockets_of(pid: int) -> set[str]:
    """What /proc has the descriptors of a process point to: "socket:[INODE]" and
    others; nothing if it is not ours to look at.
    """
    folder = f"/proc/{pid}/fd"
    found = set()
    try:
        for fd in os.listdir(folder):
            with suppress(FileNotFoundError):  # closed meanwhile
                found.add(os.readlink(f"{folder}/{fd}"))
    except OSError:  # it has ended, or is not ours to look at
        pass
    return found


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return one_line(stream.read().strip())  # any user's words (PR_SET_NAME)
    except OSError:
        return "a process"


def _unit(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as stream:
            units = [
                part
                for line in stream
                for part in line.strip().split("/")
                if part.endswith((".service", ".scope"))
            ]
    except OSError:
        units = []
    return f", {units[-1]}" if units else ""
