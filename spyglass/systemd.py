"""Our side of systemd's contracts: the sockets it passes in (sd_listen_fds(3)) and the notes it reads (sd_notify(3)).

A passed socket is systemd's: it keeps its own descriptor of the same open file description, so what is set on it (O_NONBLOCK, socket
options) is seen by both and survives us. Therefore only harmless things are set, and never shutdown(), listen() or unlink().
"""

from __future__ import annotations

import os

# systemd.daemon is this and what describes other people's sockets, for which it imports the whole of `socket`.
from systemd import _daemon as daemon

from spyglass.addresses import FIRST_FD, address_text
from spyglass.errors import ListenerError
from spyglass.lean import Listening, socket

_OURS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


class Listener:
    """A listening stream socket and the name systemd gave it (FileDescriptorName=)."""

    def __init__(self, sock: Listening, name: str) -> None:
        self.sock = sock
        self.name = name
        self.fd = sock.fileno()
        self.is_unix = sock.family == socket.AF_UNIX

    def __str__(self) -> str:
        return address_text(self.sock)


def adopt_listeners() -> list[Listener]:
    """The sockets passed to this very process, whatever their number, order and family.

    Raises ListenerError when there are none, or one is closed, not a stream socket, or not listening: it is named with its
    descriptor and its name. All of them are accepted from: a listener left alone would have systemd start us again for ever.
    """
    passed: dict[int, str] = {}
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0":
        _check_open(os.environ.get("LISTEN_FDNAMES", "").split(":"))
        try:
            _, *names = daemon._listen_fds_with_names(True)
            passed = {FIRST_FD + index: name for index, name in enumerate(names)}
        except OSError as error:
            raise ListenerError(f"LISTEN_FDS and LISTEN_FDNAMES do not describe what was passed in: {error.strerror}") from None
    if not passed:
        raise ListenerError(
            "no listening socket was passed in: start it through its .socket unit, "
            "or use 'spyglass lookout' where there is no systemd"
        )
    return [_adopt(fd, name) for fd, name in passed.items()]


def _check_open(names: list[str]) -> None:
    # libsystemd says only EBADF when one of several descriptors is closed; an administrator wants to know which.
    try:
        count = int(os.environ.get("LISTEN_FDS", "0"))
    except ValueError:
        raise ListenerError(f"LISTEN_FDS is not a number: {os.environ['LISTEN_FDS']!r}") from None
    for index in range(count):
        try:
            os.fstat(FIRST_FD + index)
        except OSError:
            name = names[index] if index < len(names) else "unknown"
            raise ListenerError(f"inherited descriptor {FIRST_FD + index} ({name}) is closed") from None


def _adopt(fd: int, name: str) -> Listener:
    who = f"inherited descriptor {fd} ({name})"
    try:
        sock = Listening(fileno=fd)
    except OSError:
        raise ListenerError(f"{who} is not a socket") from None
    if sock.type != socket.SOCK_STREAM:
        raise ListenerError(f"{who} is not a stream socket: use ListenStream=, not ListenDatagram=")
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        raise ListenerError(f"{who} is of an unknown address family: IPv4, IPv6 and unix sockets are served")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ListenerError(f"{who} is not listening: the unit must have Accept=no")
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        # Inherited by every accepted connection (tcp(7)), so that no response waits for the acknowledgement of the one before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Listener(sock, name)


def notify(*lines: str) -> None:
    """Tell systemd, if it listens: "READY=1", "STATUS=...", "STOPPING=1" (sd_notify(3)). Never raises: nobody listening is normal."""
    try:
        daemon.notify("\n".join(lines))
    except OSError:
        pass


def hide_from_the_app() -> None:
    """Remove what systemd meant for the Master alone; an app, or what it starts, must not answer in our name."""
    for name in _OURS:
        os.environ.pop(name, None)
