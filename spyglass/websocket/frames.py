"""From the bytes of a WebSocket to its messages, and back (RFC 6455 5).

      0                   1                   2                   3
      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
     +-+-+-+-+-------+-+-------------+-------------------------------+
     |F|R|R|R|       |M|             |  length of the payload, 16 or |
     |I|S|S|S|opcode |A|   length    |  64 bits if the seven before  |
     |N|V|V|V|  (4)  |S|     (7)     |  are 126 or 127               |
     | |1|2|3|       |K|             |  (the shortest form that fits)|
     +-+-+-+-+-------+-+-------------+-------------------------------+
     |  masking key (32), from clients only  |  payload ...          |
     +---------------------------------------+-----------------------+

What the RFC does not permit fails the connection, however harmless it looks: a reserved
bit, a length in more bytes than it needs, a frame without a mask. A proxy or a filter
in between may read it differently.

Nothing is stored that is not sure to be wanted. A length is judged before its payload,
and a message while it arrives: text that cannot become UTF-8 any more is refused inside
a frame, because its client may send nothing more and wait.
"""

from __future__ import annotations

from spyglass.websocket.close_codes import (
    NO_CODE,
    PROTOCOL_ERROR,
    TOO_BIG,
    FrameError,
    may_be_sent,
)
from spyglass.websocket.message import Message, decode, room_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from spyglass.websocket.deflate import Deflate

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

_OPCODES: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))

_FIN: Final = 0x80
_RSV: Final = 0x70
_RSV1: Final = 0x40  # a compressed message, with permessage-deflate (RFC 7692 6)
_OPCODE: Final = 0x0F
_WHOLE: Final = (_FIN | TEXT, _FIN | BINARY)  # a message in a frame, as nearly all are
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_LONGEST_CONTROL: Final = 125
_TWO_BYTES: Final = 126  # instead of a length: it follows
_EIGHT_BYTES: Final = 127
_LONGEST_REASON: Final = _LONGEST_CONTROL - 2
_MASK: Final = 4  # bytes of a masking key

# From this length on, four calls of translate() are faster than the XOR of two numbers
_STRIDES_FROM: Final = 400
_PLAIN: Final = bytes(range(256))
# For each byte of a key: what it makes of the 256 bytes
_XOR: Final = tuple(
    (int.from_bytes(_PLAIN, "big") ^ int.from_bytes(bytes((key,)) * 256, "big")).to_bytes(
        256, "big"
    )
    for key in range(256)
)


def unmask(payload: bytes, key: bytes) -> bytes:
    """Return `payload` XORed with the four bytes of `key`, over and over (RFC 6455
    5.3).

    Measured on CPython 3.11 and 3.13: as two numbers it takes 3 ns a byte, as strides
    of every fourth byte 1.5 and a microsecond more at first. A loop over the bytes
    takes at least twenty times as long.
    """
    size = len(payload)
    if size < _STRIDES_FROM:
        keys = (key * (size + 3 >> 2))[:size]
        number = int.from_bytes(payload, "little") ^ int.from_bytes(keys, "little")
        return number.to_bytes(size, "little")
    data = bytearray(payload)
    data[::4] = data[::4].translate(_XOR[key[0]])
    data[1::4] = data[1::4].translate(_XOR[key[1]])
    data[2::4] = data[2::4].translate(_XOR[key[2]])
    data[3::4] = data[3::4].translate(_XOR[key[3]])
    return bytes(data)


