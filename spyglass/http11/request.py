"""From the bytes of a connection to requests.

The framing is ours: where a head ends, how long a body is, where the next request begins. What stands in a head is judged by
llhttp through httptools, which has seen more hostile heads than anybody, and by the rules here that llhttp leaves to its user.
llhttp gets exactly one head at a time, so it never sees a body, never runs ahead into a pipelined request whose predecessor is
still to be answered, and an offered Upgrade cannot make it stop in front of a body.

    HTTP-message = start-line CRLF *( field-line CRLF ) CRLF [ message-body ]        (RFC 9112 2.1)
"""

from __future__ import annotations

import functools

import httptools

from spyglass.errors import RequestError
from spyglass.http11.body import Body
from spyglass.http11.chunked import ChunkedDecoder, is_token
from spyglass.http11.target import parse_target, valid_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.config import Config

# What llhttp knows, less CONNECT (we are no proxy) and SOURCE (of a protocol that is not HTTP).
METHODS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE QUERY COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND "
    b"ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR LINK UNLINK".split()
)
# After a head with one of these llhttp waits for a body, or for the end; it takes Proxy-Connection for Connection.
_ENDS_THE_PARSER = {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_CONNECTION", "HTTP_PROXY_CONNECTION"}


class Limits:
    """What a request may cost; bytes and counts from the configuration."""

    __slots__ = ("body_memory", "max_body", "max_fields", "max_head")

    def __init__(self, config: Config) -> None:
        self.max_head = config.max_head
        self.max_fields = config.max_fields
        self.max_body = config.max_body
        self.body_memory = config.body_memory


class Request:
    """One request. `fields` (dict of str) is keyed as PEP 3333 wants it, e.g. HTTP_HOST; `version` is (1, 0) or (1, 1)."""

    __slots__ = ("body", "expects_continue", "fields", "keep_alive", "method", "path", "query", "target", "version")

    def __init__(self, method: str, target: str, version: tuple[int, int], fields: dict[str, str]) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.path = target
        self.query = ""
        self.keep_alive = False
        self.expects_continue = False
        self.body: Body | None = None


class RequestReader:
    """Bytes in, requests out, for one connection.

    Give it what was received with `feed()`, then ask for `next()` until it says None. While a body is on its way `pending` is
    its request. Raises RequestError for a request that must be refused; nothing can be read after that (RFC 9112 9.6).
    """

    def __init__(self, limits: Limits) -> None:
        self.pending: Request | None = None
        self.is_head = False  # whether the request being read is a HEAD, so that a refusal has no body either
        self._limits = limits
        self._buffer = b""
        self._left = 0  # bytes of the pending body, when its length is known
        self._chunks: ChunkedDecoder | None = None
        self._head = _HeadParser()

    @property
    def quiet(self) -> bool:
        """True between two requests, when not a byte of the next one has come."""
        return self.pending is None and not self._buffer

    @property
    def buffered(self) -> bool:
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data

    def next(self) -> Request | None:
        """The next complete request, its body included, or None when more bytes are needed."""
        if self.pending is None:
            head = self._cut_head()
            if head is None:
                return None
            request = self._head.parse(head, self._limits)
            if not self._expect_body(request):
                return request
            self.pending = request
        if not self._read_body(self.pending):
            return None
        request, self.pending, self._chunks = self.pending, None, None
        if request.body is not None:
            try:
                request.body.finish()
            except OSError:
                request.body.close()
                raise
        return request

    def _cut_head(self) -> bytes | None:
        # RFC 9112 2.2: empty lines before a request line are ignored.
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):
            buffer = self._buffer = buffer[2:]
        self.is_head = buffer.startswith(b"HEAD ")
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            self._check_partial(buffer)
            return None
        head = buffer[: end + 4]
        self._buffer = buffer[end + 4 :]
        if len(head) > self._limits.max_head:
            self._too_large(head)
        if head.count(b"\r\n") - 2 > self._limits.max_fields:
            raise RequestError(431, f"more than {self._limits.max_fields} header fields")
        _check_lines(head)
        return head

    def _check_partial(self, buffer: bytes) -> None:
        if len(buffer) > self._limits.max_head:
            self._too_large(buffer)
        # A head that can no longer become a good one is refused now; its sender may be waiting for the answer.
        _check_lines(buffer.removesuffix(b"\r"))

    def _too_large(self, head: bytes) -> None:
        line = head.find(b"\r\n")
        if line < 0 or line > self._limits.max_head:
            raise RequestError(414, f"request line longer than {self._limits.max_head} bytes")
        raise RequestError(431, f"request head larger than {self._limits.max_head} bytes")

    def _expect_body(self, request: Request) -> bool:
        """Set up what RFC 9112 6.3 says about the body; False when there is none."""
        coding = request.fields.pop("HTTP_TRANSFER_ENCODING", None)
        length = request.fields.get("CONTENT_LENGTH")
        if coding is not None:
            _check_coding(coding, length, request.version)
            request.body = Body(self._limits.body_memory)
            self._chunks = ChunkedDecoder(request.body, self._limits.max_body, self._limits.max_head)
        elif length is None:
            return _no_body(request)
        else:
            # More digits than any body has bytes; int() would refuse some thousands of them.
            self._left = int(length) if len(length) <= 15 else self._limits.max_body + 1
            if self._left > self._limits.max_body:
                raise RequestError(413, "request body too large")
            if not self._left:
                return _no_body(request)
            request.body = Body(self._limits.body_memory)
        return True

    def _read_body(self, request: Request) -> bool:
        body = request.body
        assert body is not None
        if self._chunks is not None:
            self._buffer = self._buffer[self._chunks.decode(self._buffer) :]
            if self._chunks.done:
                # The coding is gone, so the length is known (RFC 9112 7.1.3); many apps read nothing without it.
                request.fields["CONTENT_LENGTH"] = str(body.length)
            return self._chunks.done
        piece = self._buffer[: self._left]
        body.write(piece)
        self._buffer = self._buffer[len(piece) :]
        self._left -= len(piece)
        return not self._left

    def close(self) -> None:
        """Let go of a body that will not be completed."""
        self._head.forget()
        if self.pending is not None and self.pending.body is not None:
            self.pending.body.close()
        self.pending = None
        self._buffer = b""


