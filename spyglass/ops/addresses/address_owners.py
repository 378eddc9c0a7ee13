"""Find out whether the addresses of an app's socket are free, and what uses the others.

An active socket unit holds its addresses itself. For an inactive one each address is
bound, with systemd's socket options, and closed at once; there is no listen(2), so no
client can connect meanwhile. Unix sockets are looked up in the kernel's table instead:
connecting to one would wake the app that it belongs to.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from spyglass.ops.addresses import unix_sockets
from spyglass.ops.files import path_ownership
from spyglass.ops.output.untrusted_text import lines_of, number
from spyglass.ops.systemd import systemctl
from spyglass.printable import one_line

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

PRIVILEGED = 1024  # ports below it are root's (ip(7), ip_unprivileged_port_start)
NOT_A_SOCKET = "a file that is not a socket exists there: move it away"

_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp (proc(5))
# IP_FREEBIND and IPV6_FREEBIND (ip(7), linux/in6.h), which Python's socket module
# lacks.
_FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}


def addresses(state: Mapping[str, str]) -> list[str]:
    """Return the stream addresses of a socket unit: "host:port", "[v6]:port" or a path.
    `state` are its properties (PROPERTIES).
    """
    entries = [line.rpartition(" (") for line in lines_of(state.get("Listen", ""))]
    return [address for address, _, kind in entries if kind == "Stream)"]


def not_listening(state: Mapping[str, str]) -> list[str]:
    """Return the addresses of an active socket unit on which no process listens.

    systemd closes all of them when a daemon-reload brings others. A unix socket whose
    file was deleted counts, too: it listens, but no client can find it.
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
    """Return True if there is no socket at `path`: its file was deleted or replaced."""
    try:
        return not stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as error:
        return error.errno in (
            errno.ENOENT,
            errno.ENOTDIR,
            errno.ELOOP,
        )  # any other error: we have no permission to look


def missing(state: Mapping[str, str]) -> list[str]:
    """Return the unix sockets of an active socket unit whose files are gone."""
    if state.get("ActiveState") != "active":
        return []
    return [
        address for address in addresses(state) if address.startswith("/") and is_missing(address)
    ]


def remove_stale(path: str) -> None:
    """Delete the file of a unix socket on which nothing listens: clients should get "no
    such file" rather than "refused".

    Not in a directory that another user could replace, where root might delete another
    file.
    """
    if path_ownership.weakness(os.path.dirname(path)):
        return
    with suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not unix_inodes(path):
            os.unlink(path)


