"""From bytes to requests: the limits at their borders, and that it never matters how
the bytes were cut.
"""

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.http11.caches import LINES
from spyglass.http11.request_head import HeadParser, environ_key
from spyglass.http11.request_reader import RequestReader

from .cases import ALL
from .reading import converse, cut, facts, limits_of, reader, refused, single

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def request(*lines, body=b"", start="GET / HTTP/1.1"):
    return (
        "".join(line + "\r\n" for line in (start, "Host: a", *lines, "")).encode("latin-1") + body
    )


def field_values(data):
    return single(data)[5]


# What a request is


def test_a_request():
    method, target, version, path, query, fields, keep_alive, body = single(
        request(
            "X-Y: z ",
            "Content-Type: text/plain",
            "Content-Length: 5",
            start="PUT /a%20b?c=%20 HTTP/1.1",
            body=b"hello",
        )
    )
    assert (method, target, version, path, query) == (
        "PUT",
        "/a%20b?c=%20",
        (1, 1),
        "/a%20b",
        "c=%20",
    )
    assert fields == {
        "HTTP_HOST": "a",
        "HTTP_X_Y": "z",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "5",
    }
    assert (keep_alive, body) == (True, b"hello")


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Close", False),
        ("1.1", "keep-alive, \tclose", False),
        ("1.1", "keep-alive", True),
        ("1.1", "x-close", True),
        ("1.1", "upgrade", True),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
        ("1.0", "Keep-Alive, x", True),
        ("1.0", "keep-alive, close", False),
        ("1.0", "x", False),
        ("1.9", None, True),
    ],
)
def test_keep_alive_follows_the_version_and_the_connection_header(version, connection, kept):
    """RFC 9112 9.3"""
    lines = [] if connection is None else [f"Connection: {connection}"]
    assert single(request(*lines, start=f"GET / HTTP/{version}"))[6] is kept


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (b"Host", "HTTP_HOST"),
        (b"x-forwarded-for", "HTTP_X_FORWARDED_FOR"),
        (b"CONTENT-type", "CONTENT_TYPE"),
        (b"content-LENGTH", "CONTENT_LENGTH"),
        (b"Content-Encoding", "HTTP_CONTENT_ENCODING"),
        (b"X_Forwarded_For", ""),
        (b"Content_Length", ""),
        (b"_", ""),
    ],
)
def test_names_as_the_environ_has_them(name, key):
    """RFC 3875 4.1.18; with an underscore they could forge what a proxy vouches for."""
    assert environ_key(name.decode()) == key


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        (["A: 1", "A: 2"], "HTTP_A", "1, 2"),
        (["A: 1", "B: x", "a: 2", "A:"], "HTTP_A", "1, 2, "),
        (["Cookie: a=1", "Cookie: b=2"], "HTTP_COOKIE", "a=1; b=2"),
        (["A: \t x y \t"], "HTTP_A", "x y"),
        (["A:x"], "HTTP_A", "x"),
        (["A: caf\xe9"], "HTTP_A", "caf\xe9"),
        (["A:"], "HTTP_A", ""),
    ],
)
def test_values_and_repeated_fields(lines, key, value):
    """RFC 9110 5.3, RFC 6265 5.4, PEP 3333 on latin-1"""
    assert field_values(request(*lines))[key] == value


@pytest.mark.parametrize("second", ["", "a/b", "c/d"])
@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "Content-Type",
        "Content-Range",
        "Authorization",
        "Proxy-Authorization",
        "content-type",
        "AUTHORIZATION",
    ],
)
def test_two_of_what_there_can_be_one_of(name, second):
    """RFC 9110 5.3. A filter before us may have looked at either of them."""
    assert refused(request(f"{name}: 1", "X: y", f"{name.title()}: {second}", body=b"a")) == 400


@pytest.mark.parametrize(
    "line", ["X: " + "y" * 60_000, "X" * 60_000 + ": y", "Connection: close, " + "x" * 60_000]
)
def test_a_large_head_is_not_kept(line):
    """An idle connection costs little, whatever was said on it; so do names that a
    client has made up.
    """
    each = reader()
    converse([request(line)])  # what this makes once and for all
    tracemalloc.start()
    try:
        assert each.next(request(line)) is not None
        assert tracemalloc.get_traced_memory()[0] < 20_000
    finally:
        tracemalloc.stop()
        each.close()


def test_large_hosts_are_not_kept():
    tracemalloc.start()
    try:
        for number in range(50):
            single(request().replace(b"Host: a", b"Host: %b%d" % (b"a" * 60_000, number)))
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def test_empty_lines_cost_no_more_than_they_are_long():
    """One by one, each moving what follows it, so many would take minutes."""
    requests, status, _ = converse([b"\r\n" * 1_000_000, HEAD])
    assert (len(requests), status) == (1, None)


