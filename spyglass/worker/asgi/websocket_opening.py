"""The response to a handshake, which the app makes: the WebSocket is accepted, or the
client gets a response of HTTP.
"""

from __future__ import annotations

from spyglass.gateway.asgi.fields import check_pairs
from spyglass.gateway.asgi.http_exchange import HttpExchange
from spyglass.gateway.asgi.websocket_messages import subprotocol_of
from spyglass.websocket.handshake import accept_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.http11.request import Request
    from spyglass.websocket.deflate import Deflate
    from spyglass.websocket.handshake import Handshake
    from spyglass.worker.asgi.websocket_shared import Shared


class Opening:
    """What `request` asks for with its `handshake`. `deflate` is agreed on if the app
    accepts. `denial` is the other response, None while there is none.
    """

    __slots__ = ("_deflate", "_handshake", "_request", "_shared", "denial")

    def __init__(
        self,
        shared: Shared,
        request: Request,
        handshake: Handshake,
        deflate: Deflate | None,
    ) -> None:
        self._shared = shared
        self._request = request
        self._handshake = handshake
        self._deflate = deflate
        self.denial: HttpExchange | None = None

    def accept(self, message: Any) -> bytes:
        """Return the head that makes it a WebSocket. Raise TypeError or ValueError for
        a websocket.accept that cannot be sent.
        """
        return accept_head(
            self._handshake,
            check_pairs(message.get("headers") or ()),
            self._shared.server.date,
            subprotocol_of(message),
            None if self._deflate is None else self._deflate.answer,
        )

    def deny(self, kind: str, message: Any) -> bytes:
        """Return what is to be sent for a message of this kind, as of an HTTP response.
        Raise RuntimeError, TypeError or ValueError.
        """
        denial = self.denial or self._make_denial()
        piece = denial.send({**message, "type": kind})
        self.denial = denial
        return _joined(piece)

    def forbid(self) -> bytes:
        """Return the response to a client that the app turns away."""
        self.deny("http.response.start", {"status": 403})
        return self.deny("http.response.body", {"body": b"403: Forbidden\n"})

    def give_up(self, error: BaseException | None, *, is_late: bool) -> bytes | None:
        """Return the response for an app whose call has ended without one; None if it
        cannot be completed any more.
        """
        denial = self.denial = self.denial or self._make_denial()
        denial.is_late = is_late
        return denial.failed(error, self._shared.patience)

    def _make_denial(self) -> HttpExchange:
        # Its server keeps no connection: bytes may have come that are no request.
        return HttpExchange(self._shared.last_server, self._request, None)


def _joined(piece: Any) -> bytes:
    if piece is None:
        return b""
    return b"".join(piece) if isinstance(piece, tuple) else bytes(piece)
