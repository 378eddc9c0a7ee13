"""What an app may say of its response, and the head that is made of it (PEP 3333, RFC
9110, RFC 9112).
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.http11.error_response import REASONS, http_date, refusal
from spyglass.http11.request import Request
from spyglass.http11.response_head import (
    CHUNKED,
    HOP_BY_HOP,
    LENGTH,
    NONE,
    UNTIL_CLOSE,
    CheckedFields,
    check_fields,
    check_status,
    make_head,
)

from .reading import STATUSES

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


class Text(str):
    """As a template engine marks what is safe."""

    def __format__(self, spec):
        return "\r\n"

    __str__ = __format__


# What an app may say


@pytest.mark.parametrize(
    "status",
    [
        "200 OK",
        "200",
        "200 ",
        "404 Not Found at all",
        "999 X",
        "299 caf\xe9",
        "200 a\tb",
        Text("200 OK"),
    ],
)
def test_good_status(status):
    check_status(status)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, TypeError) for status in (200, b"200 OK", None)),
        *(
            (status, ValueError)
            for status in (
                "",
                "OK",
                "20 OK",
                "2000 OK",
                "200OK",
                "200\tOK",
                " 200 OK",
                "-20 OK",
                "²00 OK",
                "٢٠٠ OK",
            )
        ),
        *(
            (status, ValueError)
            for status in ("100 Continue", "199 X", "101 Switching Protocols", "000 X")
        ),
        *(
            (status, ValueError)
            for status in ("200 OK\r\nX: y", "200 OK\n", "200 \0", "200 \x7f", "200 €")
        ),
    ],
)
def test_bad_status(status, error):
    with pytest.raises(error):
        check_status(status)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("X", "")],
        [("X-y", "z"), ("X-y", "z")],
        [("!#$%&'*+-.^_`|~", "caf\xe9\t ")],
        [("Content-Length", "0")],
        [("content-length", "17")],
        [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")],
        [(Text("X"), Text("y"))],
    ],
)
def test_good_fields(fields):
    check_fields(fields)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        *(
            (fields, TypeError)
            for fields in (
                None,
                {},
                (("X", "y"),),
                [["X", "y"]],
                [("X",)],
                [("X", "y", "z")],
                ["Xy"],
                [None],
            )
        ),
        *(
            (fields, TypeError)
            for fields in ([("X", 1)], [(b"X", "y")], [("X", b"y")], [("X", None)])
        ),
        *(
            ([(name, "y")], ValueError)
            for name in ("", "X Y", "X:", "X\r\n", "X\0", "\xe9", "X\ty", "(X)")
        ),
        *(
            ([("X", value)], ValueError)
            for value in ("a\r\nB: c", "a\n", "a\r", "a\0", "\x7f", "\x1b", "€")
        ),
        *(
            ([("Content-Length", value)], ValueError)
            for value in ("", "x", "-1", "+1", "1.0", " 1", "1, 1", "٣")
        ),
        ([("Content-Length", "1"), ("content-LENGTH", "1")], ValueError),
        *(
            ([(name, "a\r\nX: b")], ValueError)
            for name in ("Connection", "TRANSFER-ENCODING", *HOP_BY_HOP)
        ),
    ],
)
def test_bad_fields(fields, error):
    with pytest.raises(error):
        check_fields(fields)


@pytest.mark.parametrize("name", ["Connection", "TRANSFER-ENCODING", *sorted(HOP_BY_HOP)])
def test_what_only_the_server_can_know_is_dropped(name):
    checked = check_fields([("X", "y"), (name, "x"), ("Z", "")])
    assert (checked.text, checked.dropped, checked.closing) == ("X: y\r\nZ: \r\n", (name,), False)


@pytest.mark.parametrize(
    ("value", "closing"),
    [
        ("close", True),
        ("Close", True),
        ("a, close", True),
        ("closed", False),
        ("keep-alive", False),
        ("", False),
    ],
)
def test_an_app_can_ask_for_the_end_of_the_connection(value, closing):
    assert check_fields([("connection", value)]).closing is closing
    assert not check_fields([("Keep-Alive", "close")]).closing


# The head


def head_for(
    status="200 OK", fields=(), *, method="GET", version=(1, 1), keep_alive=True, length=None
):
    """The head, and the lines of it that are not the same in every one."""
    head = make_head(
        status,
        check_fields(list(fields)),
        Request(method, "/", version, {}),
        DATE,
        keep_alive,
        length,
    )
    lines = head.data.decode("latin-1").split("\r\n")
    assert lines[-2:] == ["", ""]
    assert lines[0] == f"HTTP/1.1 {status}" + ("" if " " in status else " ")
    return head, [line for line in lines[1:-2] if line not in (f"Date: {DATE}", "Server: spyglass")]


GIVEN = [("Content-Length", "5")]
TE, CLOSE = "Transfer-Encoding: chunked", "Connection: close"


@pytest.mark.parametrize(
    ("how", "framing", "length", "kept", "lines"),
    [
        # A length that is known
        ({"fields": GIVEN}, LENGTH, 5, True, ["Content-Length: 5"]),
        ({"fields": GIVEN, "length": 7}, LENGTH, 5, True, ["Content-Length: 5"]),
        ({"length": 7}, LENGTH, 7, True, ["Content-Length: 7"]),
        ({"length": 0}, LENGTH, 0, True, ["Content-Length: 0"]),
        # One that is not
        ({}, CHUNKED, None, True, [TE]),
        ({"version": (1, 0)}, UNTIL_CLOSE, None, False, [CLOSE]),
        # Keeping
        ({"keep_alive": False}, CHUNKED, None, False, [TE, CLOSE]),
        ({"fields": [("Connection", "close")]}, CHUNKED, None, False, [TE, CLOSE]),
        ({"fields": [("Connection", "keep-alive")]}, CHUNKED, None, True, [TE]),
        (
            {"fields": [("Connection", "keep-alive")], "keep_alive": False, "length": 1},
            LENGTH,
            1,
            False,
            ["Content-Length: 1", CLOSE],
        ),
        (
            {"fields": [("Connection", "close")], "version": (1, 0), "length": 1},
            LENGTH,
            1,
            False,
            ["Content-Length: 1", CLOSE],
        ),
        ({"fields": [("Connection", "close")], "method": "HEAD"}, NONE, None, False, [CLOSE]),
        (
            {"version": (1, 0), "length": 1},
            LENGTH,
            1,
            True,
            ["Content-Length: 1", "Connection: keep-alive"],
        ),
        (
            {"version": (1, 0), "length": 1, "keep_alive": False},
            LENGTH,
            1,
            False,
            ["Content-Length: 1", CLOSE],
        ),
        # Responses without a body
        ({"method": "HEAD"}, NONE, None, True, []),
        ({"method": "HEAD", "fields": GIVEN}, NONE, 5, True, ["Content-Length: 5"]),
        ({"status": "204 No Content"}, NONE, None, True, []),
        ({"status": "204 No Content", "fields": GIVEN}, NONE, 5, True, []),
        ({"status": "304 Not Modified", "fields": GIVEN}, NONE, 5, True, ["Content-Length: 5"]),
        (
            {"status": "304 Not Modified", "version": (1, 0)},
            NONE,
            None,
            True,
            ["Connection: keep-alive"],
        ),
        # RFC 9110 15.3.6: 205 is framed as any other, with nothing in it. Without a
        # length its reader would wait for the end.
        ({"status": "205 Reset Content"}, NONE, 0, True, ["Content-Length: 0"]),
        ({"status": "205 Reset Content", "length": 7}, NONE, 0, True, ["Content-Length: 0"]),
        ({"status": "205 Reset Content", "fields": GIVEN}, NONE, 0, True, ["Content-Length: 0"]),
        (
            {"status": "205 Reset Content", "fields": [("Content-Length", "0")]},
            NONE,
            0,
            True,
            ["Content-Length: 0"],
        ),
        # What the app says besides
        (
            {"fields": [("X", "1"), ("X", "2")], "length": 0},
            LENGTH,
            0,
            True,
            ["X: 1", "X: 2", "Content-Length: 0"],
        ),
        ({"status": "299"}, CHUNKED, None, True, [TE]),
    ],
)
def test_how_a_response_is_framed(how, framing, length, kept, lines):
    head, got = head_for(**how)
    assert sorted(got) == sorted(lines)
    assert (head.framing, head.keep_alive) == (framing, kept)
    if framing == LENGTH:
        assert head.length == length
    assert (head.framing == NONE) is (
        how.get("method") == "HEAD" or how.get("status", "")[:3] in ("204", "205", "304")
    )


@pytest.mark.pure
def test_two_threads_that_answer_with_the_same_fields():
    """The fields of many responses are one object. Another thread may come in wherever
    something is kept there.
    """
    request = Request("GET", "/", (1, 1), {})
    seen = []

    class Shared(CheckedFields):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "made" and getattr(self, "raced", None) is False:
                self.raced = True  # once, and not for what the other thread does itself
                seen.append(make_head("200 OK", self, request, DATE, True, 5).data)
                self.raced = False

    fields = Shared("", None, 0)
    make_head("200 OK", fields, request, DATE, True, 3)
    fields.raced = False
    make_head("200 OK", fields, request, DATE, True, 5)
    assert seen
    assert all(b"Content-Length: 5\r\n" in data for data in seen)


@pytest.mark.parametrize("name", ["Date", "dATE", "Server", "SERVER"])
def test_date_and_server_are_the_app_s_if_it_gives_them(name):
    head, _ = head_for(fields=[(name, "mine")])
    assert head.data.lower().count(name.lower().encode() + b":") == 1
    assert b": mine\r\n" in head.data


@given(
    st.integers(200, 599),
    st.lists(
        st.tuples(st.text("aX-", min_size=1, max_size=5), st.text("ab \xe9", max_size=5)),
        max_size=3,
    ),
    st.none() | st.integers(0, 99),
    st.sampled_from(["GET", "HEAD"]),
    st.sampled_from([(1, 0), (1, 1)]),
    st.booleans(),
)
def test_every_response_that_is_kept_has_an_end(
    status, fields, length, method, version, keep_alive
):
    """RFC 9112 6.3: without a length, chunks, or a status that has no body, only the
    close ends it.
    """
    head, lines = head_for(
        str(status), fields, method=method, version=version, keep_alive=keep_alive, length=length
    )
    framed = [line for line in lines if line.startswith(("Content-Length:", "Transfer-Encoding:"))]
    assert len(framed) <= 1
    if head.keep_alive:
        assert framed or method == "HEAD" or status in (204, 304)
    assert head.keep_alive or "Connection: close" in lines
    assert version == (1, 1) or TE not in lines


# Answers of our own


@pytest.mark.parametrize("status", sorted(STATUSES | {408, 500, 503, 507}))
def test_a_refusal_is_whole_and_ends_the_connection(status):
    head, _, body = refusal(status, "why: é\n", DATE).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == f"HTTP/1.1 {status} {REASONS[status]}"
    assert {f"Content-Length: {len(body)}", "Connection: close", f"Date: {DATE}"} <= set(lines)
    assert body == "why: é\n".encode()


def test_a_refusal_of_a_head_has_no_body_and_its_length():
    assert refusal(400, "why", DATE, head_only=True).endswith(b"Connection: close\r\n\r\n")
    assert b"Content-Length: 3\r\n" in refusal(400, "why", DATE, head_only=True)


@pytest.mark.parametrize(
    ("utc", "text"),
    [
        ((1994, 11, 6, 8, 49, 37, 6, 310, 0), DATE),
        ((2024, 2, 29, 0, 0, 0, 3, 60, 0), "Thu, 29 Feb 2024 00:00:00 GMT"),
    ],
)
def test_date(utc, text):
    """RFC 9110 5.6.7, in no language but its own."""
    assert http_date(utc) == text
