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

import httptools

from spyglass.errors import RequestError
from spyglass.http11.caches import LAST_HEAD, LAST_SECTION
from spyglass.http11.chunked import ChunkedDecoder
from spyglass.http11.control_headers import apply_controls, means_the_same_again
from spyglass.http11.last_section import LastSection
from spyglass.http11.request_body import Body
from spyglass.http11.request_head import (
    HeadParser,
    check_coding,
    check_controls,
    check_folds,
    judge,
)
from spyglass.http11.request_line import (
    check_start,
    parse_request_line,
    parse_target,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from spyglass.http11.request import Limits, Request

_LONGEST_LINE: Final = 4096  # bytes of the first line of a bad request, for the access log


class RequestReader:
    """Bytes in, requests out, for one connection.

    Give `next()` what was received, then call it until it returns None. `buffer`
    (bytes) is what it has not read yet. While a body is on its way, `pending` is its
    request. Raises RequestError for a request that must be refused; nothing can be read
    after that (RFC 9112 9.6).

    `make_body` makes a body of the length that the client has told, or 0; without it a
    Body collects all of one.

    There are more attributes than a class should have: they are the state of a buffer,
    of a body on its way, and of the last request. Parts of it would be further objects
    on each connection, and further steps for each request.
    """

    refused = b""  # the head that was refused, if it was complete

    def __init__(
        self,
        limits: Limits,
        heads: HeadParser | None = None,
        make_body: Callable[[int], Body] | None = None,
    ) -> None:
        self.pending: Request | None = None
        # The request being read is a HEAD: its refusal has no body, either.
        self.is_head = False
        self._limits = limits
        self._make_body = make_body
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
        # Its headers, for when they are mostly the same
        self._section: LastSection | None = None
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
            request = None if self._searched else self._follow(buffer)
            head = buffer
            if request is None:
                cut = self._cut_head()
                if cut is None:
                    return None
                head = cut
            try:
                if request is None:
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
                parse_target(parse_request_line(line))
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

    def _follow(self, buffer: bytes) -> Request | None:
        """Return the request at the start of the buffer, without its body, if its
        headers are like the last ones. None if they are not, or if anything is wrong:
        the usual way judges that, and says why.
        """
        last = self._section
        if last is None:
            return None
        line, _, rest = buffer.partition(b"\r\n")
        section = last.follow(rest)
        if section is None or len(line) + 2 + len(section.text) > self._limits.max_head:
            return None
        try:
            if section is not last:
                judge(section.text)
            request = parse_request_line(line)
            authority = parse_target(request)
            if request.version != section.version:
                return None
            request.fields = section.fields
            request.section = section
            request.keep_alive = section.keep_alive
            if authority is not None or not section.means_the_same:
                apply_controls(request, authority)
                section.keep_alive = request.keep_alive
        except (RequestError, httptools.HttpParserError):
            return None
        self.is_head = request.method == "HEAD"
        self.buffer = rest[len(section.text) :]
        if section is not last:
            self._keep_section(section)
        return request

    def _keep_section(self, section: LastSection) -> None:
        self._section = None
        if len(section.text) <= LAST_SECTION.longest and (
            section.means_the_same or means_the_same_again(section.fields)
        ):
            self._section = section

    def _parse(self, head: bytes) -> Request:
        line, _, text = head.partition(b"\r\n")
        request = parse_request_line(line)
        authority = parse_target(request)
        fields = self._heads.parse(text, request.version, self._limits.max_fields)
        request.fields = fields
        apply_controls(request, authority)
        section = LastSection(
            text + b"\r\n\r\n" if text else b"\r\n", request.version, fields, request.keep_alive
        )
        request.section = section
        if self._section is not None:
            self._section.precede(section)
        self._keep_section(section)
        return request

    def _expect_body(self, request: Request) -> bool:
        """Prepare for the body as RFC 9112 6.3 has it. Return False when there is
        none.
        """
        coding = request.fields.pop("HTTP_TRANSFER_ENCODING", None)
        length = request.fields.get("CONTENT_LENGTH")
        if coding is not None:
            check_coding(coding, length, request.version)
            request.body = self._body(0)
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
            request.body = self._body(self._left)
        return True

    def _body(self, expected: int) -> Body:
        if self._make_body is not None:
            return self._make_body(expected)
        return Body(self._limits.body_memory, self._limits.bodies, expected)

    def _read_body(self, request: Request) -> bool:
        body = request.body
        assert body is not None
        buffer = self.buffer
        if self._chunks is not None:
            read = self._chunks.decode(buffer)
            self.buffer = buffer[read:]
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
