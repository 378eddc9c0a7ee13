"""One head, one verdict: whole, in any pieces, and whatever the worker has read for
other clients before.

Two readers that disagree about one head are what request smuggling is made of, and one
of the two may be ours: llhttp judges a head, and our own code cuts it into fields.
"""

from types import SimpleNamespace

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spyglass.http11.request_head import HeadParser
from spyglass.http11.request_reader import RequestReader

from .reading import converse, cut, limits_of

# Small, so that what is too large is among the heads that are made up.
LIMITS = {"max_head": 512, "max_fields": 8, "max_body": 4096}
SHARED = HeadParser()  # as one worker has it, for all the heads of this file
GOOD = b"GET /good HTTP/1.1\r\nHost: good\r\nX-Good: %d\r\n\r\n"

blanks = st.sampled_from([b"", b" ", b"\t", b" \t", b"\t ", b"  "])
ends = st.sampled_from(
    [b"\r\n"] * 12
    + [
        b"\n",
        b"\r",
        b"\r\r\n",
        b"\n\r",
        b"\t\r\n",
        b" \r\n",
        b"\r\n\t\r\n",
        b"\r\n \r\n",
        b"\r\n\t",
        b"\r\n ",
    ]
)
lines = st.sampled_from(
    [
        *(
            b"GET / HTTP/1.1",
            b"POST / HTTP/1.1",
            b"GET / HTTP/1.0",
            b"HEAD /a?b HTTP/1.1",
            b"OPTIONS * HTTP/1.1",
            b"PUT http://b/ HTTP/1.1",
        ),
        *(
            b"GET  / HTTP/1.1",
            b"GET / HTTP/2.0",
            b"GET / HTTP/1.1 ",
            b"BREW / HTTP/1.1",
            b"BREW / ICE/1.0",
            b"GET /\x01 HTTP/2.0",
            b"GET",
        ),
        *(
            b"GET /# HTTP/2.0",
            b"G(T / HTTP/1.1",
            b"GET /\xff HTTP/1.1",
            b"X" * 40 + b" / HTTP/1.1",
            b"X" * 600,
            b"GET /" + b"y" * 600,
            b"",
            b"\x16\x03\x01",
        ),
        *(
            b"PRI * HTTP/2.0",
            b"SSH-2.0-x",
            b"GET / HTTP/1.1\0",
            b"get / HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"GET / a b",
            b"GET nowhere HTTP/1.1",
        ),
    ]
)
names = st.sampled_from(
    [
        *(
            b"Host",
            b"Content-Length",
            b"Transfer-Encoding",
            b"Connection",
            b"Upgrade",
            b"Proxy-Connection",
            b"Expect",
            b"Content-Type",
        ),
        *(
            b"X",
            b"x",
            b"X_Y",
            b"Host ",
            b"X\t",
            b"\tX",
            b" X",
            b"",
            b"\0",
            b"X\0",
            b"\xff",
            b"Cookie",
            b"Accept",
            b"HTTP2-Settings",
            b"Authorization",
        ),
    ]
)
numbers = [
    b"0",
    b"3",
    b"05",
    b"+5",
    b"-1",
    b"5 5",
    b"0x5",
    b"5,5",
    b"5, 5",
    b"abc",
    b"\xb2",
    b"\xd9\xa5",
    b"1_0",
    b"9" * 30,
    b"0" * 30,
    b"5\t",
    b"\x0b5",
]
codings = [
    b"chunked",
    b"Chunked",
    b"gzip, chunked",
    b"chunked, chunked",
    b"identity",
    b"x",
    b"chunked\t",
    b"\tchunked",
    b"chunked,",
    b"chunked;a",
]
options = [
    b"close",
    b"keep-alive",
    b"upgrade",
    b"Upgrade, close",
    b"keep-alive\t",
    b"\tupgrade",
    b"clo\tse",
    b"close,",
    b"TE",
    b"x",
]
values = st.sampled_from(
    [
        *(
            b"",
            b"a",
            b"b",
            b" ",
            b"\t",
            b"a\tb",
            b"a\0",
            b"\x7f",
            b"\x01",
            b"\xff",
            b"a:b",
            b":",
            b"websocket",
            b"h2c",
            b"100-continue",
            b"y" * 300,
        ),
        *(
            b"a\rb",
            b"a\nb",
            b"a\r\n b",
            b"a\r\n\tb",
            b"GET / HTTP/1.0",
            *numbers,
            *codings,
            *options,
        ),
    ]
)


@st.composite
def fields(draw):
    return (
        draw(names)
        + draw(st.sampled_from([b":", b":", b":", b":", b": ", b":\t", b" :", b"", b"::"]))
        + draw(values)
        + draw(blanks)
    )


@st.composite
def field_lists(draw):
    some = draw(
        st.lists(
            fields() | st.sampled_from([b"Host: a"]) | lines | st.binary(max_size=5), max_size=7
        )
    )
    return draw(st.sampled_from([[], [b"Host: a"], [b"Host: a"]])) + some


