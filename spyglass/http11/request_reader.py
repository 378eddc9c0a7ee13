"""From the bytes of a connection to requests: where each one begins and ends.

    HTTP-message = start-line CRLF *( field-line CRLF ) CRLF [ message-body ]
    (RFC 9112 2.1)

The bytes of a connection are one stream, and nothing but the messages themselves says
where a request ends. To find that out is called framing. Two recipients of one stream,
a proxy and the server behind it, must find the same ends. If they do not, a client can
hide a second request in what the proxy takes for the body of the first one. The proxy
never judges the hidden request, and may even send the answer to another client. That
is request smuggling, and every leniency in framing has been used for it: a line that
ends in a bare LF, Content-Length and Transfer-Encoding together, two lengths, a space
before a colon. RFC 9112 permits a recipient to repair some of these. We refuse all of
them: a request that two recipients could read in two ways gets 400, and the connection
ends, because the start of the next request is not known (RFC 9112 9.6, 11.2).

The body's length (RFC 9112 6.3) comes from Transfer-Encoding: chunked, or else from
Content-Length, or else there is no body.

Framing is done here. The lines of a head are judged by llhttp (through httptools),
which has been tested with more hostile heads than our own code could be, and by the
rules that llhttp leaves to its user (request_head.py). llhttp gets exactly one head at
a time. So it never sees a body, it does not run ahead into a pipelined request while
the one before it waits for its answer, and an offered Upgrade cannot stop it.
"""

from __future__ import annotations

