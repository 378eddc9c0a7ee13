"""What an app returns: any iterable of bytes, closed exactly once whatever happens (PEP 3333)."""

from .case import ANY, CUT, EOF, FAILED, TOKEN, Case, get, ok, play, start

PEP = "PEP 3333"
ONCE = (b"/count?" + TOKEN, b"1")
SOME = ["he", "llo"]


def counted(*call: object, body: object = SOME, **more: object) -> str:
    return play(*call, body=body, kind=more.pop("kind", "counted"), **more)


def returned(kind: str, body: object = SOME, **more: object) -> bytes:
    return get(play(start(), body=body, kind=kind, valid=False, **more))


CASES = [
    *(Case(f"a {kind}", PEP, returned(kind), ok(body=b"hello")) for kind in ("list", "tuple", "generator", "counted", "sequence")),
    *(Case(f"an empty {kind}", PEP, returned(kind, []), ok(body=b"")) for kind in ("list", "tuple", "generator", "counted", "sequence")),
    *(
        Case(f"a {kind} of one", PEP, returned(kind, ["hello"]), ok(body=b"hello"))
        for kind in ("tuple", "generator", "counted", "sequence")
    ),
    Case("length one", PEP, returned("sized", ["hello"], length=1), ok(body=b"hello")),
    Case("length two", PEP, returned("sized", length=2), ok(body=b"hello")),
    Case("length one, but two pieces", PEP, returned("sized", length=1), ok(then=ANY)),
    Case("length one, but no piece", PEP, returned("sized", [], length=1), ok(body=b"", then=ANY)),
    Case("length none, but a piece", PEP, returned("sized", length=0), ok(then=ANY)),
    Case("empty pieces first", PEP, returned("list", ["", "", "hello"]), ok(body=b"hello")),
    Case("a large piece", PEP, returned("generator", [{"of": ["x", 2_000_000]}]), ok(body=b"x" * 2_000_000)),
    *(Case(f"returns {kind}", PEP, get(play(start(), body=["hello"], kind=kind, valid=False)), FAILED) for kind in ("none", "int", "str")),
    Case("returns bytes", PEP, get(play(start(), body=["hello"], kind="bytes", valid=False)), ok(status=(200, 500), then=ANY)),
    *(
        Case(f"a piece of {what}", PEP, returned("generator", [piece]), FAILED)
        for what, piece in (("text", {"str": "hello"}), ("None", {"none": None}), ("a number", {"int": 5}))
    ),
    *(
        Case(f"a later piece of {what}", PEP, returned("generator", ["hello", piece]), ok(body=b"hello", then=CUT))
        for what, piece in (("text", {"str": "hello"}), ("None", {"none": None}), ("a number", {"int": 5}))
    ),
    Case("a list of text", PEP, returned("list", [{"str": "hello"}]), FAILED),
    Case("a piece of bytearray", PEP, returned("list", [{"bytearray": "hello"}]), ok(status=(200, 500), then=ANY)),
    # A body that is not sent, or not beyond some point, need not be asked for: it may have no end.
    Case("an endless body for HEAD", PEP, get(counted(start(), kind="endless"), method="HEAD"), ok(), probe=ONCE),
    Case("an endless body for 204", PEP, get(counted(start("204 No", ctype=None), kind="endless")), ok(status=204), probe=ONCE),
    Case("an endless body for 304", PEP, get(counted(start("304 No", ctype=None), kind="endless")), ok(status=304), probe=ONCE),
    Case(
        "an endless body of known length",
        PEP,
        get(counted(start("200 OK", ("Content-Length", "9")), kind="endless")),
        ok(body=b"x" * 9, then=ANY),
        probe=ONCE,
    ),
    # close()
    Case("closed", PEP, get(counted(start())), ok(body=b"hello"), probe=ONCE),
    Case("closed before the next request", PEP, get(counted(start())) + get("/count?" + TOKEN.decode()), ok(body=b"hello") + ok(body=b"1")),
    Case("closed when empty", PEP, get(counted(start(), body=[])), ok(body=b""), probe=ONCE),
    Case(
        "closed with a length of one",
        PEP,
        get(counted(start(), body=["hello"], kind="sized", length=1, valid=False)),
        ok(body=b"hello"),
        probe=ONCE,
    ),
    Case("closed for HEAD", PEP, get(counted(start()), method="HEAD"), ok(), probe=ONCE),
    Case("closed for 204", PEP, get(counted(start("204 No", ctype=None))), ok(status=204), probe=ONCE),
    Case("closed for 304", PEP, get(counted(start("304 No", ctype=None))), ok(status=304), probe=ONCE),
    Case("closed for HTTP/1.0", PEP, get(counted(start()), version="HTTP/1.0"), ok(body=b"hello", then=EOF), probe=ONCE),
    Case("closed with close", PEP, get(counted(start()), "Connection: close"), ok(body=b"hello").closing, probe=ONCE),
    Case("closed after an error in the first piece", PEP, get(counted(start(), body=[["raise", "ValueError"]])), FAILED, probe=ONCE),
    Case(
        "closed after an error in a later piece",
        PEP,
        get(counted(start(), body=["hello", ["raise", "ValueError"]])),
        ok(body=b"hello", then=CUT),
        probe=ONCE,
    ),
    Case("closed after a piece of text", PEP, get(counted(start(), body=[{"str": "x"}], valid=False)), FAILED, probe=ONCE),
    Case(
        "closed when it cannot be iterated over", PEP, get(play(start(), kind="broken", valid=False)), FAILED, probe=ONCE, logged="KeyError"
    ),
    Case("closed without start_response", PEP, get(counted(valid=False)), FAILED, probe=ONCE),
    Case("closed after start_response twice", PEP, get(counted(start(), body=[start(), "x"], valid=False)), FAILED, probe=ONCE),
    Case(
        "closed after a late exc_info",
        PEP,
        get(counted(start(), body=["hello", start(exc_info=True)])),
        ok(body=b"hello", then=CUT),
        probe=ONCE,
    ),
    Case("closed after too many bytes", PEP, get(counted(start("200 OK", ("Content-Length", "2")))), ok(body=b"he", then=ANY), probe=ONCE),
    Case(
        "closed after too few bytes", PEP, get(counted(start("200 OK", ("Content-Length", "9")))), ok(body=b"hello", then=CUT), probe=ONCE
    ),
    Case("closed after bad fields", PEP, get(counted(body=[start("200 OK", ("X", "a\nb")), "x"], valid=False)), FAILED, probe=ONCE),
    Case(
        "closed after a large answer",
        PEP,
        get(counted(start(), body=[{"of": ["x", 1_000_000]}] * 3)),
        ok(body=b"x" * 3_000_000),
        probe=ONCE,
    ),
    Case(
        "an error in close()",
        PEP,
        get(counted(start(), close=["raise", "ValueError"])),
        ok(status=200, body=b"hello", then=ANY),
        probe=ONCE,
        logged="ValueError",
    ),
    Case(
        "an error in close() of known length",
        PEP,
        get(counted(start("200 OK", ("Content-Length", "5")), close=["raise", "ValueError"])),
        ok(body=b"hello", then=ANY),
        probe=ONCE,
    ),
    Case(
        "an error in close() after an error",
        PEP,
        get(counted(start(), body=[["raise", "KeyError"]], close=["raise", "ValueError"])),
        FAILED,
        probe=ONCE,
        logged="KeyError",
    ),
    Case("a write in close()", PEP, get(counted(start(), close=["log", "closing"])), ok(body=b"hello"), probe=ONCE, logged="closing"),
]
