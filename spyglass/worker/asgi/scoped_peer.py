"""The client of an ASGI app, as the app and the access log are told of it."""

from __future__ import annotations

from spyglass.gateway.asgi.scope import ScopeMaker
from spyglass.worker.peer import Peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.http11.request import Request
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.server import Server


class ScopedPeer(Peer):
    """A Peer whose `scopes` make the scope of each request; None before the first.

    Derived: the two differ in what they make of the same facts.
    """

    __slots__ = ("scopes",)

    def __init__(
        self, server: Server, socket: ClientSocket, address: Any, listener: Listener
    ) -> None:
        super().__init__(server, socket, address, listener)
        self.scopes: ScopeMaker | None = None

    def make_scopes(self) -> ScopeMaker:
        """Make `scopes`."""
        server = self._server
        base = self.constant()
        address: tuple[str, int | None]
        if self.endpoints is None and self.listener.is_unix:
            name = self.listener.sock.getsockname()
            address = (name if isinstance(name, str) else repr(name)), None
        else:
            address = base["SERVER_NAME"].strip("[]"), int(base["SERVER_PORT"])
        self.scopes = ScopeMaker(
            base, address, server.trusted_proxies, server.forwarded_headers, server.script_name
        )
        return self.scopes

    def client(self, request: Request | None) -> str:
        """See Peer."""
        try:
            if request is not None:
                return (self.scopes or self.make_scopes()).client(request)
            address: str = self.constant()["REMOTE_ADDR"]
            return address
        except Exception:  # see Peer
            return ""
