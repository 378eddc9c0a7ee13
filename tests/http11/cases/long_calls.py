"""Calls that take so long that another thread of the worker takes the lead meanwhile (ARCHITECTURE 5): the client must not notice.

What makes a call a long one is that somebody else is served while it waits.
"""

from .case import (
    AT_ONCE,
    CUT,
    EOF,
    GATE,
    LEFT,
    TOKEN,
    Case,
    Received,
    Step,
    chunked,
    chunks,
    get,
    ok,
    play,
    post,
    restart,
    start,
)

ONCE = (b"/count?" + TOKEN, b"1")
PASS = ["pass", GATE]
FAIL = ["raise", "ValueError"]
LONG = (Step.SERVED_MEANWHILE, Step.OPEN_GATE)
OURS = "ARCHITECTURE 5"


def stepwise(*parts: str) -> tuple[bytes | Step | Received, ...]:
    """Between two parts the app's call is a long one."""
    body = [step for part in parts for step in (PASS, part)]
    waits = [step for part in parts for step in (*LONG, Received(part.encode()))]
    return (get(play(start(), body=body, kind="counted")), *waits)


CASES = [
    Case("a list", OURS, (get(play(start(), PASS, body=["hello"])), *LONG), ok(body=b"hello")),
    Case("an empty list", OURS, (get(play(start(), PASS, valid=False)), *LONG), ok(body=b"")),
    Case("a generator", OURS, (get(play(start(), PASS, body=["he", "llo"], kind="counted")), *LONG), ok(body=b"hello"), probe=ONCE),
    Case("the first step of a generator", OURS, stepwise("one"), ok(body=b"one"), probe=ONCE),
    Case("each step of a generator", OURS, stepwise("one", "two", "three"), ok(body=b"onetwothree"), probe=ONCE),
    Case(
        "each step of a generator, and close()",
        OURS,
        (get(play(start(), body=[PASS, "one", PASS, "two"], kind="counted", close=PASS)), *LONG, *LONG, *LONG),
        ok(body=b"onetwo"),
        probe=ONCE,
    ),
    Case("close()", OURS, (get(play(start(), body=["one"], kind="counted", close=PASS)), *LONG), ok(body=b"one"), probe=ONCE),
    Case(
        "each step, to HTTP/1.0",
        OURS,
        (get(play(start(), body=[PASS, "one", PASS, "two"], kind="generator"), version="HTTP/1.0"), *LONG, *LONG),
        ok(body=b"onetwo", then=EOF),
    ),
    Case("each write", OURS, (get(play(start(), PASS, ["write", "one"], PASS, ["write", "two"])), *LONG, *LONG), ok(body=b"onetwo")),
    Case(
        "a large write, then another long call",
        OURS,
        (get(play(start(), PASS, ["write", {"of": ["x", 500_000]}], body=[PASS, "y"], kind="generator")), *LONG, *LONG),
        ok(body=b"x" * 500_000 + b"y"),
    ),
    Case(
        "large pieces",
        OURS,
        (get(play(start(), body=[PASS, {"of": ["x", 3_000_000]}, PASS, {"of": ["y", 3_000_000]}], kind="generator")), *LONG, *LONG),
        ok(body=b"x" * 3_000_000 + b"y" * 3_000_000),
    ),
    Case("a file", OURS, (get(play(start(), PASS, kind="file", file={"size": 90_000}, valid=False)), *LONG), ok(), probe=ONCE),
    Case("HEAD", OURS, (get(play(start(), body=[PASS, "one"], kind="counted"), method="HEAD"), *LONG), ok(body=b""), probe=ONCE),
    Case("204", OURS, (get(play(start("204 No", ctype=None), PASS)), *LONG), ok(status=204)),
    Case("a body unread", OURS, (post(b"GET / HTTP/1.1", target=play(start(), PASS, body=["hello"])), *LONG), ok(body=b"hello")),
    Case("a chunked body unread", OURS, (chunked(chunks(b"x"), target=play(start(), PASS, body=["hello"])), *LONG), ok(body=b"hello")),
    Case(
        "requests behind it",
        "RFC 9112 9.3.2",
        (get(play(start(), PASS, body=["hello"])) + get("/2") + get("/3"), *LONG),
        ok(body=b"hello") + ok(PATH_INFO="/2") + ok(PATH_INFO="/3"),
        modes=AT_ONCE,
    ),
    Case(
        "one behind the other",
        "RFC 9112 9.3.2",
        (get(play(start(), PASS, body=["one"])) + get(play(start(), PASS, body=["two"])) + get("/3"), *LONG, Received(b"one"), *LONG),
        ok(body=b"one") + ok(body=b"two") + ok(PATH_INFO="/3"),
        modes=AT_ONCE,
    ),
    Case(
        "what comes meanwhile",
        "RFC 9112 9.3.2",
        (get(play(start(), PASS, body=["one"])), Step.SERVED_MEANWHILE, get("/2"), Step.OPEN_GATE),
        ok(body=b"one") + ok(PATH_INFO="/2"),
        modes=AT_ONCE,
    ),
    Case(
        "the end of the client's sending meanwhile",
        "RFC 9112 9.6",
        (get(play(start(), PASS, body=["one"])), Step.SERVED_MEANWHILE, Step.END, Step.OPEN_GATE),
        ok(body=b"one", then=EOF),
    ),
    Case("close", "RFC 9112 9.6", (get(play(start(), PASS, body=["one"]), "Connection: close"), *LONG), ok(body=b"one").closing),
    # Errors
    Case("an error", "PEP 3333", (get(play(start(), PASS, FAIL)), *LONG), ok(status=500), logged="ValueError"),
    Case("sys.exit()", "ARCHITECTURE 10.3", (get(play(start(), PASS, ["exit", 3], valid=False)), *LONG), ok(status=500)),
    Case("exc_info", "PEP 3333", (get(play(start(), PASS, restart("500 Oops"), body=["sorry"])), *LONG), ok(status=500, body=b"sorry")),
    Case(
        "an error in a later step",
        "PEP 3333",
        (get(play(start(), body=[PASS, "one", PASS, FAIL], kind="counted")), *LONG, Received(b"one"), *LONG),
        ok(body=b"one", then=CUT),
        probe=ONCE,
    ),
    Case(
        "too few bytes",
        "PEP 3333",
        (get(play(start("200 OK", ("Content-Length", "9")), body=[PASS, "one", PASS], kind="counted")), *LONG, *LONG),
        ok(body=b"one", then=CUT),
        probe=ONCE,
    ),
    Case(
        "no bytes for a length",
        "PEP 3333",
        (get(play(start("200 OK", ("Content-Length", "9")), body=[PASS], kind="counted", valid=False)), *LONG),
        ok(status=(200, 500), then=CUT),
        probe=ONCE,
    ),
    # Gone
    Case(
        "gone meanwhile",
        "PEP 3333",
        (get(play(start(), body=[PASS, "one", PASS, "two"], kind="counted")), Step.SERVED_MEANWHILE, Step.ABORT, Step.OPEN_GATE),
        LEFT,
        modes=("whole",),
    ),
    Case(
        "gone in the call",
        "PEP 3333",
        (get(play(start(), PASS, body=[{"of": ["x", 9_000_000]}] * 3, kind="counted")), Step.SERVED_MEANWHILE, Step.ABORT, Step.OPEN_GATE),
        LEFT,
        probe=ONCE,
        modes=("whole",),
    ),
]
