"""start_response: when it may be called, how often, with what, and its write() (PEP 3333, The start_response() Callable)."""

from .case import ANY, CHUNKED, CUT, EOF, FAILED, Case, get, ok, play, restart, sized, start

PEP = "PEP 3333"


def broken(*call: object, **more: object) -> bytes:
    return get(play(*call, valid=False, **more))


CASES = [
    Case("before returning", PEP, get(play(start(), body=["hello"])), ok(body=b"hello")),
    Case(
        "in the first step of a generator",
        PEP,
        get(play(body=[start("201 Made"), "hello"], kind="generator")),
        ok(status=201, body=b"hello"),
    ),
    Case("in a generator that yields nothing", PEP, broken(body=[start("201 Made")], kind="generator"), ok(status=201, body=b"")),
    Case("never", PEP, broken(body=["hello"]), FAILED),
    Case("never, and an empty list", PEP, broken(), FAILED),
    Case("never, in a generator", PEP, broken(body=["hello"], kind="generator"), FAILED),
    Case("never, in an empty generator", PEP, broken(kind="generator"), FAILED),
    Case("only after the first piece", PEP, broken(body=["hello", start()], kind="generator"), FAILED),
    Case("only after an empty piece", PEP, broken(body=["", start(), "hello"], kind="generator"), ok(status=(200, 500), then=ANY)),
    # Twice
    Case("twice without exc_info", PEP, broken(start(), start("201 Made"), body=["hello"]), FAILED),
    Case("twice without exc_info, in a generator", PEP, broken(start(), body=[start(), "hello"], kind="generator"), FAILED),
    Case(
        "again with exc_info",
        PEP,
        get(play(start("200 OK", ("X-A", "y")), restart("500 Oops"), body=["sorry"])),
        ok(status=500, body=b"sorry", reason="Oops", fields={"x-a": None}),
    ),
    Case(
        "again with exc_info and another length",
        PEP,
        get(play(start("200 OK", ("Content-Length", "99")), restart("500 Oops", ("Content-Length", "5")), body=["sorry"])),
        ok(status=500, body=b"sorry", fields=sized(5)),
    ),
    Case(
        "again with exc_info and no length",
        PEP,
        get(play(start("200 OK", ("Content-Length", "99")), restart("500 Oops"), body=["sorry"], kind="generator")),
        ok(status=500, body=b"sorry", fields=CHUNKED),
    ),
    Case(
        "three times with exc_info",
        PEP,
        get(play(start(), restart("501 Oops"), restart("502 Oops"), body=["sorry"])),
        ok(status=502, body=b"sorry"),
    ),
    Case("first with exc_info", PEP, get(play(restart("500 Oops"), body=["sorry"])), ok(status=500, body=b"sorry")),
    Case(
        "again with exc_info before the first piece",
        PEP,
        get(play(start(), body=[restart("500 Oops"), "sorry"], kind="generator")),
        ok(status=500, body=b"sorry"),
    ),
    # Headers go out with the first byte of the body, not before.
    Case(
        "again with exc_info after empty pieces",
        PEP,
        get(play(start(), body=["", "", restart("500 Oops"), "sorry"], kind="generator")),
        ok(status=500, body=b"sorry"),
    ),
    Case(
        "again with exc_info after an empty write",
        PEP,
        get(play(start(), ["write", ""], restart("500 Oops"), body=["sorry"])),
        ok(status=500, body=b"sorry"),
    ),
    Case(
        "again with exc_info, too late",
        PEP,
        get(play(start(), body=["hello", restart("500 Oops"), "sorry"], kind="generator")),
        ok(status=200, body=b"hello", then=CUT),
    ),
    Case(
        "again with exc_info, too late for a written body",
        PEP,
        get(play(start(), ["write", "hello"], restart("500 Oops"), body=["sorry"])),
        ok(status=200, body=b"hello", then=CUT),
    ),
    Case(
        "again with exc_info, too late and the error logged",
        PEP,
        get(play(start(), body=["hello", restart()], kind="generator")),
        ok(then=CUT),
        logged="told to start again",
    ),
    Case(
        "again without exc_info, too late",
        PEP,
        broken(start(), body=["hello", start("201 Made"), "x"], kind="generator"),
        ok(status=200, body=b"hello", then=CUT),
    ),
    Case(
        "a mistake, then again with exc_info",
        PEP,
        get(play(start(), restart("500 Oops", ("Content-Length", "5")), body=["sorry"]), "Connection: close"),
        ok(status=500, body=b"sorry").closing,
    ),
    Case("exc_info None", PEP, get(play(start(exc_info=None), body=["hello"])), ok(body=b"hello")),
    Case("exc_info by name", PEP, broken(start(), start("500 Oops", exc_info="named"), body=["sorry"]), ok(status=500, body=b"sorry")),
    # write()
    Case("write", PEP, get(play(start(), ["write", "hello"])), ok(body=b"hello")),
    Case("several writes", PEP, get(play(start(), ["write", "he"], ["write", "llo"])), ok(body=b"hello")),
    Case("write, then a list", PEP, get(play(start(), ["write", "he"], body=["llo"])), ok(body=b"hello")),
    Case("write, then a generator", PEP, get(play(start(), ["write", "he"], body=["l", "lo"], kind="generator")), ok(body=b"hello")),
    Case(
        "write with a length",
        PEP,
        get(play(start("200 OK", ("Content-Length", "5")), ["write", "hello"])),
        ok(body=b"hello", fields=sized(5)),
    ),
    Case(
        "write and a list with a length",
        PEP,
        get(play(start("200 OK", ("Content-Length", "5")), ["write", "he"], body=["llo"])),
        ok(body=b"hello", fields=sized(5)),
    ),
    Case(
        "a list of one does not count what was written",
        PEP,
        get(play(start(), ["write", "he"], body=["llo"], valid=False)),
        ok(body=b"hello"),
    ),
    Case("empty write", PEP, get(play(start(), ["write", ""], body=["hello"])), ok(body=b"hello")),
    Case("only an empty write", PEP, get(play(start(), ["write", ""])), ok(body=b"")),
    Case("large write", PEP, get(play(start(), ["write", {"of": ["x", 500_000]}])), ok(body=b"x" * 500_000)),
    Case("many writes", PEP, get(play(start(), *[["write", "x"]] * 200)), ok(body=b"x" * 200)),
    Case("write in a generator", PEP, get(play(body=[start(), ["write", "he"], "llo"], kind="generator")), ok(body=b"hello")),
    Case(
        "write between the pieces of a generator",
        PEP,
        get(play(start(), body=["a", ["write", "b"], "c", ["write", "d"]], kind="generator")),
        ok(body=b"abcd", fields=CHUNKED),
    ),
    Case("write to HTTP/1.0", PEP, get(play(start(), ["write", "he"], body=["llo"]), version="HTTP/1.0"), ok(body=b"hello", then=EOF)),
    Case("write of text", PEP, broken(start(), ["write", {"str": "hello"}]), FAILED),
    Case("write of None", PEP, broken(start(), ["write", {"none": None}]), FAILED),
    Case("write of text, too late", PEP, broken(start(), ["write", "hello"], ["write", {"str": "x"}]), ok(body=b"hello", then=CUT)),
    Case(
        "an error behind a write",
        PEP,
        get(play(start(), ["write", "hello"], ["raise", "ValueError"])),
        ok(body=b"hello", then=CUT),
        logged="ValueError",
    ),
    Case("an error behind an empty write", PEP, get(play(start(), ["write", ""], ["raise", "ValueError"])), FAILED),
]
