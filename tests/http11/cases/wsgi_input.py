"""wsgi.input in all its methods, for both framings, in memory and in a file (PEP 3333, Input and Error Streams).

Reading never goes beyond the body: what follows on the connection is another request.
"""

from collections.abc import Callable

from .case import Case, chunked, chunks, get, got, ok, play, post, reads, start

LINES = b"one\ntwo\r\n\nfour"
EACH = ["one\n", "two\r\n", "\n", "four"]
LONG = b"x" * 70_000 + b"\n" + b"y" * 70_000

# name, calls, results for LINES; calls that wsgiref.validate does not allow are marked
READS = [
    ("read of a size", [["read", 5]], ["one\nt"]),
    ("reads of a size", [["read", 5], ["read", 3], ["read", 99], ["read", 1]], ["one\nt", "wo\r", "\n\nfour", ""]),
    ("read of nothing", [["read", 0], ["read", 3]], ["", "one"]),
    ("read of just the body", [["read", len(LINES)], ["read", 1]], [LINES.decode(), ""]),
    ("read beyond the body", [["read", 10_000]], [LINES.decode()]),
    ("read far beyond the body", [["read", 1 << 40]], [LINES.decode()]),
    ("read of -1", [["read", -1], ["read", -1]], [LINES.decode(), ""]),
    ("readline", [["readline"]] * 6, [*EACH, "", ""]),
    ("readline of a size below the line's", [["readline", 2], ["readline", 2], ["readline", 2]], ["on", "e\n", "tw"]),
    ("readline of a size above the line's", [["readline", 99], ["readline", 99]], EACH[:2]),
    ("readline of just the line", [["readline", 4], ["readline", 5]], EACH[:2]),
    ("readline of nothing", [["readline", 0], ["readline"]], ["", "one\n"]),
    ("readline of -1", [["readline", -1]], ["one\n"]),
    ("readlines", [["readlines"], ["readlines"]], [EACH, []]),
    ("readlines with a hint", [["readlines", 10_000]], [EACH]),
    ("iteration", [["iter"], ["read", 1]], [EACH, ""]),
    ("iteration, one by one", [["next"], ["next"]], EACH[:2]),
    ("readline, then the rest", [["readline"], ["read", 99]], ["one\n", "two\r\n\nfour"]),
    ("read, then readline, then iteration", [["read", 1], ["readline"], ["iter"]], ["o", "ne\n", EACH[1:]]),
    ("iteration, then read", [["next"], ["read", 2], ["readlines"]], ["one\n", "tw", ["o\r\n", "\n", "four"]]),
]
FORBIDDEN_BY_VALIDATE = [
    ("read without a size", [["read"], ["read"]], [LINES.decode(), ""]),
    ("read of None", [["read", None]], [LINES.decode()]),
    ("readline of None", [["readline", None]], ["one\n"]),
    ("readlines of None", [["readlines", None]], [EACH]),
    ("readline, then read without a size", [["readline"], ["read"]], ["one\n", "two\r\n\nfour"]),
]
EMPTY_READS = [[["read", 5]], [["read", 0]], [["read", -1]], [["readline"]], [["readline", 3]]]


def cases(name: str, wrap: Callable[[str], bytes]) -> list[Case]:
    """All reads of a body that `wrap` makes a request of."""
    return [
        Case(f"{what}, {name}", "PEP 3333", wrap(reads(*calls, valid=valid)), ok(body=got(*results)))
        for valid, table in ((True, READS), (False, FORBIDDEN_BY_VALIDATE))
        for what, calls, results in table
    ]