@pytest.mark.parametrize(
    "lines", [b"\r\n\n", b"\r\n\r\r\n", b"\r\n\r\r\r\n", b"\r\n\n\r", b"\r\n\rG", b"\r\n\n\r\n\r\n"]
)
def test_bare_line_ends_among_empty_lines(lines):
    """RFC 9112 2.2"""
    assert refused(lines + HEAD) == 400
    assert refused(b"\r\n" * 3 + lines + HEAD) == 400


def test_100_continue_is_expected_only_where_a_body_is_to_come():
    each = reader()
    assert (
        each.next(request("Expect: 100-Continue", "Content-Length: 2", start="PUT / HTTP/1.1"))
        is None
    )
    assert each.pending.expects_continue
    assert each.next(b"hi") is not None
    for lines in (["Expect: 100-continue"], ["Expect: 100-continue", "Content-Length: 0"]):
        assert not each.next(request(*lines)).expects_continue
    each.close()
    assert refused(request("Expect: 200-ok")) == 417


# Where one ends and the next begins


def test_quiet_is_the_time_between_two_requests():
    each = reader()
    states = []
    for piece in (b"", b"\r\n", b"G", HEAD[1:], b""):
        while each.next(piece):
            piece = b""
        states.append(each.quiet)
    assert states == [True, True, False, True, True]


def test_the_next_request_is_read_only_when_it_is_asked_for():
    """A client that pipelines bad bytes behind a good request gets the answer to the
    good one first.
    """
    each = reader()
    assert each.next(HEAD + b"\0\0\0\0\r\n\r\n") is not None
    with pytest.raises(Exception, match="bad request line"):
        each.next()


@pytest.mark.parametrize(
    ("data", "is_head"),
    [(b"HEAD / HTTP/1.1\r\nbad", True), (b"GET / HTTP/1.1\r\nbad", False), (b"HE", False)],
)
def test_whether_a_refusal_would_answer_a_head(data, is_head):
    each = reader()
    assert each.next(data) is None
    assert each.is_head is is_head


def test_nothing_of_a_connection_waits_for_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        each = reader()
        assert each.next(HEAD + request("Content-Length: 9", body=b"x")) is not None
        each.next()
        each.close()
        del each
        assert gc.collect() == 0  # nothing was left for it
    finally:
        gc.enable()


# Limits, at and beyond their borders


def of_size(size):
    return request("X: " + "y" * (size - len(request("X: "))))