@st.composite
def heads(draw):
    """A head, most often one that is wrong somewhere, and perhaps the beginning of
    something behind it.
    """
    data = (
        draw(st.sampled_from([b""] * 6 + [b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\r\n\n"]))
        + draw(lines)
        + draw(ends)
    )
    for line in draw(field_lists()):
        data += line + draw(ends)
    return data + draw(
        st.sampled_from(
            [b"\r\n"] * 8
            + [b"", b"\n", b"\r", b"\t\r\n", b"\r\n\r\n", b"\r\nabc", b"\r\n3\r\nabc\r\n0\r\n\r\n"]
        )
    )


places = st.lists(st.integers(0, 1200), max_size=6)


def in_shared_company(pieces):
    """As converse() says, but by the parser that all heads of this file are read
    with.
    """
    return converse(pieces, RequestReader(limits_of(**LIMITS), SHARED))


def others_are_served(number):
    requests, status, _ = in_shared_company([GOOD % number])
    assert status is None
    assert requests[0][5] == {"HTTP_HOST": "good", "HTTP_X_GOOD": str(number)}


@given(heads(), places)
@example(
    b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\t\r\nContent-Length: abc\r\n\r\n",
    [],
)
@example(b"GET /x HTTP/1.1\r\nHost: a\r\n\t\r\nGET / HTTP/1.0\r\n\r\n", [])
@example(b"GET /x HTTP/1.1\r\nHost: a\r\n \t\r\nX: y\r\n\r\n", [])
@example(b"GET /x HTTP/1.1\r\nHost: a\r\nX:\t\r\n\t\r\nContent-Length: 5\r\n\r\nhello", [])
@example(b"GET /\x01 HTTP/2.0\r\n\r\n", [7])
@example(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nX: \0\r\n\r\n", [])
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: \0" + b"y" * 600 + b"\r\n\r\n", [])
@example(b"GET /" + b"y" * 498 + b" HTTP/1.1\r\n\r\n", [])
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nProxy-Connection: close\r\n\r\n", [])
def test_any_head_has_one_verdict_and_one_set_of_fields(data, places):
    whole = converse([data], **LIMITS)
    assert converse(cut(data, places), **LIMITS) == whole
    assert converse([data[at : at + 1] for at in range(len(data))], **LIMITS) == whole
    others_are_served(len(data))
    assert in_shared_company([data]) == whole
    others_are_served(len(data) + 1)
    assert in_shared_company(cut(data, places)) == whole
    others_are_served(len(data) + 2)


plain_fields = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *(b"Host", b"Cookie", b"Connection", b"Content-Length", b"Content-Type", b"Expect"),
                *(b"X", b"X-Request-Id", b"x", b"X_Y", b"Transfer-Encoding", b"Upgrade", b"TE"),
            ]
        ),
        st.sampled_from([b": ", b": ", b": ", b":", b":  ", b" : ", b":\t"]),
        st.sampled_from([b"", b"a", b"b", b"abc", b"a b", b"close", b"0", b"3", b"100-continue"]),
        blanks,
    ),
    max_size=5,
)


@st.composite
def heads_of_one_client(draw):
    """Two heads, the second of which is the first one but for some values, and perhaps
    for more.
    """
    some = [(b"Host", b": ", b"a", b""), *draw(plain_fields)]
    first = [b"%b%b%b%b" % field for field in some]
    second = first.copy()
    for at in draw(st.lists(st.integers(0, len(some) - 1), max_size=3)):
        name, separator, _, blank = some[at]
        second[at] = name + separator + draw(values) + blank
    if draw(st.booleans()) and draw(st.booleans()):
        second = draw(st.permutations(second + draw(st.lists(fields(), max_size=1))))
    start = draw(st.sampled_from([b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"GET / HTTP/1.0"]))
    starts = [start, draw(st.sampled_from([start, start, start]) | lines)]
    end = draw(st.sampled_from([b"\r\n"] * 5 + [b"\n", b"\r", b"\r\n\r\n", b"\r\nabc", b""]))
    return (
        b"".join(line + b"\r\n" for line in [starts[0], *first]) + b"\r\n",
        b"".join(line + b"\r\n" for line in [starts[1], *second]) + end,
    )


FIRST = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\nY: b\r\n\r\n"


@settings(max_examples=1000)
@given(heads_of_one_client(), places)
@example((FIRST % b"a", FIRST % b"a\r\nContent-Length: 3"), [])
@example((FIRST % b"ab", FIRST % b"a\nb"), [])
@example((FIRST % b"ab", FIRST % b"\r\n"), [])
@example((FIRST % b"a" * 9, FIRST % b"\r\n\r\nGET /"), [])
@example((FIRST % b"a", FIRST % b"a\tb"), [])
@example((FIRST % b"a", FIRST % b"\xff"), [])
@example((FIRST % b"a", (FIRST % b"a").replace(b"Y", b"Z")), [])
@example((FIRST % b"a", (FIRST % b"b").replace(b"Y", b"Z")), [])
@example(((FIRST % b"ab").replace(b": a", b":a"), (FIRST % b"ac").replace(b": a", b":a")), [])
def test_what_a_client_has_sent_before_does_not_change_a_verdict(heads, places):
    first, second = heads
    alone = converse([second], **LIMITS)
    before, status, quiet = converse([first], **LIMITS)
    if status is None and quiet and before and before[-1][6]:
        assert converse([first, second], **LIMITS) == (before + alone[0], *alone[1:])
        assert converse([first, *cut(second, places)], **LIMITS) == (before + alone[0], *alone[1:])
        assert converse([first + second], **LIMITS) == (before + alone[0], *alone[1:])