class FrameReader:
    """Bytes of a client in, events out.

    Give `feed()` what was received, then call `next()` until it returns None. A caller
    that cannot take more messages may wait between two calls: what is unread stays
    here as it came. `max_size` (int, bytes) bounds a message, compressed or not;
    `deflate` is what was negotiated, if anything was.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_deflate",
        "_ends",
        "_key",
        "_left",
        "_max_size",
        "_message",
        "closed",
    )

    def __init__(self, max_size: int, deflate: Deflate | None = None) -> None:
        self._max_size = max_size
        self._deflate = deflate
        self._buffer = b""
        self._at = 0  # bytes of the buffer that have been read
        self._message: Message | None = None  # what the frames so far have begun
        # Of a frame whose payload has not come in full: how much is to come, and the
        # key, turned to begin with that
        self._left = 0
        self._key = b""
        self._ends = False  # the frame under way is the last of its message
        # A Close has come, or an error: nothing that follows means anything (5.5.1)
        self.closed = False

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._buffer = data if self._at == len(self._buffer) else self._buffer[self._at :] + data
        self._at = 0

    @property
    def unread(self) -> int:
        """How many bytes wait to be read, or for the rest of their frame."""
        return len(self._buffer) - self._at

    def next(self) -> tuple[int, Any] | None:
        """Return the next event, or None when more bytes are needed:

            TEXT, str; BINARY, bytes     a whole message
            PING, bytes; PONG, bytes
            CLOSE, (code, reason)        the last one; NO_CODE stands for none

        Raises FrameError, after all events before it; nothing can be read after that.
        """
        while not self._left or self._read_payload():
            if self._ends:
                return self._end_message()
            buffer, at = self._buffer, self._at
            if len(buffer) - at < 2 or self.closed:
                return None
            first, second = buffer[at], buffer[at + 1]
            if first not in _WHOLE or second < _MASKED or self._message is not None:
                self._check(first, second)
            opcode = first & _OPCODE
            size = second & _LENGTH
            at += 2
            if size > _LONGEST_CONTROL:
                end = at + (2 if size == _TWO_BYTES else 8)
                if end > len(buffer):
                    return None
                size = _long_length(buffer[at:end])
                at = end
            if size > self._max_size or self._message is not None:
                self._check_size(first, size)
            start = at + _MASK
            end = start + size
            if end > len(buffer):
                if opcode >= CLOSE or start > len(buffer):
                    return None
                self._begin(first)
                self._key, self._left, self._at = buffer[at:start], size, start
                continue
            payload = unmask(buffer[start:end], buffer[at:start]) if size else b""
            self._at = end
            if first in _WHOLE:
                return (TEXT, decode(payload)) if opcode == TEXT else (BINARY, payload)
            if opcode >= CLOSE:
                return self._control(opcode, payload)
            self._begin(first).add(payload)
        return None

    def _check(self, first: int, second: int) -> None:
        """Judge the first two bytes of a frame."""
        opcode = first & _OPCODE
        reserved = first & _RSV
        if opcode not in _OPCODES:
            raise FrameError(PROTOCOL_ERROR, f"a frame with the reserved opcode {opcode}")
        if reserved and (
            reserved != _RSV1 or self._deflate is None or opcode not in (TEXT, BINARY)
        ):
            raise FrameError(PROTOCOL_ERROR, "a frame with a reserved bit")
        if not second & _MASKED:
            raise FrameError(PROTOCOL_ERROR, "a frame without a mask")
        if opcode >= CLOSE:
            if not first & _FIN:
                raise FrameError(PROTOCOL_ERROR, "a control frame in parts")
            if second & _LENGTH > _LONGEST_CONTROL:
                raise FrameError(PROTOCOL_ERROR, "a control frame of more than 125 bytes")
        elif opcode:
            if self._message is not None:
                raise FrameError(PROTOCOL_ERROR, "a message within another one")
        elif self._message is None:
            raise FrameError(PROTOCOL_ERROR, "a continuation of no message")

    def _check_size(self, first: int, size: int) -> None:
        """Judge the length of a frame, before any of it is stored. That of a control
        frame is bounded, and no part of a message.
        """
        if first & _OPCODE >= CLOSE:
            return
        message = self._message
        if size > (
            room_for(self._max_size, compressed=bool(first & _RSV1))
            if message is None
            else message.room
        ):
            raise FrameError(TOO_BIG, f"a message of more than {self._max_size} bytes")

    def _begin(self, first: int) -> Message:
        """Begin a data frame; return its message."""
        self._ends = bool(first & _FIN)
        message = self._message
        if message is None:
            inflater = None
            if first & _RSV1:
                assert self._deflate is not None
                inflater = self._deflate.inflater()
            is_text = first & _OPCODE == TEXT
            message = self._message = Message(is_text, self._max_size, inflater)
        return message

    def _read_payload(self) -> bool:
        """Pass on what has come of a payload; return True when that was all of it."""
        assert self._message is not None
        start = self._at
        end = min(start + self._left, len(self._buffer))
        if start == end:
            return False
        key, size = self._key, end - start
        self._message.add(unmask(self._buffer[start:end], key))
        turned = size % _MASK
        self._key = key[turned:] + key[:turned]
        self._at = end
        self._left -= size
        return not self._left

    def _end_message(self) -> tuple[int, Any]:
        message = self._message
        assert message is not None
        self._message, self._ends = None, False
        return (TEXT if message.is_text else BINARY), message.end()

    def _control(self, opcode: int, payload: bytes) -> tuple[int, Any]:
        if opcode != CLOSE:
            return opcode, payload
        self.closed = True
        if not payload:
            return CLOSE, (NO_CODE, "")
        code = int.from_bytes(payload[:2], "big")
        if len(payload) < 2 or not may_be_sent(code):
            raise FrameError(PROTOCOL_ERROR, "a Close frame with an invalid code")
        return CLOSE, (code, decode(payload[2:]))


def _long_length(data: bytes) -> int:
    size = int.from_bytes(data, "big")
    # The shortest form is required, and the highest of 64 bits is 0 (5.2).
    if size <= (_LONGEST_CONTROL if len(data) == 2 else 0xFFFF) or size >> 63:
        raise FrameError(PROTOCOL_ERROR, "an invalid length")
    return size


def frame_head(opcode: int, size: int, *, compressed: bool = False) -> bytes:
    """Return what precedes a payload of `size` bytes that is a whole message, or a
    control frame. A server masks nothing (5.1).
    """
    first = _FIN | opcode | (_RSV1 if compressed else 0)
    if size <= _LONGEST_CONTROL:
        return bytes((first, size))
    if size <= 0xFFFF:
        return bytes((first, _TWO_BYTES)) + size.to_bytes(2, "big")
    return bytes((first, _EIGHT_BYTES)) + size.to_bytes(8, "big")


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a frame that is a whole message, or a control frame."""
    return frame_head(opcode, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a Close frame; one without a code for NO_CODE. A reason that is too long
    loses its end.
    """
    if code == NO_CODE:
        return frame(CLOSE, b"")
    cut = reason.encode("utf-8", "replace")[:_LONGEST_REASON].decode("utf-8", "ignore")
    return frame(CLOSE, code.to_bytes(2, "big") + cut.encode())
