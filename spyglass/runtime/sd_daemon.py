"""Our side of systemd's contracts: the sockets it passes in (sd_listen_fds(3)) and the
notes it reads (sd_notify(3)).

A passed socket is systemd's. It keeps its own descriptor of the same open file
description, so what is set on it (O_NONBLOCK, socket options) is seen by both and stays
when we exit. Therefore only harmless things are set, and shutdown(), listen() and
unlink() are never called.

While the service runs, systemd does not watch the socket. When the service has ended it
polls it again, and a connection in the queue starts the service at once. A service that
exits without accepting would therefore be started in a loop, which systemd ends by
failing the socket unit (TriggerLimitBurst=): clients are then refused until an
administrator resets it. Hence two rules: all sockets that are passed in are
accepted from, and a Master without a working app stays and answers (master/failing.py).

libsystemd says which sockets these are, by sd_listen_fds_with_names(). Loading it takes
a tenth of a wake, so the Master does that beside a zygote that has been forked already,
and then passes the names on to it.
"""

from __future__ import annotations

import os
import select
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from spyglass.errors import ListenerError
from spyglass.printable import one_line
from spyglass.runtime.addresses import FIRST_FD, address_text
from spyglass.runtime.fast_imports import Listening, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_OURS = (
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)
_NOTHING_LEFT = (EMFILE, ENFILE, ENOBUFS, ENOMEM)
TELL_AGAIN = 1.0  # seconds until what notify() could not tell is told again
_NONE = (
    "no listening socket was passed in: start it through its .socket unit, "
    "or use 'spyglass lookout' where there is no systemd"
)


class Listener:
    """A listening stream socket and the name systemd gave it (FileDescriptorName=).

    `inherited` (bool): each connection has its socket options from the listener. False
    until the first connection that has.
    """

    def __init__(self, sock: Listening, name: str) -> None:
        self.sock = sock
        self.name = name
        self.fd = sock.fileno()
        self.is_unix = sock.family == socket.AF_UNIX
        self.inherited = self.is_unix

    def __str__(self) -> str:
        return address_text(self.sock)

    def prepare(self, sock: socket.socket) -> None:
        """Set on `sock`, just accepted, what it did not inherit: it may have been
        queued before _adopt() set the option on the listener.
        """
        try:
            if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY):
                # Connections are accepted in the order in which they came, so all
                # others have it
                self.inherited = True
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # it is broken, and reading from it will show that


def has_pending(listeners: Iterable[Listener]) -> bool:
    """Return True if a connection in any of their queues waits to be accepted."""
    return bool(_waiting(listeners))


def first_pending(listeners: list[Listener]) -> int:
    """Return the index of the first with such a connection; -1 if there is none."""
    waiting = {fd for fd, _ in _waiting(listeners)}
    return next((index for index, each in enumerate(listeners) if each.fd in waiting), -1)


def _waiting(listeners: Iterable[Listener]) -> list[tuple[int, int]]:
    poll = select.poll()
    for listener in listeners:
        poll.register(listener.fd, select.POLLIN)
    return poll.poll(0)


def adopt_listeners() -> list[Listener]:
    """Return the sockets passed to this very process, whatever their number, order and
    family (sd_listen_fds_with_names(3)).

    Raises ListenerError if there are none, or if one is closed, not a stream socket, or
    not listening; it names the descriptor and its name. All of them are accepted from:
    a connection on one that is not would have systemd start the service for ever.
    """
    daemon = _libsystemd()
    end = FIRST_FD
    while _was_passed(end):
        end += 1
    try:
        count, *names = daemon._listen_fds_with_names(False)
    except (OSError, ValueError) as error:
        raise ListenerError(_refusal(error, end)) from None
    if not count:
        raise ListenerError(_NONE)
    if FIRST_FD + count > end:
        raise ListenerError(_closed(end, names[end - FIRST_FD]))
    return [_adopt(FIRST_FD + index, name) for index, name in enumerate(names)]


