"""A unix socket at which the Master hears the commands of this machine.

It is a file in the app's state directory, where no other user can put another in its
place. An abstract name (unix(7)) could be taken first by any user of the machine. Only
root and the Master's own user are heard: those may send it a signal, too.
"""

from __future__ import annotations

import os
import select
import sys

from spyglass.runtime.fast_imports import Listening, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spyglass.runtime.poller import Poller


class LocalSocket:
    """Listens at the first of `addresses` that works. `meet()` gets the connections of
    the clients that have arrived, which do not block; it closes them.

    `fault` (str) is why none works, or "".
    """

    def __init__(
        self,
        addresses: Sequence[str],
        poller: Poller,
        meet: Callable[[list[socket.socket]], None],
    ) -> None:
        self.fault = ""
        self._meet = meet
        self._listener: Listening | None = None
        self._path, self._made = "", (0, 0)  # of the file, if it is one, and which it is
        for address in addresses:
            try:
                self._listener = _listen(address)
            except OSError as error:
                self.fault = error.strerror or str(error)
                continue
            self.fault = ""
            if not address.startswith("\0"):
                self._path, self._made = address, _which(address)
            # Edge-triggered: while no descriptor is left to accept with, a
            # level-triggered socket would stay ready and keep the Master busy.
            poller.watch(self._listener.fileno(), self._accept, select.EPOLLIN | select.EPOLLET)
            break

    def _accept(self) -> None:
        assert self._listener is not None
        arrived = []
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                break
            if _is_ours(sock):
                sock.setblocking(False)
                arrived.append(sock)
            else:
                sock.close()
        if arrived:
            self._meet(arrived)

    def close(self) -> None:
        """The Master exits: delete its file, unless the next Master has already put its
        own there.
        """
        if self._path and self._made == _which(self._path):
            try:
                os.unlink(self._path)
            except OSError:
                pass
        self.abandon()

    def abandon(self) -> None:
        """In a forked child. A client must see the connection end with the Master, not
        with the last process that inherited it.
        """
        if self._listener is not None:
            self._listener.close()


def _which(path: str) -> tuple[int, int]:
    try:
        status = os.lstat(path)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _listen(address: str) -> Listening:
    if not address.startswith("\0"):
        try:
            # Left by a Master that was killed, or made by the app: in the app's own
            # directory deleting it harms nothing else.
            os.unlink(address)
        except FileNotFoundError:
            pass
    sock = Listening(socket.AF_UNIX)
    try:
        sock.bind(address)
        sock.listen()
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _is_ours(sock: socket.socket) -> bool:
    """Return True for a client of root or of the Master's own user (unix(7),
    SO_PEERCRED: pid, uid, gid).
    """
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder) in (0, os.geteuid())
