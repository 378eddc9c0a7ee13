"""From the bytes of a connection to requests.

The framing is ours: where a head ends, how long a body is, where the next request
begins. What stands in a head is judged by llhttp through httptools, which has seen more
hostile heads than anybody, and by the rules here that llhttp leaves to its user. llhttp
gets exactly one head at a time, so it never sees a body, never runs ahead into a
pipelined request whose predecessor is still to be answered, and an offered Upgrade
cannot make it stop in front of a body.

    HTTP-message = start-line CRLF *( field-line CRLF ) CRLF [ message-body ]
    (RFC 9112 2.1)
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

    Give `next()` what was received, then ask it until it says None. `buffer` (bytes) is
    what it has not looked at yet. While a body is on its way `pending` is its request.
    Raises RequestError for a request that must be refused; nothing can be read after
    that (RFC 9112 9.6).
    """

    refused = b""  # the head that was refused, when it had come to its end

    def __init__(self, limits: Limits, heads: HeadParser | None = None) -> None:
        self.pending: Request | None = None
        self.is_head = (
            False  # whether the request being read is a HEAD, so that a refusal has no body either
        )
        self._limits = limits
        self.buffer = b""
        self._searched = (
            0  # so much of the buffer holds no end of a head, and nothing that could not be in one
        )
        self._left = 0  # bytes of the pending body, when its length is known
        self._chunks: ChunkedDecoder | None = None
        self._heads = heads or HeadParser()
        # A kept-alive client mostly says what it said before. The last request without
        # a body, as bytes and as what they mean: the same bytes mean the same.
        self._last_head = b""
        self._last: Request | None = None
        # And its fields apart, for when only the target is another.
        self._section = b""
        self._version = b""
        self._keep_alive = False
        self._fields: dict[str, str] = {}
        self._is_first = True

    @property
    def quiet(self) -> bool:
        """True between two requests, when not a byte of the next one has come."""
        return self.pending is None and not self.buffer

    @property
    def line(self) -> bytes:
        """The first line of what could not become a request, so much of it as has
        come.
        """
        return (self.refused or self.buffer)[:_LONGEST_LINE].partition(b"\r\n")[0]

    @property
    def left(self) -> int:
        """How many bytes of the pending body are still to come, if that is known; else
        0.
        """
        return self._left

    @property
    def bulky(self) -> bool:
        """Whether much of the pending body may be read at a time: not chunk by tiny
        chunk, each of which costs.
        """
        return self._chunks is None or self._chunks.bulky

    def next(self, data: bytes = b"") -> Request | None:
        """With `data`, which has come now, the next complete request, its body
        included; None when more bytes are needed.
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
        # partition() and slices rather than find() and startswith(): the same in
        # CPython, but several times as fast to call.
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
        """Raise RequestError for the beginning of a head if no head that begins so
        could be a good one; its sender may be waiting.

        In the order in which the bytes come: a head gets the same answer however it was
        cut. Only what is new is looked at, or a head that comes byte by byte would cost
        the square of its length.
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
        """Set up what RFC 9112 6.3 says about the body; False when there is none."""
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
                raise RequestError(
                    400, "bad Content-Length"
                )  # RFC 9110 8.6; llhttp says so, too, but here is where it is used
            if len(length) > 15:
                # More digits than any body has bytes, unless they are zeros; int(),
                # ours or the app's, would refuse some thousands of them.
                length = request.fields["CONTENT_LENGTH"] = length.lstrip("0") or "0"
            self._left = int(length) if len(length) <= 15 else self._limits.max_body + 1
            if self._left > self._limits.max_body:
                raise RequestError(413, "request body too large")
            if not self._left:
                return _no_body(request)
            request.body = Body(self._limits.body_memory, self._limits.bodies)
        return True

    def _read_body(self, request: Request) -> bool:
        body = request.body
        assert body is not None
        buffer = self.buffer
        if self._chunks is not None:
            self.buffer = buffer[self._chunks.decode(buffer) :]
            if self._chunks.done:
                # The coding is gone, so the length is known (RFC 9112 7.1.3); many apps
                # read nothing without it.
                request.fields["CONTENT_LENGTH"] = str(body.length)
            return self._chunks.done
        if len(buffer) > self._left:
            body.write(buffer[: self._left])
            self.buffer = buffer[self._left :]
            self._left = 0
        else:
            body.write(buffer)
            self.buffer = b""
            self._left -= len(buffer)
        return not self._left

    def close(self) -> None:
        """Let go of a body that will not be completed."""
        if self.pending is not None and self.pending.body is not None:
            self.pending.body.close()
        self.pending = None
        self.buffer = b""


def _means_the_same_again(fields: dict[str, str]) -> bool:
    """Whether there is nothing in them that reading the request changes: a chunked body
    becomes a length, as may one of many digits.
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
    """RFC 9112 2.2: empty lines before a request line are ignored. All at once, for one
    by one each would move all that follow it: a client that sends nothing else would
    keep the worker busy.
    """
    end = len(buffer) - len(buffer.lstrip(b"\r\n"))
    if buffer[end - 1 : end] == b"\r":
        end -= 1  # its LF may be on its way
    # Where a bare CR or LF is among them nothing is skipped, and a request line that is
    # empty is a bad one.
    return buffer[end:] if 2 * buffer.count(b"\r\n", 0, end) == end else buffer


def _check_host(request: Request, authority: str | None) -> None:
    # RFC 9112 3.2: exactly one Host in HTTP/1.1, a valid one, and an absolute-form
    # target's authority stands above it.
    host = request.fields.get("HTTP_HOST")
    if host is None:
        if request.version >= (1, 1):
            raise RequestError(400, "no Host field")
    elif not valid_host(host):
        raise RequestError(400, "invalid Host field")
    if authority is not None:
        request.fields = {**request.fields, "HTTP_HOST": authority}


def _persistence(request: Request) -> None:
    # RFC 9112 9.3
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
    # RFC 9110 10.1.1
    expectation = request.fields.get("HTTP_EXPECT")
    if expectation is None or request.version < (1, 1):
        return
    # A list, in which empty elements do not count (RFC 9110 5.6.1); only a member that
    # is something else may be answered with 417.
    expectations = {each.strip(" \t").lower() for each in expectation.split(",")} - {""}
    if expectations - {"100-continue"}:
        raise RequestError(417, f"unknown expectation {expectation!r}")
    request.expects_continue = bool(expectations)
