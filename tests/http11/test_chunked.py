"""The chunked coding: what it decodes to, and that no other recipient reads it differently
(RFC 9112 7.1).
"""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.errors import RequestError
from spyglass.http11.chunked import ChunkedDecoder, is_field_line, is_token
from spyglass.http11.request_body import Bodies, Body


def decode(data, *, max_body=1000, max_head=1000, step=None):
    """(body, what is left behind it) or the status of the refusal; None while it is
    incomplete.
    """
    body, rest = Body(1 << 20), b""
    decoder = ChunkedDecoder(body, max_body, max_head)
    try:
        for at in range(0, len(data), step or max(1, len(data))):
            rest += data[at : at + (step or len(data))]
            rest = rest[decoder.decode(rest) :]
    except RequestError as error:
        return error.status
    return (body.open().read(), rest) if decoder.done else None


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"1\r\na\r\n2\r\nbc\r\n000\r\n\r\n", b"abc"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"002\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"1;a=b\r\nx\r\n0;c\r\n\r\n", b"x"),
        (b'1 \t; a = "b;\\"c" ;d\r\nx\r\n0\r\n\r\n', b"x"),
        (b"1\r\nx\r\n0\r\nX: y\r\nContent-Length: 5\r\n\r\n", b"x"),
    ],
)
@pytest.mark.parametrize("step", [None, 1, 2, 3])
def test_good(data, body, step):
    assert decode(data + b"NEXT", step=step) == (body, b"NEXT")


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"\r\n",
            b"\n",
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1 \r\n",
            b"1_0\r\n",
            b";a\r\n",
            b"\xb2\r\n",
            b"1\n",
            b"1\r\r\n",
        ),
        *(b"1\0\r\n", b"1\r\nxy", b"1\r\nx\n", b"1\r\nx\rx", b"1\r\nx\r\n\r\n", b"1\r\nx0\r\n\r\n"),
        *(
            b"1;\r\n",
            b"1;=b\r\n",
            b"1;a=\r\n",
            b"1;a b\r\n",
            b'1;a="b\r\n',
            b"1;a\rb\r\n",
            b"1;a=b\n",
            b"1,a\r\n",
            b'1;a="\x01"\r\n',
        ),
        *(
            b"0\r\nX\r\n",
            b"0\r\nX : y\r\n",
            b"0\r\n: y\r\n",
            b"0\r\n X: y\r\n",
            b"0\r\nX: \x01\r\n",
            b"0\r\nX: y\n\r\n",
            b"0\r\n\n",
        ),
    ],
)
@pytest.mark.parametrize("step", [None, 1])
def test_bad(data, step):
    assert decode(data, step=step) == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"3e8\r\n", None),  # 1000: as much as may be
        (b"3e9\r\n", 413),
        (b"1\r\nx\r\n3e8\r\n", 413),
        (b"f" * 16 + b"\r\n", 413),  # 2**64 - 1, and beyond what an integer of 64 bits holds
        (b"1" + b"0" * 16 + b"\r\n", 413),
        (b"0" * 5000, 400),
        (b"0\r\nX: " + b"y" * 997, None),
        (b"0\r\nX: " + b"y" * 998, 431),
        (b"0\r\n" + b"X: y\r\n" * 200, 431),
        ((b"1;" + b"e" * 100 + b"\r\nx\r\n") * 20, 400),
    ],
)
def test_limits(data, status):
    assert decode(data) == status


def test_a_client_that_sends_byte_by_byte_costs_little_more_than_its_bytes():
    """Counted, not timed: the body is written to once for all chunks that have come
    together.
    """
    file = Counting()
    body = Body(0, Bodies(0, 1 << 20, lambda: file))
    decoder = ChunkedDecoder(body, 10_000, 1000)
    data = b"1\r\nx\r\n" * 5000
    assert decoder.decode(data) == len(data)
    assert (body.length, file.writes) == (5000, 1)


class Counting(BytesIO):
    writes = 0

    def write(self, data):
        self.writes += 1
        return super().write(data)


@pytest.mark.parametrize(
    ("data", "bulky"),
    [
        (b"", False),
        (b"1\r\nx\r\n", False),
        (b"1\r\nx\r\n" * 1000, False),
        (b"3e8\r\n" + b"x" * 1000 + b"\r\n", True),
        (b"ffff\r\n" + b"x" * 1000, True),
        (b"fffff\r\n", False),
        (b"3e8\r\n" + b"x" * 1000 + b"\r\n" + b"1\r\nx\r\n" * 5, False),
    ],
)
def test_whether_more_may_be_read_at_a_time(data, bulky):
    decoder = ChunkedDecoder(Body(1 << 20), 1 << 20, 1000)
    decoder.decode(data)
    assert decoder.bulky is bulky


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.integers(1, 9))
def test_what_was_coded_is_decoded(chunks, step):
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert decode(data + b"GET /", step=step) == (b"".join(chunks), b"GET /")
    assert all(decode(data[:end]) is None for end in range(len(data)))


@given(
    st.lists(
        st.sampled_from(
            [
                b"1",
                b"f",
                b"0",
                b"\r\n",
                b"\r",
                b"\n",
                b";",
                b"a",
                b"=",
                b'"',
                b"x",
                b":",
                b" ",
                b"\0",
            ]
        ),
        max_size=14,
    ).map(b"".join)
)
def test_any_bytes_decode_to_the_same_however_they_are_cut(data):
    whole, bytewise = decode(data), decode(data, step=1)
    assert whole == bytewise or (isinstance(whole, int) and isinstance(bytewise, int))


@pytest.mark.parametrize(
    ("text", "token"),
    [
        (b"X-y.z!#$%&'*+^_`|~9", True),
        (b"", False),
        (b"a b", False),
        (b"a:", False),
        (b"a\xe9", False),
        (b"(", False),
        (b'"', False),
    ],
)
def test_token(text, token):
    assert is_token(text) is token


@pytest.mark.parametrize(
    ("line", "good"),
    [
        *(
            (line, True)
            for line in (b"A: b", b"A:", b"A:b", b"A: \tb\t ", b"A: \x80\xff", b"A: b: c")
        ),
        *(
            (line, False)
            for line in (b"", b"A", b":b", b"A : b", b" A: b", b"A: b\0", b"A: b\x7f", b"A: b\x0b")
        ),
    ],
)
def test_field_line(line, good):
    assert is_field_line(line) is good