def _no_body(request: Request) -> bool:
    request.expects_continue = False
    return False


def _check_lines(head: bytes) -> None:
    # RFC 9112 2.2 and 5.2: a bare CR or LF, or a line folded into the next, is where two readers of one message part ways.
    ends = head.count(b"\r\n")
    if head.count(b"\n") != ends or head.count(b"\r") != ends:
        raise RequestError(400, "a line of the head does not end in CRLF")
    if b"\r\n " in head or b"\r\n\t" in head:
        raise RequestError(400, "folded header field")


def _check_coding(coding: str, length: str | None, version: tuple[int, int]) -> None:
    # RFC 9112 6.1 and 6.3: each of these has smuggled requests past somebody's proxy.
    if length is not None:
        raise RequestError(400, "Transfer-Encoding and Content-Length in one request")
    if version < (1, 1):
        raise RequestError(400, "Transfer-Encoding in an HTTP/1.0 request")
    codings = [each.strip(" \t").lower() for each in coding.split(",")]
    if codings == ["chunked"]:
        return
    if "chunked" in codings[:-1] or "" in codings:
        raise RequestError(400, "chunked is not the last and only transfer coding")
    raise RequestError(501, f"unknown transfer coding {coding!r}")


class _HeadParser:
    """Turns one head into a Request: the request line by RFC 9112 3, the fields by llhttp."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}
        self._parser: httptools.HttpRequestParser | None = None

    def parse(self, head: bytes, limits: Limits) -> Request:
        method, target, version = _request_line(head)
        if version == b"HTTP/1.1":
            numbers = (1, 1)
        elif version == b"HTTP/1.0":
            numbers = (1, 0)
        else:
            # A later minor version is ours to read (RFC 9112 2.3), but llhttp does not know it.
            numbers = (1, 1)
            head = head.replace(version, b"HTTP/1.1", 1)
        fields: dict[str, str] = {}
        self._fields = fields
        self._parse_fields(head, numbers)
        request = Request(method.decode("latin-1"), target.decode("latin-1"), numbers, fields)
        authority = parse_target(request)
        self._check_host(request, authority)
        _persistence(request)
        _expectation(request)
        return request

    def _parse_fields(self, head: bytes, version: tuple[int, int]) -> None:
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        parser, self._parser = self._parser, None
        if b"\t\r\n" in head:
            # OWS, RFC 9110 5.6.3; llhttp knows the space alone where it looks into a value.
            head = b"\r\n".join(line.rstrip(b" \t") for line in head.split(b"\r\n"))
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            return  # an offer we do not take up (RFC 9110 7.8); the parser stands in another protocol now
        except httptools.HttpParserError as error:
            raise self._refusal(error, version) from None
        fields = self._fields
        if not _ENDS_THE_PARSER & fields.keys():
            self._parser = parser  # it stands where a new head may begin

    def _refusal(self, error: httptools.HttpParserError, version: tuple[int, int]) -> RequestError:
        # What our own callback raised comes back wrapped.
        if isinstance(error.__context__, RequestError):
            return error.__context__
        coding = self._fields.get("HTTP_TRANSFER_ENCODING")
        if coding is not None:
            try:
                _check_coding(coding, self._fields.get("CONTENT_LENGTH"), version)
            except RequestError as reason:
                return reason
        return RequestError(413 if "overflow" in str(error).lower() else 400, str(error) or "bad request")

    def on_header(self, name: bytes, value: bytes) -> None:
        key = environ_key(name)
        if not key:
            return
        text = value.rstrip(b" \t").decode("latin-1")
        if key in self._fields:
            text = _combine(key, self._fields[key], text)
        self._fields[key] = text

    def _check_host(self, request: Request, authority: str | None) -> None:
        # RFC 9112 3.2: exactly one Host in HTTP/1.1, a valid one, and an absolute-form target's authority stands above it.
        host = request.fields.get("HTTP_HOST")
        if host is None:
            if request.version >= (1, 1):
                raise RequestError(400, "no Host field")
        elif not valid_host(host):
            raise RequestError(400, "invalid Host field")
        if authority is not None:
            request.fields["HTTP_HOST"] = authority

    def forget(self) -> None:
        # The parser holds bound methods of ours: without this the pair would wait for the garbage collector.
        self._parser = None


@functools.lru_cache(maxsize=512)  # bounded: a client that invents names must not make it grow
def environ_key(name: bytes) -> str:
    """The environ key of a header field (RFC 3875 4.1.18), or "" for one that is dropped.

    A name with an underscore is dropped: it would become the same key as its dashed twin, which a proxy before us may have vouched for.
    """
    if b"_" in name:
        return ""
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _combine(key: str, first: str, second: str) -> str:
    if key in ("HTTP_HOST", "CONTENT_LENGTH"):
        raise RequestError(400, f"more than one {key.removeprefix('HTTP_').replace('_', '-').title()} field")
    # RFC 9110 5.3: a list; RFC 6265 5.4 has its own separator.
    return f"{first}; {second}" if key == "HTTP_COOKIE" else f"{first}, {second}"


def _request_line(head: bytes) -> tuple[bytes, bytes, bytes]:
    """method SP request-target SP HTTP-version, RFC 9112 3; one space each, and none of the leniencies it permits."""
    parts = head[: head.find(b"\r\n")].split(b" ")
    if len(parts) != 3:
        raise RequestError(400, "bad request line")
    method, target, version = parts
    if not (len(version) == 8 and version.startswith(b"HTTP/") and version[6:7] == b"." and (version[5:6] + version[7:]).isdigit()):
        raise RequestError(400, "bad HTTP version")
    if version[5:6] != b"1":
        raise RequestError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if method not in METHODS:
        raise RequestError(501 if is_token(method) else 400, "unknown method")
    return method, target, version


def _persistence(request: Request) -> None:
    # RFC 9112 9.3
    connection = request.fields.get("HTTP_CONNECTION")
    if connection is None:
        request.keep_alive = request.version >= (1, 1)
        return
    options = [option.strip(" \t").lower() for option in connection.split(",")]
    request.keep_alive = "close" not in options and (request.version >= (1, 1) or "keep-alive" in options)


def _expectation(request: Request) -> None:
    # RFC 9110 10.1.1
    expectation = request.fields.get("HTTP_EXPECT")
    if expectation is None or request.version < (1, 1):
        return
    if expectation.lower() != "100-continue":
        raise RequestError(417, f"unknown expectation {expectation!r}")
    request.expects_continue = True
