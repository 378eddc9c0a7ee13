"""Any cut of any conversation gives the same answers, any bytes an answer or a close;
and nothing is left behind. See fake_clients.py.

What the long runs have found worth keeping (tests/fuzz) is said here again, each time.
"""

import tempfile
from pathlib import Path

import pytest
from http11.reading import cut
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .fake_clients import (
    ENDINGS,
    SETTINGS,
    Talking,
    hostile,
    responses,
    timeless,
    wire_conversations,
)

CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "corpus").glob("*"))


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """One worker for all conversations of a kind: what one client says must be nothing
    to the next.
    """
    made = {}

    def make(kind):
        if kind in made and not made[kind].sound:
            made.pop(kind).close()
        if kind not in made:
            made[kind] = Talking(tmp_path_factory.mktemp(kind, numbered=True), **SETTINGS[kind])
        return made[kind]

    yield make
    for each in made.values():
        each.close()


# Good conversations

FORMS = ["list", "parts", "sized", "file", "nothing", "unchanged"]
tokens = st.text("abcXYZ019-", min_size=1, max_size=8)
values = st.text("abc \t\xe9,;=\"'123", max_size=12)
bodies = st.binary(max_size=40) | st.binary(min_size=1, max_size=8).map(lambda some: some * 100)
places = st.lists(st.integers(0, 5000), max_size=12)


@st.composite
def chunked(draw):
    ends = st.sampled_from(["", ";a", " ; a=b", ';a="b;\\" c"', ";x;y=\t1"])
    size = draw(st.sampled_from(["%x", "%X", "00%x"]))
    data = b""
    for chunk in draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4)):
        data += (size % len(chunk) + draw(ends) + "\r\n").encode() + chunk + b"\r\n"
    trailers = draw(
        st.sampled_from(
            ["", "X: y\r\n", "Content-Length: 7\r\nHost: b\r\nTransfer-Encoding: chunked\r\n"]
        )
    )
    return data + f"{draw(st.sampled_from(['0', '000']))}{draw(ends)}\r\n{trailers}\r\n".encode()


@st.composite
def requests(draw, forms):
    """A good request, and whether another may follow it."""
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "M-SEARCH"]))
    path = "/" + draw(st.sampled_from(forms)) + "/" + draw(st.text("ab/%20.~*:@", max_size=6))
    target = draw(
        st.sampled_from(
            [
                path,
                f"{path}?q=a",
                f"http://b:80{path}?",
                f"HTTP://c{path}",
                "*" if method == "OPTIONS" else path,
            ]
        )
    )
    version = draw(st.sampled_from(["1.1", "1.1", "1.1", "1.0", "1.9"]))
    lines = [
        f"{name}: {value}"
        for name, value in draw(st.lists(st.tuples(tokens.map("X-{}".format), values), max_size=3))
    ]
    how = draw(st.sampled_from(["none", "length", "chunked"]))
    body = b""
    if how == "length" or (how == "chunked" and version == "1.0"):
        body = draw(bodies)
        lines.append(f"Content-Length: {len(body)}")
    elif how == "chunked":
        body = draw(chunked())
        lines.append("Transfer-Encoding: Chunked")
    lines += draw(
        st.sampled_from(
            [
                [],
                ["Expect: 100-continue"],
                ["Upgrade: h2c", "Connection: upgrade"],
                ["X_Y: dropped"],
            ]
        )
    )
    connection = draw(
        st.sampled_from([None, None, "keep-alive", "keep-alive", "close", "x, Close"])
    )
    lines += [f"Connection: {connection}"] if connection else []
    host = [] if version == "1.0" and draw(st.booleans()) else ["Host: a"]
    lines = draw(st.permutations(host + lines))
    data = (
        "".join(line + "\r\n" for line in (f"{method} {target} HTTP/{version}", *lines, "")).encode(
            "latin-1"
        )
        + body
    )
    kept = version != "1.0" if connection is None else "close" not in connection.lower()
    # An app that does not say how long its answer is ends the connection with it, for a
    # client that does not know chunks.
    return data, kept, version == "1.0" and path.startswith(("/parts", "/large", "/written"))


