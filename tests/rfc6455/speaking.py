"""A client's frames, right ones and wrong ones, and what a reader makes of them."""

import zlib

from http11.reading import cut

from spyglass.websocket.close_codes import FrameError
from spyglass.websocket.deflate import negotiate
from spyglass.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameReader,
)

KEY = b"\x37\xfa\x21\x3d"  # of the examples in RFC 6455 5.7
MAX_SIZE = 1 << 20
_OPCODES = {BINARY: "binary", PING: "ping", PONG: "pong"}


def masked(payload, key=KEY):
    """One byte after the other, as the RFC has it (5.3)."""
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


def frame(opcode, payload=b"", *, fin=True, rsv=0, key=KEY, wide=None, length=None):
    """A frame of a client. `wide` forces the length into 2 or 8 bytes, `length` says
    something else than the payload's; a `key` of None leaves out the mask.
    """
    size = len(payload) if length is None else length
    wide = wide or (0 if size < 126 else 2 if size < 65536 else 8)
    second = (0x80 if key else 0) | {0: size, 2: 126, 8: 127}[wide]
    head = bytes((fin << 7 | rsv << 4 | opcode, second))
    head += size.to_bytes(wide, "big") if wide else b""
    return head + (key + masked(payload, key) if key else payload)


def text(said, **more):
    return frame(TEXT, said.encode() if isinstance(said, str) else said, **more)


def binary(said, **more):
    return frame(BINARY, said, **more)


def more(said=b"", *, fin=True, **others):
    """The next part of a message, the last one unless `fin` is False."""
    return frame(CONTINUATION, said.encode() if isinstance(said, str) else said, fin=fin, **others)


def ping(said=b"", **more):
    return frame(PING, said, **more)


def pong(said=b"", **more):
    return frame(PONG, said, **more)


def close(code=None, reason=b"", **more):
    return frame(CLOSE, (b"" if code is None else code.to_bytes(2, "big")) + reason, **more)


def deflated(said, *, window=15, level=6):
    """`said` as a client compresses it (RFC 7692 7.2.1)."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -window)
    return (stream.compress(said) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def hear(exactly):
    """A server's next frame: ("text", str), ("binary", bytes), ("close", (code, reason)), ...
    ("end", None) when there is none. `exactly(size)` reads so many bytes, none at the end.
    """
    head = exactly(2)
    if not head:
        return "end", None
    first, size = head
    assert first & 0x80, "a message in parts"
    assert not first & 0x30, "a reserved bit"
    assert not size & 0x80, "a server's frame has a mask"
    if size > 125:
        wide = 2 if size == 126 else 8
        size = int.from_bytes(exactly(wide), "big")
        assert size > (125 if wide == 2 else 65535)
    payload = exactly(size)
    assert len(payload) == size, "it has ended in the middle of a frame"
    if first & 0x40:
        payload = inflated(payload)
    opcode = first & 0xF
    if opcode == TEXT:
        return "text", payload.decode()
    if opcode == CLOSE:
        code = int.from_bytes(payload[:2], "big") if payload else None
        return "close", (code, payload[2:].decode())
    return _OPCODES[opcode], payload


def inflated(data):
    """What a server has compressed, keeping no window."""
    return zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff")


def reader(max_size=MAX_SIZE, compression=False):
    return FrameReader(max_size, negotiate("permessage-deflate") if compression else None)


def read(pieces, each=None, **more):
    """(events, code of the failure or None)"""
    each, events = each or reader(**more), []
    try:
        for piece in pieces:
            each.feed(piece)
            while (event := each.next()) is not None:
                events.append(event)
    except FrameError as error:
        assert str(error)
        return events, error.code
    return events, None


def bytewise(data):
    return [data[at : at + 1] for at in range(len(data))]


def same_in_any_cut(data, places):
    """Read any bytes, with and without compression, with a usual limit and with a tight
    one; and the same bytes in pieces.
    """
    # Once more as payloads: a mutation seldom makes a head and a mask that fit.
    for sent in (data, _as_frames(data)):
        for compression in (False, True):
            for max_size in (1 << 16, 40):
                options = {"max_size": max_size, "compression": compression}
                events, code = whole = read([sent], **options)
                for pieces in (bytewise(sent), cut(sent, places)):
                    assert read(pieces, **options) == whole, "a cut changes the events"
                assert code in (None, 1002, 1007, 1009)
                for opcode, said in events:
                    assert opcode in (TEXT, BINARY, CLOSE, PING, PONG)
                    if opcode in (TEXT, BINARY):
                        size = len(said.encode() if opcode == TEXT else bytes(said))
                        assert size <= max_size, "a message is larger than the limit"


def _as_frames(data):
    """A frame of each line: its first byte, and the others as payload."""
    sent = b""
    for line in data.split(b"\n"):
        size = min(len(line) - 1, 125)
        if size >= 0:
            sent += bytes((line[0], 0x80 | size)) + KEY + masked(line[1 : size + 1])
    return sent