@pytest.mark.parametrize(
    "length",
    [
        "+5",
        "-5",
        "5,5",
        "5, 5",
        "0x5",
        "5_0",
        "\xb2",
        "\xb9",
        "\xd9\xa5",
        "",
        "abc",
        "5 5",
        "5;",
        "1e3",
    ],
)
def test_content_length_is_digits_only_even_if_llhttp_lets_others_pass(length, monkeypatch):
    """RFC 9110 8.6. Also when llhttp has let it pass: a worker must not end by
    int().
    """

    class Judge:
        def __init__(self, protocol):
            pass

        def feed_data(self, data):
            pass

    monkeypatch.setattr("spyglass.http11.request_head.httptools.HttpRequestParser", Judge)
    data = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello".encode("latin-1")
    assert converse([data])[:2] == ([], 400)


def test_an_offered_upgrade_does_not_end_the_head_early(monkeypatch):
    """llhttp looks at nothing behind the head that makes the offer; so it must be all
    of it.
    """

    class Judge:
        def __init__(self, protocol):
            pass

        def feed_data(self, data):
            raise httptools.HttpParserUpgrade(len(data) - 2)

    monkeypatch.setattr("spyglass.http11.request_head.httptools.HttpRequestParser", Judge)
    assert converse([GOOD % 1])[:2] == ([], 400)


pieces_of_chunks = st.sampled_from(
    [
        *(
            b"0",
            b"1",
            b"3",
            b"a",
            b"ffff",
            b"10",
            b"+1",
            b"0x1",
            b"\xb2",
            b"1_0",
            b" ",
            b"\t",
            b";a",
            b';a="b"',
            b";a=" + b"b" * 300,
            b"",
            b";",
        ),
        *(
            b"\r\n",
            b"\r\n",
            b"\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b"abc",
            b"x",
            b"0\r\n",
            b"0\r\n\r\n",
            b"X: y",
            b"X: " + b"y" * 300,
        ),
        *(
            b"y" * 5000,
            b"y" * 509,
            b" X: y",
            b"X : y",
            b"Content-Length: 5",
            b"\x01",
            b"3\r\nabc\r\n",
            b"X" * 511,
            b":",
        ),
    ]
)


@given(st.lists(pieces_of_chunks, max_size=10).map(b"".join), places)
@example(b"0\r\nX: \0" + b"y" * 600 + b"\r\n\r\n", [])
@example(b"0\r\n" + b"X" * 512 + b"\n\r\n", [])
@example(b"0\r\n" + b"X" * 513 + b"\n\r\n", [])
def test_any_chunked_body_has_one_verdict(body, places):
    data = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    whole = converse([data], **LIMITS)
    assert converse(cut(data, places), **LIMITS) == whole
    assert converse([data[at : at + 1] for at in range(len(data))], **LIMITS) == whole


@pytest.mark.parametrize(
    "line",
    [
        b"X: a\nContent-Length: 5",
        b"X: a\rY: b",
        b"X: \0",
        b"\x01: a",
        b"X: \x7f",
        b"Accept: a\nX: b",
    ],
)
def test_where_a_line_ends_is_not_for_llhttp_alone_to_decide(line, monkeypatch):
    monkeypatch.setattr(
        "spyglass.http11.request_head.httptools.HttpRequestParser",
        lambda _: SimpleNamespace(feed_data=lambda _: None),
    )
    for _ in range(2):
        assert converse([b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % line])[:2] == ([], 400)


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\0b", b"a\x7fb", b"a\nContent-Length: 5"])
def test_nor_is_it_when_the_client_has_sent_the_header_before(value, monkeypatch):
    monkeypatch.setattr(
        "spyglass.http11.request_head.httptools.HttpRequestParser",
        lambda _: SimpleNamespace(feed_data=lambda _: None),
    )
    for before in (b"a", b"a" * len(value)):
        requests, status, _ = converse([FIRST % before, FIRST % value])
        assert (len(requests), status) == (1, 400)


def test_llhttp_judges_every_byte_that_is_used(monkeypatch):
    judged = []
    monkeypatch.setattr(
        "spyglass.http11.request_head.httptools.HttpRequestParser",
        lambda _: SimpleNamespace(feed_data=judged.append),
    )
    heads = [FIRST % value for value in (b"a", b"bc", b"de", b"", b"f g")]
    requests, _, _ = converse(heads)
    assert [request[5]["HTTP_X"] for request in requests] == ["a", "bc", "de", "", "f g"]
    assert judged == heads
