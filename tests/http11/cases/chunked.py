"""The chunked coding of request bodies: sizes, extensions, data, trailers (RFC 9112 7.1; RFC 9110 6.5 for trailers)."""

from .case import BAD, EOF, Case, Step, chunked, chunks, dropped, get, ok, refused, tolerated

LAST = b"0\r\n\r\n"
BINARY = bytes(range(256)) * 3


def sized(size: bytes) -> bytes:
    """hello in one chunk whose size line is this."""
    return chunked(size + b"\r\nhello\r\n" + LAST)


def trailed(*lines: bytes) -> bytes:
    return chunked(b"5\r\nhello\r\n0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


CASES = [
    Case(
        "one chunk", "RFC 9112 7.1", chunked(chunks(b"hello")), ok(b"hello", CONTENT_LENGTH="5", environ={"wsgi.input_terminated": "True"})
    ),
    Case("no chunk", "RFC 9112 7.1", chunked(LAST), ok(b"", CONTENT_LENGTH="0")),
    Case("several chunks", "RFC 9112 7.1", chunked(chunks(b"he", b"l", b"lo")), ok(b"hello", CONTENT_LENGTH="5")),
    Case("chunks of one byte", "RFC 9112 7.1", chunked(chunks(*(b"%c" % byte for byte in b"hello world"))), ok(b"hello world")),
    Case("every byte", "RFC 9112 7.1", chunked(chunks(BINARY)), ok(BINARY)),
    Case("data of line ends", "RFC 9112 7.1", chunked(chunks(b"\r\n\r\n", b"\r\n")), ok(b"\r\n\r\n\r\n")),
    Case("data that looks like the end", "RFC 9112 7.1", chunked(chunks(LAST, b"0\r\n")), ok(LAST + b"0\r\n")),
    Case("data that looks like a request", "RFC 9112 7.1", chunked(chunks(get("/smuggled"))), ok(get("/smuggled"))),
    Case("hexadecimal size in lower case", "RFC 9112 7.1", chunked(b"1a\r\n" + b"x" * 26 + b"\r\n" + LAST), ok(b"x" * 26)),
    Case("hexadecimal size in upper case", "RFC 9112 7.1", chunked(b"1A\r\n" + b"x" * 26 + b"\r\n" + LAST), ok(b"x" * 26)),
    Case("hexadecimal size of mixed case", "RFC 9112 7.1", chunked(b"aB\r\n" + b"x" * 171 + b"\r\n" + LAST), ok(b"x" * 171)),
    Case("size with leading zeros", "RFC 9112 7.1", sized(b"0005"), ok(b"hello")),
    Case("size with 40 leading zeros", "RFC 9112 7.1", sized(b"0" * 40 + b"5"), ok(b"hello")),
    Case("size with leading zeros and an extension", "RFC 9112 7.1.1", sized(b"0" * 40 + b"5;a=b"), ok(b"hello")),
    Case("last chunk of 40 zeros", "RFC 9112 7.1", chunked(b"5\r\nhello\r\n" + b"0" * 40 + b"\r\n\r\n"), ok(b"hello")),
    Case("last chunk of several zeros", "RFC 9112 7.1", chunked(b"5\r\nhello\r\n000\r\n\r\n"), ok(b"hello")),
    Case("a large chunk", "RFC 9112 7.1", chunked(chunks(b"0123456789" * 30_000)), ok(b"0123456789" * 30_000)),
    Case("many chunks", "RFC 9112 7.1", chunked(chunks(*[b"0123456789"] * 3000)), ok(b"0123456789" * 3000)),
    Case("chunks that arrive late", "RFC 9112 7.1", (chunked(b""), b"5\r\n", b"hello\r\n", b"0\r\n", b"\r\n"), ok(b"hello")),
    Case("two chunked requests", "RFC 9112 7.1", chunked(chunks(b"one")) + chunked(chunks(b"two")), ok(b"one") + ok(b"two")),
    # Extensions
    *(
        Case(f"extension {extension.decode()!r}", "RFC 9112 7.1.1", sized(b"5" + extension), ok(b"hello"))
        for extension in (b";a", b";a=b", b";a=b;c=d", b';a="b c"', b';a="b;c"', b';a="\\""', b';a=""', b";a;b;c", b";!#$%&'*+-.^_`|~=1", b';a="\t ~"')
    ),
    *(
        Case(f"extension with bad whitespace {extension.decode()!r}", "RFC 9110 5.6.3", sized(b"5" + extension), ok(b"hello"))
        for extension in (b" ;a", b"; a", b" ; a = b", b"\t;\ta\t=\tb")
    ),
    Case("extension with obs-text in quotes", "RFC 9110 5.6.4", sized(b'5;a="\x80\xff"'), ok(b"hello")),
    Case("extension of the last chunk", "RFC 9112 7.1.1", chunked(b"5\r\nhello\r\n0;a=b\r\n\r\n"), ok(b"hello")),
    Case("long extension", "RFC 9112 7.1.1", sized(b"5;a=" + b"b" * 500), ok(b"hello")),
    *(
        Case(f"bad extension {extension!r}", "RFC 9112 7.1.1", sized(b"5" + extension), BAD)
        for extension in (
            b";",
            b";;",
            b";;a",
            b";a=",
            b";=b",
            b";=",
            b";a==b",
            b';a="b',
            b';a="b"c',
            b";a=b c",
            b";a,b",
            b";a[x",
            b";a=(b)",
            b";\xe9",
        )
    ),
    *(
        Case(f"extension with {name}", "RFC 9112 2.2", sized(b"5;a" + bad + b"b"), BAD)
        for name, bad in (("bare LF", b"\n"), ("bare CR", b"\r"), ("NUL", b"\0"), ("a control character", b"\x01"), ("DEL", b"\x7f"))
    ),
    Case("bare LF in a quoted extension", "RFC 9112 2.2", sized(b'5;a="b\nc"'), BAD),
    Case("line end in a quoted extension", "RFC 9112 2.2", sized(b'5;a="b\r\nc"'), BAD),
    # Sizes
    *(
        Case(f"size {size.decode('latin-1')!r}", "RFC 9112 7.1", sized(size), BAD)
        for size in (
            *(
                b"0x5",
                b"0X5",
                b"x5",
                b"5x",
                b"5h",
                b"+5",
                b"-5",
                b"-1",
                b" 5",
                b"\t5",
                b"5 ",
                b"5\t",
                b"5 5",
                b"5_0",
                b"0_5",
                b"5.0",
                b"5,",
                b'"5"',
            ),
            *(b"g", b"five", b"", b" ", b";a", b"\xb2", b"5\0", b"\x0b5", b"5\x0b", b"--5", b"5-", b"$5", b"5\xa0"),
        )
    ),
    Case("size of 16 digits", "RFC 9112 7.1", sized(b"FFFFFFFFFFFFFFFF"), refused(400, 413)),
    Case("size 2^64 and 5", "RFC 9112 7.1", sized(b"10000000000000005"), refused(400, 413)),
    Case("size 2^63", "RFC 9112 7.1", sized(b"8000000000000000"), refused(400, 413)),
    Case("size 2^32 and 5", "RFC 9112 7.1", sized(b"100000005"), refused(413)),
    Case("size of 100 digits", "RFC 9112 7.1", sized(b"f" * 100), refused(400, 413)),
    Case("size of 4000 digits", "RFC 9112 7.1", sized(b"f" * 4000), refused(413)),
    Case("size with 10000 zeros", "RFC 9112 7.1", sized(b"0" * 10_000 + b"5"), refused(400, 413, 431)),
    Case("size line without end", "RFC 9112 7.1", chunked(b"5;a=" + b"b" * 100_000), refused(400, 413, 431)),
    # Ends of lines
    Case("bare LF behind the size", "RFC 9112 2.2", chunked(b"5\nhello\r\n" + LAST), BAD),
    Case("bare CR behind the size", "RFC 9112 2.2", chunked(b"5\rhello\r\n" + LAST), BAD),
    Case("CR CR LF behind the size", "RFC 9112 2.2", chunked(b"5\r\r\nhello\r\n" + LAST), BAD),
    Case("bare LF behind the data", "RFC 9112 7.1", chunked(b"5\r\nhello\n" + LAST), BAD),
    Case("bare CR behind the data", "RFC 9112 7.1", chunked(b"5\r\nhello\r" + LAST), BAD),
    Case("nothing behind the data", "RFC 9112 7.1", chunked(b"5\r\nhello" + LAST), BAD),
    Case("two bytes behind the data", "RFC 9112 7.1", chunked(b"5\r\nhelloXX" + LAST), BAD),
    Case("CR and another byte behind the data", "RFC 9112 7.1", chunked(b"5\r\nhello\rX" + LAST), BAD),
    Case("data longer than its size", "RFC 9112 7.1", chunked(b"3\r\nhello\r\n" + LAST), BAD),
    Case("data shorter than its size", "RFC 9112 7.1", chunked(b"7\r\nhello\r\n" + LAST), BAD),
    Case("bare LF behind the last size", "RFC 9112 2.2", chunked(b"5\r\nhello\r\n0\n\r\n"), BAD),
    Case("bare LF for the last line", "RFC 9112 2.2", chunked(b"5\r\nhello\r\n0\r\n\n"), BAD),
    Case("bare LFs at the end", "RFC 9112 2.2", chunked(b"5\r\nhello\r\n0\n\n"), BAD),
    Case("bare LFs all through", "RFC 9112 2.2", chunked(b"5\nhello\n0\n\n"), BAD),
    Case("bare CR for the last line", "RFC 9112 2.2", chunked(b"5\r\nhello\r\n0\r\n\rX"), BAD),
    Case("an empty line before the first size", "RFC 9112 7.1", chunked(b"\r\n5\r\nhello\r\n" + LAST), BAD),
    Case("an empty line between chunks", "RFC 9112 7.1", chunked(b"5\r\nhello\r\n\r\n" + LAST), BAD),
    Case("no chunks but the body itself", "RFC 9112 7.1", chunked(b"hello\r\n"), BAD),
    Case("no last line, then a request", "RFC 9112 7.1", chunked(b"5\r\nhello\r\n0\r\n") + b"GET /smuggled HTTP/1.1\r\n\r\n", BAD),
    # Trailers are checked and dropped (ARCHITECTURE 9.5; RFC 9110 6.5.1)
    Case("a trailer", "RFC 9112 7.1.2", trailed(b"X-Trailer: y"), ok(b"hello", HTTP_X_TRAILER=None)),
    Case("two trailers", "RFC 9112 7.1.2", trailed(b"X-A: y", b"X-B: z"), ok(b"hello", HTTP_X_A=None, HTTP_X_B=None)),
    Case("an empty trailer", "RFC 9112 7.1.2", trailed(b"X-A:"), ok(b"hello")),
    Case("a trailer of odd characters", "RFC 9112 7.1.2", trailed(b"X-A: \x80\t\xff"), ok(b"hello")),
    Case(
        "an announced trailer",
        "RFC 9110 6.6.2",
        chunked(b"0\r\nX-A: y\r\n\r\n", "Trailer: X-A"),
        ok(b"", HTTP_X_A=None, HTTP_TRAILER="X-A"),
    ),
    Case(
        "a trailer that names a field of the head",
        "RFC 9110 6.5.1",
        chunked(b"0\r\nX-A: evil\r\n\r\n", "X-A: good"),
        ok(b"", HTTP_X_A="good"),
    ),
    Case("trailer Content-Length", "RFC 9110 6.5.1", trailed(b"Content-Length: 50"), tolerated(seen=b"hello", CONTENT_LENGTH="5")),
    Case("trailer Transfer-Encoding", "RFC 9110 6.5.1", trailed(b"Transfer-Encoding: chunked"), tolerated(seen=b"hello")),
    Case("trailer Host", "RFC 9110 6.5.1", trailed(b"Host: evil"), tolerated(seen=b"hello", HTTP_HOST="a")),
    Case("trailer Authorization", "RFC 9110 6.5.1", trailed(b"Authorization: evil"), tolerated(seen=b"hello", HTTP_AUTHORIZATION=None)),
    Case("trailer Connection", "RFC 9110 6.5.1", trailed(b"Connection: close"), tolerated(seen=b"hello")),
    Case(
        "trailer X-Forwarded-For",
        "RFC 9110 6.5.1",
        trailed(b"X-Forwarded-For: 1.2.3.4"),
        tolerated(seen=b"hello", HTTP_X_FORWARDED_FOR=None),
    ),
    *(
        Case(f"bad trailer {line!r}", "RFC 9112 7.1.2", trailed(line), BAD)
        for line in (
            b"X",
            b": y",
            b"X : y",
            b" X: y",
            b"X Y: z",
            b"X: a\0b",
            b"X: a\rb",
            b"X: a\nb",
            b"X[: y",
            b"\xe9: y",
            b"X: a\x01",
            b"X: y\r\n z",
            b"\0",
        )
    ),
    Case("bare LF behind a trailer", "RFC 9112 2.2", chunked(b"0\r\nX: y\n\r\n"), BAD),
    Case("bare LF for the line behind the trailers", "RFC 9112 2.2", chunked(b"0\r\nX: y\r\n\n"), BAD),
    Case("a request in the trailers", "RFC 9112 7.1.2", trailed(b"GET /smuggled HTTP/1.1", b"Host: evil"), BAD),
    Case("endless trailers", "RFC 9110 5.4", chunked(b"0\r\n" + b"X: yyyyyyyyyyyy\r\n" * 20_000), refused(400, 413, 431)),
    # Cut short
    Case("no last chunk", "RFC 9112 8", (chunked(b"5\r\nhello\r\n"), Step.END), dropped(400, 408)),
    Case("cut in the data", "RFC 9112 8", (chunked(b"5\r\nhel"), Step.END), dropped(400, 408)),
    Case("cut in the size", "RFC 9112 8", (chunked(b"5\r\nhello\r\n0"), Step.END), dropped(400, 408)),
    Case("cut in the last line", "RFC 9112 8", (chunked(b"5\r\nhello\r\n0\r\n"), Step.END), dropped(400, 408)),
    Case("cut in the trailers", "RFC 9112 8", (chunked(b"0\r\nX: y\r\n"), Step.END), dropped(400, 408)),
    Case("half closed behind the last line", "RFC 9112 9.6", (chunked(chunks(b"hello")), Step.END), ok(b"hello", then=EOF)),
]
