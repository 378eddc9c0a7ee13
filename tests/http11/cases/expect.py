"""Expect: 100-continue (RFC 9110 10.1.1): 100 once the head is acceptable, the final status at once when it is not.

A client that waits for 100 must get it before it has sent anything of the body, and only then.
"""

from .case import (
    ANY,
    BAD,
    EOF,
    Case,
    Received,
    Step,
    chunked,
    chunks,
    dropped,
    get,
    ok,
    play,
    post,
    refused,
    start,
)

CONTINUE = Step.CONTINUE
EXPECT = "Expect: 100-continue"


def waiting(body: bytes = b"hello", *fields: str, **how: str) -> tuple[bytes, Step, bytes]:
    """Head, wait, body."""
    whole = post(body, EXPECT, *fields, **how)
    return whole[: -len(body)], CONTINUE, body


def refused_at_once(*fields: str, expect: str = EXPECT, **how: str) -> bytes:
    """A head whose body is never sent."""
    return get("/", expect, *fields, method="POST", **how)


CASES = [
    Case("100 before the body", "RFC 9110 10.1.1", waiting(), ok(b"hello")),
    Case("100 before a chunked body", "RFC 9110 10.1.1", (chunked(b"", EXPECT), CONTINUE, chunks(b"hello")), ok(b"hello")),
    Case("100 for a request, then another", "RFC 9110 10.1.1", (*waiting(), Step.ANSWER, *waiting(b"again")), ok(b"hello") + ok(b"again")),
    Case("100 for a body that comes in pieces", "RFC 9110 10.1.1", (*waiting(b"hello")[:2], b"he", b"llo"), ok(b"hello")),
    Case(
        "the expectation is case-insensitive",
        "RFC 9110 10.1.1",
        (post(b"hello", "eXpect: 100-CONTINUE")[:-5], CONTINUE, b"hello"),
        ok(b"hello"),
    ),
    # Expect is a list: its members count, not how they are spread over lines, and empty ones not at all (RFC 9110 5.6.1).
    *(
        Case(
            f"100 for {' and '.join(fields)}",
            "RFC 9110 10.1.1",
            (get("/", "Content-Length: 5", *fields, method="POST"), CONTINUE, b"hello"),
            ok(b"hello"),
        )
        for fields in (
            ("Expect: 100-continue, 100-continue",),
            ("Expect: , 100-continue ,",),
            ("Expect:100-continue",),
            ("Expect: \t100-continue\t ",),
            (EXPECT, EXPECT),
            (EXPECT, "Expect:"),
        )
    ),
    *(
        Case(f"no 100 for {field!r}", "RFC 9110 10.1.1", (post(b"hello", field)[:-5], b"hello"), ok(b"hello"))
        for field in ("Expect:", "Expect: ,", "Expect: \t")
    ),
    Case("100 in HTTP/1.2", "RFC 9110 2.5", waiting(version="HTTP/1.2"), ok(b"hello")),
    Case("100 with HEAD", "RFC 9110 10.1.1", waiting(method="HEAD"), ok()),
    Case("100 with DELETE", "RFC 9110 10.1.1", waiting(method="DELETE"), ok(b"hello")),
    Case("100 and an offered Upgrade", "RFC 9110 7.8", waiting(b"hello", "Connection: Upgrade", "Upgrade: h2c"), ok(b"hello")),
    Case("half closed instead of the body", "RFC 9112 8", (waiting()[0], CONTINUE, Step.END), dropped(400, 408)),
    Case("100 with PUT", "RFC 9110 10.1.1", waiting(method="PUT"), ok(b"hello")),
    Case("100 and Connection: close", "RFC 9110 10.1.1", waiting(b"hello", "Connection: close"), ok(b"hello").closing),
    Case("100 for a large body", "RFC 9110 10.1.1", waiting(b"x" * 200_000), ok(b"x" * 200_000)),
    Case("no 100 when the body is there", "RFC 9110 10.1.1", post(b"hello", EXPECT), ok(b"hello"), early_continue=True),
    Case("no 100 when the chunked body is there", "RFC 9110 10.1.1", chunked(chunks(b"hello"), EXPECT), ok(b"hello"), early_continue=True),
    Case("no 100 without a body", "RFC 9110 10.1.1", get("/", EXPECT), ok(b"")),
    Case("no 100 for length zero", "RFC 9110 10.1.1", post(b"", EXPECT), ok(b"")),
    Case("no 100 for HTTP/1.0", "RFC 9110 10.1.1", post(b"hello", EXPECT, version="HTTP/1.0"), ok(b"hello", then=EOF)),
    Case(
        "no 100 for HTTP/1.0 that waits a little",
        "RFC 9110 15.2",
        (post(b"hello", EXPECT, version="HTTP/1.0")[:-5], b"hello"),
        ok(b"hello", then=EOF),
    ),
    Case("no 100 without the expectation", "RFC 9110 10.1.1", (post()[:-5], b"hello"), ok(b"hello")),
    Case(
        "unknown expectation in HTTP/1.0 is ignored",
        "RFC 9110 10.1.1",
        get("/", "Expect: x", version="HTTP/1.0"),
        ok(status=(200, 417), then=EOF),
    ),
    Case("the app can see the expectation", "PEP 3333", waiting(), ok(HTTP_EXPECT="100-continue")),
    # Refused at once: no 100, no waiting for the body
    Case("unknown expectation", "RFC 9110 10.1.1", get("/", "Expect: x"), refused(417, then=ANY)),
    Case("unknown expectation, body on its way", "RFC 9110 15.5.18", post(b"hello", "Expect: x"), refused(417)),
    Case("unknown expectation, body held back", "RFC 9110 15.5.18", refused_at_once("Content-Length: 5", expect="Expect: x"), refused(417)),
    Case(
        "expectation with a parameter",
        "RFC 9110 10.1.1",
        refused_at_once("Content-Length: 5", expect="Expect: 100-continue;a=b"),
        refused(417),
    ),
    Case("expectation in a list", "RFC 9110 10.1.1", refused_at_once("Content-Length: 5", expect="Expect: 100-continue, x"), refused(417)),
    Case("two expectations", "RFC 9110 10.1.1", refused_at_once("Content-Length: 5", "Expect: x"), refused(417)),
    Case("100-continuex", "RFC 9110 10.1.1", refused_at_once("Content-Length: 5", expect="Expect: 100-continuex"), refused(417)),
    Case("200-ok", "RFC 9110 10.1.1", refused_at_once("Content-Length: 5", expect="Expect: 200-ok"), refused(417)),
    Case("no 100 without Host", "RFC 9110 10.1.1", refused_at_once("Content-Length: 5", host=None), BAD),
    Case("no 100 for a bad length", "RFC 9110 10.1.1", refused_at_once("Content-Length: -5"), BAD),
    Case("no 100 for length and coding", "RFC 9110 10.1.1", refused_at_once("Content-Length: 5", "Transfer-Encoding: chunked"), BAD),
    Case("no 100 for an unknown coding", "RFC 9110 10.1.1", refused_at_once("Transfer-Encoding: x"), refused(501)),
    Case("no 100 for an unknown method", "RFC 9110 10.1.1", get("/", EXPECT, "Content-Length: 5", method="BREW"), refused(501)),
    Case("no 100 for HTTP/2.0", "RFC 9110 10.1.1", refused_at_once("Content-Length: 5", version="HTTP/2.0"), refused(505)),
    Case("no 100 for a body that is too large", "RFC 9110 10.1.1", refused_at_once("Content-Length: 70000"), refused(413), server="small"),
    Case("100 for a body of just the limit", "RFC 9110 10.1.1", waiting(b"x" * 65536), ok(b"x" * 65536), server="small"),
    Case(
        "413 behind 100 when chunks grow too large",
        "RFC 9110 15.5.14",
        (chunked(b"", EXPECT), CONTINUE, chunks(b"x" * 70_000)),
        refused(413),
        server="small",
    ),
    Case("bad chunk behind 100", "RFC 9112 7.1", (chunked(b"", EXPECT), CONTINUE, b"xx\r\n"), BAD),
    # 100 in order: never before the answers that are due first
    Case(
        "100 behind the answer of an earlier request",
        "RFC 9112 9.3.2",
        (get("/1") + waiting()[0], Step.ANSWER, CONTINUE, b"hello"),
        ok(PATH_INFO="/1") + ok(b"hello"),
    ),
    Case(
        "100 behind a streamed answer",
        "RFC 9112 9.3.2",
        (get(play(start(), body=["one", "two"], kind="generator")) + waiting()[0], Received(b"0\r\n\r\n"), Step.ANSWER, CONTINUE, b"hello"),
        ok(body=b"onetwo") + ok(b"hello"),
    ),
]
