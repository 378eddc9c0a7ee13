"""The messages between a WebSocket and an ASGI app (ASGI, "HTTP & WebSocket"), checked.

In which order they may come is for the session (worker/asgi/websocket_session.py).
"""

from __future__ import annotations

from spyglass.websocket.close_codes import NORMAL, may_be_sent
from spyglass.websocket.frames import BINARY, TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = dict[str, object]


def received(opcode: int, message: object) -> Event:
    """Return the event for a message of the client's.

    It has the one key. ASGI would allow the other with None, but apps ask whether it
    is there.
    """
    return {"type": "websocket.receive", "text" if opcode == TEXT else "bytes": message}


def disconnected(code: int, reason: str) -> Event:
    """Return the event for the end."""
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def data_of(message: Any) -> tuple[int, bytes]:
    """Return opcode and payload of a websocket.send. Raise TypeError or ValueError for
    what cannot be sent.
    """
    text, data = message.get("text"), message.get("bytes")
    if (text is None) == (data is None):
        raise ValueError("websocket.send needs either text or bytes, and not both")
    if text is not None:
        if not isinstance(text, str):
            raise TypeError(f"the text of websocket.send must be str, not {type(text).__name__}")
        return TEXT, text.encode()
    if not isinstance(data, bytes):
        if not isinstance(data, bytearray | memoryview):
            raise TypeError(f"the bytes of websocket.send must be bytes, not {type(data).__name__}")
        data = bytes(data)
    return BINARY, data


def close_of(message: Any) -> tuple[int, str]:
    """Return code and reason of a websocket.close. Raise TypeError or ValueError for
    what no Close frame may have.
    """
    code, reason = message.get("code"), message.get("reason")
    code = NORMAL if code is None else code
    reason = "" if reason is None else reason
    if not isinstance(code, int) or not isinstance(reason, str):
        raise TypeError("the code of websocket.close must be an int, and its reason a str")
    if not may_be_sent(code):
        raise ValueError(
            f"a WebSocket cannot be closed with the code {code}: use 1000, or 3000 to 4999"
        )
    return int(code), reason


def subprotocol_of(message: Any) -> str | None:
    """Return the subprotocol of a websocket.accept. Raise TypeError."""
    subprotocol = message.get("subprotocol")
    if subprotocol is not None and not isinstance(subprotocol, str):
        raise TypeError(
            f"the subprotocol of websocket.accept must be str, not {type(subprotocol).__name__}"
        )
    return subprotocol or None
