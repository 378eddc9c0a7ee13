"""From a request to a WebSocket, or not (RFC 6455 4.2).

The request has been read and judged as any other, and its headers are taken as they
are: a second look at the same bytes could find another request than the first one.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from hashlib import sha1

from spyglass.errors import RequestError
from spyglass.http11.chunked import is_token
from spyglass.http11.response_head import missing_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.http11.request import Request
    from spyglass.http11.response_head import CheckedFields

_VERSION: Final = "13"
# With a 426 (RFC 6455 4.4, RFC 9110 15.5.22)
VERSION_FIELDS: Final = (
    f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: {_VERSION}\r\n"
)
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_SIZE: Final = 16


class Handshake:
    """What a client asks for. `accept` (str) proves that we have read its key;
    `subprotocols` (list of str) are in its order, `extensions` (str) are not looked at.
    """

    __slots__ = ("accept", "extensions", "subprotocols")

    def __init__(self, accept: str, subprotocols: list[str], extensions: str) -> None:
        self.accept = accept
        self.subprotocols = subprotocols
        self.extensions = extensions


def wants_websocket(request: Request) -> bool:
    """Return True if the client offers to speak WebSocket. HTTP/1.0 cannot (RFC 9110
    7.8).
    """
    upgrade = request.fields.get("HTTP_UPGRADE")
    return (
        upgrade is not None
        and request.version != (1, 0)
        and "websocket" in [each.lower() for each in _elements(upgrade)]
    )


def read_handshake(request: Request) -> Handshake:
    """Return what a request asks for that wants a WebSocket. Raises RequestError with
    400 for one that is no handshake, with 426 for another version.
    """
    fields = request.fields
    if request.method != "GET":
        raise RequestError(400, "a WebSocket begins with GET")
    if request.body is not None:
        # Bytes behind the head would be a body for one recipient, frames for another.
        raise RequestError(400, "a WebSocket handshake with a body")
    connection = _elements(fields.get("HTTP_CONNECTION", ""))
    if "upgrade" not in [each.lower() for each in connection]:
        raise RequestError(400, "Upgrade: websocket, but no Connection: Upgrade")
    if fields.get("HTTP_SEC_WEBSOCKET_VERSION") != _VERSION:
        raise RequestError(426, f"only version {_VERSION} of WebSocket is supported")
    return Handshake(
        _accept(fields.get("HTTP_SEC_WEBSOCKET_KEY", "")),
        _subprotocols(fields.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")),
        fields.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", ""),
    )


def _accept(key: str) -> str:
    try:
        valid = len(a2b_base64(key, strict_mode=True)) == _KEY_SIZE
    except ValueError:
        valid = False
    if not valid:
        raise RequestError(400, "bad Sec-WebSocket-Key")
    # Not for security: it tells the client that this is no server of another protocol
    # (RFC 6455 10.8).
    digest = sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return b2a_base64(digest, newline=False).decode()


def _subprotocols(value: str) -> list[str]:
    names = _elements(value)
    if len(set(names)) < len(names) or not all(is_token(each.encode("latin-1")) for each in names):
        raise RequestError(400, "bad Sec-WebSocket-Protocol")
    return names


def _elements(value: str) -> list[str]:
    """Return the elements of a list (RFC 9110 5.6.1)."""
    return [each for part in value.split(",") if (each := part.strip(" \t"))]


def accept_head(
    handshake: Handshake,
    fields: CheckedFields,
    date: str,
    subprotocol: str | None = None,
    extension: str | None = None,
) -> bytes:
    """Return the response with which the connection becomes a WebSocket (4.2.2).

    `fields` are the app's. Raises ValueError if it has chosen a subprotocol that the
    client has not offered, or sends a header that is for us to send.
    """
    if "\r\nsec-websocket-" in f"\r\n{fields.text}".lower():
        raise ValueError("headers that begin with Sec-WebSocket- are for the server to send")
    if subprotocol is not None and subprotocol not in handshake.subprotocols:
        offered = ", ".join(handshake.subprotocols) or "none"
        raise ValueError(f"the client has not offered the subprotocol {subprotocol!r}: {offered}")
    chosen = "" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    if extension is not None:
        chosen += f"Sec-WebSocket-Extensions: {extension}\r\n"
    text = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {handshake.accept}\r\n{chosen}"
        f"{fields.text}{missing_fields(fields.own, date)}\r\n"
    )
    return text.encode("latin-1")