CASES = [
    *cases("with a length", lambda target: post(LINES, target=target)),
    *cases("chunked", lambda target: chunked(chunks(LINES[:2], LINES[2:9], LINES[9:]), target=target)),
    *(Case(f"{calls[0]} of no body", "PEP 3333", get(reads(*calls), method="POST"), ok(body=got(""))) for calls in EMPTY_READS),
    *(Case(f"{calls[0]} of length zero", "PEP 3333", post(b"", target=reads(*calls)), ok(body=got(""))) for calls in EMPTY_READS),
    *(Case(f"{calls[0]} of no chunks", "PEP 3333", chunked(chunks(), target=reads(*calls)), ok(body=got(""))) for calls in EMPTY_READS),
    Case("read without a size of no body", "PEP 3333", get(reads(["read"], valid=False)), ok(body=got(""))),
    Case("readlines of no body", "PEP 3333", get(reads(["readlines"])), ok(body=got([]))),
    Case("iteration of no body", "PEP 3333", get(reads(["iter"])), ok(body=got([]))),
    Case("a line without end", "PEP 3333", post(b"line", target=reads(["readline"], ["readline"])), ok(body=got("line", ""))),
    Case("empty lines", "PEP 3333", post(b"\n\n\n", target=reads(["readlines"])), ok(body=got(["\n", "\n", "\n"]))),
    Case("a CR is no line end", "PEP 3333", post(b"a\rb\nc", target=reads(["readlines"])), ok(body=got(["a\rb\n", "c"]))),
    Case("every byte", "PEP 3333", post(bytes(range(256)), target=reads(["read", 256])), ok(body=got(bytes(range(256)).decode("latin-1")))),
    Case("a long line", "PEP 3333", post(LONG, target=reads(["readline"])), ok(body=got("x" * 70_000 + "\n"))),
    Case(
        "a long line in pieces",
        "PEP 3333",
        post(LONG, target=reads(["readline", 69_999], ["readline"], ["readline", 10])),
        ok(body=got("x" * 69_999, "x\n", "y" * 10)),
    ),
    Case(
        "a long line in a file",
        "PEP 3333",
        post(LONG[-60_000:] + b"\nz", target=reads(["readline"], ["read", 9])),
        ok(body=got("y" * 60_000 + "\n", "z")),
        server="small",
    ),
    Case(
        "reads of a body in a file",
        "PEP 3333",
        post(LINES * 100, target=reads(["read", 5], ["readline"], ["read", -1])),
        ok(body=got("one\nt", "wo\r\n", (LINES * 100)[9:].decode())),
        server="small",
    ),
    Case(
        "readlines of a body in a file",
        "PEP 3333",
        post(b"line\n" * 1000, target=reads(["readlines"])),
        ok(body=got(["line\n"] * 1000)),
        server="small",
    ),
    Case(
        "iteration of a chunked body in a file",
        "PEP 3333",
        chunked(chunks(*[b"line\n"] * 1000), target=reads(["iter"])),
        ok(body=got(["line\n"] * 1000)),
        server="small",
    ),
    Case(
        "read beyond a body in a file",
        "PEP 3333",
        post(b"x" * 2000, target=reads(["read", 1999], ["read", 99], ["read", 99])),
        ok(body=got("x" * 1999, "x", "")),
        server="small",
    ),
    Case(
        "what follows the body is not read",
        "PEP 3333",
        post(b"hello", target=reads(["read", 999], ["read", 999])) + get("/2"),
        ok(body=got("hello", "")) + ok(PATH_INFO="/2"),
    ),
    Case("what follows no body is not read", "PEP 3333", get(reads(["read", 999])) + get("/2"), ok(body=got("")) + ok(PATH_INFO="/2")),
    Case("half read", "PEP 3333", post(b"hello", target=reads(["read", 2])) + get("/2"), ok(body=got("he")) + ok(PATH_INFO="/2")),
    Case(
        "half read, chunked",
        "PEP 3333",
        chunked(chunks(b"hel", b"lo"), target=reads(["read", 2])) + get("/2"),
        ok(body=got("he")) + ok(PATH_INFO="/2"),
    ),
    Case(
        "half read from a file",
        "PEP 3333",
        post(b"x" * 9000, target=reads(["read", 2])) + get("/2"),
        ok(body=got("xx")) + ok(PATH_INFO="/2"),
        server="small",
    ),
    Case(
        "read while answering",
        "PEP 3333",
        post(b"hello", target=play(start(), body=[["read", 2], "-", ["read", 9]], kind="generator")),
        ok(body=b"he-llo"),
    ),
]