def _libsystemd() -> Any:
    """Return the C module of systemd-python.

    Not imported with the others: it loads libsystemd and six more libraries, and the
    zygote has been forked by now. systemd.daemon is this and a wrapper that imports the
    whole of `socket`.
    """
    try:
        from systemd import _daemon
    except ImportError:
        # Without `site`, it is found only if it lies beside Spyglass.
        from spyglass.runtime import late_site

        late_site.run_site()
        from systemd import _daemon
    return _daemon


def _was_passed(fd: int) -> bool:
    """Return True if `fd` was open when this program was started. What it has opened
    since is close-on-exec, and may have got the number of one that was closed.
    """
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def _closed(fd: int, name: str) -> str:
    return f"inherited descriptor {fd} ({name}) is closed"


def _refusal(error: OSError | ValueError, end: int) -> str:
    """Return why libsystemd refused what was passed in, as `error`: it has numbers for
    that and no words. `end` is the first descriptor that was not passed.
    """
    given = os.environ.get("LISTEN_FDS", "")
    if given.strip("0") == "" or not _is_number(os.environ.get("LISTEN_PID", "")):
        return _NONE
    if not _is_number(given):
        return f"LISTEN_FDS is not a number: {given!r}"
    count = int(given)
    names = None
    if "LISTEN_FDNAMES" in os.environ:
        names = os.environ["LISTEN_FDNAMES"].split(":")
        if count != len(names):
            return (
                f"LISTEN_FDS and LISTEN_FDNAMES disagree: {count} descriptors, {len(names)} names"
            )
    if FIRST_FD + count > end:
        return _closed(end, "unknown" if names is None else names[end - FIRST_FD])
    return f"the sockets that were passed in cannot be adopted: {error}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10  # of a C int


def adopt_again(names: list[str]) -> list[Listener]:
    """In a process that was forked before the Master could know their `names`: return
    the sockets that adopt_listeners() has returned there.
    """
    listeners = []
    for fd, name in enumerate(names, FIRST_FD):
        os.set_inheritable(fd, False)  # libsystemd has done so in the Master
        listeners.append(Listener(Listening(fileno=fd), name))
    return listeners


def _adopt(fd: int, name: str) -> Listener:
    socket_name = f"inherited descriptor {fd} ({name})"
    try:
        sock = Listening(fileno=fd)
    except OSError:
        raise ListenerError(f"{socket_name} is not a socket") from None
    if sock.type != socket.SOCK_STREAM:
        raise ListenerError(
            f"{socket_name} is not a stream socket: use ListenStream=, not ListenDatagram="
        )
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        raise ListenerError(
            f"{socket_name} has an unsupported address family: only IPv4, IPv6 and unix sockets are served"
        )
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ListenerError(f"{socket_name} is not listening: the unit must have Accept=no")
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        # Inherited by each connection that comes from now on (tcp(7)), so that no
        # response waits for the acknowledgement of the one before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Listener(sock, name)


def notify(*lines: str) -> bool:
    """Tell systemd, if it listens: "READY=1", "STATUS=...", "STOPPING=1"
    (sd_notify(3)). Never raises: outside systemd no process listens.

    Return False if that takes a descriptor or memory, and there is none: the same may
    be told later.

    For systemd "\\r" ends an assignment as "\\n" does, so each of `lines` is made one
    line: no text can add an assignment.
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        return True
    try:
        _libsystemd().notify("\n".join([one_line(line) for line in lines]))
    except (OSError, ValueError, TypeError) as error:
        return getattr(error, "errno", None) not in _NOTHING_LEFT
    return True


def cache_directory() -> str:
    """Return the path from CacheDirectory= (systemd.exec(5)), or ""."""
    return os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]


def hide_from_the_app() -> None:
    """Remove what systemd meant for the Master alone: an app, or a program it starts,
    must not send notes in the Master's name.
    """
    for name in _OURS:
        os.environ.pop(name, None)


def byte_code_directory() -> str:
    """Return where an app's byte code goes, "" if systemd provides no directory."""
    directory = cache_directory()
    return os.path.join(directory, "pycache") if directory else ""
