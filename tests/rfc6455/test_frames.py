"""Frames in, events out; and out again (RFC 6455 5)."""

import random
import zlib
from pathlib import Path

import pytest
from http11.reading import cut
from hypothesis import given
from hypothesis import strategies as st

from spyglass.websocket import frames
from spyglass.websocket.close_codes import NO_CODE, may_be_sent
from spyglass.websocket.frames import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    close_frame,
    frame_head,
    unmask,
)

from .cases import CASES
from .speaking import (
    binary,
    bytewise,
    close,
    deflated,
    frame,
    masked,
    more,
    ping,
    pong,
    read,
    reader,
    same_in_any_cut,
    text,
)

CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "frames").glob("*"))


def in_small_pieces(data):
    """Byte by byte, but long ones only at both ends."""
    if len(data) <= 4000:
        return bytewise(data)
    return [*bytewise(data[:2000]), data[2000:-2000], *bytewise(data[-2000:])]


# The table


@pytest.mark.parametrize(("name", "case"), CASES, ids=[name for name, _ in CASES])
class TestCase:
    def expect(self, case, pieces):
        expected = list(case.events), case.fails
        assert read(pieces, max_size=case.max_size, compression=case.compression) == expected

    def test_whole(self, name, case):
        self.expect(case, [case.send])

    def test_byte_by_byte(self, name, case):
        self.expect(case, in_small_pieces(case.send))

    def test_cut_at_random_places(self, name, case):
        rng = random.Random(zlib.crc32(name.encode()))
        for _ in range(5):
            self.expect(case, cut(case.send, [rng.randrange(1 << 20) for _ in range(4)]))


def test_names_of_cases_are_unique():
    assert len({name for name, _ in CASES}) == len(CASES)


# The reader


def test_what_has_come_is_read_when_its_caller_is_ready():
    each = reader()
    each.feed(text("a") + text("b") + text("c")[:3])
    assert each.next() == (TEXT, "a")
    assert each.unread == len(text("b")) + 3
    each.feed(text("c")[3:])
    assert each.next() == (TEXT, "b")
    assert each.next() == (TEXT, "c")
    assert each.next() is None
    assert each.unread == 0


def test_nothing_is_read_behind_a_close():
    each = reader()
    each.feed(close(1000) + text("a"))
    assert each.next() == (CLOSE, (1000, ""))
    assert each.closed
    each.feed(text("b"))
    assert each.next() is None


def test_payload_is_taken_out_of_the_buffer_as_it_arrives():
    """Else a message in many packets would be copied for each of them."""
    each = reader()
    data = binary(b"x" * 500_000)
    for at in range(0, len(data) - 1, 1000):
        each.feed(data[at : at + 1000])
        if at + 1000 < len(data):
            assert each.next() is None
            assert each.unread == 0
    assert each.next() == (BINARY, b"x" * 500_000)


def test_a_message_of_tiny_fragments_takes_no_more_memory_than_it_says(tracing):
    each = reader()
    each.feed(binary(b"ab", fin=False))
    assert each.next() is None
    piece = more(b"cd", fin=False) * 1000
    begun = tracing()
    for _ in range(50):
        each.feed(piece)
        assert each.next() is None
    assert tracing() - begun < 2 * 100_000 + len(piece) + 10_000


@pytest.fixture
def tracing():
    """Bytes that are allocated now."""
    import tracemalloc

    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


@given(st.binary(max_size=2000), st.binary(min_size=4, max_size=4))
def test_unmask_is_what_the_rfc_says(payload, key):
    assert unmask(payload, key) == masked(payload, key)


# Any cut of any bytes

some_bytes = st.binary(max_size=20) | st.binary(min_size=1, max_size=4).map(lambda a: a * 150)
some_text = some_bytes | st.text(max_size=12).map(str.encode)
data_frames = st.builds(
    lambda opcode, said, fin, rsv, key: frame(opcode, said, fin=fin, rsv=rsv, key=key),
    st.sampled_from([0, 0, 1, 1, 2]),
    some_text | some_text.map(deflated),
    st.booleans(),
    st.sampled_from([0, 0, 0, 4]),
    st.binary(min_size=4, max_size=4),
)
other_frames = st.one_of(
    st.builds(ping, st.binary(max_size=5)),
    st.builds(pong, st.binary(max_size=5)),
    st.builds(close, st.sampled_from([None, 1000, 1001, 1005, 4000]), some_text),
    st.binary(max_size=12),
)
streams = st.lists(data_frames | data_frames | other_frames, max_size=8).map(b"".join)
places = st.lists(st.integers(0, 2000), max_size=12)


@given(streams, places)
def test_any_cut_gives_the_same_events(data, places):
    same_in_any_cut(data, places)


@pytest.mark.parametrize("path", CORPUS, ids=[path.name for path in CORPUS])
def test_what_the_long_runs_have_found(path):
    data = path.read_bytes()
    same_in_any_cut(data, [len(data) // 2, len(data) // 3])


messages = st.lists(st.text(max_size=200) | st.binary(max_size=200), max_size=6)


@given(messages, places, st.data())
def test_messages_arrive_as_they_were_said(said, places, data):
    """In fragments, compressed or not, with pings in between."""
    sent = b""
    for each in said:
        opcode, payload = (TEXT, each.encode()) if isinstance(each, str) else (BINARY, each)
        rsv = data.draw(st.sampled_from([0, 4]))
        parts = cut(deflated(payload) if rsv else payload, data.draw(places_)) or [b""]
        for number, part in enumerate(parts):
            fin = number == len(parts) - 1
            sent += frame(0 if number else opcode, part, fin=fin, rsv=0 if number else rsv)
            sent += data.draw(st.sampled_from([b"", ping(b"p")]))
    events, code = read(cut(sent, places), compression=True)
    assert code is None
    assert [payload for opcode, payload in events if opcode != PING] == said


places_ = st.lists(st.integers(0, 200), max_size=3)


# Writing


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x82\x00"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65535, b"\x82\x7e\xff\xff"),
        (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_head_says_length_in_the_fewest_bytes(size, head):
    assert frame_head(BINARY, size) == head
    assert frames.frame(BINARY, bytes(size)) == head + bytes(size)


def test_head_of_a_compressed_message_has_rsv1():
    assert frame_head(TEXT, 5, compressed=True) == b"\xc1\x05"


@pytest.mark.parametrize(
    ("code", "reason", "sent"),
    [
        (NO_CODE, "", b"\x88\x00"),
        (1000, "", b"\x88\x02\x03\xe8"),
        (1001, "é", b"\x88\x04\x03\xe9\xc3\xa9"),
        (1000, "x" * 200, b"\x88\x7d\x03\xe8" + b"x" * 123),
        (1000, "xx" + "é" * 100, b"\x88\x7c\x03\xe8xx" + "é".encode() * 60),
        (1000, "\ud800", b"\x88\x03\x03\xe8?"),
    ],
)
def test_close_frame(code, reason, sent):
    assert close_frame(code, reason) == sent


def test_codes_that_no_frame_may_have():
    valid = [code for code in range(6000) if may_be_sent(code)]
    expected = [1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)]
    assert valid == expected