@pytest.mark.parametrize(
    ("what", "data", "limits", "status"),
    [
        ("head", of_size(300), {"max_head": 300}, None),
        ("head", of_size(301), {"max_head": 300}, 431),
        ("head, behind empty lines", b"\r\n\r\n" + of_size(300), {"max_head": 300}, None),
        ("head, incomplete", of_size(303)[:300], {"max_head": 300}, None),
        ("head, incomplete", of_size(305)[:301], {"max_head": 300}, 431),
        ("request line", request(start="GET /" + "a" * 270 + " HTTP/1.1"), {"max_head": 300}, None),
        ("request line", request(start="GET /" + "a" * 300 + " HTTP/1.1"), {"max_head": 300}, 414),
        ("request line, incomplete", b"GET /" + b"a" * 296, {"max_head": 300}, 414),
        ("fields", request("A: 1", "B: 1"), {"max_fields": 3}, None),
        ("fields", request("A: 1", "B: 1", "C: 1"), {"max_fields": 3}, 431),
        ("fields that are dropped", request("A_B: 1", "A_B: 1", "A_B: 1"), {"max_fields": 3}, 431),
        ("body", request("Content-Length: 9", body=b"x" * 9), {"max_body": 9}, None),
        ("body", request("Content-Length: 10"), {"max_body": 9}, 413),
        ("body of 0", request("Content-Length: 0"), {"max_body": 0}, None),
        ("body, beyond any integer", request("Content-Length: " + "9" * 30), {}, 413),
        (
            "chunks",
            request("Transfer-Encoding: chunked", body=b"5\r\nxxxxx\r\n4\r\nxxxx\r\n0\r\n\r\n"),
            {"max_body": 9},
            None,
        ),
        (
            "chunks",
            request("Transfer-Encoding: chunked", body=b"5\r\nxxxxx\r\n5\r\n"),
            {"max_body": 9},
            413,
        ),
        (
            "trailers",
            request("Transfer-Encoding: chunked", body=b"0\r\n" + b"A: %b\r\n\r\n" % (b"x" * 293)),
            {"max_head": 300},
            None,
        ),
        (
            "trailers",
            request("Transfer-Encoding: chunked", body=b"0\r\n" + b"A: %b\r\n\r\n" % (b"x" * 300)),
            {"max_head": 300},
            431,
        ),
    ],
)
def test_limits(what, data, limits, status):
    requests, refusal, _ = converse([data], **limits)
    assert refusal == status
    assert bool(requests) == (status is None and "incomplete" not in what)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        *(
            (data, 400)
            for data in (
                b"GET / HTTP/1.1\nHost: a",
                b"GET / HTTP/1.1\r\nA: b\r\n c",
                b"GET / HTTP/1.1\r\nA: b\rc",
                b"\n",
                b"\r\r",
            )
        ),
        # Another protocol: TLS, SSH, SOCKS, RDP, Redis, a PROXY header where there is
        # to be none, and what netcat gets from a cat on the keys
        *(
            (data, 400)
            for data in (
                b"\x16\x03\x01",
                b"SSH-2.0-OpenSSH_9.2p1\r\n",
                b"\x05\x01\0",
                b"\x03\0\0",
                b"*1\r\n$4\r\n",
                b"\r\n\r\n\0\r\nQUIT\n",
            )
        ),
        *(
            (data, 400)
            for data in (
                b"PROXY TCP4 1.2.3.4 5.6",
                b"{",
                b" GET",
                b"GE\xe9",
                b"\xef\xbb\xbfGET",
                b"G\0E\0T\0",
                b"HTTP/1.1 200",
                b"GET\r\n",
            )
        ),
        # NUL and the other controls, wherever they are
        *(
            (data, 400)
            for data in (
                b"\0",
                b"G\0",
                b"GET /\0",
                b"GET / \0",
                b"GET /\x1b",
                b"GET /\x7f",
                b"GET / HTTP/1.1\r\nA\0",
                b"GET / HTTP/1.1\r\nA: \x01",
            )
        ),
        # What is behind the target is no version, or there is more
        *(
            (data, 400)
            for data in (
                b"GET / FTP",
                b"GET / http",
                b"GET / HTTP/1.1x",
                b"GET / HTTP/1.1 ",
                b"GET / a b",
                b"DESCRIBE rtsp://a/ RTSP/1.0\r\n",
            )
        ),
        # A line that is complete is judged, whether its head is or not
        *(
            (data, 400)
            for data in (
                b"GET /\r\n",
                b"GET a HTTP/1.1\r\n",
                b"GET /# HTTP/1.1\r\n",
                b"GET /\xff HTTP/1.1\r\n",
                b"GET / HTTP/1.\r\n",
            )
        ),
        *(
            (b"GET / HTTP/2.0\r\n", 505),
            (b"PRI * HTTP/2.0\r\n", 505),
            (b"BREW / HTTP/1.1\r\n", 501),
            (b"CONNECT a:1 HTTP/1.1\r\n", 501),
        ),
        # RFC 9112 3: longer than any method that is implemented
        *(
            (b"X" * 33, 501),
            (b"X" * 33 + b"\0", 501),
            (b"X" * 33 + b" / HTTP/1.1\r\n", 501),
            (b"X" * 100_000, 501),
        ),
    ],
)
def test_what_can_no_longer_become_good_is_refused_at_once(data, status):
    """Its sender may wait for the answer before it sends the rest, or never send
    any.
    """
    assert refused(data) == status


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"\r",
            b"\r\n",
            b"\r\n\r",
            b"G",
            b"X" * 32,
            b"GET ",
            b"GET /",
            b"GET / ",
            b"GET / H",
            b"GET / HTTP/1.1",
            b"GET / HTTP/1.1\r",
        ),
        *(
            b"PRI * HTTP/2.0",
            b"PRI * HTTP/2.0\r",
            b"BREW /",
            b"OPTIONS *",
            b"GET http://",
            b"GET / HTTP/1.1\r\nA",
            b"GET / HTTP/1.1\r\nA:\t\r",
        ),
    ],
)
def test_what_may_yet_become_one_is_waited_for(data):
    assert converse([data])[:2] == ([], None)
    assert converse([data[at : at + 1] for at in range(len(data))])[:2] == ([], None)


# However it was cut

tokens = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-", min_size=1, max_size=8)
values = st.text("abc \t\xe9,;=\"'123", max_size=12)
bodies = st.binary(max_size=40) | st.binary(min_size=1, max_size=8).map(lambda some: some * 40)


