"""The PROXY header in both versions, whole and in pieces, and what is none."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.errors import PrefaceError
from spyglass.http11.proxy_protocol import read_header

from .reading import cut

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
NEXT = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FOUR = (
    ipaddress.ip_address("192.0.2.1").packed
    + ipaddress.ip_address("198.51.100.2").packed
    + struct.pack("!HH", 56324, 443)
)
SIX = (
    ipaddress.ip_address("2001:db8::1").packed
    + ipaddress.ip_address("2001:db8::2").packed
    + struct.pack("!HH", 56324, 443)
)
MAPPED = (
    ipaddress.ip_address("::ffff:192.0.2.1").packed
    + ipaddress.ip_address("::ffff:198.51.100.2").packed
    + struct.pack("!HH", 1, 2)
)
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
TCP4, TCP6, STREAM = 0x11, 0x21, 0x31
LOCAL, PROXY = 0x20, 0x21


def block(command, family, payload, length=None):
    return (
        SIGNATURE
        + struct.pack("!BBH", command, family, len(payload) if length is None else length)
        + payload
    )


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def tls(client=1):
    return tlv(0x20, struct.pack("!BI", client, 0) + tlv(0x21, b"TLSv1.3"))


def environ(source, source_port, destination, port, **more):
    return {
        "REMOTE_ADDR": source,
        "REMOTE_PORT": source_port,
        "SERVER_NAME": destination,
        "SERVER_PORT": port,
    } | more


SECURE = {"wsgi.url_scheme": "https", "HTTPS": "on"}
V4 = environ("192.0.2.1", "56324", "198.51.100.2", "443")
V6 = environ("2001:db8::1", "56324", "[2001:db8::2]", "443")
OF_UNIX = {"REMOTE_ADDR": "", "SERVER_NAME": "localhost", "SERVER_PORT": "80"}

GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", V4),
    (b"PROXY TCP6 2001:db8::1 2001:DB8:0::2 56324 443\r\n", V6),
    (
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 0 65535\r\n",
        environ("192.0.2.1", "0", "198.51.100.2", "65535"),
    ),
    (
        b"PROXY TCP6 "
        + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2)
        + b" 65535 65535\r\n",
        None,
    ),
    (b"PROXY UNKNOWN\r\n", {}),
    (
        b"PROXY UNKNOWN "
        + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2)
        + b" 65535 65535\r\n",
        {},
    ),
    (b"PROXY UNKNOWN \0\xff\n\r x\r\n", {}),
    (block(PROXY, TCP4, FOUR), V4),
    (block(PROXY, TCP6, SIX), V6),
    (block(PROXY, TCP6, MAPPED), environ("192.0.2.1", "1", "198.51.100.2", "2")),
    (block(PROXY, 0x12, FOUR), V4),  # of HTTP/3, spoken to the proxy over datagrams
    (block(PROXY, 0x22, SIX), V6),
    (block(PROXY, STREAM, UNIX), OF_UNIX),
    (block(PROXY, STREAM, UNIX + tls()), OF_UNIX | SECURE | {"SERVER_PORT": "443"}),
    (block(LOCAL, 0, b""), {}),
    (block(LOCAL, TCP4, FOUR), {}),
    (block(LOCAL, TCP4, b"x"), {}),
    (block(PROXY, 0, b""), {}),
    (block(PROXY, 0, b"whatever"), {}),
    (block(PROXY, 0x10, FOUR), {}),
    (block(PROXY, 0x01, FOUR), {}),
    # Extensions
    (block(PROXY, TCP4, FOUR + tlv(0x02, b"a.example") + tlv(0x04, bytes(100))), V4),
    (block(PROXY, TCP4, FOUR + bytes(60000)), V4),
    (block(PROXY, TCP4, FOUR + tls()), V4 | SECURE),
    (block(PROXY, TCP6, SIX + tlv(0x01, b"h2") + tls(7) + tlv(0x04, b"")), V6 | SECURE),
    (block(PROXY, TCP4, FOUR + tls(0)), V4),
    (block(PROXY, TCP4, FOUR + tls(6)), V4),
    (block(PROXY, TCP4, FOUR + tlv(0x20, b"")), V4),
    (block(PROXY, TCP4, FOUR + b"\x20\x00\x05\x01"), V4),  # cut short
    (block(PROXY, TCP4, FOUR + b"\x20"), V4),
    (block(PROXY, TCP4, FOUR + b"\x20\0\0"), V4),
]
BAD = [
    NEXT,
    b"\r\n" + NEXT,
    b"\0",
    b"P" + NEXT,
    b"proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY\r\n",
    b"PROXY\tTCP4 192.0.2.1 198.51.100.2 1 2\r\n",
    b" PROXY UNKNOWN\r\n",
    b"PROXY \r\n",
    b"PROXY TCP5 192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
    b"PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 \xb2 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2  2\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 192.0.02.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP6 [::1] ::1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n" + NEXT * 4,
    b"PROXY UNKNOWN" + b" " * 93 + b"\r\n",  # 108 bytes
    b"PROXY UNKNOWN" + b" " * 1000,
    SIGNATURE[:-1] + b"\r",
    block(0x11, TCP4, FOUR),
    block(0x31, TCP4, FOUR),
    block(0x22, TCP4, FOUR),
    block(0x2F, TCP4, FOUR),
    block(PROXY, 0x41, FOUR),
    block(PROXY, 0x13, FOUR),
    block(PROXY, 0xFF, FOUR),
    block(PROXY, TCP4, FOUR[:-1]),
    block(PROXY, TCP4, b""),
    block(PROXY, TCP6, FOUR),
    block(PROXY, STREAM, UNIX[:-1]),
]


def told(data):
    """(what is told, what follows), "more", or "refused"."""
    try:
        header = read_header(data)
    except PrefaceError as error:
        assert str(error)
        return "refused"
    if header is None:
        return "more"
    size, endpoints = header
    return endpoints and (endpoints.environ(), str(endpoints)), data[size:]


def in_pieces(pieces):
    """The same, from what comes in these pieces."""
    data, outcome = b"", "more"
    for piece in pieces:
        data += piece
        if outcome == "more":
            outcome = told(data)
        elif outcome != "refused":
            outcome = (outcome[0], outcome[1] + piece)
    return outcome


@pytest.mark.parametrize(("header", "expected"), GOOD)
def test_headers(header, expected):
    endpoints, rest = told(header + NEXT)
    assert rest == NEXT
    assert expected is None or (endpoints[0] if endpoints else {}) == expected


@pytest.mark.parametrize("header", [header for header, _ in GOOD])
def test_a_header_may_end_nowhere_but_at_its_end(header):
    sizes = range(len(header)) if len(header) < 500 else [*range(100), len(header) - 1]
    assert {told(header[:size]) for size in sizes} == {"more"}


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header(data):
    assert told(data) == "refused"
    assert told(data + NEXT) == "refused"


def test_what_is_no_header_is_refused_at_its_first_byte_that_is_wrong():
    assert told(b"PROX") == "more"
    assert told(b"PROXY") == "more"
    assert (
        told(b"G")
        == told(b"PROXI")
        == told(SIGNATURE[:5] + b"x")
        == told(SIGNATURE + b"\x11")
        == told(SIGNATURE + b"\x21\x41")
        == "refused"
    )


def test_the_longest_line():
    longest = b"PROXY UNKNOWN" + b" " * 92 + b"\r\n"
    assert len(longest) == 107
    assert told(longest) == (None, b"")
    assert told(longest[:-1]) == "more"


BYTES = st.binary(max_size=300)
HEADERS = st.sampled_from([header for header, _ in GOOD if len(header) < 500] + BAD)
BLOCKS = st.builds(
    block, st.integers(0, 255), st.integers(0, 255), BYTES, st.none() | st.integers(0, 400)
)
WORDS = (
    st.lists(
        st.sampled_from(
            ["PROXY", "TCP4", "TCP6", "UNKNOWN", "1.2.3.4", "::1", "1", "65536", "", "\r\n"]
        )
    )
    .map(" ".join)
    .map(str.encode)
)


@given(
    BYTES | BLOCKS | WORDS | HEADERS | st.tuples(HEADERS, BYTES).map(b"".join),
    st.lists(st.integers(0, 1000), max_size=5),
)
def test_any_bytes_give_a_header_or_a_refusal_and_any_pieces_the_same(data, places):
    assert in_pieces(cut(data, places)) == told(data)


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 65535), st.integers(0, 65535))
def test_both_versions_tell_the_same(source, destination, source_port, destination_port):
    if source.version != destination.version:
        return
    line = f"PROXY TCP{source.version} {source} {destination} {source_port} {destination_port}\r\n".encode()
    packed = source.packed + destination.packed + struct.pack("!HH", source_port, destination_port)
    assert told(line) == told(block(PROXY, TCP4 if source.version == 4 else TCP6, packed))
