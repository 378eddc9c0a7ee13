"""Upgrade is an offer, and Spyglass takes none: the request is answered as if the field were not there (RFC 9110 7.8, ARCHITECTURE 9.4).

Nor does the app see it: what libraries do about an offer needs the server's socket.
"""

from .case import BAD, EOF, Case, chunked, chunks, get, ok, post

WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
NOT_101 = {"upgrade": None}
HIDDEN = {"HTTP_UPGRADE": None, "HTTP_CONNECTION": None}

CASES = [
    Case("websocket", "RFC 9110 7.8", get("/", *WEBSOCKET), ok(b"", fields=NOT_101, **HIDDEN)),
    Case("h2c", "RFC 9113 3.1", get("/", *H2C), ok(b"", fields=NOT_101, HTTP_HTTP2_SETTINGS=None, **HIDDEN)),
    Case(
        "the other options stay",
        "RFC 9110 7.6.1",
        get("/", "Connection: keep-alive, Upgrade, x", "Upgrade: websocket"),
        ok(b"", fields=NOT_101, HTTP_UPGRADE=None, HTTP_CONNECTION="keep-alive, x"),
    ),
    Case(
        "each request makes its own offer",
        "RFC 9110 7.8",
        get("/1", *WEBSOCKET) + get("/2", "Connection: keep-alive"),
        ok(**HIDDEN) + ok(HTTP_CONNECTION="keep-alive"),
    ),
    Case("unknown protocol", "RFC 9110 7.8", get("/", "Connection: upgrade", "Upgrade: x/1"), ok(b"", fields=NOT_101)),
    Case(
        "a list of protocols",
        "RFC 9110 7.8",
        get("/", "Connection: upgrade", "Upgrade: HTTP/2.0, SHTTP/1.3, IRC/6.9"),
        ok(b"", fields=NOT_101),
    ),
    Case("TLS", "RFC 2817", get("*", "Connection: Upgrade", "Upgrade: TLS/1.0", method="OPTIONS"), ok(b"", fields=NOT_101)),
    Case("without the connection option", "RFC 9110 7.8", get("/", "Upgrade: websocket"), ok(b"")),
    Case("the connection option alone", "RFC 9110 7.8", get("/", "Connection: Upgrade"), ok(b"")),
    Case("empty Upgrade", "RFC 9110 7.8", get("/", "Connection: Upgrade", "Upgrade:"), ok(b"")),
    Case("with a body", "RFC 9110 7.8", post(b"hello", *WEBSOCKET), ok(b"hello")),
    Case("with a body that comes late", "RFC 9110 7.8", (post(b"hello", *H2C)[:-5], b"hello"), ok(b"hello")),
    Case("with a chunked body", "RFC 9110 7.8", chunked(chunks(b"hello"), *WEBSOCKET), ok(b"hello")),
    Case("with a body that looks like a request", "RFC 9110 7.8", post(get("/smuggled"), *WEBSOCKET), ok(get("/smuggled"))),
    Case("HEAD", "RFC 9110 7.8", get("/", *WEBSOCKET, method="HEAD"), ok()),
    Case("with close", "RFC 9110 7.8", get("/", "Connection: Upgrade, close", "Upgrade: websocket"), ok(b"").closing),
    Case("in HTTP/1.0", "RFC 9110 7.8", get("/", *WEBSOCKET, version="HTTP/1.0"), ok(b"", then=EOF)),
    Case("in HTTP/1.0 with a body", "RFC 9110 7.8", post(b"hello", *WEBSOCKET, version="HTTP/1.0"), ok(b"hello", then=EOF)),
    Case(
        "several in a row",
        "RFC 9110 7.8",
        get("/1", *WEBSOCKET) + get("/2", *H2C) + get("/3"),
        ok(PATH_INFO="/1") + ok(PATH_INFO="/2") + ok(PATH_INFO="/3"),
    ),
    Case(
        "followed by another protocol",
        "RFC 9110 7.8",
        get("/", *H2C) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ok(b"") + ok(status=(400, 501, 505)).closing,
    ),
    Case("does not excuse a missing Host", "RFC 9112 3.2", get("/", *WEBSOCKET, host=None), BAD),
    Case("does not excuse two lengths", "RFC 9112 6.3", get("/", *WEBSOCKET, "Content-Length: 1", "Content-Length: 2"), BAD),
]
