"""Read the PROXY header that comes before all else where `proxy_protocol` is on."""

from __future__ import annotations

from os import read

from spyglass.errors import PrefaceError, blame, told_shortly
from spyglass.http11.proxy_protocol import read_header
from spyglass.policy.trusted_proxies import trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from spyglass.http11.proxy_protocol import Endpoints
    from spyglass.log import Log

    class Facts(Protocol):
        """The worker (server.py)."""

        log: Log
        trusted_proxies: str

        def warn_once(self, about: object, what: str) -> None: ...

    class Greeted(Protocol):
        """The connection."""

        fd: int

        def await_header(self) -> None: ...
        def close(self, why: str) -> None: ...


_RECEIVE = 8 << 10


class Greeting:
    """The header of one connection. Its `peer` (an address; "" on a unix socket) has to
    be among the trusted_proxies.
    """

    __slots__ = ("_peer", "_preface", "_server")

    def __init__(self, server: Facts, peer: str) -> None:
        self._server = server
        self._peer = peer
        self._preface = b""  # what has arrived of the header

    def read(self, connection: Greeted) -> tuple[bytes, Endpoints | None] | None:
        """Return what arrived behind the header, and what it says; None when some of it
        is still to come, or the connection was closed.

        A peer that may not send one is closed: its header would not be believed, and
        without a header nothing is accepted.
        """
        server = self._server
        if not trusted(server.trusted_proxies).peer(self._peer):
            self._turn_away(connection, "this peer is not among the trusted_proxies")
            return None
        try:
            data = read(connection.fd, _RECEIVE)
        except BlockingIOError:
            connection.await_header()
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
            self._turn_away(connection, str(error))
            return None
        except Exception as error:
            # It costs this connection, not the worker and all the others.
            server.log.error(
                f"{connection}: {blame(error)} while reading a PROXY header: {told_shortly(error)}"
            )
            connection.close("its PROXY header cannot be read")
            return None
        if header is None:
            connection.await_header()
            return None
        size, endpoints = header
        return self._preface[size:], endpoints

    def _turn_away(self, connection: Greeted, why: str) -> None:
        self._server.warn_once(connection, f"closed: proxy_protocol is on, and {why}")
        connection.close(why)
