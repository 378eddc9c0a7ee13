"""The headers that are about the request itself, and not for the app alone: Host,
Connection and Expect. They are judged here, and applied to the request.

Content-Length and Transfer-Encoding frame its body: request_reader.py.
"""

from __future__ import annotations

from spyglass.errors import RequestError
from spyglass.http11.request_line import valid_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.http11.request import Request

# A section that differs in one of these from an earlier one has to be judged again.
CONTROL_KEYS: Final = frozenset(
    ("HTTP_HOST", "HTTP_CONNECTION", "HTTP_EXPECT", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING")
)


def apply_controls(request: Request, authority: str | None) -> None:
    """Judge and apply the headers that are about the request itself."""
    _check_host(request, authority)
    _persistence(request)
    _expectation(request)


def _check_host(request: Request, authority: str | None) -> None:
    # RFC 9112 3.2: HTTP/1.1 needs exactly one Host, and a valid one. The authority of a
    # target in absolute-form replaces it (3.2.2): a proxy routes by the authority, so
    # an app that looked at Host would serve another site than the proxy has judged.
    host = request.fields.get("HTTP_HOST")
    if host is None:
        if request.version != (1, 0):
            raise RequestError(400, "no Host header")
    elif not valid_host(host):
        raise RequestError(400, "invalid Host header")
    if authority is not None:
        request.fields = {**request.fields, "HTTP_HOST": authority}


def _persistence(request: Request) -> None:
    # RFC 9112 9.3: close, keep-alive, or what the version says.
    connection = request.fields.get("HTTP_CONNECTION")
    close, keep_alive = (False, False) if connection is None else _options(connection)
    request.keep_alive = not close and (keep_alive or request.version != (1, 0))


def _options(connection: str) -> tuple[bool, bool]:
    if "," not in connection:
        option = connection.strip(" \t").lower()
        return option == "close", option == "keep-alive"
    options = [option.strip(" \t").lower() for option in connection.split(",")]
    return "close" in options, "keep-alive" in options


def _expectation(request: Request) -> None:
    # RFC 9110 10.1.1. Ignored in HTTP/1.0, which does not know it.
    expectation = request.fields.get("HTTP_EXPECT")
    if expectation is None or request.version == (1, 0):
        return
    # A list, in which empty elements do not count (RFC 9110 5.6.1). Anything but
    # 100-continue is answered with 417.
    expectations = {each.strip(" \t").lower() for each in expectation.split(",")} - {""}
    if expectations - {"100-continue"}:
        raise RequestError(417, f"unknown expectation {expectation!r}")
    request.expects_continue = bool(expectations)


def means_the_same_again(fields: dict[str, str]) -> bool:
    """Return True if reading a request does not change these headers. A chunked body
    gets a length, and a length may lose leading zeros.
    """
    return (
        "HTTP_TRANSFER_ENCODING" not in fields
        and "HTTP_EXPECT" not in fields
        and len(fields.get("CONTENT_LENGTH", "")) < 16
    )