@st.composite
def conversations(draw):
    """Bytes, and how many requests in them are to be answered, for certain."""
    # Who writes must be read meanwhile: not behind an answer that fills the socket, for
    # the reader is in the same thread.
    forms = FORMS + draw(st.sampled_from([[], ["large"], ["written"]]))
    data, expected, open_ended = b"", 0, False
    ended = False
    for _ in range(draw(st.integers(1, 5))):
        request, kept, endless = draw(requests(forms))
        data += draw(st.sampled_from([b"", b"\r\n"])) + request
        expected += not ended
        ended = ended or not kept
        open_ended = open_ended or endless
    return data, None if open_ended else expected


@settings(max_examples=120)
@given(st.lists(st.tuples(conversations(), places), min_size=1, max_size=3))
def test_any_cut_of_good_conversations_gives_their_answers(talking, several):
    """Whatever other clients say at the same time, and whatever was said to the worker
    before.
    """
    with tempfile.TemporaryDirectory() as path:
        alone = Talking(Path(path))
        try:
            whole = [alone.talk([data])[0] for (data, _), _ in several]
            alone.check()
        finally:
            alone.close()
    worker = talking("usual")
    in_pieces = worker.talk(*(cut(data, places) for (data, _), places in several))
    assert [timeless(each) for each in in_pieces] == [timeless(each) for each in whole]
    for heard, ((_, expected), _) in zip(in_pieces, several, strict=True):
        found = responses(heard)
        assert all(each.status in (200, 204, 304) for each in found)
        assert expected in (None, len(found))
    worker.check()


# Bad ones

WIRE = wire_conversations(1500)
PREFACES = [
    b"",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(range(12)),
    b"PROXY UNKNOWN\r\n",
]
UNREAD = (
    b"POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n" + b"x" * 30
)  # who does not read it all leaves an answer half out
THINGS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b":",
    b" ",
    b"\t",
    b";",
    b",",
    b"%",
    b"0\r\n",
    b"HTTP/1.1",
    b"\xff",
    b"Content-Length: 3\r\n",
    b"HEAD ",
]


@st.composite
def mutations(draw, data):
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.sampled_from([1, 1, 2, 8, 60])))
        how = draw(st.sampled_from(["flip", "insert", "delete", "double", "cut", "replace"]))
        if how == "flip":
            data = (
                data[:at]
                + bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[at : at + 1])
                + data[at + 1 :]
            )
        elif how == "insert":
            data = (
                data[:at]
                + draw(st.sampled_from(THINGS)) * draw(st.sampled_from([1, 1, 1, 2, 40]))
                + data[at:]
            )
        elif how == "delete":
            data = data[:at] + data[end:]
        elif how == "double":
            data = data[:end] + data[at:]
        elif how == "cut":
            data = data[:at]
        else:
            data = data[:at] + draw(st.binary(max_size=end - at)) + data[end:]
    return data


seeds = (
    st.sampled_from(WIRE)
    | conversations().map(lambda conversation: conversation[0])
    | st.binary(max_size=60)
)
garbage = st.tuples(st.sampled_from(PREFACES), seeds).map(b"".join).flatmap(mutations)


@pytest.mark.parametrize("kind", SETTINGS)
@settings(max_examples=150)
@given(data=garbage, places=places, ending=st.sampled_from(ENDINGS))
@example(data=UNREAD, places=[], ending="close")
@example(data=UNREAD, places=[], ending="silence")
@example(data=PREFACES[1] + UNREAD, places=[], ending="silence")
def test_any_bytes_get_an_answer_or_a_close_and_leave_nothing(talking, kind, data, places, ending):
    hostile(talking(kind), data, places, ending)


@pytest.mark.parametrize("kind", SETTINGS)
def test_what_the_long_runs_have_found(talking, kind):
    assert CORPUS
    for number, path in enumerate(CORPUS):
        data = path.read_bytes()
        try:
            hostile(
                talking(kind),
                data,
                [len(data) // 2, len(data) // 3],
                ENDINGS[number % len(ENDINGS)],
            )
        except BaseException as error:
            error.add_note(str(path))
            raise
