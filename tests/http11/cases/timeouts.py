"""Clients that are slow, silent or gone (ARCHITECTURE 9.7), in a server that waits 0.4 s for anything.

What was begun and not finished is answered with 408 (RFC 9110 15.5.9); where nothing was begun there is nobody to answer.
"""

from dataclasses import replace

from .case import (
    CLOSED,
    LEFT,
    TOKEN,
    Case,
    Received,
    Step,
    Trickle,
    chunked,
    dropped,
    get,
    ok,
    play,
    post,
    refused,
    start,
)
from .proxies import HASTY

LATE = refused(408)
ONCE = (b"/count?" + TOKEN, b"1")
ENDLESS = get(play(start(), kind="endless"))

CASES = [
    Case("a client that says nothing", "ARCHITECTURE 9.7", b"", CLOSED, modes=("whole",)),
    Case("a client that says nothing more", "RFC 9112 9.5", (get("/1"), Step.ANSWER), ok(PATH_INFO="/1") + CLOSED, modes=("whole",)),
    Case("a client that says nothing more after a body", "RFC 9112 9.5", (post(), Step.ANSWER), ok(b"hello") + CLOSED, modes=("whole",)),
    Case("nothing but an empty line", "ARCHITECTURE 9.7", b"\r\n", dropped(400, 408), modes=("whole",)),
    Case("half a request line", "RFC 9110 15.5.9", b"GET / HT", LATE, modes=("whole", "bytes", "behind")),
    Case("one byte", "RFC 9110 15.5.9", b"G", LATE, modes=("whole", "behind")),
    Case("half a head", "RFC 9110 15.5.9", get()[:-9], LATE, modes=("whole", "bytes", "behind")),
    Case("a head without its empty line", "RFC 9110 15.5.9", get()[:-2], LATE, modes=("whole", "behind")),
    Case("half a body", "RFC 9110 15.5.9", post()[:-2], LATE, modes=("whole", "bytes", "behind")),
    Case("no body", "RFC 9110 15.5.9", post()[:-5], LATE, modes=("whole", "behind")),
    Case("no body behind 100", "RFC 9110 15.5.9", (post(b"hello", "Expect: 100-continue")[:-5], Step.CONTINUE), LATE, modes=("whole",)),
    Case("no chunk", "RFC 9110 15.5.9", chunked(b""), LATE, modes=("whole", "behind")),
    Case("half a chunk", "RFC 9110 15.5.9", chunked(b"5\r\nhel"), LATE, modes=("whole", "bytes")),
    Case("no last chunk", "RFC 9110 15.5.9", chunked(b"5\r\nhello\r\n"), LATE, modes=("whole", "behind")),
    Case("no end of the trailers", "RFC 9110 15.5.9", chunked(b"0\r\nX: y\r\n"), LATE, modes=("whole",)),
    # The time is for the whole head: a byte now and then does not buy more.
    Case("a request line that trickles in", "ARCHITECTURE 9.7", (b"GET /", Trickle(b"a")), LATE, modes=("whole", "behind")),
    Case("a head that trickles in", "ARCHITECTURE 9.7", (get()[:-2], Trickle(b"X: y\r\n")), LATE, modes=("whole", "behind")),
    Case("empty lines that trickle in", "ARCHITECTURE 9.7", (Trickle(b"\r\n"),), dropped(408, 400), modes=("whole",)),
    Case(
        "empty lines that trickle in behind an answer",
        "RFC 9112 9.5",
        (get("/1"), Step.ANSWER, Trickle(b"\r\n")),
        ok(PATH_INFO="/1") + CLOSED,
        modes=("whole",),
    ),
    # But it is for each head: what one has used up is not taken from the next, which may have begun behind it in the same segment.
    Case(
        "heads that each begin behind the last one's end",
        "RFC 9112 9.3.2",
        (get()[:9], *(get()[9:] + get()[:9], Step.ANSWER) * 4000, get()[9:]),
        ok() * 4001,
        modes=("whole",),
    ),
    # Gone: whatever the app returned is closed, once.
    Case("gone before the answer", "PEP 3333", (ENDLESS, Step.ABORT), LEFT, modes=("whole",)),
    Case("gone in the head", "ARCHITECTURE 9.7", (get()[:-3], Step.ABORT), LEFT, modes=("whole",)),
    Case("gone in the body", "ARCHITECTURE 9.7", (post()[:-3], Step.ABORT), LEFT, modes=("whole",)),
    Case("gone at once", "ARCHITECTURE 9.7", (Step.ABORT,), LEFT, modes=("whole",)),
]
# Only the answer has to be taken soon: a head that comes byte by byte may take a busy machine longer than 0.4 s.
UNREAD = [
    Case("gone during the answer", "PEP 3333", (ENDLESS, Received(b"xxx"), Step.ABORT), LEFT, probe=ONCE),
    Case("a client that does not read", "ARCHITECTURE 9.7", (ENDLESS, Received(b"xxx")), LEFT, probe=ONCE, modes=("whole", "bytes")),
]
CASES = [replace(case, server="hasty") for case in CASES] + [replace(case, server="unread") for case in UNREAD] + HASTY
