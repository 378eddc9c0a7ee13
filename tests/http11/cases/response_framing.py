"""How the end of a response is told (RFC 9112 6.3): Content-Length, chunked, by closing, or by a status that has no body."""

from .case import (
    ANY,
    CHUNKED,
    CUT,
    EOF,
    FAILED,
    GATE,
    Case,
    Received,
    Step,
    get,
    ok,
    play,
    sized,
    start,
)

NO_FRAMING = {"content-length": None, "transfer-encoding": None}
OLD = "HTTP/1.0"


def bare(status: str, *fields: tuple[str, str], body: object = (), valid: bool = True, **more: object) -> str:
    return play(start(status, *fields, ctype=None), body=body, valid=valid, **more)


CASES = [
    Case("a list of one has its length", "PEP 3333", get(play(start(), body=["hello"], valid=False)), ok(body=b"hello", fields=sized(5))),
    Case(
        "a tuple of one has its length",
        "PEP 3333",
        get(play(start(), body=["hello"], kind="tuple", valid=False)),
        ok(body=b"hello", fields=sized(5)),
    ),
    Case("a list of one empty piece", "PEP 3333", get(play(start(), body=[""], valid=False)), ok(body=b"", fields=sized(0))),
    Case("an empty list", "PEP 3333", get(play(start(), valid=False)), ok(body=b"")),
    Case(
        "an object of length one has its length", "PEP 3333", get(play(start(), body=["hello"], kind="sized", length=1)), ok(body=b"hello")
    ),
    Case("a list of two", "PEP 3333", get(play(start(), body=["he", "llo"], valid=False)), ok(body=b"hello")),
    Case(
        "a generator is chunked",
        "RFC 9112 7.1",
        get(play(start(), body=["he", "llo"], kind="generator")),
        ok(body=b"hello", fields=CHUNKED),
    ),
    Case("an empty generator", "RFC 9112 7.1", get(play(start(), kind="generator")), ok(body=b"")),
    Case("a generator of empty pieces", "RFC 9112 7.1", get(play(start(), body=["", "", ""], kind="generator")), ok(body=b"")),
    Case(
        "an empty piece does not end the chunks",
        "RFC 9112 7.1",
        get(play(start(), body=["he", "", "llo", ""], kind="generator")),
        ok(body=b"hello", fields=CHUNKED),
    ),
    Case("many pieces", "RFC 9112 7.1", get(play(start(), body=["x"] * 500, kind="generator")), ok(body=b"x" * 500, fields=CHUNKED)),
    Case(
        "pieces of many sizes",
        "RFC 9112 7.1",
        get(play(start(), body=[{"of": ["x", n]} for n in (1, 9, 15, 16, 255, 256, 65535, 65536)], kind="generator")),
        ok(body=b"x" * 131623, fields=CHUNKED),
    ),
    Case(
        "pieces that look like chunks",
        "RFC 9112 7.1",
        get(play(start(), body=["0\r\n\r\n", "\r\n"], kind="generator")),
        ok(body=b"0\r\n\r\n\r\n", fields=CHUNKED),
    ),
    Case(
        "the app's length with a generator",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "5")), body=["he", "llo"], kind="generator")),
        ok(body=b"hello", fields=sized(5)),
    ),
    Case(
        "the app's length in another case",
        "RFC 9110 5.1",
        get(play(start("200 OK", ("content-LENGTH", "5")), body=["hello"])),
        ok(body=b"hello", fields=sized(5)),
    ),
    Case("length zero", "RFC 9110 8.6", get(play(start("200 OK", ("Content-Length", "0")))), ok(body=b"", fields=sized(0))),
    Case(
        "large list of one",
        "RFC 9112 6.2",
        get(play(start(), body=[{"of": ["x", 1_000_000]}], valid=False)),
        ok(body=b"x" * 1_000_000, fields=sized(1_000_000)),
    ),
    # HTTP/1.0
    Case(
        "list of one to HTTP/1.0",
        "RFC 9112 6.3",
        get(play(start(), body=["hello"], valid=False), version=OLD),
        ok(body=b"hello", fields=sized(5), then=EOF),
    ),
    Case(
        "generator to HTTP/1.0",
        "RFC 9112 6.1",
        get(play(start(), body=["he", "llo"], kind="generator"), version=OLD),
        ok(body=b"hello", fields=NO_FRAMING, then=EOF),
    ),
    Case(
        "empty generator to HTTP/1.0",
        "RFC 9112 6.3",
        get(play(start(), kind="generator"), version=OLD),
        ok(body=b"", fields={"transfer-encoding": None}, then=EOF),
    ),
    Case(
        "large generator to HTTP/1.0",
        "RFC 9112 6.3",
        get(play(start(), body=[{"of": ["x", 99_999]}] * 9, kind="generator"), version=OLD),
        ok(body=b"x" * 899_991, then=EOF),
    ),
    Case("204 to HTTP/1.0", "RFC 9110 15.3.5", get(bare("204 No Content"), version=OLD), ok(status=204, then=EOF)),
    # Statuses that have no body
    Case("204", "RFC 9110 15.3.5", get(bare("204 No Content")), ok(status=204, fields=NO_FRAMING)),
    Case(
        "204 with a body from the app",
        "RFC 9112 6.3",
        get(bare("204 No Content", body=["no"], valid=False)),
        ok(status=204, fields=NO_FRAMING),
    ),
    Case(
        "204 with a generator",
        "RFC 9112 6.3",
        get(bare("204 No Content", body=["n", "o"], kind="generator")),
        ok(status=204, fields=NO_FRAMING),
    ),
    Case(
        "204 with a length from the app",
        "RFC 9110 8.6",
        get(bare("204 No Content", ("Content-Length", "2"), body=["no"])),
        ok(status=204, fields=NO_FRAMING),
    ),
    Case(
        "204 with length zero from the app",
        "RFC 9110 8.6",
        get(bare("204 No Content", ("Content-Length", "0"))),
        ok(status=204, fields=NO_FRAMING),
    ),
    Case(
        "204 with a written body",
        "RFC 9112 6.3",
        get(play(start("204 No Content", ctype=None), ["write", "no"])),
        ok(status=204, fields=NO_FRAMING),
    ),
    Case(
        "304",
        "RFC 9110 15.4.5",
        get(bare("304 Not Modified", ("ETag", '"a"'))),
        ok(status=304, fields={"transfer-encoding": None, "etag": '"a"'}),
    ),
    Case("304 with a body from the app", "RFC 9112 6.3", get(bare("304 Not Modified", body=["no"], valid=False)), ok(status=304)),
    Case("304 with a generator", "RFC 9112 6.3", get(bare("304 Not Modified", body=["n", "o"], kind="generator")), ok(status=304)),
    Case("304 with the length of a 200", "RFC 9110 8.6", get(bare("304 Not Modified", ("Content-Length", "99"))), ok(status=304)),
    Case(
        "304 has no length of its own making", "RFC 9110 8.6", get(bare("304 Not Modified", valid=False)), ok(status=304, fields=NO_FRAMING)
    ),
    Case("205", "RFC 9110 15.3.6", get(play(start("205 Reset Content"))), ok(status=205, body=b"", fields=sized(0))),
    Case(
        "205 with a body from the app",
        "RFC 9110 15.3.6",
        get(play(start("205 Reset Content"), body=["no"], valid=False)),
        ok(status=(205, 500), fields={"transfer-encoding": None}, then=ANY),
    ),
    Case(
        "205 with a generator",
        "RFC 9110 15.3.6",
        get(play(start("205 Reset Content"), kind="generator")),
        ok(status=205, body=b"", fields=sized(0)),
    ),
    Case("100 from the app", "ARCHITECTURE 10.2", get(bare("100 Continue", valid=False)), FAILED),
    Case("101 from the app", "ARCHITECTURE 10.2", get(bare("101 Switching Protocols", ("X-A", "y"), valid=False)), FAILED),
    Case("103 from the app", "ARCHITECTURE 10.2", get(bare("103 Early Hints", ("Link", "</a>"), valid=False)), FAILED),
    Case("199 from the app", "ARCHITECTURE 10.2", get(bare("199 What", valid=False)), FAILED),
    *(
        Case(
            f"{status} has a body",
            "RFC 9110 15",
            get(play(start(f"{status} Some"), body=["hello"], valid=False)),
            ok(status=status, body=b"hello", fields=sized(5)),
        )
        for status in (
            200,
            201,
            202,
            203,
            206,
            207,
            226,
            300,
            301,
            302,
            303,
            307,
            308,
            400,
            401,
            403,
            404,
            405,
            410,
            413,
            418,
            429,
            451,
            500,
            501,
            503,
            505,
            599,
        )
    ),
    # The app and its own Content-Length at odds (PEP 3333, Handling the Content-Length Header)
    Case(
        "too few bytes",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "9")), body=["hello"])),
        ok(body=b"hello", fields=sized(9), then=CUT),
    ),
    Case(
        "too few bytes in a list of one",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "9")), body=["hello"], valid=False)),
        ok(status=(200, 500), then=CUT),
    ),
    Case(
        "too few bytes from a generator",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "9")), body=["he", "llo"], kind="generator")),
        ok(body=b"hello", then=CUT),
    ),
    Case("no bytes at all", "PEP 3333", get(play(start("200 OK", ("Content-Length", "9")), valid=False)), ok(status=(200, 500), then=CUT)),
    *(
        Case(
            f"no bytes at all from {what}",
            "PEP 3333",
            get(play(start("200 OK", ("Content-Length", "9")), *call, body=body, kind=kind, valid=False), version=version),
            ok(status=(200, 500), then=CUT),
        )
        for version in ("HTTP/1.1", OLD)
        for what, call, body, kind in (
            (f"a generator to {version}", (), (), "generator"),
            (f"a generator of empty pieces to {version}", (), ("", ""), "generator"),
            (f"a tuple to {version}", (), (), "tuple"),
            (f"an empty write to {version}", (["write", ""],), (), "list"),
            (f"an iterable to {version}", (), (), "counted"),
        )
    ),
    Case(
        "too many bytes",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "3")), body=["hello"])),
        ok(body=b"hel", fields=sized(3), then=ANY),
    ),
    Case(
        "too many bytes in a list of one",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "3")), body=["hello"], valid=False)),
        ok(body=b"hel", then=ANY),
    ),
    Case(
        "too many bytes from a generator",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "3")), body=["he", "llo", "!"], kind="generator")),
        ok(body=b"hel", then=ANY),
    ),
    Case(
        "one piece too many",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "2")), body=["he", "llo"], kind="generator")),
        ok(body=b"he", then=ANY),
    ),
    Case(
        "bytes where the length is zero",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "0")), body=["hello"], valid=False)),
        ok(body=b"", fields=sized(0), then=ANY),
    ),
    Case(
        "too many written bytes",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "3")), ["write", "hello"])),
        ok(body=b"hel", then=ANY),
    ),
    Case(
        "a request in the bytes that are too many",
        "PEP 3333",
        get(play(start("200 OK", ("Content-Length", "2")), body=["okHTTP/1.1 200 OK\r\n\r\n"])),
        ok(body=b"ok", then=ANY),
    ),
    Case(
        "too few bytes for HEAD",
        "RFC 9110 9.3.2",
        get(play(start("200 OK", ("Content-Length", "9")), body=["hello"]), method="HEAD"),
        ok(body=b"", fields=sized(9)),
    ),
    # Nothing is held back: a piece is sent before the next is asked for (PEP 3333, Buffering and Streaming)
    Case(
        "a piece is sent at once",
        "PEP 3333",
        (get(play(start(), body=["first", ["await", GATE], "second"], kind="generator")), Received(b"first"), Step.OPEN_GATE),
        ok(body=b"firstsecond", fields=CHUNKED),
    ),
    Case(
        "a piece of known length is sent at once",
        "PEP 3333",
        (
            get(play(start("200 OK", ("Content-Length", "11")), body=["first", ["await", GATE], "second"], kind="generator")),
            Received(b"first"),
            Step.OPEN_GATE,
        ),
        ok(body=b"firstsecond"),
    ),
    Case(
        "a written piece is sent at once",
        "PEP 3333",
        (get(play(start(), ["write", "first"], ["await", GATE], body=["second"])), Received(b"first"), Step.OPEN_GATE),
        ok(body=b"firstsecond"),
    ),
    Case(
        "a piece is sent at once to HTTP/1.0",
        "PEP 3333",
        (get(play(start(), body=["first", ["await", GATE], "second"], kind="generator"), version=OLD), Received(b"first"), Step.OPEN_GATE),
        ok(body=b"firstsecond", then=EOF),
    ),
]
