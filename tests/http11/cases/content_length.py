"""Bodies framed by Content-Length: 1*DIGIT and nothing else (RFC 9110 8.6, RFC 9112 6.2 and 6.3).

Two readers that disagree about one Content-Length disagree about where the next request begins: request smuggling.
"""

from .case import BAD, EMPTY, EOF, Case, Step, dropped, get, ok, post, refused

BINARY = bytes(range(256))
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"


def length(*values: str, body: bytes = b"hello") -> bytes:
    return get("/", *(f"Content-Length:{value}" for value in values), method="POST") + body


CASES = [
    Case("a body", "RFC 9112 6.2", post(b"hello"), ok(b"hello", CONTENT_LENGTH="5")),
    Case("a body of every byte", "RFC 9112 6.2", post(BINARY), ok(BINARY)),
    Case("a body that looks like a request", "RFC 9112 6.2", post(SMUGGLED), ok(SMUGGLED)),
    Case("a body that looks like chunks", "RFC 9112 6.2", post(b"5\r\nhello\r\n0\r\n\r\n"), ok(b"5\r\nhello\r\n0\r\n\r\n")),
    Case("a body of line ends", "RFC 9112 6.2", post(b"\r\n\r\n"), ok(b"\r\n\r\n")),
    Case("a body that starts with a line end", "RFC 9112 6.2", post(b"\r\nhello"), ok(b"\r\nhello")),
    Case("a body that arrives late", "RFC 9112 6.2", (post()[:-5], post()[-5:]), ok(b"hello")),
    Case("head and body meet in one write", "RFC 9112 6.2", (post()[:-6], post()[-6:]), ok(b"hello")),
    Case("a large body", "RFC 9112 6.2", post(b"0123456789" * 30_000), ok(b"0123456789" * 30_000)),
    Case("length zero", "RFC 9112 6.2", post(b""), ok(b"", CONTENT_LENGTH="0")),
    Case("no length and no body", "RFC 9112 6.3", get(method="POST"), ok(b"", CONTENT_LENGTH=EMPTY)),
    Case("PUT without length", "RFC 9112 6.3", get(method="PUT"), ok(b"")),
    Case(
        "without a length what follows is a request",
        "RFC 9112 6.3",
        get("/1", method="POST") + get("/2"),
        ok(b"", PATH_INFO="/1") + ok(PATH_INFO="/2"),
    ),
    Case("without a length what follows is no body", "RFC 9112 6.3", get(method="POST") + b"hello\r\n\r\n", ok(b"") + BAD),
    Case("whitespace around the number", "RFC 9112 5.1", length(" \t 5 \t"), ok(b"hello", CONTENT_LENGTH="5")),
    Case("no whitespace", "RFC 9112 5.1", length("5"), ok(b"hello")),
    Case("leading zeros", "RFC 9110 8.6", length(" 005"), ok(b"hello")),
    Case("several zeros", "RFC 9110 8.6", length(" 000", body=b""), ok(b"")),
    Case("no octal", "RFC 9110 8.6", length(" 010", body=b"0123456789"), ok(b"0123456789")),
    Case(
        "content-length in lower case", "RFC 9110 5.1", get("/", "content-length: 2", method="POST") + b"hi", ok(b"hi", CONTENT_LENGTH="2")
    ),
    Case("GET with a body", "RFC 9110 9.3.1", post(b"hello", method="GET"), ok(b"hello", REQUEST_METHOD="GET")),
    Case("DELETE with a body", "RFC 9110 9.3.5", post(b"hello", method="DELETE"), ok(b"hello")),
    Case("OPTIONS with a body", "RFC 9110 9.3.7", post(b"hello", method="OPTIONS"), ok(b"hello")),
    Case("HEAD with a body", "RFC 9110 9.3.2", post(b"hello", method="HEAD"), ok()),
    Case("GET with a body that looks like a request", "RFC 9112 6.3", post(SMUGGLED, method="GET"), ok(SMUGGLED)),
    Case("HEAD with a body that looks like a request", "RFC 9112 6.3", post(SMUGGLED, method="HEAD"), ok()),
    Case("OPTIONS * with a body that looks like a request", "RFC 9112 6.3", post(SMUGGLED, method="OPTIONS", target="*"), ok(SMUGGLED)),
    Case("HTTP/1.0 with a body", "RFC 9112 6.2", post(b"hello", version="HTTP/1.0"), ok(b"hello", then=EOF)),
    Case("HTTP/1.0 POST without length", "RFC 9112 6.3", get(method="POST", version="HTTP/1.0"), ok(b"", then=EOF)),
    # Not a number
    *(
        Case(f"length {value!r}", "RFC 9112 6.3", length(" " + value), BAD)
        for value in (
            *(
                "+5",
                "-5",
                "-0",
                "-1",
                "5.0",
                "5,",
                ",5",
                "0x5",
                "0o5",
                "5_0",
                "1_0",
                "5e0",
                "five",
                "5 5",
                "5\t5",
                "5;",
                "'5'",
                '"5"',
                "(5)",
            ),
            *("5 hello", "5h", "h5", "\xb2", "\xd9\xa5", "NaN", "Infinity", "5\x0b", "\x0c5", "0b101", "5L", "%35", "- 5"),
        )
    ),
    Case("empty length", "RFC 9112 6.3", length(""), BAD),
    Case("length of whitespace", "RFC 9112 6.3", length(" \t "), BAD),
    Case("empty length and no body", "RFC 9112 6.3", length("", body=b""), BAD),
    Case("length with NUL", "RFC 9110 5.5", length(" 5\0"), BAD),
    Case("length with a bare CR", "RFC 9110 5.5", length(" 5\r"), BAD),
    Case("length folded", "RFC 9112 5.2", length("\r\n 5"), BAD),
    Case("space before the colon of Content-Length", "RFC 9112 5.1", get("/", "Content-Length : 5", method="POST") + b"hello", BAD),
    Case("space inside Content-Length", "RFC 9112 5.1", get("/", "Content- Length: 5", method="POST") + b"hello", BAD),
    # Too large for an integer, of whatever width
    Case("length 2^31 of 32 bits", "RFC 9110 8.6", length(" 4294967301"), refused(413)),
    Case("length 2^63", "RFC 9110 8.6", length(" 9223372036854775808"), refused(400, 413)),
    Case("length 2^64 and 5", "RFC 9110 8.6", length(" 18446744073709551621"), refused(400, 413)),
    Case("length of 100 digits", "RFC 9110 8.6", length(" " + "9" * 100), refused(400, 413)),
    Case("length of 5000 digits", "RFC 9110 8.6", length(" " + "9" * 5000), refused(400, 413, 431)),
    Case("length with 30 zeros", "RFC 9110 8.6", length(" " + "0" * 30 + "5"), ok(b"hello", CONTENT_LENGTH="5")),
    Case("length with 5000 zeros", "RFC 9110 8.6", length(" " + "0" * 5000 + "5"), ok(b"hello", CONTENT_LENGTH="5")),
    Case("length of 5000 zeros", "RFC 9110 8.6", length(" " + "0" * 5000, body=b""), ok(b"", CONTENT_LENGTH="0")),
    Case("length of 16 digits behind zeros", "RFC 9110 8.6", length(" 00001000000000000000"), refused(413)),
    # More than one
    Case("two lengths", "RFC 9112 6.3", length("5", "6"), BAD),
    Case("the same length twice", "RFC 9112 6.3", length("5", "5"), BAD),
    Case("two lengths, one zero", "RFC 9112 6.3", length("0", "5"), BAD),
    Case("two zero lengths", "RFC 9112 6.3", length("0", "0", body=b""), BAD),
    Case("two lengths apart", "RFC 9112 6.3", get("/", "Content-Length: 5", "X: y", "content-length: 6", method="POST") + b"hello", BAD),
    Case("two lengths, the second bad", "RFC 9112 6.3", length("5", "x"), BAD),
    Case("two lengths, the second empty", "RFC 9112 6.3", length("5", ""), BAD),
    Case("list of different lengths", "RFC 9110 8.6", length(" 5, 6"), BAD),
    Case("list of the same length", "RFC 9110 8.6", length(" 5, 5"), BAD),
    Case("list without spaces", "RFC 9110 8.6", length(" 5,5"), BAD),
    Case(
        "two lengths in HTTP/1.0",
        "RFC 9112 6.3",
        get("/", "Content-Length: 5", "Content-Length: 5", method="POST", version="HTTP/1.0") + b"hello",
        BAD,
    ),
    # Cut short: the message is incomplete, the app must not see it (RFC 9112 8)
    Case("half a body", "RFC 9112 8", (post()[:-2], Step.END), dropped(400, 408)),
    Case("no body at all", "RFC 9112 8", (post()[:-5], Step.END), dropped(400, 408)),
    Case("half a head", "RFC 9112 8", (get()[:-8], Step.END), dropped(400, 408)),
    Case("a head without its empty line", "RFC 9112 8", (get()[:-2], Step.END), dropped(400, 408)),
    Case("half a request line", "RFC 9112 8", (b"GET / HT", Step.END), dropped(400, 408)),
    Case("no request", "RFC 9112 8", (Step.END,), dropped(400, 408), modes=("whole",)),
    Case("only an empty line", "RFC 9112 8", (b"\r\n", Step.END), dropped(400, 408)),
    Case("half closed behind a whole request", "RFC 9112 9.6", (get(), Step.END), ok(b"", then=EOF)),
    Case("half closed behind a whole body", "RFC 9112 9.6", (post(), Step.END), ok(b"hello", then=EOF)),
    Case(
        "half closed behind two requests",
        "RFC 9112 9.6",
        (get("/1") + get("/2"), Step.END),
        ok(PATH_INFO="/1") + ok(PATH_INFO="/2", then=EOF),
    ),
    Case(
        "half closed behind one and a half", "RFC 9112 9.6", (get("/1") + get("/2")[:-9], Step.END), ok(PATH_INFO="/1") + dropped(400, 408)
    ),
]
