"""The socket of one client, as the descriptor that accept4(2) gave.

Most clients are read from, written to and closed, and nothing else. A socket object
would only make that dearer: Python asks the kernel whether the descriptor is one
(getsockname(2)) whenever it makes one, and a proxy may open a connection for each
request. So it is made for the few that need it.
"""

from __future__ import annotations

from errno import EBADF
from os import close, set_blocking, strerror
from select import EPOLLRDHUP, POLLERR, POLLHUP, POLLOUT, poll

from spyglass.runtime.fast_imports import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.runtime.sd_daemon import Listener

# What look_for_end() finds
STAYS: Final = 0
SAID_ITS_LAST: Final = 1  # it has shut down its sending side
GONE: Final = 2


class ClientSocket:
    """The descriptor `fd` (int; -1 when it is closed), accepted at `listener`; not
    blocking from now on.

    What reads or writes takes `fd` from here each time: the number of a closed socket
    is soon that of another client.
    """

    __slots__ = ("_listener", "_object", "fd")

    def __init__(self, fd: int, listener: Listener) -> None:
        self.fd = fd
        self._listener = listener
        self._object: socket.socket | None = None
        set_blocking(fd, False)

    @property
    def object(self) -> socket.socket:
        """The same as a socket object, which close() closes. OSError: it is closed."""
        if self._object is None:
            if self.fd < 0:  # for which Python has a ValueError
                raise OSError(EBADF, strerror(EBADF))
            like = self._listener.sock
            self._object = made = socket.socket(like.family, like.type, like.proto, self.fd)
            made.setblocking(False)  # what Python believes, too
        return self._object

    def has_room(self) -> bool:
        """Return True if the client has taken something: then it waits for us."""
        writable = poll()
        writable.register(self.fd, POLLOUT)
        return bool(writable.poll(0))

    def look_for_end(self) -> int:
        """Return STAYS, SAID_ITS_LAST or GONE, without reading what precedes an end."""
        end = poll()
        end.register(self.fd, EPOLLRDHUP)  # the same number as POLLRDHUP
        for _, events in end.poll(0):
            return GONE if events & (POLLHUP | POLLERR) else SAID_ITS_LAST
        return STAYS

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        fd, self.fd = self.fd, -1
        if self._object is not None:
            self._object.close()
        elif fd >= 0:
            close(fd)
