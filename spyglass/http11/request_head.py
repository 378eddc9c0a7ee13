"""From the head of a request to its headers, judged by llhttp.

    field-line  = field-name ":" OWS field-value OWS         (RFC 9112 5)
    field-name  = token                                      (RFC 9110 5.1)
    field-value = *( VCHAR / obs-text / SP / HTAB )          (RFC 9110 5.5, shortened)

llhttp decides whether a head is one; then its lines are cut here, with a few calls for
all of them. Callbacks from llhttp for each header would cost more than its parsing.
Some rules are checked here as well, and not left to llhttp alone:

- where a line ends, for a head that is still on its way cannot be given to llhttp
- headers that may occur only once, which a parser of single lines does not know
- underscores in names, which are the environ's problem and not HTTP's
"""

from __future__ import annotations

import httptools

from spyglass.errors import RequestError
from spyglass.http11.caches import ENVIRON_KEYS, HARMLESS, HEADS, LINES
from spyglass.http11.chunked import CONTROLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.http11.request import Request

# What llhttp gets for a request line. The real one is judged in request_line.py, as
# llhttp knows fewer methods, and no minor version after 1.
_ANY_LINE: Final = b"GET / HTTP/1.1\r\n"
# The transfer codings beside chunked, of now (RFC 9112 7.2) and of earlier RFCs. None
# is supported. A request that ends in one of them has no known length: 400 (RFC 9112
# 6.3). An unknown name is 501 (6.1).
_CODINGS: Final = {"compress", "deflate", "gzip", "identity", "x-compress", "x-gzip"}
# Headers whose value is no list (RFC 9110 5.3), so that two are an error. A proxy that
# routes, authenticates or filters by one of them may look at the first of two, and the
# app at the last: it would get another request than the proxy has judged.
_SINGLE: Final = {
    "HTTP_HOST",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "HTTP_CONTENT_RANGE",
    "HTTP_AUTHORIZATION",
    "HTTP_PROXY_AUTHORIZATION",
}
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_KEYS: Final[dict[str, str]] = ENVIRON_KEYS.entries
_KNOWN: Final[dict[str, tuple[str, str]]] = LINES.entries


class HeadParser:
    """Makes headers of heads, and keeps heads that many connections begin with in
    `known` (HEADS in caches.py). A worker has one.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, Request] = {}

    def remember(self, head: bytes, request: Request) -> None:
        """Keep the Request of `head` for other connections, if both hold nothing that
        belongs to this client.
        """
        if len(head) <= HEADS.longest and not request.query and request.fields.keys() <= HARMLESS:
            if len(self.known) >= HEADS.most:
                self.known.clear()
            self.known[head] = request

    def parse(self, section: bytes, version: tuple[int, int], max_fields: int) -> dict[str, str]:
        """Return the headers of `section`, the lines between the request line and the
        empty line, keyed as PEP 3333 wants them. Raises RequestError.
        """
        lines = section.decode("latin-1").split("\r\n") if section else []
        if b"\t" in section or len(lines) > max_fields:
            # Before they lose their blanks: a line of blanks would become an empty one,
            # which ends a head.
            _check_lines(section)
            if len(lines) > max_fields:
                raise RequestError(431, f"more than {max_fields} headers")
            # OWS is spaces and tabs (RFC 9110 5.6.3), but llhttp knows only spaces
            # where it looks into a value. It must judge the very values that are cut
            # below.
            lines = [line.rstrip(" \t") for line in lines]
            section = "\r\n".join(lines).encode("latin-1")
        text = section + b"\r\n\r\n" if section else b"\r\n"
        try:
            judge(text)
        except httptools.HttpParserError as error:
            _check_lines(section)
            raise _refusal(error, _cut(lines), version) from None
        return _cut(lines)


def judge(section: bytes) -> None:
    """Have llhttp judge `section`, all of a head behind its request line. Raises
    httptools.HttpParserError or RequestError.
    """
    head = _ANY_LINE + section
    try:
        # A new parser for each head: after some heads it expects a body, another
        # protocol, or the end of the connection, and only llhttp knows after which. A
        # new one costs half a microsecond.
        httptools.HttpRequestParser(None).feed_data(head)
    except httptools.HttpParserUpgrade as offer:
        # The offer is not accepted (RFC 9110 7.8). But llhttp has stopped at the end of
        # the head that makes it, and that must be the end of ours.
        if offer.args != (len(head),):
            raise RequestError(400, "a head ends within the head") from None


def _check_lines(section: bytes) -> None:
    check_controls(section, section.count(b"\r\n"))
    check_folds(b"\r\n" + section)


def check_controls(text: bytes, ends: int) -> None:
    """Raise RequestError unless `text` holds `ends` CRLF, and no other control
    character but tabs.

    A bare CR or LF ends a line for one recipient and not for another (RFC 9112 2.2),
    which hides a header or a whole request from one of them. RFC 9110 5.5 forbids NUL
    and the others. llhttp refuses all of them, too, but cannot be given a head that is
    still on its way.
    """
    if len(text) - len(text.translate(None, CONTROLS)) != 2 * ends:
        raise RequestError(400, "a bare CR or LF, or another control character, in the head")


def check_folds(text: bytes) -> None:
    """Raise RequestError if a line in `text` begins with white space.

    Once it continued the line before it (obs-fold). One recipient joins the two,
    another one skips the second or reads it as a header of its own (RFC 9112 2.2, 5.2).
    """
    if b"\r\n " in text or b"\r\n\t" in text:
        raise RequestError(400, "folded header")


def _refusal(
    error: httptools.HttpParserError, fields: dict[str, str], version: tuple[int, int]
) -> RequestError:
    coding = fields.get("HTTP_TRANSFER_ENCODING")
    if coding is not None and not coding.encode("latin-1").translate(None, _PRINTABLE):
        try:
            check_coding(coding, fields.get("CONTENT_LENGTH"), version)
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
            400, f"more than one {key.removeprefix('HTTP_').replace('_', '-').title()} header"
        )
    # RFC 9110 5.3: repeated headers are one list. Cookies have a separator of their own
    # (RFC 6265 5.4).
    return f"{first}; {second}" if key == "HTTP_COOKIE" else f"{first}, {second}"


def check_coding(coding: str, length: str | None, version: tuple[int, int]) -> None:
    """Raise RequestError unless Transfer-Encoding says that the body is chunked, and
    nothing else says how long it is.

    RFC 9112 6.1 and 6.3. Each of these has been used to smuggle requests past a proxy:
    Content-Length beside Transfer-Encoding (CL.TE and TE.CL), Transfer-Encoding for a
    recipient that speaks HTTP/1.0 and ignores it, and a coding that one recipient takes
    for chunked and another one does not ("x-chunked", "chunked, identity").
    """
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
