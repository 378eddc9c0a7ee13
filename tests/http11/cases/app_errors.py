"""Apps that fail: 500 while that can still be said, else a response that the client can see is cut (ARCHITECTURE 10.3).

The worker lives on, the traceback is in the log, and the next request on the connection gets its own answer.
"""

import re

from .case import ANY, CUT, EITHER, FAILED, Case, chunked, chunks, get, ok, play, post, start

PEP = "PEP 3333"
RAISE = ["raise", "ValueError"]


def failing(*call: object, **more: object) -> bytes:
    return get(play(*call, **more))


CASES = [
    Case("an error before start_response", PEP, failing(RAISE), FAILED, logged="ValueError"),
    Case("an error behind start_response", PEP, failing(start(), RAISE), FAILED, logged="ValueError"),
    Case(
        "an error behind start_response leaves none of its fields",
        PEP,
        failing(start("200 OK", ("X-A", "y"), ("Set-Cookie", "a=b")), RAISE),
        ok(status=500, fields={"x-a": None, "set-cookie": None}, then=ANY),
    ),
    Case("an error in the first step of a generator", PEP, failing(body=[RAISE], kind="generator"), FAILED, logged="ValueError"),
    Case("an error behind start_response in a generator", PEP, failing(body=[start(), RAISE], kind="generator"), FAILED),
    Case("an error behind an empty piece", PEP, failing(start(), body=["", RAISE], kind="generator"), FAILED),
    Case(
        "the answer to an error is text",
        "RFC 9110 15.6.1",
        failing(RAISE),
        ok(status=500, fields={"content-type": re.compile("text/.*")}, then=ANY),
    ),
    Case(
        "an error behind a piece",
        PEP,
        failing(start(), body=["hello", RAISE], kind="generator"),
        ok(body=b"hello", then=CUT),
        logged="ValueError",
    ),
    Case(
        "an error behind a piece of known length",
        PEP,
        failing(start("200 OK", ("Content-Length", "9")), body=["hello", RAISE], kind="generator"),
        ok(body=b"hello", then=CUT),
    ),
    Case(
        "an error behind the last piece of known length",
        PEP,
        failing(start("200 OK", ("Content-Length", "5")), body=["hello", RAISE], kind="generator"),
        ok(body=b"hello", then=EITHER),
    ),
    Case(
        "an error behind many pieces",
        PEP,
        failing(start(), body=[*[{"of": ["x", 10_000]}] * 50, RAISE], kind="generator"),
        ok(body=b"x" * 500_000, then=CUT),
    ),
    Case(
        "an error behind a piece to HTTP/1.0",
        PEP,
        get(play(start(), body=["hello", RAISE], kind="generator"), version="HTTP/1.0"),
        ok(body=b"hello", then=CUT),
    ),
    Case(
        "an error behind a written piece to HTTP/1.0",
        PEP,
        get(play(start(), ["write", "hello"], RAISE), version="HTTP/1.0"),
        ok(body=b"hello", then=CUT),
    ),
    Case(
        "an error behind a piece to HTTP/1.0 that would be kept",
        PEP,
        get(play(start(), body=["hello", RAISE], kind="generator"), "Connection: keep-alive", version="HTTP/1.0"),
        ok(body=b"hello", then=CUT),
    ),
    Case("an error with a body unread", PEP, post(b"GET / HTTP/1.1", target=play(RAISE)), FAILED),
    Case("an error with a chunked body unread", PEP, chunked(chunks(b"hello"), target=play(RAISE)), FAILED),
    *(
        Case(f"{name} in the call", "ARCHITECTURE 10.3", failing(["raise", name]), FAILED, logged=name)
        for name in (
            "Exception",
            "KeyError",
            "RecursionError",
            "MemoryError",
            "OSError",
            "BrokenPipeError",
            "ConnectionResetError",
            "TimeoutError",
            "StopIteration",
            "AssertionError",
        )
    ),
    *(
        Case(f"{name} in the call", "ARCHITECTURE 10.3", failing(["raise", name], valid=False), FAILED)
        for name in ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "BaseException", "BlockingIOError", "InterruptedError")
    ),
    Case("sys.exit() in the call", "ARCHITECTURE 10.3", failing(["exit", 0], valid=False), FAILED),
    Case("sys.exit() in a generator", "ARCHITECTURE 10.3", failing(start(), body=[["exit", 3]], kind="generator", valid=False), FAILED),
    Case(
        "sys.exit() behind a piece",
        "ARCHITECTURE 10.3",
        failing(start(), body=["hello", ["exit", 3]], kind="generator", valid=False),
        ok(body=b"hello", then=CUT),
    ),
    Case(
        "BrokenPipeError behind a piece",
        "ARCHITECTURE 10.3",
        failing(start(), body=["hello", ["raise", "BrokenPipeError"]], kind="generator"),
        ok(body=b"hello", then=CUT),
        logged="BrokenPipeError",
    ),
    Case(
        "wsgi.errors is logged",
        PEP,
        failing(["log", "said by the app"], start(), body=["hello"]),
        ok(body=b"hello"),
        logged="said by the app",
    ),
    Case("wsgi.errors takes any text", PEP, failing(["log", "na\xefve \u20ac"], start(), body=["hello"]), ok(body=b"hello"), logged="na"),
    Case("wsgi.errors and an error", PEP, failing(["log", "last words"], RAISE), FAILED, logged="last words"),
]