def conflicts(state: Mapping[str, str]) -> list[str]:
    """Return a line for each address that keeps an inactive socket unit from listening:
    the address and why.
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


def could_not_listen(state: Mapping[str, str]) -> bool:
    """Return True if a socket unit has failed as one does whose address is in use. The
    same result has one whose service could not be loaded.
    """
    return state.get("ActiveState") == "failed" and state.get("Result") == "resources"


def why_failed(state: Mapping[str, str]) -> str:
    """Return why a failed socket unit could not listen, as far as that is so now: its
    addresses and what uses them, or "". `state` are its properties (PROPERTIES).

    An ordinary user may not bind ports below 1024, and learns of them by the kernel's
    table only.
    """
    if not could_not_listen(state):
        return ""
    found = []
    for address in addresses(state):
        port = 0 if address.startswith(("/", "@", "vsock:")) else _port(address)
        if 0 < port < PRIVILEGED and os.geteuid() != 0:
            inodes = tcp_inodes(port)
            found += [f"{address}: in use by {holder(inodes)}"] if inodes else []
        else:
            found += conflicts({**state, "Listen": f"{address} (Stream)"})
    return "; ".join(found)


def port_conflict(address: str, state: Mapping[str, str]) -> str:
    """Return why "host:port" or "[v6]:port" cannot be bound, or "". FreeBind and
    BindIPv6Only of `state` matter.
    """
    host, _, port = address.rpartition(":")
    host, _, scope = host.strip("[]").partition("%")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            # As systemd does: connections in TIME_WAIT must not block the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # The port of an address that no interface has yet may be in use, too.
            if state.get("FreeBind") == "yes":
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
            return "no interface of this machine has this address, and FreeBind= is not set"
        if error.errno == errno.EAFNOSUPPORT:
            return "this kernel has no IPv6"
        return error.strerror or str(error)
    return ""


def path_conflict(path: str) -> str:
    """Return why a unix socket cannot be created at `path`, or ""."""
    inodes = unix_inodes(path)
    if inodes:
        # systemd deletes an existing socket file without asking
        return f"in use by {holder(inodes)}; starting this socket would take it over"
    if os.path.lexists(path) and not _is_socket(path):
        return NOT_A_SOCKET
    return ""


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(os.lstat(path).st_mode)


def tcp_inodes(port: int) -> set[str]:
    """Return the inodes (digits) of the TCP sockets that listen on `port`."""
    return {
        fields[9]
        for file in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in _table(file)
        if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port
    }


def unix_inodes(path: str) -> set[str]:
    """Return the inodes (digits) of the unix sockets that listen at `path`."""
    return unix_sockets.listening_at(path, lambda: sockets_of(1))


def _table(file: str) -> Iterator[list[str]]:
    """Yield the rows of a table in /proc/net, split into columns, without the
    titles.
    """
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            next(stream)
            for line in stream:
                yield line.split()
    except OSError:
        return


def holder(inodes: set[str]) -> str:
    """Return what holds one of these sockets: a socket unit, or a program with its pid
    and unit.
    """
    wanted = {f"socket:[{inode}]" for inode in inodes}
    pids = [int(pid) for pid in os.listdir("/proc") if pid.isdigit()]
    # systemd holds the sockets of its units, and so do their services, which are the
    # better name.
    for pid in sorted(pids, key=lambda pid: (pid == 1, pid)):
        if wanted & sockets_of(pid):
            return (
                _socket_unit(wanted) or "a socket unit"
                if pid == 1
                else f"{_name(pid)} (pid {pid}{_unit(pid)})"
            )
    # Descriptors of other users' processes are root's to see.
    return "another program" + (" (as root, its name is shown)" if os.geteuid() else "")


def _socket_unit(wanted: set[str]) -> str:
    # systemctl lists the path or the port of each socket unit, not its inode.
    """Return the socket unit that has one of `wanted` ("socket:[INODE]"), or ""."""
    listeners: dict[str, set[str]] = {}
    for line in systemctl.ask("list-sockets", "--no-legend", "--full", "--plain").split("\n"):
        # Columns: LISTEN UNIT ACTIVATES. A path may contain blanks.
        unit = next((word for word in reversed(line.split()) if word.endswith(".socket")), "")
        address = line.rpartition(f" {unit}")[0].strip()
        inodes = unix_inodes(address) if address.startswith("/") else tcp_inodes(_port(address))
        listeners.setdefault(unit, set()).update(f"socket:[{inode}]" for inode in inodes)
    return next((unit for unit, inodes in listeners.items() if inodes & wanted), "")


def _port(address: str) -> int:
    return number(address.rpartition(":")[2], -1)


def sockets_of(pid: int) -> set[str]:
    """Return the targets of the descriptors of a process, "socket:[INODE]" among them;
    none if we may not look.
    """
    folder = f"/proc/{pid}/fd"
    found = set()
    try:
        for fd in os.listdir(folder):
            with suppress(FileNotFoundError):  # closed since listdir
                found.add(os.readlink(f"{folder}/{fd}"))
    except OSError:  # the process has exited, or is another user's
        pass
    return found


def _name(pid: int) -> str:
    """Return the name of a process, for a message."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return one_line(stream.read().strip())  # chosen by the process (PR_SET_NAME)
    except OSError:
        return "a process"


def _unit(pid: int) -> str:
    """Return ", UNIT" for the unit in which a process runs, or ""."""
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