@st.composite
def chunked_bodies(draw):
    chunks = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4))
    extension = draw(st.sampled_from(["", ";a", " ; a=b", ';a="b;\\" c"']))
    trailers = draw(st.sampled_from(["", "X: y\r\n", "Content-Length: 7\r\nHost: b\r\n"]))
    size = draw(st.sampled_from(["%x", "%X", "00%x"]))
    coded = b"".join(
        (size % len(chunk) + extension + "\r\n").encode() + chunk + b"\r\n" for chunk in chunks
    )
    return b"".join(chunks), coded + b"0\r\n" + trailers.encode() + b"\r\n"


@st.composite
def conversations(draw):
    """Bytes of some good requests, and (method, path, body) of each."""
    data, meant = b"", []
    for _ in range(draw(st.integers(0, 4))):
        method = draw(st.sampled_from(["GET", "POST", "HEAD", "DELETE", "M-SEARCH"]))
        path = "/" + draw(st.text("ab/%20.~*:@", max_size=6))
        lines = [
            f"X-{name}: {value}"
            for name, value in draw(st.lists(st.tuples(tokens, values), max_size=3))
        ]
        body, coded = draw(
            st.just((None, b"")) | bodies.map(lambda body: (body, body)) | chunked_bodies()
        )
        if body is not None:
            lines.append(
                f"Content-Length: {len(body)}" if coded == body else "Transfer-Encoding: chunked"
            )
        lines.insert(
            0,
            draw(
                st.sampled_from(
                    [
                        "Upgrade: h2c\r\nConnection: upgrade",
                        "Connection: keep-alive",
                        "Expect: 100-continue",
                        "A: b",
                    ]
                )
            ),
        )
        data += draw(st.sampled_from([b"", b"\r\n"])) + request(
            *lines, start=f"{method} {path}?q HTTP/1.1", body=coded
        )
        meant.append((method, path, body if body or (body == b"" and coded) else None))
    return data, meant


places = st.lists(st.integers(0, 10_000), max_size=12)


@given(conversations(), places)
def test_any_cut_of_a_good_conversation_gives_its_requests(conversation, places):
    data, meant = conversation
    requests, status, quiet = converse(cut(data, places))
    assert (status, quiet) == (None, True)
    assert [(method, path, body) for method, _, _, path, _, _, _, body in requests] == meant
    assert (requests, None, True) == converse([data])


fragments = st.sampled_from(
    [
        *(
            b"GET",
            b"POST",
            b"HEAD",
            b"FOO",
            b"CONNECT",
            b" ",
            b"/",
            b"*",
            b"http://b/",
            b" HTTP/1.1\r\n",
            b" HTTP/1.0\r\n",
            b" HTTP/2.0\r\n",
        ),
        *(
            b"GET / HTTP/1.1\r\n",
            b"POST / HTTP/1.1\r\n",
            b"Host: a\r\n",
            b"Host: a b\r\n",
            b"Content-Length: 3\r\n",
            b"Content-Length: -1\r\n",
        ),
        *(
            b"Transfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip\r\n",
            b"Transfer-Encoding:\r\n",
            b"Expect: 100-continue\r\n",
        ),
        *(
            b"Upgrade: x\r\nConnection: upgrade\r\n",
            b"Connection: close\r\n",
            b"A: b\r\n",
            b"\r\n",
            b"\r",
            b"\n",
            b"\0",
            b":",
            b"\t",
        ),
        *(b"3\r\n", b"abc", b"0\r\n", b";a=b", b"ffffffffffffffff\r\n", b"\xff", HEAD),
    ]
)
garbage = st.lists(fragments | st.binary(max_size=6), max_size=14).map(b"".join)


@given(garbage, places)
def test_any_bytes_are_requests_or_a_refusal_and_no_cut_changes_which(data, places):
    whole, in_pieces, bytewise = (
        converse([data]),
        converse(cut(data, places)),
        converse([data[at : at + 1] for at in range(len(data))]),
    )
    assert whole == in_pieces == bytewise


CONVERSATIONS = {
    case.name: b"".join(case.steps)
    for case in ALL
    if all(type(step) is bytes for step in case.steps) and 0 < case.size < 3000
}


@pytest.mark.parametrize("topic", sorted({case.topic for case in ALL}))
def test_every_wire_case_reads_alike_whole_and_byte_by_byte(topic):
    limits = {"max_head": 4096, "max_fields": 20, "max_body": 65536, "body_memory": 1024}
    for case in ALL:
        data = CONVERSATIONS.get(case.name)
        if case.topic == topic and data:
            whole, bytewise = (
                converse([data], **limits),
                converse([data[at : at + 1] for at in range(len(data))], **limits),
            )
            assert whole == bytewise, case.name