from spyglass.errors import RequestError
from spyglass.http11.caches import CONNECTION_OPTIONS, LAST_HEAD, LAST_SECTION
from spyglass.http11.chunked import ChunkedDecoder
from spyglass.http11.request import Request
from spyglass.http11.request_body import Body
from spyglass.http11.request_head import HeadParser, check_coding, check_controls, check_folds
from spyglass.http11.request_line import (
    check_start,
    parse_target,
    split_request_line,
    valid_host,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.http11.request import Limits

_LONGEST_LINE = 4096  # bytes of the first line of a bad request, for the access log
_OPTIONS: dict[str, tuple[bool, bool]] = CONNECTION_OPTIONS.entries


class RequestReader:
    """Bytes in, requests out, for one connection.

    Give `next()` what was received, then call it until it returns None. `buffer`
    (bytes) is what it has not read yet. While a body is on its way, `pending` is its
    request. Raises RequestError for a request that must be refused; nothing can be read
    after that (RFC 9112 9.6).

    There are more attributes than a class should have: they are the state of a buffer,
    of a body on its way, and of the last request. Parts of it would be further objects
    on each connection, and further steps for each request.
    """

    refused = b""  # the head that was refused, if it was complete

    def __init__(self, limits: Limits, heads: HeadParser | None = None) -> None:
        self.pending: Request | None = None
        # The request being read is a HEAD: its refusal has no body, either.
        self.is_head = False
        self._limits = limits
        self.buffer = b""
        # Bytes of the buffer in which there is no end of a head, and nothing that a
        # head may not have
        self._searched = 0
        self._left = 0  # bytes of the pending body, when its length is known
        self._chunks: ChunkedDecoder | None = None
        self._heads = heads or HeadParser()
        # The last request without a body, and its bytes; see caches.py. A kept-alive
        # client mostly sends what it sent before.
        self._last_head = b""
        self._last: Request | None = None
        # The last headers, and their bytes, for when only the request line is another
        self._section = b""
        self._version = b""
        self._keep_alive = False
        self._fields: dict[str, str] = {}
        self._is_first = True

    @property
    def quiet(self) -> bool:
        """True between two requests, before the first byte of the next one."""
        return self.pending is None and not self.buffer

    @property
    def line(self) -> bytes:
        """The first line of what could not become a request, as far as it has come."""
        return (self.refused or self.buffer)[:_LONGEST_LINE].partition(b"\r\n")[0]

    @property
    def left(self) -> int:
        """How many bytes of the pending body are still to come; 0 if that is not known
        (chunked).
        """
        return self._left

    @property
    def bulky(self) -> bool:
        """True if much of the pending body may be read at a time. Tiny chunks are read
        in smaller portions, as each of them costs time.
        """
        return self._chunks is None or self._chunks.bulky

    def next(self, data: bytes = b"") -> Request | None:
        """Return the next complete request, with its body, from what has come so far
        and `data`; None when more bytes are needed.
        """
        if data:
            self.buffer = buffer = self.buffer + data if self.buffer else data
        else:
            buffer = self.buffer
        if self.pending is None:
            if buffer == self._last_head:
                self.buffer, self._searched = b"", 0
                return self._last if buffer else None
            if not buffer:
                return None
            if self._is_first and (known := self._heads.known.get(buffer)) is not None:
                return self._take_known(buffer, known)
            head = self._cut_head()
            if head is None:
                return None
            try:
                request = self._parse(head)
                expects_body = self._expect_body(request)
            except RequestError:
                self.refused = head
                raise
            if not expects_body:
                if not self.buffer and len(buffer) <= LAST_HEAD.longest:
                    self._last_head, self._last = buffer, request
                    if self._is_first:
                        self._heads.remember(buffer, request)
                self._is_first = False
                return request
            self._is_first = False
            self.pending = request
        if not self._read_body(self.pending):
            return None
        request, self.pending, self._chunks = self.pending, None, None
        body = request.body
        if body is not None and body.on_disk:
            try:
                body.finish()
            except OSError:
                body.close()
                raise
        return request

    def _take_known(self, buffer: bytes, request: Request) -> Request:
        self._is_first = False
        self.is_head = request.method == "HEAD"
        self.buffer, self._searched = b"", 0
        self._last_head, self._last = buffer, request
        return request

    def _cut_head(self) -> bytes | None:
        # partition() and slices instead of find() and startswith(): the same result,
        # and CPython calls them several times as fast.
        buffer = self.buffer
        if buffer[:2] == b"\r\n":
            buffer = self.buffer = _skip_empty_lines(buffer)
            self._searched = 0
        self.is_head = buffer[:5] == b"HEAD "
        if self._searched > 3 and b"\r\n\r\n" not in buffer[self._searched - 3 :]:
            self._check_partial(buffer)
            return None
        head, end, rest = buffer.partition(b"\r\n\r\n")
        if not end:
            self._check_partial(buffer)
            return None
        if len(head) + 4 > self._limits.max_head:
            self._check_partial(buffer)
        self._searched = 0
        self.buffer = rest
        return head

    def _check_partial(self, buffer: bytes) -> None:
        """Raise RequestError for the beginning of a head if it cannot become a good
        one. Its client may be waiting for the answer and send nothing more.

        The bytes are judged in their order, so a head gets the same answer however it
        was cut into packets. Only new bytes are looked at: else a head that comes byte
        by byte would cost the square of its length.
        """
        searched, most = self._searched, self._limits.max_head
        if buffer.find(b"\r\n", 0, searched) < 0:
            line, end, _ = buffer[:most].partition(b"\r\n")
            if end:
                method, target, _ = split_request_line(line)
                parse_target(
                    Request(method.decode("latin-1"), target.decode("latin-1"), (1, 1), {})
                )
            elif line.removesuffix(b"\r"):
                check_start(line)
        start = max(0, searched - 3)
        if buffer[start : start + 1] == b"\n" and start:
            start -= 1
        new = buffer[start:most].removesuffix(b"\r")
        check_controls(new, new.count(b"\r\n"))
        check_folds(new)
        if len(buffer) > most:
            if buffer.find(b"\r\n", 0, most) < 0:
                raise RequestError(414, f"request line longer than {most} bytes")
            raise RequestError(431, f"request head larger than {most} bytes")
        self._searched = len(buffer)

    def _parse(self, head: bytes) -> Request:
        line, _, section = head.partition(b"\r\n")
        method, target, version = split_request_line(line)
        request = Request(
            method.decode("latin-1"),
            target.decode("latin-1"),
            (1, 0) if version == b"HTTP/1.0" else (1, 1),
            {},
        )
        authority = parse_target(request)
        known = section == self._section and version == self._version
        request.fields = fields = (
            self._fields if known else self._heads.parse(section, version, self._limits.max_fields)
        )
        if known and authority is None:
            request.keep_alive = self._keep_alive
            return request
        _check_host(request, authority)
        _persistence(request)
        _expectation(request)
        if not known and len(head) <= LAST_SECTION.longest and _means_the_same_again(fields):
            self._section, self._version, self._fields, self._keep_alive = (
                section,
                version,
                fields,
                request.keep_alive,
            )
        return request

    def _expect_body(self, request: Request) -> bool:
        """Prepare for the body as RFC 9112 6.3 has it. Return False when there is
        none.
        """
        coding = request.fields.pop("HTTP_TRANSFER_ENCODING", None)
        length = request.fields.get("CONTENT_LENGTH")
        if coding is not None:
            check_coding(coding, length, request.version)
            request.body = Body(self._limits.body_memory, self._limits.bodies)
            self._chunks = ChunkedDecoder(
                request.body, self._limits.max_body, self._limits.max_head
            )
        elif length is None:
            return _no_body(request)
        else:
            if not (length.isascii() and length.isdigit()):
                # RFC 9110 8.6: Content-Length = 1*DIGIT. llhttp refuses others, too,
                # but int() below would take "+5", "5_0" and digits of other scripts.
                raise RequestError(400, "bad Content-Length")
            if len(length) > 15:
                # More digits than the length of any body, unless they are zeros. int()
                # raises ValueError for thousands of them, here and in the app.
                length = request.fields["CONTENT_LENGTH"] = length.lstrip("0") or "0"
            self._left = int(length) if len(length) <= 15 else self._limits.max_body + 1
            if self._left > self._limits.max_body:
                raise RequestError(413, "request body too large")
            if not self._left:
                return _no_body(request)
            request.body = Body(self._limits.body_memory, self._limits.bodies, self._left)
        return True

    def _read_body(self, request: Request) -> bool:
        body = request.body
        assert body is not None
        buffer = self.buffer
        if self._chunks is not None:
            self.buffer = buffer[self._chunks.decode(buffer) :]
            if self._chunks.done:
                # The coding is removed, so the length is known (RFC 9112 7.1.3). Many
                # apps read nothing without a length.
                request.fields["CONTENT_LENGTH"] = str(body.length)
            return self._chunks.done
        if not buffer:
            pass  # it was received where it belongs
        elif len(buffer) > self._left:
            body.write(buffer[: self._left])
            self.buffer = buffer[self._left :]
            self._left = 0
        else:
            body.write(buffer)
            self.buffer = b""
            self._left -= len(buffer)
        return not self._left

    @property
    def room(self) -> memoryview | None:
        """Where the pending body may be received, if it has a place: no byte of the
        next request fits in there. Then call arrived(), and next().
        """
        body = None if self.pending is None else self.pending.body
        return None if body is None else body.room

    def arrived(self, size: int) -> None:
        """So many bytes of the pending body have been received there."""
        assert self.pending is not None
        assert self.pending.body is not None
        self.pending.body.arrived(size)
        self._left -= size

    def close(self) -> None:
        """Release a body that will not be completed."""
        if self.pending is not None and self.pending.body is not None:
            self.pending.body.close()
        self.pending = None
        self.buffer = b""


def _means_the_same_again(fields: dict[str, str]) -> bool:
    """Return True if reading a request does not change these headers. A chunked body
    gets a length, and a length may lose leading zeros.
    """
    return (
        "HTTP_TRANSFER_ENCODING" not in fields
        and "HTTP_EXPECT" not in fields
        and len(fields.get("CONTENT_LENGTH", "")) < 16
    )


def _no_body(request: Request) -> bool:
    request.expects_continue = False
    return False


def _skip_empty_lines(buffer: bytes) -> bytes:
    """Return `buffer` without empty lines before the request line (RFC 9112 2.2).

    All at once: to remove them one by one would copy the rest each time, and a client
    that sends nothing but empty lines would keep the worker busy.
    """
    end = len(buffer) - len(buffer.lstrip(b"\r\n"))
    if buffer[end - 1 : end] == b"\r":
        end -= 1  # its LF may be on its way
    # With a bare CR or LF among them nothing is skipped. Then the request line is
    # empty, and refused.
    return buffer[end:] if 2 * buffer.count(b"\r\n", 0, end) == end else buffer


def _check_host(request: Request, authority: str | None) -> None:
    # RFC 9112 3.2: HTTP/1.1 needs exactly one Host, and a valid one. The authority of a
    # target in absolute-form replaces it (3.2.2): a proxy routes by the authority, so
    # an app that looked at Host would serve another site than the proxy has judged.
    host = request.fields.get("HTTP_HOST")
    if host is None:
        if request.version >= (1, 1):
            raise RequestError(400, "no Host header")
    elif not valid_host(host):
        raise RequestError(400, "invalid Host header")
    if authority is not None:
        request.fields = {**request.fields, "HTTP_HOST": authority}


def _persistence(request: Request) -> None:
    # RFC 9112 9.3: close, keep-alive, or what the version says.
    connection = request.fields.get("HTTP_CONNECTION")
    close, keep_alive = (False, False) if connection is None else _options(connection)
    request.keep_alive = not close and (keep_alive or request.version >= (1, 1))


def _options(connection: str) -> tuple[bool, bool]:
    if connection in _OPTIONS:
        return _OPTIONS[connection]
    options = [option.strip(" \t").lower() for option in connection.split(",")]
    meant = "close" in options, "keep-alive" in options
    CONNECTION_OPTIONS.keep(connection, meant, len(connection))
    return meant


def _expectation(request: Request) -> None:
    # RFC 9110 10.1.1. Ignored in HTTP/1.0, which does not know it.
    expectation = request.fields.get("HTTP_EXPECT")
    if expectation is None or request.version < (1, 1):
        return
    # A list, in which empty elements do not count (RFC 9110 5.6.1). Anything but
    # 100-continue is answered with 417.
    expectations = {each.strip(" \t").lower() for each in expectation.split(",")} - {""}
    if expectations - {"100-continue"}:
        raise RequestError(417, f"unknown expectation {expectation!r}")
    request.expects_continue = bool(expectations)
