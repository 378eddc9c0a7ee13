"""How a connection introduces itself where `proxy_protocol` is on: a PROXY header comes
before all else.
"""

from __future__ import annotations

import select
from time import monotonic

from spyglass.errors import PrefaceError, blame, told_shortly
from spyglass.http11.proxy_protocol import read_header
from spyglass.policy.trusted_proxies import trusted
from spyglass.runtime.timers import HEAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.http11.proxy_protocol import Endpoints
    from spyglass.worker.connection import Connection
    from spyglass.worker.loop import Loop

_RECEIVE = 8 << 10


class Greeting:
    """Of `connection`, whose `peer` (an address; "" on a unix socket) has to be among
    the trusted_proxies.
    """

    __slots__ = ("_connection", "_loop", "_peer", "_preface")

    def __init__(self, connection: Connection, loop: Loop, peer: str) -> None:
        self._connection = connection
        self._loop = loop
        self._peer = peer
        self._preface = b""  # so much of the header has come

    def read(self) -> tuple[bytes, Endpoints | None] | None:
        """What came behind the header, and what was told in it; None when there is more
        of it to come, or the connection was closed.

        Who may not send one is closed: it would not be believed, and without one nobody
        may come.
        """
        connection = self._connection
        if not trusted(self._loop.trusted_proxies).peer(self._peer):
            self._turn_away("this peer is not among the trusted_proxies")
            return None
        try:
            data = connection.sock.recv(_RECEIVE)
        except BlockingIOError:
            self._await()
            return None
        except OSError as error:
            connection.close(f"reading failed: {error.strerror}")
            return None
        if not data:
            connection.close("closed by the client")
            return None
        self._preface += data
        try:
            header = read_header(self._preface)
        except PrefaceError as error:
            self._turn_away(str(error))
            return None
        except Exception as error:
            # It costs this connection, not the worker and all the others.
            self._loop.log.error(
                f"{connection}: {blame(error)} while reading a PROXY header: {told_shortly(error)}"
            )
            connection.close("its PROXY header cannot be read")
            return None
        if header is None:
            self._await()
            return None
        size, endpoints = header
        return self._preface[size:], endpoints

    def _await(self) -> None:
        connection = self._connection
        self._loop.watch(connection, select.EPOLLIN)
        if connection.deadline is None:
            # It has as long as the head of a request, and together with the first one.
            self._loop.deadlines.set(connection, HEAD, monotonic())

    def _turn_away(self, why: str) -> None:
        self._loop.warn_once(self._connection, f"closed: proxy_protocol is on, and {why}")
        self._connection.close(why)
