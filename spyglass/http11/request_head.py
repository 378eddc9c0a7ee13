"""From the head of a request to its fields, judged by llhttp."""

from __future__ import annotations

import httptools

from spyglass.errors import RequestError
from spyglass.http11.caches import ENVIRON_KEYS, HARMLESS, HEADS, LINES
from spyglass.http11.chunked import CONTROLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.http11.request import Request

# What llhttp gets for a request line: the real one is judged here, and llhttp knows
# fewer methods and no later minor version.
_ANY_LINE = b"GET / HTTP/1.1\r\n"
# The transfer codings there are beside chunked (RFC 9112 7.2, 12.3) or were once. A
# request that ends in one of them has no length, which must be 400 (6.3), though none
# of them is spoken here; what a name means that nobody knows is 501 (6.1).
_CODINGS = {"compress", "deflate", "gzip", "identity", "x-compress", "x-gzip"}
# No lists (RFC 9110 5.3). What stands before us, and routes, lets in or filters by one
# of them, may look at the first or the last of two, and the app would see another
# request than it has judged.
_SINGLE = {
    "HTTP_HOST",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "HTTP_CONTENT_RANGE",
    "HTTP_AUTHORIZATION",
    "HTTP_PROXY_AUTHORIZATION",
}
_PRINTABLE = bytes(range(0x20, 0x7F))
_KEYS: dict[str, str] = ENVIRON_KEYS.entries
_KNOWN: dict[str, tuple[str, str]] = LINES.entries


class HeadParser:
    """Turns heads into fields. llhttp judges them; what stands in a head that it
    accepts is then cut out with a few calls, for calling back into Python once a field
    would cost more than all of its parsing. One for a whole process will do.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, Request] = {}

    def remember(self, head: bytes, request: Request) -> None:
        """Keep what `head` means for other connections: monitors, and proxies that open
        one for each request, begin them all alike.
        """
        if len(head) <= HEADS.longest and not request.query and request.fields.keys() <= HARMLESS:
            if len(self.known) >= HEADS.most:
                self.known.clear()
            self.known[head] = request

    def parse(self, section: bytes, version: bytes, max_fields: int) -> dict[str, str]:
        """The fields of `section`, what stands between the request line and the empty
        line, as PEP 3333 wants them. Raises RequestError.
        """
        lines = section.decode("latin-1").split("\r\n") if section else []
        if b"\t" in section or len(lines) > max_fields:
            _check_lines(
                section
            )  # before they lose their blanks: one that has nothing else would end the head
            if len(lines) > max_fields:
                raise RequestError(431, f"more than {max_fields} header fields")
            # OWS, RFC 9110 5.6.3; llhttp knows the space alone where it looks into a
            # value. What it judges is what is cut below.
            lines = [line.rstrip(" \t") for line in lines]
            section = "\r\n".join(lines).encode("latin-1")
        head = b"%b%b\r\n\r\n" % (_ANY_LINE, section) if section else _ANY_LINE + b"\r\n"
        try:
            # A parser of its own: after some heads one stands elsewhere than where the
            # next may begin (in a body, in another protocol, behind the last message of
            # a connection), and only llhttp knows which they are. A new one costs half
            # a microsecond.
            httptools.HttpRequestParser(None).feed_data(head)
        except httptools.HttpParserUpgrade as offer:
            # We do not take it up (RFC 9110 7.8). But llhttp looks at nothing behind
            # the head that makes it.
            if offer.args != (len(head),):
                raise RequestError(400, "a head ends within the head") from None
        except httptools.HttpParserError as error:
            _check_lines(section)
            raise _refusal(error, _cut(lines), version) from None
        return _cut(lines)


def _check_lines(section: bytes) -> None:
    check_controls(section, section.count(b"\r\n"))
    check_folds(b"\r\n" + section)


def check_controls(text: bytes, ends: int) -> None:
    """Raise RequestError unless `text` holds `ends` CRLF, and no other control
    character but tabs.

    RFC 9112 2.2: a bare CR or LF is where two readers of one message part ways. RFC
    9110 5.5 has NUL and the others. llhttp refuses them as well, but a head that is
    still on its way cannot be given to it.
    """
    if len(text) - len(text.translate(None, CONTROLS)) != 2 * ends:
        raise RequestError(400, "a bare CR or LF, or another control character, in the head")


def check_folds(text: bytes) -> None:
    """Raise RequestError if a line in `text` is folded into the next: two readers part
    ways there, too (RFC 9112 2.2 and 5.2).
    """
    if b"\r\n " in text or b"\r\n\t" in text:
        raise RequestError(400, "folded header field")


def _refusal(
    error: httptools.HttpParserError, fields: dict[str, str], version: bytes
) -> RequestError:
    coding = fields.get("HTTP_TRANSFER_ENCODING")
    if coding is not None and not coding.encode("latin-1").translate(None, _PRINTABLE):
        try:
            check_coding(
                coding, fields.get("CONTENT_LENGTH"), (1, 0) if version == b"HTTP/1.0" else (1, 1)
            )
        except RequestError as reason:
            return reason
    return RequestError(
        413 if "overflow" in str(error).lower() else 400, str(error) or "bad request"
    )


def environ_key(name: str) -> str:
    """Return the key of a header in the environ (RFC 3875 4.1.18), or "" for one that
    is dropped.

    A name with an underscore is dropped: it would get the same key as its twin with a
    dash, which a proxy in front of us may have vouched for.
    """
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    key = "" if "_" in name else key
    ENVIRON_KEYS.keep(name, key, len(name))
    return key


def _split(line: str) -> tuple[str, str]:
    """Return the key and the value of the header on `line`."""
    if not line.isprintable():
        # llhttp must not be the only judge of where a line ends.
        check_controls(line.encode("latin-1"), 0)
    name, _, value = line.partition(":")
    key = _KEYS.get(name)
    if key is None:
        key = environ_key(name)
    split = key, value.strip(" \t")
    if key in HARMLESS:
        LINES.keep(line, split, len(line))
    return split


def _cut(lines: list[str]) -> dict[str, str]:
    """Return the headers on `lines`, keyed as the environ has them."""
    known = _KNOWN
    fields: dict[str, str] = {}
    for line in lines:
        key, value = known[line] if line in known else _split(line)
        if key in fields:
            value = _combine(key, fields[key], value)
        fields[key] = value
    fields.pop("", None)
    return fields


def _combine(key: str, first: str, second: str) -> str:
    if key in _SINGLE:
        raise RequestError(
            400, f"more than one {key.removeprefix('HTTP_').replace('_', '-').title()} field"
        )
    # RFC 9110 5.3: a list; RFC 6265 5.4 has its own separator.
    return f"{first}; {second}" if key == "HTTP_COOKIE" else f"{first}, {second}"


def check_coding(coding: str, length: str | None, version: tuple[int, int]) -> None:
    # RFC 9112 6.1 and 6.3: each of these has smuggled requests past somebody's proxy.
    if length is not None:
        raise RequestError(400, "Transfer-Encoding and Content-Length in one request")
    if version < (1, 1):
        raise RequestError(400, "Transfer-Encoding in an HTTP/1.0 request")
    codings = [each.strip(" \t").lower() for each in coding.split(",")]
    if codings == ["chunked"]:
        return
    if "chunked" in codings[:-1] or "" in codings or codings[-1] in _CODINGS:
        raise RequestError(400, "chunked is not the last and only transfer coding")
    raise RequestError(501, f"unknown transfer coding {coding!r}")
