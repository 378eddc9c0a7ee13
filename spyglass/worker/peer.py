"""Tell the app, the access log and the journal which client a connection belongs to."""

from __future__ import annotations

from spyglass.gateway.environ import EnvironMaker
from spyglass.worker.server import server_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.http11.proxy_protocol import Endpoints
    from spyglass.http11.request import Request
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.server import Server


class Peer:
    """The other end of `socket`, which was accepted at `listener` from `address`.

    `endpoints` is what a PROXY header has said of the client behind it. `environs`
    makes the environ of its requests; None before the first.
    """

    __slots__ = ("_address", "_server", "_socket", "endpoints", "environs", "listener")

    def __init__(
        self, server: Server, socket: ClientSocket, address: Any, listener: Listener
    ) -> None:
        self._server = server
        self._socket = socket
        self._address = address
        self.environs: EnvironMaker | None = None
        self.listener = listener
        self.endpoints: Endpoints | None = None

    def __str__(self) -> str:
        if self.listener.is_unix:
            return f"on {self.listener}"
        return f"from {self._address[0]}:{self._address[1]}"

    @property
    def host(self) -> str:
        """The address from which the client has connected; "" on a unix socket."""
        return "" if self.listener.is_unix else self._address[0]

    def make_environs(self) -> EnvironMaker:
        """Make `environs`, which makes the environ of each request."""
        server = self._server
        constant, below = self.constant(), server.environs_below
        trusted, forwarded = server.trusted_proxies, server.forwarded_headers
        self.environs = (
            EnvironMaker(constant, trusted, forwarded)
            if below is None
            else below(constant, trusted, forwarded, server.script_name)
        )
        return self.environs

    def client(self, request: Request | None) -> str:
        """Return the client's address as the access log has it."""
        try:
            if request is not None:
                return (self.environs or self.make_environs()).client(request)
            address: str = self.constant()["REMOTE_ADDR"]
            return address
        # No descriptor is left for an import that only some requests need, or this
        # request is one that our code cannot read
        except Exception:
            return ""

    def constant(self) -> dict[str, Any]:
        """Return what is the same in the environ of all requests of this connection."""
        if self.endpoints is not None:
            return self._server.base | self.endpoints.environ()
        base = self._server.base_of(self.listener)
        if self.listener.is_unix:
            return base
        # A dual-stack socket names IPv4 clients ::ffff:a.b.c.d (RFC 4291 2.5.5.2); apps
        # and people know them as a.b.c.d.
        base = {
            **base,
            "REMOTE_ADDR": self._address[0].removeprefix("::ffff:"),
            "REMOTE_PORT": str(self._address[1]),
        }
        if not base["SERVER_NAME"]:
            base["SERVER_NAME"] = server_name(self._socket.object.getsockname()[0])
        return base
