"""Several requests without waiting: answered one by one, in order, each with its own body (RFC 9112 9.3.2).

The runner adds one good request before and behind most cases; these are the longer rows of them.
"""

from .case import (
    AT_ONCE,
    BAD,
    CHUNKED,
    EOF,
    Case,
    Step,
    chunked,
    chunks,
    get,
    ok,
    play,
    post,
    refused,
    start,
)

STREAM = play(start(), body=["one", "two", "three"], kind="generator")
EMPTY = play(start("204 No Content", ctype=None))
BIG = play(start(), body=[{"of": ["0123456789", 50_000]}])
UNREAD = play(start(), body=["unread"])  # an app that leaves its request's body alone


def numbered(count: int) -> bytes:
    return b"".join(get(f"/{number}") for number in range(count))


def in_order(count: int):
    answers = ok(PATH_INFO="/0")
    for number in range(1, count):
        answers += ok(PATH_INFO=f"/{number}")
    return answers


def filled(size: int) -> bytes:
    """A request of just this size, most of it body."""
    length = size - len(get("/1", f"Content-Length: {0:08}", method="POST"))
    return get("/1", f"Content-Length: {length:08}", method="POST") + b"x" * length


def chunk_to(size: int) -> bytes:
    """A chunked request whose first chunk's data ends at just this byte."""
    start_of_data = len(chunked(b"ffff\r\n", target="/1"))
    data = b"x" * (size - start_of_data)
    return chunked(b"%04x\r\n" % len(data) + data + b"\r\n0\r\n\r\n", target="/1")


CASES = [
    Case("two", "RFC 9112 9.3.2", numbered(2), in_order(2)),
    Case("ten", "RFC 9112 9.3.2", numbered(10), in_order(10)),
    Case("five hundred", "RFC 9112 9.3.2", numbered(500), in_order(500)),
    Case(
        "one after the other",
        "RFC 9112 9.3",
        (get("/1"), Step.ANSWER, get("/2"), Step.ANSWER, get("/3")),
        ok(PATH_INFO="/1") + ok(PATH_INFO="/2") + ok(PATH_INFO="/3"),
    ),
    Case("with bodies", "RFC 9112 9.3.2", post(b"one") + post(b"three") + post(b"two"), ok(b"one") + ok(b"three") + ok(b"two")),
    Case("with chunked bodies", "RFC 9112 9.3.2", chunked(chunks(b"one")) + chunked(chunks(b"t", b"wo")), ok(b"one") + ok(b"two")),
    Case(
        "with and without",
        "RFC 9112 9.3.2",
        post(b"one") + get() + chunked(chunks(b"two")) + get("/4"),
        ok(b"one") + ok(b"") + ok(b"two") + ok(b"", PATH_INFO="/4"),
    ),
    Case("answers of unknown length", "RFC 9112 9.3.2", get(STREAM) * 3, ok(body=b"onetwothree", fields=CHUNKED) * 3),
    Case("answers without body", "RFC 9112 9.3.2", get(EMPTY) * 3, ok(status=204) * 3),
    Case("large answers", "RFC 9112 9.3.2", get(BIG) * 4, ok(body=b"0123456789" * 50_000) * 4),
    # RFC 9112 2.2: clients of old send an empty line behind a body.
    Case("an empty line behind a body", "RFC 9112 2.2", post() + b"\r\n" + get("/2"), ok(b"hello") + ok(PATH_INFO="/2")),
    Case("an empty line behind the last body", "RFC 9112 2.2", post() + b"\r\n", ok(b"hello")),
    Case(
        "an empty line behind a body of HTTP/1.0", "RFC 9112 2.2", post(version="HTTP/1.0") + b"\r\n", ok(b"hello", then=EOF), modes=AT_ONCE
    ),
    *(
        Case(
            f"a request that ends at byte {size} of what is read",
            "RFC 9112 9.3.2",
            filled(size) + get("/2"),
            ok(PATH_INFO="/1") + ok(PATH_INFO="/2"),
        )
        for size in (4095, 4096, 4097, 16383, 16384, 16385, 32768, 65534, 65535, 65536, 65537, 65538, 131072)
    ),
    *(
        Case(f"a chunk that ends at byte {size} of what is read", "RFC 9112 7.1", chunk_to(size), ok(PATH_INFO="/1"))
        for size in (4096, 65533, 65534, 65535, 65536, 65537)
    ),
    Case("an unread body", "PEP 3333", post(b"GET / HTTP/1.1", target=UNREAD) + get("/2"), ok(body=b"unread") + ok(PATH_INFO="/2")),
    Case(
        "an unread chunked body",
        "PEP 3333",
        chunked(chunks(b"GET / HTTP/1.1"), target=UNREAD) + get("/2"),
        ok(body=b"unread") + ok(PATH_INFO="/2"),
    ),
    Case("a large unread body", "PEP 3333", post(b"x" * 300_000, target=UNREAD) + get("/2"), ok(body=b"unread") + ok(PATH_INFO="/2")),
    Case(
        "close in the middle",
        "RFC 9112 9.3.2",
        get("/1") + get("/2", "Connection: close") + get("/3"),
        ok(PATH_INFO="/1") + ok(PATH_INFO="/2").closing,
        modes=AT_ONCE,
    ),
    Case("a mistake in the middle", "RFC 9112 9.3.2", get("/1") + get("/2", "X y") + get("/3"), ok(PATH_INFO="/1") + BAD),
    Case("an unknown method in the middle", "RFC 9112 9.3.2", get("/1") + get("/2", method="BREW"), ok(PATH_INFO="/1") + refused(501)),
    Case("a bad chunk in the middle", "RFC 9112 9.3.2", get("/1") + chunked(b"x\r\n") + get("/3"), ok(PATH_INFO="/1") + BAD),
    Case("a mistake behind a streamed answer", "RFC 9112 9.3.2", get(STREAM) + b"\0\r\n\r\n", ok(body=b"onetwothree") + BAD),
    Case("a mistake behind a large answer", "RFC 9112 9.3.2", get(BIG) + b"\0\r\n\r\n", ok(body=b"0123456789" * 50_000) + BAD),
    Case("a mistake behind 204", "RFC 9112 9.3.2", get(EMPTY) + b"\0\r\n\r\n", ok(status=204) + BAD),
    Case(
        "HEAD, GET, HEAD",
        "RFC 9112 9.3.2",
        get(method="HEAD") + get() + get(method="HEAD"),
        ok(head=True) + ok(b"", head=False) + ok(head=True),
    ),
    Case(
        "requests do not share fields",
        "PEP 3333",
        get("/1", "X: y", "Cookie: a") + get("/2"),
        ok(HTTP_X="y") + ok(HTTP_X=None, HTTP_COOKIE=None),
    ),
    Case("requests do not share a length", "PEP 3333", post() + get(), ok(b"hello") + ok(b"", CONTENT_LENGTH=None)),
    Case(
        "requests do not share an environ",
        "PEP 3333",
        get("/vandal") + get("/2"),
        ok(body=b"done") + ok(b"", HTTP_EVIL=None, SCRIPT_NAME=""),
    ),
    Case(
        "the rest of a request comes after its predecessor's answer",
        "RFC 9112 9.3.2",
        (get("/1") + get("/2")[:9], Step.ANSWER, get("/2")[9:]),
        ok(PATH_INFO="/1") + ok(PATH_INFO="/2"),
    ),
    Case(
        "the rest of a body comes after its predecessor's answer",
        "RFC 9112 9.3.2",
        (get("/1") + post()[:-2], Step.ANSWER, b"lo"),
        ok(PATH_INFO="/1") + ok(b"hello"),
    ),
]
