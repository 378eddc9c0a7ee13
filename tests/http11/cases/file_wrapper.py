"""wsgi.file_wrapper: a file from where it stands to its end, or to Content-Length, by sendfile or by reading (PEP 3333).

The files hold the visible characters over and over; `reader` stands for an object that has read() and close() and nothing else.
"""

from .case import ANY, CUT, EOF, TOKEN, Case, get, ok, play, sized, start

PEP = "PEP 3333"
PATTERN = bytes(range(33, 127)) * 1000
ONCE = (b"/count?" + TOKEN, b"1")


def file(
    size: int, *fields: tuple[str, str], status: str = "200 OK", valid: bool = False, name: str = TOKEN.decode(), **how: object
) -> str:
    return play(start(status, *fields), kind="file", file={"size": size, **how}, valid=valid, token=name)


def length(size: int) -> tuple[str, str]:
    return "Content-Length", str(size)


CASES = [
    Case("a file", PEP, get(file(500)), ok(body=PATTERN[:500]), probe=ONCE),
    Case("a file with a length", PEP, get(file(500, length(500))), ok(body=PATTERN[:500], fields=sized(500)), probe=ONCE),
    Case("a large file", PEP, get(file(90_000)), ok(body=PATTERN[:90_000]), probe=ONCE),
    Case("a large file with a length", PEP, get(file(90_000, length(90_000))), ok(body=PATTERN[:90_000]), probe=ONCE),
    Case("an empty file", PEP, get(file(0)), ok(body=b""), probe=ONCE),
    Case("an empty file with a length", PEP, get(file(0, length(0))), ok(body=b"", fields=sized(0)), probe=ONCE),
    Case("a file of one byte", PEP, get(file(1)), ok(body=b"!"), probe=ONCE),
    Case("from where the file stands", PEP, get(file(500, seek=100)), ok(body=PATTERN[100:500]), probe=ONCE),
    Case("from where the file stands, with a length", PEP, get(file(500, length(400), seek=100)), ok(body=PATTERN[100:500]), probe=ONCE),
    Case("from the end of the file", PEP, get(file(500, seek=500)), ok(body=b""), probe=ONCE),
    Case("from beyond the end of the file", PEP, get(file(500, seek=600)), ok(body=b""), probe=ONCE),
    Case(
        "a part of the file", PEP, get(file(500, length(50), seek=100)), ok(body=PATTERN[100:150], fields=sized(50), then=ANY), probe=ONCE
    ),
    Case(
        "a part of a large file", PEP, get(file(90_000, length(70_000), seek=10_000)), ok(body=PATTERN[10_000:80_000], then=ANY), probe=ONCE
    ),
    Case("a file shorter than its length", PEP, get(file(500, length(600))), ok(body=PATTERN[:500], then=CUT), probe=ONCE),
    Case("a block size", PEP, get(file(500, block=7)), ok(body=PATTERN[:500]), probe=ONCE),
    Case("a block size beyond the file", PEP, get(file(500, length(500), block=1 << 20)), ok(body=PATTERN[:500]), probe=ONCE),
    Case("a file in memory", PEP, get(file(500, make="memory")), ok(body=PATTERN[:500]), probe=ONCE),
    Case(
        "a file in memory with a length",
        PEP,
        get(file(500, length(500), make="memory")),
        ok(body=PATTERN[:500], fields=sized(500)),
        probe=ONCE,
    ),
    Case("a file in memory, in blocks", PEP, get(file(500, make="memory", block=100)), ok(body=PATTERN[:500]), probe=ONCE),
    Case(
        "a part of a file in memory",
        PEP,
        get(file(500, length(50), make="memory", seek=100)),
        ok(body=PATTERN[100:150], then=ANY),
        probe=ONCE,
    ),
    Case("a reader", PEP, get(file(500, make="reader")), ok(body=PATTERN[:500]), probe=ONCE),
    Case("a reader of large blocks", PEP, get(file(90_000, make="reader", block=65536)), ok(body=PATTERN[:90_000]), probe=ONCE),
    Case("under wsgiref.validate", PEP, get(file(90_000, valid=True)), ok(body=PATTERN[:90_000]), probe=ONCE),
    Case("iterated by the app", PEP, get(file(500, iterated=True)), ok(body=PATTERN[:500])),
    Case("a file to HTTP/1.0", PEP, get(file(90_000), version="HTTP/1.0"), ok(body=PATTERN[:90_000], then=EOF), probe=ONCE),
    Case(
        "a file with a length to HTTP/1.0",
        PEP,
        get(file(500, length(500)), version="HTTP/1.0"),
        ok(body=PATTERN[:500], fields=sized(500), then=EOF),
        probe=ONCE,
    ),
    Case(
        "a file behind a write",
        PEP,
        get(play(start(), ["write", "first "], kind="file", file={"size": 500}, valid=False)),
        ok(body=b"first " + PATTERN[:500]),
        probe=ONCE,
    ),
    Case("a file for HEAD", PEP, get(file(500), method="HEAD"), ok(body=b""), probe=ONCE),
    Case("a file with a length for HEAD", PEP, get(file(500, length(500)), method="HEAD"), ok(body=b"", fields=sized(500)), probe=ONCE),
    Case(
        "a file for 304",
        PEP,
        get(play(start("304 No", ctype=None), kind="file", file={"size": 500}, valid=False)),
        ok(status=304),
        probe=ONCE,
    ),
    Case("a file with close", PEP, get(file(90_000), "Connection: close"), ok(body=PATTERN[:90_000]).closing, probe=ONCE),
    Case(
        "206",
        "RFC 9110 15.3.7",
        get(file(500, length(10), ("Content-Range", "bytes 0-9/500"), status="206 Part")),
        ok(status=206, body=PATTERN[:10], then=ANY),
        probe=ONCE,
    ),
    Case("several files", PEP, b"".join(get(file(90_000, name=f"@TOKEN@{n}")) for n in range(3)), ok(body=PATTERN[:90_000]) * 3),
    Case("an unbuffered file", PEP, get(file(500, make="unbuffered")), ok(body=PATTERN[:500]), probe=ONCE),
    Case("an object around a file", PEP, get(file(5000, make="named")), ok(body=PATTERN[:5000]), probe=ONCE),
    # A buffered file has read ahead: its descriptor stands elsewhere than it does.
    Case("a file that was read from", PEP, get(file(90_000, read=100)), ok(body=PATTERN[100:90_000]), probe=ONCE),
    Case("an unbuffered file that was read from", PEP, get(file(500, read=100, make="unbuffered")), ok(body=PATTERN[100:500]), probe=ONCE),
    Case("a file in memory that was read from", PEP, get(file(500, read=100, make="memory")), ok(body=PATTERN[100:500]), probe=ONCE),
    Case("a pipe", PEP, get(file(5000, make="pipe")), ok(body=PATTERN[:5000]), probe=ONCE),
    Case("a pipe with a length", PEP, get(file(5000, length(5000), make="pipe")), ok(body=PATTERN[:5000], fields=sized(5000)), probe=ONCE),
    # What read() gives counts, not what is behind fileno().
    Case("a compressed file", PEP, get(file(5000, make="gzip")), ok(body=PATTERN[:5000]), probe=ONCE),
    Case(
        "a compressed file with a length",
        PEP,
        get(file(5000, length(5000), make="gzip")),
        ok(body=PATTERN[:5000], fields=sized(5000)),
        probe=ONCE,
    ),
    Case("a file, then a list", PEP, get(file(500, length(500))) + get("/2"), ok(body=PATTERN[:500]) + ok(PATH_INFO="/2")),
    Case("without start_response", PEP, get(play(kind="file", file={"size": 500}, valid=False)), ok(status=500, then=ANY), probe=ONCE),
]
