"""permessage-deflate: what is agreed on, and what we send (RFC 7692). What we read is in
cases.py.
"""

import zlib

import pytest

from spyglass.errors import RequestError
from spyglass.websocket.deflate import negotiate

PLAIN = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("permessage-deflate", PLAIN),
        ("permessage-deflate; client_max_window_bits", PLAIN),
        ("permessage-deflate;client_max_window_bits=8 ; server_no_context_takeover", PLAIN),
        ("permessage-deflate; client_no_context_takeover", PLAIN),
        ("permessage-deflate; server_max_window_bits=15", f"{PLAIN}; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=12", f"{PLAIN}; server_max_window_bits=12"),
        ('permessage-deflate; server_max_window_bits="10"', f"{PLAIN}; server_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=9", f"{PLAIN}; server_max_window_bits=9"),
        # The first that can be accepted
        ("x-unknown; a=b, permessage-deflate", PLAIN),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", PLAIN),
        ("permessage-deflate; x, permessage-deflate; server_max_window_bits=10, permessage-deflate",
         f"{PLAIN}; server_max_window_bits=10"),
        (", ,permessage-deflate,", PLAIN),
    ],
)  # fmt: skip
def test_accepted(offers, answer):
    agreed = negotiate(offers)
    assert agreed is not None
    assert agreed.answer == answer


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "Permessage-Deflate",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=08",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; unknown",
    ],
)
def test_declined(offer):
    assert negotiate(offer) is None


@pytest.mark.parametrize(
    "offer",
    [
        "permessage deflate",
        "permessage-deflate;",
        "permessage-deflate; =5",
        "permessage-deflate; a=",
        "permessage-deflate; a=b c",
        'permessage-deflate; a=""',
        'permessage-deflate; a="b',
        'permessage-deflate; a="b,c"',
        'permessage-deflate; a="b;c"',
        'permessage-deflate; a="\\b"',
        "permessage-deflate, \xe9",
        "; permessage-deflate",
    ],
)
def test_what_is_no_such_header_is_refused(offer):
    with pytest.raises(RequestError) as info:
        negotiate(offer)
    assert info.value.status == 400


@pytest.mark.parametrize("window", [9, 10, 12, 15])
def test_what_is_sent_can_be_read_with_the_window_that_was_agreed_on(window):
    agreed = negotiate(f"permessage-deflate; server_max_window_bits={window}")
    assert agreed is not None
    for said in (b"x" * 64, b"".join(b"%d," % number for number in range(9000))):
        for _ in range(2):
            sent = agreed.deflate(said)
            assert sent is not None
            assert len(sent) < len(said)
            stream = zlib.decompressobj(-min(window, 12))
            assert stream.decompress(sent + b"\0\0\xff\xff") == said


def test_what_would_not_become_shorter_is_sent_as_it_is():
    agreed = negotiate("permessage-deflate")
    assert agreed is not None
    assert agreed.deflate(b"x" * 63) is None
    assert agreed.deflate(bytes(range(256))) is None
