"""The states of a WebSocket, and which message an app may send in which of them.

CONNECTING   the app has been asked, and has neither accepted nor refused
DENYING      the app answers with a response of HTTP instead
OPEN         messages go both ways
CLOSING      we have sent a Close, and the client's is still to come: what it has
             said before that is still the app's (RFC 6455 1.4)
CLOSED       nothing more is received or sent
"""

from __future__ import annotations

from spyglass.gateway.asgi.gone import Gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

CONNECTING: Final = 0
DENYING: Final = 1
OPEN: Final = 2
CLOSING: Final = 3
CLOSED: Final = 4

SEND: Final = "websocket.send"
ACCEPT: Final = "websocket.accept"
CLOSE: Final = "websocket.close"
RESPONSE_START: Final = "websocket.http.response.start"
RESPONSE_BODY: Final = "websocket.http.response.body"

_STATES: Final[dict[object, int]] = {
    ACCEPT: CONNECTING,
    SEND: OPEN,
    CLOSE: OPEN,
    RESPONSE_START: CONNECTING,
    RESPONSE_BODY: DENYING,
}
_WHEN: Final = {
    CONNECTING: "before websocket.accept",
    DENYING: "after websocket.http.response.start",
    OPEN: "after websocket.accept",
}


def check_turn(kind: object, state: int, *, closed_by_app: bool) -> None:
    """Raise RuntimeError for a message that must not come in this state. Raise Gone for
    one that only comes too late, as the client or the server has ended it before.
    """
    wanted = _STATES.get(kind)
    if wanted is None:
        raise RuntimeError(f"unexpected message {kind!r}: this is a WebSocket")
    if state == wanted:
        return
    if state < CLOSING:
        raise RuntimeError(f"{kind} was sent {_WHEN[state]}")
    if closed_by_app:
        raise RuntimeError(f"{kind} was sent after the app had closed the WebSocket")
    raise Gone("the WebSocket is closed")