# What connections have in common


def test_a_head_that_says_nothing_personal_is_known_to_other_connections():
    head = b"HEAD /health HTTP/1.1\r\nHost: a\r\nUser-Agent: monitor\r\nConnection: close\r\n\r\n"
    limits, heads = limits_of(), HeadParser()
    readers = [RequestReader(limits, heads) for _ in range(3)]
    first, second, third = (each.next(head) for each in readers)
    assert first is second is third
    assert all(each.is_head and each.quiet for each in readers)
    assert facts(first)[:2] == ("HEAD", "/health")
    # And what a reader says next is its own.
    for each in readers:
        assert each.next(b"GET / HTTP/1.0\r\n\r\n").fields == {}
        assert not each.is_head


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nCookie: session=1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Token: 1\r\n\r\n",
        b"GET /?token=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nAccept: " + b"a" * 1000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na",
    ],
)
def test_others_are_not(head):
    limits, heads = limits_of(), HeadParser()
    first, second = (RequestReader(limits, heads).next(head) for _ in range(2))
    assert first is not second
    assert heads.known == {}


def test_nor_is_what_follows_it_on_the_connection_or_comes_together_with_more():
    limits, heads = limits_of(), HeadParser()
    each = RequestReader(limits, heads)
    assert each.next(HEAD + HEAD)
    assert each.next()
    assert each.next(HEAD)
    assert heads.known == {}


def test_heads_that_are_always_others_do_not_make_it_grow():
    limits, heads = limits_of(), HeadParser()
    for number in range(1000):
        assert (
            RequestReader(limits, heads)
            .next(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            .target
            == f"/{number}"
        )
        assert len(heads.known) <= 64


def test_the_same_fields_with_a_body_are_looked_at_once():
    each = reader()
    bodies = [
        each.next(
            b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab%d" % (number, number)
        )
        for number in range(3)
    ]
    assert [request.body.open().read() for request in bodies] == [b"ab0", b"ab1", b"ab2"]
    assert bodies[1].fields is bodies[2].fields
    # But not where reading the body changes them.
    chunked = [
        each.next(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n0\r\n\r\n"
            % chunk
        )
        for chunk in (b"1\r\na", b"2\r\nab")
    ]
    assert [request.fields["CONTENT_LENGTH"] for request in chunked] == ["1", "2"]
    zeros = [
        each.next(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %s3\r\n\r\nabc" % (b"0" * 20))
        for _ in range(2)
    ]
    assert [request.fields["CONTENT_LENGTH"] for request in zeros] == ["3", "3"]


SAME = b"Host: a\r\nConnection: keep-alive\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"GET /a HTTP/1.1\r\n" + SAME, b"GET /b HTTP/1.0\r\n" + SAME),
        (b"GET /a HTTP/1.0\r\n\r\n", b"GET /b HTTP/1.0\r\n\r\n"),
        (b"GET /a HTTP/1.1\r\n" + SAME, b"GET http://b/ HTTP/1.1\r\n" + SAME),
        (b"GET http://b/ HTTP/1.1\r\n" + SAME, b"GET /a HTTP/1.1\r\n" + SAME),
        (
            b"GET /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
            b"POST /b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        ),
        (b"GET /a HTTP/1.1\r\n" + SAME, b"HEAD /a HTTP/1.1\r\n" + SAME),
    ],
)
def test_what_was_said_with_the_same_fields_means_what_it_means_alone(first, second):
    for order in ([first, second], [second, first], [first, second, first, second]):
        assert converse(order)[0] == [single(each) for each in order]


@pytest.mark.parametrize(
    "second", [b"GET /b HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"]
)
def test_fields_that_were_good_in_an_older_version_are_looked_at_again(second):
    first = second.replace(b"1.1", b"1.0")
    assert converse([first, second])[1] == 400


def test_lines_of_harmless_headers_are_cached_and_no_others():
    secret = "a6f1c0"
    for number in range(2000):
        fields = [
            f"Accept: text/{number}",
            f"Cookie: session={secret}",
            f"X-Token: {secret}{number}",
            f"Authorization: Bearer {secret}",
        ]
        assert field_values(request(*fields))["HTTP_ACCEPT"] == f"text/{number}"
        assert len(LINES.entries) <= 512
    assert not any(secret in line for line in LINES.entries)
    # The same line twice is two values, whether it is known or not.
    for _ in range(2):
        assert field_values(request("Accept: a", "Accept: a"))["HTTP_ACCEPT"] == "a, a"
