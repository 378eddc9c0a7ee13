"""permessage-deflate: messages compressed one by one (RFC 7692).

With its defaults this extension costs each connection 300 KiB, for the two windows that
are kept from one message to the next. Neither side keeps one here: both parameters
`no_context_takeover` are part of each agreement, and between two messages nothing is
left. Each message is compressed less well for that, by some tenths for small ones.

Only imported when the setting asks for compression and a client offers it.
"""

from __future__ import annotations

from zlib import DEFLATED, Z_SYNC_FLUSH, compressobj, decompressobj
from zlib import error as ZlibError

from spyglass.errors import RequestError
from spyglass.http11.chunked import is_token
from spyglass.websocket.close_codes import INVALID_DATA, FrameError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_NAME: Final = "permessage-deflate"
# What we compress with: a window of 4 KiB, and 16 KiB for the rest. A larger window
# gains little for messages of some KiB.
_WINDOW: Final = 12
_MEMORY: Final = 5
_LEVEL: Final = 1
# What a client has compressed with, at most
_LARGEST_WINDOW: Final = 15
# zlib has no raw stream with a window of 8 bits: it would silently use 9, and the
# client could not read that.
_SMALLEST_WINDOW: Final = 9
_WINDOWS: Final = {str(bits): bits for bits in range(8, 16)}
# A flush ends in an empty block that is not sent (7.2.1).
_EMPTY_BLOCK: Final = b"\x00\x00\xff\xff"
# Behind it, an empty block that is the last one: zlib finds the end of the stream there
# if it is between two blocks, and only then.
_END: Final = _EMPTY_BLOCK + b"\x01\x00\x00\xff\xff"
_BROKEN: Final = "a message that cannot be inflated"
# Shorter messages are sent as they are: they would hardly become shorter.
_WORTHWHILE: Final = 64
# Bytes that are inflated at a time behind a final block, see Inflater
_SLICE: Final = 256


class Deflate:
    """What was agreed on for a connection. `answer` (str) is our part in
    Sec-WebSocket-Extensions.
    """

    __slots__ = ("_window", "answer")

    def __init__(self, answer: str, window: int) -> None:
        self.answer = answer
        self._window = window

    def inflater(self) -> Inflater:
        """Return what a compressed message is given to."""
        return Inflater()

    def deflate(self, message: bytes) -> bytes | None:
        """Return `message` compressed, or None when it should be sent as it is."""
        if len(message) < _WORTHWHILE:
            return None
        stream = compressobj(_LEVEL, DEFLATED, -self._window, _MEMORY)
        data = stream.compress(message) + stream.flush(Z_SYNC_FLUSH)
        return data[: -len(_EMPTY_BLOCK)] if len(data) < len(message) else None


class Inflater:
    """One message while it arrives (7.2.2)."""

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream = decompressobj(-_LARGEST_WINDOW)

    def inflate(self, data: bytes, room: int) -> bytes:
        """Return what `data` says. No more than `room` + 1 bytes are made of it, as a
        thousand times its length may come out. Raises FrameError.
        """
        try:
            made = self._stream.decompress(data, room + 1)
            if not self._stream.eof:
                return made
            return self._inflate_further(made, room)
        except ZlibError:
            raise FrameError(INVALID_DATA, _BROKEN) from None

    def _inflate_further(self, made: bytes, room: int) -> bytes:
        # A block may say that it is the last one, and others may follow it (7.2.1).
        # Python copies what is unread for each, so only a little is given at a time.
        rest, pieces, size = self._stream.unused_data, [made], len(made)
        self._stream = decompressobj(-_LARGEST_WINDOW)
        at = 0
        while at < len(rest) and size <= room:
            piece = rest[at : at + _SLICE]
            pieces.append(self._stream.decompress(piece, room + 1 - size))
            size += len(pieces[-1])
            at += len(piece)
            if self._stream.eof:
                at -= len(self._stream.unused_data)
                self._stream = decompressobj(-_LARGEST_WINDOW)
        return b"".join(pieces)

    def end(self, room: int) -> bytes:
        """Return what the end of the message says. Raises FrameError, also for a
        message that ends within a block.
        """
        try:
            made = self._stream.decompress(_END, room + 1)
        except ZlibError:
            raise FrameError(INVALID_DATA, _BROKEN) from None
        if len(made) <= room and (not self._stream.eof or self._stream.unused_data):
            raise FrameError(INVALID_DATA, _BROKEN)
        return made


def negotiate(offers: str) -> Deflate | None:
    """Return what is agreed on, for a Sec-WebSocket-Extensions header: the first offer
    that we can accept, or None. Raises RequestError for what is no such header.
    """
    agreed = None
    for offer in offers.split(","):
        name, *parameters = [each.strip(" \t") for each in offer.split(";")]
        if not name and not parameters:
            continue  # an empty element of the list (RFC 9110 5.6.1)
        read = [_parameter(each) for each in parameters]
        if not _is_token(name):
            raise RequestError(400, "bad Sec-WebSocket-Extensions")
        if name == _NAME and agreed is None:
            agreed = _accept(read)
    return agreed


def _parameter(text: str) -> tuple[str, str | None]:
    """Return name and value of an extension's parameter (RFC 6455 9.1)."""
    name, sign, value = text.partition("=")
    name, value = name.rstrip(" \t"), value.lstrip(" \t")
    if len(value) > 1 and value[0] == value[-1] == '"':
        # What is quoted must be a token, too. So no comma, semicolon or backslash is
        # in there, and none was cut apart.
        value = value[1:-1]
    if not _is_token(name) or (sign and not _is_token(value)):
        raise RequestError(400, "bad Sec-WebSocket-Extensions")
    return name, value if sign else None


def _is_token(text: str) -> bool:
    return is_token(text.encode("latin-1"))


def _accept(parameters: list[tuple[str, str | None]]) -> Deflate | None:
    """Return what is agreed on, or None for an offer that must be declined (7.1)."""
    given = dict(parameters)
    if len(given) < len(parameters):
        return None
    window = _WINDOW
    answer = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
    for name, value in parameters:
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
        elif name == "client_max_window_bits":
            # It only tells what the client can do: we can read any window.
            if value is not None and value not in _WINDOWS:
                return None
        elif name == "server_max_window_bits":
            window = min(_WINDOW, _WINDOWS.get(value or "", 0))
            if window < _SMALLEST_WINDOW:
                return None
            answer += f"; server_max_window_bits={window}"
        else:
            return None
    return Deflate(answer, window)
