"""Who closes when: persistence in HTTP/1.1 and 1.0, and the Connection field (RFC 9112 9.3 and 9.6, RFC 9110 7.6.1)."""

from .case import (
    ANY,
    AT_ONCE,
    BAD,
    CHUNKED,
    EOF,
    GATE,
    Case,
    Step,
    get,
    ok,
    play,
    post,
    sized,
    start,
)

UNKNOWN = play(start(), body=["he", "llo"], kind="generator")  # a body whose length the server can't know
SLOW = play(start(), ["await", GATE], body=["hello"])  # nothing is read while the app waits
KEPT = {"connection": "keep-alive"}


def asked(*fields: str, version: str = "HTTP/1.1", target: str = "/") -> bytes:
    return get(target, *fields, version=version)


def old(*fields: str, target: str = "/") -> bytes:
    return asked(*fields, version="HTTP/1.0", target=target)


CASES = [
    Case("HTTP/1.1 persists", "RFC 9112 9.3", asked(), ok(fields={"connection": None})),
    Case("close", "RFC 9112 9.6", asked("Connection: close"), ok(b"").closing),
    Case("close is case-insensitive", "RFC 9110 7.6.1", asked("Connection: Close"), ok(b"").closing),
    Case("CLOSE", "RFC 9110 7.6.1", asked("connection: CLOSE"), ok(b"").closing),
    Case("close in a list", "RFC 9110 7.6.1", asked("Connection: x, close"), ok(b"").closing),
    Case("close first in a list", "RFC 9110 7.6.1", asked("Connection: close, x"), ok(b"").closing),
    Case("close in a list without spaces", "RFC 9110 7.6.1", asked("Connection: x,close,y"), ok(b"").closing),
    Case("close in a list with empty elements", "RFC 9110 5.6.1", asked("Connection: ,, close ,"), ok(b"").closing),
    Case("close between tabs", "RFC 9110 5.6.3", asked("Connection:\tx\t,\tclose\t"), ok(b"").closing),
    Case("close in a second Connection field", "RFC 9110 5.3", asked("Connection: x", "Connection: close"), ok(b"").closing),
    Case("close in the first of two Connection fields", "RFC 9110 5.3", asked("Connection: close", "Connection: x"), ok(b"").closing),
    Case("close and keep-alive", "RFC 9112 9.3", asked("Connection: keep-alive, close"), ok(b"").closing),
    Case("close with a body", "RFC 9112 9.6", post(b"hello", "Connection: close"), ok(b"hello").closing),
    Case(
        "close with a body of unknown length",
        "RFC 9112 9.6",
        asked("Connection: close", target=UNKNOWN),
        ok(body=b"hello", fields=CHUNKED).closing,
    ),
    Case("closed is not close", "RFC 9110 7.6.1", asked("Connection: closed"), ok(b"")),
    Case("quoted close is not close", "RFC 9110 7.6.1", asked('Connection: "close"'), ok(b"")),
    Case("close with a parameter is not close", "RFC 9110 7.6.1", asked("Connection: close;x=y"), ok(b"")),
    Case("closing is not close", "RFC 9110 7.6.1", asked("Connection: x-close, closer, -close"), ok(b"")),
    Case("not-close is not close", "RFC 9110 7.6.1", asked("Connection: not-close"), ok(b"")),
    Case("keep-alive in HTTP/1.1", "RFC 9112 9.3", asked("Connection: keep-alive"), ok(b"")),
    Case("unknown option", "RFC 9110 7.6.1", asked("Connection: x"), ok(b"")),
    Case("empty Connection", "RFC 9110 7.6.1", asked("Connection:"), ok(b"")),
    Case("Connection names a field", "RFC 9110 7.6.1", asked("Connection: X-A", "X-A: y"), ok(b"")),
    Case("Keep-Alive with parameters", "RFC 9112 C.2.2", asked("Keep-Alive: timeout=5, max=1"), ok(b"")),
    Case("Proxy-Connection is not Connection", "RFC 9112 C.2.2", asked("Proxy-Connection: close"), ok(b"")),
    # HTTP/1.0
    Case("HTTP/1.0 closes", "RFC 9112 9.3", old(), ok(b"", then=EOF)),
    Case("HTTP/1.0 and close", "RFC 9112 9.3", old("Connection: close"), ok(b"", then=EOF)),
    Case("HTTP/1.0 and keep-alive", "RFC 9112 9.3", old("Connection: keep-alive"), ok(b"", fields=KEPT)),
    Case("HTTP/1.0 and Keep-Alive", "RFC 9110 7.6.1", old("Connection: Keep-Alive"), ok(b"", fields=KEPT)),
    Case("HTTP/1.0 and keep-alive in a list", "RFC 9110 7.6.1", old("Connection: x, keep-alive"), ok(b"", fields=KEPT)),
    Case("HTTP/1.0, keep-alive and close", "RFC 9112 9.3", old("Connection: keep-alive, close"), ok(b"", then=EOF)),
    Case("HTTP/1.0 and an unknown option", "RFC 9112 9.3", old("Connection: x"), ok(b"", then=EOF)),
    Case("HTTP/1.0 and Proxy-Connection", "RFC 9112 C.2.2", old("Proxy-Connection: keep-alive"), ok(b"", then=EOF)),
    Case("HTTP/1.0 and the Keep-Alive field alone", "RFC 9112 C.2.2", old("Keep-Alive: timeout=5"), ok(b"", then=EOF)),
    Case("HTTP/1.0, keep-alive, twice", "RFC 9112 9.3", old("Connection: keep-alive") * 2, ok(b"", fields=KEPT) * 2),
    Case("HTTP/1.0, keep-alive, then not", "RFC 9112 9.3", old("Connection: keep-alive") + old(), ok(b"", fields=KEPT) + ok(b"", then=EOF)),
    Case(
        "HTTP/1.0, keep-alive and a body",
        "RFC 9112 9.3",
        post(b"hello", "Connection: keep-alive", version="HTTP/1.0"),
        ok(b"hello", fields=KEPT),
    ),
    Case(
        "HTTP/1.0, keep-alive and an answer of unknown length",
        "RFC 9112 6.3",
        old("Connection: keep-alive", target=UNKNOWN),
        ok(body=b"hello", fields={"transfer-encoding": None, "content-length": None}, then=EOF),
    ),
    Case(
        "HTTP/1.0 and an answer of unknown length",
        "RFC 9112 6.1",
        old(target=UNKNOWN),
        ok(body=b"hello", fields={"transfer-encoding": None}, then=EOF),
    ),
    Case(
        "HTTP/1.0, keep-alive and an answer of known length",
        "RFC 9112 9.3",
        old("Connection: keep-alive", target=play(start("200 OK", ("Content-Length", "5")), body=["he", "llo"], kind="generator")),
        ok(body=b"hello", fields={**KEPT, **sized(5)}),
    ),
    Case(
        "HTTP/1.0, keep-alive and 204",
        "RFC 9112 6.3",
        old("Connection: keep-alive", target=play(start("204 No Content", ctype=None))),
        ok(status=204, fields=KEPT),
    ),
    Case(
        "HTTP/1.0, keep-alive and 304",
        "RFC 9112 6.3",
        old("Connection: keep-alive", target=play(start("304 Not Modified", ctype=None))),
        ok(status=304, fields=KEPT),
    ),
    Case(
        "HTTP/1.0, keep-alive and HEAD",
        "RFC 9112 6.3",
        get("/", "Connection: keep-alive", method="HEAD", version="HTTP/1.0"),
        ok(fields=KEPT),
    ),
    Case(
        "HTTP/1.0, keep-alive and HEAD of unknown length",
        "RFC 9112 6.3",
        get(UNKNOWN, "Connection: keep-alive", method="HEAD", version="HTTP/1.0"),
        ok(then=ANY),
    ),
    Case("HTTP/1.0 of a mistake", "RFC 9112 9.3", old("Connection: keep-alive", "X y"), BAD),
    # After an error nothing else on the connection is answered.
    Case("a good request behind a bad one", "RFC 9112 9.6", get(host=None) + get("/2"), BAD),
    Case("a bad request behind a good one", "RFC 9112 9.3.2", get("/1") + get("/2", host=None), ok(PATH_INFO="/1") + BAD),
    Case(
        "a bad request behind two good ones",
        "RFC 9112 9.3.2",
        get("/1") + get("/2") + b"\0\r\n\r\n",
        ok(PATH_INFO="/1") + ok(PATH_INFO="/2") + BAD,
    ),
    Case("a request behind close", "RFC 9112 9.6", asked("Connection: close") + get("/2"), ok(b"").closing, modes=AT_ONCE),
    Case("garbage behind close", "RFC 9112 9.6", asked("Connection: close") + b"\0\0garbage", ok(b"").closing, modes=AT_ONCE),
    Case("much behind close", "RFC 9112 9.6", asked("Connection: close") + b"x" * 300_000, ok(b"").closing),
    Case("a request behind HTTP/1.0", "RFC 9112 9.3", old() + get("/2"), ok(b"", then=EOF), modes=AT_ONCE),
    *(
        Case(f"{what} while {version} is answered for the last time", "RFC 9112 9.6", (last, more, Step.OPEN_GATE), outcome, modes=AT_ONCE)
        for version, last, outcome in (
            ("HTTP/1.1", asked("Connection: close", target=SLOW), ok(body=b"hello").closing),
            ("HTTP/1.0", old(target=SLOW), ok(body=b"hello", then=EOF)),
        )
        for what, more in (("a request", get("/2")), ("much", b"x" * 99_999))
    ),
    Case("much behind a bad request", "RFC 9112 9.6", get(host=None) + b"x" * 300_000, BAD),
    Case("a bad request behind a body", "RFC 9112 9.3.2", post() + b"\0\r\n\r\n", ok(b"hello") + BAD),
    Case("NUL behind a body", "RFC 9112 6.2", post() + b"\0" + get("/2"), ok(b"hello") + BAD),
]
