"""From a request that asks for a WebSocket to the app's call."""

from __future__ import annotations

from spyglass.websocket.handshake import read_handshake, wants_websocket
from spyglass.worker.asgi.websocket_call import WebSocketCall
from spyglass.worker.asgi.websocket_connection import WebSocketConnection
from spyglass.worker.asgi.websocket_opening import Opening
from spyglass.worker.asgi.websocket_session import WebSocketSession
from spyglass.worker.asgi.websocket_shared import Shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.config.settings import Config
    from spyglass.http11.request import Request
    from spyglass.websocket.deflate import Deflate
    from spyglass.worker.asgi.apps import Apps
    from spyglass.worker.server import Server


class Opener:
    """Opens the WebSockets of a worker."""

    def __init__(self, config: Config, apps: Apps, server: Server) -> None:
        self._apps = apps
        self._shared = Shared(config, server, apps.loop)

    def open(self, connection: Any, request: Request) -> bool:
        """Have the app asked whether `connection`, a DuplexConnection, is to be a
        WebSocket. Return False if `request` asks for none. Raise RequestError if it is
        no valid handshake.
        """
        if not wants_websocket(request):
            return False
        handshake = read_handshake(request)
        shared = self._shared
        deflate = _negotiate(handshake.extensions) if shared.compresses else None
        scope = connection.make_websocket_scope(request)
        scope["subprotocols"] = handshake.subprotocols.copy()
        opening = Opening(shared, request, handshake, deflate)
        socket, rest = connection.hand_over(WebSocketConnection)
        session = WebSocketSession(socket, shared, opening, deflate, request.target)
        session.call = call = WebSocketCall(self._apps, session, request.target)
        socket.begin(session, rest)
        if self._apps.server.draining:
            socket.last_call()
        elif self._apps.server.is_parting():
            socket.part()
        call.start(scope)
        return True


def _negotiate(extensions: str) -> Deflate | None:
    if not extensions:
        return None
    # Inside: most apps do without, and so do many clients of the others.
    from spyglass.websocket.deflate import negotiate

    return negotiate(extensions)
