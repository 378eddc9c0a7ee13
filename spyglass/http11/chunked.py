"""The chunked transfer coding (RFC 9112 7.1), decoded as it arrives.

    chunked-body = *chunk last-chunk trailer-section CRLF
    chunk        = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
    chunk-size   = 1*HEXDIG

    chunk-ext    = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
    last-chunk   = 1*"0" [ chunk-ext ] CRLF

A size that two recipients read differently lets a client hide a request in what one of
them takes for data. Each of these leniencies has been used for that, and none is
granted: a bare LF as the end of a line, spaces or a sign around the size, "0x", a size
too large for an integer, anything but CRLF behind the data, an extension that hides the
end of its line.
"""

from __future__ import annotations

from spyglass.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.http11.request_body import Body

_HEXDIGITS: Final = b"0123456789abcdefABCDEF"
_PLAIN_SIZE: Final = 10  # bytes of a size and its CRLF, as clients write them
_BULKY: Final = 512  # bytes of a chunk, on average
_LINE: Final = 4096  # bytes of the longest line with a chunk's size and its extensions

SIZE: Final = 0
DATA: Final = 1
DATA_END: Final = 2
TRAILERS: Final = 3
DONE: Final = 4


class ChunkedDecoder:
    """Writes the decoded body to `body`. `max_body` (int) bounds it, `max_head` (int)
    all trailers, and all extensions, together.
    """

    def __init__(self, body: Body, max_body: int, max_head: int) -> None:
        self._body = body
        self._max_body = max_body
        self._max_head = max_head
        self._state = SIZE
        self._left = 0
        self._extensions = 0
        self._trailers = 0
        # The chunks that came last were so large that their bytes cost time, and not
        # their number
        self.bulky = False

    @property
    def done(self) -> bool:
        return self._state == DONE

    def decode(self, buffer: bytes) -> int:
        """Decode what is complete at the start of `buffer`; return how many bytes that
        was. Raises RequestError.
        """
        at = chunks = 0
        while self._state != DONE:
            if self._state == SIZE:
                at, whole = self._whole_chunks(buffer, at)
                chunks += whole
            if self._state == DATA:
                piece = memoryview(buffer)[at : at + self._left]
                self._body.write(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._state = DATA_END
            elif self._state == DATA_END:
                if not b"\r\n".startswith(buffer[at : at + 2]):
                    raise RequestError(400, "chunk data is longer than its size says")
                if len(buffer) < at + 2:
                    break
                at += 2
                self._state = SIZE
            else:
                line = self._line(buffer, at)
                if line is None:
                    break
                at += len(line) + 2
                chunks += self._state == SIZE
                self._size(line) if self._state == SIZE else self._trailer(line)
        if at:
            self.bulky = chunks * _BULKY <= at
        return at

    def _whole_chunks(self, buffer: bytes, at: int) -> tuple[int, int]:
        """Decode the chunks that are complete and plainly right; return where they end,
        and how many they were.

        A client that sends chunks of one byte sends six bytes for each. One by one, as
        decode() takes the others, they would cost as much as many requests. What is not
        plainly right is left to decode().
        """
        parts = []
        room = self._max_body - self._body.length
        find = buffer.find
        while (end := find(b"\r\n", at, at + _PLAIN_SIZE)) > at:
            digits = buffer[at:end]
            if digits.translate(None, _HEXDIGITS):
                break
            size = int(digits, 16)
            stop = end + 2 + size
            if not size or size > room or buffer[stop : stop + 2] != b"\r\n":
                break
            parts.append(buffer[end + 2 : stop])
            room -= size
            at = stop + 2
        if parts:
            self._body.write(b"".join(parts))
        return at, len(parts)

    def _line(self, buffer: bytes, at: int) -> bytes | None:
        end = buffer.find(b"\n", at)
        whole = buffer[at:end] if end >= 0 else buffer[at:]
        line = whole.removesuffix(b"\r")
        limit = _LINE if self._state == SIZE else self._max_head
        # In the order in which the bytes come, so that a body gets the same answer
        # however it was cut into packets
        if b"\r" in line[:limit] or b"\0" in line[:limit]:
            raise RequestError(400, "a line of a chunked body does not end in CRLF")
        if len(line) > limit:
            raise RequestError(
                400 if self._state == SIZE else 431, "line too long in a chunked body"
            )
        if end < 0:
            return None
        if line == whole:
            raise RequestError(400, "a line of a chunked body does not end in CRLF")
        return line

    def _size(self, line: bytes) -> None:
        digits, semicolon, extensions = line.partition(b";")
        if semicolon:
            # BWS may stand before the semicolon, and nowhere else.
            digits = digits.rstrip(b" \t")
            self._check_extensions(semicolon + extensions)
        if not digits or digits.translate(None, _HEXDIGITS):
            raise RequestError(400, "bad chunk size")
        # At most one line of digits, and linear in them, as 16 is a power of two
        self._left = int(digits, 16)
        if self._body.length + self._left > self._max_body:
            raise RequestError(413, "request body too large")
        self._state = DATA if self._left else TRAILERS

    def _check_extensions(self, extensions: bytes) -> None:
        import re  # inside: it is slow to import, and hardly a client sends extensions

        self._extensions += len(extensions)
        token = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
        quoted = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
        extension = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (token, token, quoted)
        if self._extensions > self._max_head or not re.fullmatch(
            rb"(?:%b)+" % extension, extensions
        ):
            raise RequestError(400, "bad chunk extension")

    def _trailer(self, line: bytes) -> None:
        # Trailers are checked and dropped. Among the headers they could forge one that
        # a proxy in front of us has checked or set (RFC 9110 6.5.1).
        self._trailers += len(line) + 2
        if not line:
            self._state = DONE
        elif self._trailers > self._max_head:
            raise RequestError(431, "trailers too large")
        elif not is_field_line(line):
            raise RequestError(400, "bad trailer")


TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CONTROLS: Final = bytes(range(9)) + bytes(range(10, 32)) + b"\x7f"


def is_token(text: bytes) -> bool:
    """Return True for a token (RFC 9110 5.6.2)."""
    return bool(text) and not text.translate(None, TOKEN)


def is_field_line(line: bytes) -> bool:
    """Return True for `field-name ":" OWS field-value OWS` (RFC 9112 5).

    There is no space before the colon: some recipients remove it, and others take it
    for a part of the name. There is no control character in the value.
    """
    name, colon, value = line.partition(b":")
    return bool(colon) and is_token(name) and len(value.translate(None, CONTROLS)) == len(value)
