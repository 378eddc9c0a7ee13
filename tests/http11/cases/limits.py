"""The limits at and one beyond their edge (ARCHITECTURE 9.1 and 9.2), in a server whose max_head is 4 KiB, max_fields 20, max_body 64 KiB.

A head is counted from the first byte of the request line to the last of the empty line.
"""

from dataclasses import replace

from .case import Case, chunked, chunks, get, ok, play, post, refused, start

HEAD, FIELDS, BODY = 4096, 20, 65536
REQUEST_LINE = len("GET / HTTP/1.1")


def of_size(size: int, **how: str) -> bytes:
    """A request whose head has just this size."""
    return get("/", "X: " + "y" * (size - len(get("/", "X: ", **how))), **how)


def line_of(size: int) -> bytes:
    """A request whose request line has this size, its CRLF not counted."""
    return get("/" + "a" * (size - REQUEST_LINE))


def fields(count: int) -> bytes:
    """A request with so many field lines."""
    return get("/", *(f"X-{number}: y" for number in range(count - 1)))


def extended(count: int, extension: bytes) -> bytes:
    return chunked(b"".join(b"1" + extension + b"\r\nx\r\n" for _ in range(count)) + b"0\r\n\r\n")


CASES = [
    # Head
    Case("head of just the limit", "ARCHITECTURE 9.1", of_size(HEAD), ok(b"")),
    Case("head of one byte more", "RFC 6585 5", of_size(HEAD + 1), refused(431)),
    Case("head of just the limit with another method", "ARCHITECTURE 9.1", of_size(HEAD, method="PUT"), ok(b"")),
    Case("head far beyond the limit", "RFC 6585 5", of_size(HEAD * 50), refused(431)),
    Case("many small fields beyond the limit", "RFC 6585 5", get("/", *["X: " + "y" * 300] * 15), refused(431)),
    Case("head without end", "RFC 6585 5", of_size(HEAD * 3)[:-4], refused(431)),
    Case("field name beyond the limit", "RFC 6585 5", get("/", "X" * 5000 + ": y"), refused(431)),
    Case("field name without end", "RFC 6585 5", get("/", "X" * 5000)[:-4], refused(431)),
    Case("empty lines do not count", "RFC 9112 2.2", b"\r\n\r\n" + of_size(HEAD), ok(b"")),
    Case("the body does not count", "ARCHITECTURE 9.1", get("/", "Content-Length: 60000", method="POST") + b"x" * 60_000, ok(b"x" * 60_000)),
    Case("requests do not add up", "ARCHITECTURE 9.1", of_size(HEAD) * 3, ok(b"") * 3),
    Case("a head beyond the limit behind a good one", "RFC 9112 9.3.2", get("/1") + of_size(HEAD + 1), ok(PATH_INFO="/1") + refused(431)),
    # Request line
    Case("longest request line", "ARCHITECTURE 9.1", line_of(HEAD - len("\r\nHost: a\r\n\r\n")), ok(b"")),
    Case("request line that fits, but the head does not", "RFC 6585 5", line_of(HEAD - 5), refused(431, 414)),
    Case("request line beyond the limit", "RFC 9110 15.5.15", line_of(HEAD + 1), refused(414)),
    Case("request line far beyond the limit", "RFC 9110 15.5.15", line_of(HEAD * 50), refused(414)),
    Case("request line without end", "RFC 9110 15.5.15", b"GET /" + b"a" * HEAD * 3, refused(414)),
    Case("query beyond the limit", "RFC 9110 15.5.15", get("/?" + "a" * HEAD), refused(414)),
    Case("absolute-form beyond the limit", "RFC 9110 15.5.15", get("http://a/" + "a" * HEAD), refused(414)),
    Case("method without end", "RFC 9112 3", b"A" * HEAD * 3, refused(501)),
    # Fields
    Case("just as many fields as allowed", "ARCHITECTURE 9.1", fields(FIELDS), ok(HTTP_X_18="y")),
    Case("one field more", "RFC 6585 5", fields(FIELDS + 1), refused(431)),
    Case("many fields more", "RFC 6585 5", fields(FIELDS * 15), refused(431)),
    Case("dropped names count", "ARCHITECTURE 9.1", get("/", *["X_Y: z"] * FIELDS), refused(431)),
    Case("the same name counts each time", "ARCHITECTURE 9.1", get("/", *["X: y"] * FIELDS), refused(431)),
    Case("fields of several requests do not add up", "ARCHITECTURE 9.1", fields(FIELDS) * 3, ok(b"") * 3),
    # Body by length
    Case("body of just the limit", "ARCHITECTURE 9.1", post(b"x" * BODY), ok(b"x" * BODY)),
    Case("body of one byte more", "RFC 9110 15.5.14", post(b"x" * (BODY + 1)), refused(413)),
    Case("body far beyond the limit", "RFC 9110 15.5.14", post(b"x" * BODY * 20), refused(413)),
    Case(
        "body beyond the limit is refused before it comes",
        "RFC 9110 15.5.14",
        get("/", f"Content-Length: {BODY + 1}", method="POST"),
        refused(413),
    ),
    Case("GET with a body beyond the limit", "RFC 9110 15.5.14", get("/", f"Content-Length: {BODY + 1}"), refused(413)),
    Case("HEAD with a body beyond the limit", "RFC 9110 15.5.14", get("/", f"Content-Length: {BODY + 1}", method="HEAD"), refused(413)),
    Case(
        "a body beyond the limit behind a good request",
        "RFC 9112 9.3.2",
        get("/1") + post(b"x" * (BODY + 1)),
        ok(PATH_INFO="/1") + refused(413),
    ),
    Case("bodies do not add up", "ARCHITECTURE 9.1", post(b"x" * BODY) * 3, ok(b"x" * BODY) * 3),
    # Body in chunks
    Case(
        "chunks of just the limit",
        "ARCHITECTURE 9.1",
        chunked(chunks(b"x" * 60_000, b"x" * (BODY - 60_000))),
        ok(b"x" * BODY, CONTENT_LENGTH=str(BODY)),
    ),
    Case("chunks of one byte more", "RFC 9110 15.5.14", chunked(chunks(b"x" * BODY, b"x")), refused(413)),
    Case("one chunk of one byte more", "RFC 9110 15.5.14", chunked(chunks(b"x" * (BODY + 1))), refused(413)),
    Case("a chunk beyond the limit is refused before it comes", "RFC 9110 15.5.14", chunked(b"10001\r\n"), refused(413)),
    Case("a chunk beyond what is left is refused before it comes", "RFC 9110 15.5.14", chunked(b"1\r\nx\r\n10000\r\n"), refused(413)),
    Case(
        "chunks without end",
        "RFC 9110 15.5.14",
        chunked(b"400\r\n" + b"x" * 1024 + b"\r\n") + (b"400\r\n" + b"x" * 1024 + b"\r\n") * 200,
        refused(413),
    ),
    Case("chunk extensions within the limit", "RFC 9112 7.1.1", extended(5, b";a=b"), ok(b"xxxxx")),
    Case("one chunk extension beyond the limit", "RFC 9112 7.1.1", extended(1, b";a=" + b"b" * HEAD * 2), refused(400, 413, 431)),
    Case("many chunk extensions beyond the limit", "RFC 9112 7.1.1", extended(500, b";a=bbbbbbbbbbbbbbb"), refused(400, 413, 431)),
    Case("trailers within the limit", "RFC 9112 7.1.2", chunked(b"0\r\n" + b"X: y\r\n" * 10 + b"\r\n"), ok(b"")),
    Case("trailers beyond the limit", "RFC 6585 5", chunked(b"0\r\n" + b"X: yyyyyyyyyyyyyy\r\n" * 500 + b"\r\n"), refused(400, 413, 431)),
    Case("one trailer beyond the limit", "RFC 6585 5", chunked(b"0\r\nX: " + b"y" * HEAD * 2 + b"\r\n\r\n"), refused(400, 413, 431)),
    # Bodies beyond body_memory (1 KiB) lie in a temporary file; the app can't tell.
    Case("body of just body_memory", "ARCHITECTURE 9.2", post(b"x" * 1024), ok(b"x" * 1024)),
    Case("body of one byte more than body_memory", "ARCHITECTURE 9.2", post(b"x" * 1025), ok(b"x" * 1025)),
    Case("body in a file", "ARCHITECTURE 9.2", post(bytes(range(256)) * 40), ok(bytes(range(256)) * 40)),
    Case("chunked body in a file", "ARCHITECTURE 9.2", chunked(chunks(*[b"x" * 1000] * 30)), ok(b"x" * 30_000, CONTENT_LENGTH="30000")),
    # An answer may be as large as it likes
    Case("large answer to a small request", "ARCHITECTURE 5", get(play(start(), body=[{"of": ["x", 3_000_000]}])), ok(body=b"x" * 3_000_000)),
    Case(
        "large streamed answer",
        "ARCHITECTURE 5",
        get(play(start(), body=[{"of": ["x", 100_000]}] * 30, kind="generator")),
        ok(body=b"x" * 3_000_000),
    ),
]
CASES = [replace(case, server="small") for case in CASES]
