"""One message while its frames arrive: joined, inflated, bounded, and its text
validated.
"""

from __future__ import annotations

from codecs import utf_8_decode

from spyglass.websocket.close_codes import INVALID_DATA, TOO_BIG, FrameError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.websocket.deflate import Inflater

# What is compressed may be longer than what it says: by an eighth with the smallest
# memory that a client can give to zlib (its deflateBound()), and by some bytes for each
# fragment. It is not stored, so this need not be exact.
_EIGHTH: Final = 3
_FRAGMENTS: Final = 1024


def decode(data: bytes) -> str:
    """Return the text of a whole payload. Raises FrameError unless it is UTF-8 (RFC
    6455 8.1).
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_DATA, "text that is not UTF-8") from None


def room_for(max_size: int, *, compressed: bool) -> int:
    """Return how many bytes of payload a message may have in all."""
    return max_size + (max_size >> _EIGHTH) + _FRAGMENTS if compressed else max_size


class Message:
    """What has come of a message. `is_text` (bool); `max_size` (int, bytes) bounds it,
    before and after `inflater`; `room` (int) is how many bytes of payload may follow.
    """

    __slots__ = ("_data", "_inflater", "_max_size", "_rest", "is_text", "room")

    def __init__(self, is_text: bool, max_size: int, inflater: Inflater | None) -> None:
        self.is_text = is_text
        self._max_size = max_size
        self._inflater = inflater
        self.room = room_for(max_size, compressed=inflater is not None)
        # One buffer, and no list of pieces: a client may send a million of them, each
        # of a byte, and a list would take fifty times what they say.
        self._data = bytearray()
        self._rest = b""  # the beginning of a character that is incomplete

    def add(self, payload: bytes) -> None:
        """Add what has come of a payload. Raises FrameError."""
        self.room -= len(payload)
        if self._inflater is not None:
            payload = self._inflater.inflate(payload, self._max_size - len(self._data))
        self._add(payload)

    def _add(self, data: bytes) -> None:
        room = self._max_size - len(self._data)
        # In the order in which they come, so that a message gets the same answer
        # however it was cut into packets: bad text first, then what is too much.
        fitting = data[:room]
        self._data += fitting
        if self.is_text:
            self._validate(fitting)
        if len(data) > room:
            raise FrameError(TOO_BIG, f"a message of more than {self._max_size} bytes")

    def _validate(self, data: bytes) -> None:
        data = self._rest + data
        try:
            _, valid = utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            raise FrameError(INVALID_DATA, "text that is not UTF-8") from None
        self._rest = data[valid:]

    def end(self) -> str | bytes:
        """Return all of it. Raises FrameError."""
        if self._inflater is not None:
            self._add(self._inflater.end(self._max_size - len(self._data)))
        data = bytes(self._data)
        return decode(data) if self.is_text else data
