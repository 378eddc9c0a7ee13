"""What a client may say on a WebSocket, and what that means: each family of
Autobahn's cases, once.

A case is a row: a name, the rule (a section of RFC 6455, or another RFC), the bytes,
the events that must come of them, and the close code if the connection fails then.
"""

from dataclasses import dataclass
from typing import Any

from spyglass.websocket.frames import BINARY, CLOSE, PING, PONG, TEXT

from .speaking import MAX_SIZE, binary, close, deflated, frame, masked, more, ping, pong, text


@dataclass(frozen=True)
class Case:
    name: str
    rule: str
    send: bytes
    events: tuple[tuple[int, Any], ...] = ()
    fails: int | None = None
    max_size: int = MAX_SIZE
    compression: bool = False


def hears(*said):
    """The events for whole messages: str and bytes."""
    return tuple((TEXT if isinstance(each, str) else BINARY, each) for each in said)


A = "a" * 10
UNFINISHED = (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce", b"\xb5")  # kosme, cut in a character

FRAMING = [
    Case("the RFC's example", "5.7", b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", hears("Hello")),
    *(Case(f"text of {size}", "5.2", text("*" * size), hears("*" * size)) for size in (0, 1, 125, 126, 127, 128, 65535, 65536)),
    *(Case(f"binary of {size}", "5.2", binary(b"\xfe" * size), hears(b"\xfe" * size)) for size in (0, 1, 125, 126, 127, 128, 65535, 65536)),
    *(Case(f"unmasked in strides, {size}", "5.3", binary(bytes(range(256)) * 3 + b"x" * size), hears(bytes(range(256)) * 3 + b"x" * size)) for size in range(4)),
    Case("several in a row", "5.4", text("a") + binary(b"b") + text("c"), hears("a", b"b", "c")),
    Case("a key of zeros", "5.3", text("a", key=bytes(4)), hears("a")),
    Case("each frame has its own key", "5.3", text("abcde", key=b"1234") + text("abcde", key=b"wxyz"), hears("abcde", "abcde")),
    Case("no mask", "5.1", text("a") + text("b", key=None), hears("a"), 1002),
    Case("no mask on a ping", "5.1", ping(key=None), (), 1002),
    Case("16 bits for a short length", "5.2", text("a" * 125, wide=2), (), 1002),
    Case("64 bits for a short length", "5.2", text("a" * 125, wide=8), (), 1002),
    Case("64 bits for a length of 16", "5.2", text("a" * 65535, wide=8), (), 1002),
    Case("the highest bit of 64", "5.2", text(b"a", wide=8, length=1 << 63), (), 1002),
    Case("nothing of a bad length is stored", "5.2", text(b"", wide=8, length=(1 << 64) - 1, key=b"\0\0\0\0"), (), 1002),
    Case("another protocol", "5.2", b"GET / HTTP/1.1\r\n\r\n", (), 1002),
]

CONTROL = [
    Case("ping", "5.5.2", ping() + ping(b"hi") + ping(b"\xfe" * 125), ((PING, b""), (PING, b"hi"), (PING, b"\xfe" * 125))),
    Case("unsolicited pong", "5.5.3", pong(b"x") + ping(b"y"), ((PONG, b"x"), (PING, b"y"))),
    Case("ping too long", "5.5", ping(b"x" * 126), (), 1002),
    Case("ping whose length is in 64 bits", "5.5", ping(b"x", wide=8), (), 1002),
    Case("close too long", "5.5", close(1000, b"x" * 124), (), 1002),
    Case("ping in parts", "5.4", ping(b"a", fin=False) + more(b"b"), (), 1002),
    Case("pong in parts", "5.4", pong(b"a", fin=False), (), 1002),
    Case("control frames count to no message", "5.5", ping(b"x" * 125) + text("abc"), ((PING, b"x" * 125), (TEXT, "abc")), max_size=3),
]

RESERVED = [
    *(Case(f"RSV {rsv:03b}", "5.2", text("a") + text("b", rsv=rsv), hears("a"), 1002) for rsv in range(1, 8)),
    *(Case(f"RSV {rsv:03b} on a ping", "5.2", ping(rsv=rsv), (), 1002) for rsv in (1, 2, 4)),
    Case("RSV on a close", "5.2", close(1000, rsv=2), (), 1002),
    *(Case(f"opcode {opcode}", "5.2", text("a") + frame(opcode) + ping(), hears("a"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
]

FRAGMENTS = [
    Case("in two", "5.4", text("a", fin=False) + more("b"), hears("ab")),
    Case("in many, some empty", "5.4", binary(b"", fin=False) + more(b"a", fin=False) + more(b"", fin=False) + more(b"b"), hears(b"ab")),
    Case("all empty", "5.4", text("", fin=False) + more(fin=False) + more(), hears("")),
    Case("a ping in between", "5.4", text("a", fin=False) + ping(b"p") + more("b"), ((PING, b"p"), *hears("ab"))),
    Case("pings in between", "5.4", text("a", fin=False) + ping(b"1") + more("b", fin=False) + ping(b"2") + more("c"), ((PING, b"1"), (PING, b"2"), *hears("abc"))),
    Case("65,536 in frames of 1,300", "5.4", binary(b"", fin=False) + b"".join(more(b"x" * 1300, fin=False) for _ in range(50)) + more(b"x" * 536), hears(b"x" * 65536)),
    Case("one message after the other", "5.4", text("a", fin=False) + more("b") + binary(b"c", fin=False) + more(b"d"), hears("ab", b"cd")),
    Case("the rest of nothing", "5.4", more("a"), (), 1002),
    Case("the rest of nothing, unfinished", "5.4", more("a", fin=False) + text("b"), (), 1002),
    Case("the rest of a message that is complete", "5.4", text("a") + more("b"), hears("a"), 1002),
    Case("a message within another", "5.4", text("a", fin=False) + text("b"), (), 1002),
    Case("an unfinished message within another", "5.4", text("a", fin=False) + binary(b"b", fin=False), (), 1002),
]

UNICODE = [
    Case("two bytes, three, four", "8.1", text("\xe9\u20ac\U0001f600"), hears("\xe9\u20ac\U0001f600")),
    Case("NUL, noncharacters, the last one", "8.1", text("\0\ufffe\uffff\U0010ffff"), hears("\0\ufffe\uffff\U0010ffff")),
    Case("a character in two frames", "5.6", text(UNFINISHED[0], fin=False) + more(UNFINISHED[1]), hears("\u03ba\u1f79\u03c3\u03bc\u03b5")),
    Case("a character in four frames", "5.6", text(b"\xf0", fin=False) + more(b"\x9f", fin=False) + more(b"\x98", fin=False) + more(b"\x80"), hears("\U0001f600")),
    *(
        Case(f"not UTF-8: {bad.hex()}", "8.1", text("a") + text(b"k" + bad + b"k"), hears("a"), 1007)
        for bad in (b"\x80", b"\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xc3", b"\xce\xba\xe1")
    ),
    Case("a message that ends within a character", "8.1", text(UNFINISHED[0]), (), 1007),
    Case("fragments that end within a character", "8.1", text(UNFINISHED[0], fin=False) + more(), (), 1007),
    Case("refused before the message is complete", "8.1", text(b"\xce\xba\xed\xa0\x80", fin=False), (), 1007),
    Case("refused before the frame is complete", "8.1", text(b"\xce\xba\xf4\x90" + b"x" * 90)[:10], (), 1007),
    Case("refused in a later frame", "8.1", text(b"\xf4", fin=False) + more(b"\x90xxxx", fin=False), (), 1007),
    Case("binary is not looked at", "5.6", binary(b"\xff\xfe"), hears(b"\xff\xfe")),
]

CLOSING = [
    Case("without a code", "7.1.5", close(), ((CLOSE, (1005, "")),)),
    Case("with a reason", "7.1.6", close(1000, "ciao é".encode()), ((CLOSE, (1000, "ciao é")),)),
    Case("with the longest reason", "5.5", close(1000, b"x" * 123), ((CLOSE, (1000, "x" * 123)),)),
    Case("what follows is nothing", "5.5.1", close(1000) + text("a") + ping() + b"\xff\xff", ((CLOSE, (1000, "")),)),
    Case("what precedes is something", "5.5.1", text("a") + close(1000), (*hears("a"), (CLOSE, (1000, "")))),
    Case("within a message", "5.4", text("a", fin=False) + close(1000) + more("b"), ((CLOSE, (1000, "")),)),
    *(Case(f"code {code}", "7.4", close(code), ((CLOSE, (code, "")),)) for code in (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999)),
    *(Case(f"code {code}", "7.4", close(code, b"x"), (), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)),
    Case("half a code", "5.5.1", frame(8, b"\x03"), (), 1002),
    Case("a reason that is not UTF-8", "8.1", close(1000, b"\xce\xba\xed\xa0\x80"), (), 1007),
]

LIMITS = [
    Case("just fits", "10.4", text(A), hears(A), max_size=10),
    Case("one more", "10.4", text(A) + text(A + "a"), hears(A), 1009, max_size=10),
    Case("refused by the length alone", "10.4", binary(b"", length=11)[:2], (), 1009, max_size=10),
    Case("refused by a length of 16 bits alone", "10.4", binary(b"", length=300)[:4], (), 1009, max_size=10),
    Case("refused by a length of 64 bits alone", "10.4", binary(b"", length=(1 << 63) - 1)[:10], (), 1009),
    Case("fragments that just fit", "10.4", text("aaaaa", fin=False) + more("aaaaa"), hears(A), max_size=10),
    Case("fragments that do not", "10.4", text("aaaaa", fin=False) + more("a" * 6, fin=False)[:2], (), 1009, max_size=10),
    Case("the next message may be as long", "10.4", text("aaaaa", fin=False) + more("aaaaa") + text(A), hears(A, A), max_size=10),
]

_HELLO = bytes.fromhex("f248cdc9c90700")  # RFC 7692 7.2.3.1
_BLOCKS = bytes.fromhex("f24805000000ffffcac9c90700")  # 7.2.3.5
_STORED = bytes.fromhex("000500faff48656c6c6f00")  # 7.2.3.3
_FINAL = bytes.fromhex("f348cdc9c9070000")  # 7.2.3.4

DEFLATE = [
    Case(name, "RFC 7692 " + rule, send, events, fails, max_size, compression=True)
    for name, rule, send, events, fails, max_size in [
        ("a message", "7.2.3.1", text(_HELLO, rsv=4), hears("Hello"), None, MAX_SIZE),
        ("the same again keeps no window", "7.2.3.2", text(_HELLO, rsv=4) + text(b"\xf2\x00\x11\x00\x00", rsv=4), hears("Hello"), 1007, MAX_SIZE),
        ("without compression", "7.2.3.3", text(_STORED, rsv=4), hears("Hello"), None, MAX_SIZE),
        ("a final block", "7.2.3.4", text(_FINAL, rsv=4), hears("Hello"), None, MAX_SIZE),
        ("blocks behind a final block", "7.2.1", text(_FINAL[:-1] * 3 + _HELLO, rsv=4), hears("Hello" * 4), None, MAX_SIZE),
        ("two blocks", "7.2.3.5", text(_BLOCKS, rsv=4), hears("Hello"), None, MAX_SIZE),
        ("nothing", "7.2.3.6", text(b"\x00", rsv=4), hears(""), None, MAX_SIZE),
        ("fragments", "6.1", text(_HELLO[:3], rsv=4, fin=False) + ping() + more(_HELLO[3:]), ((PING, b""), *hears("Hello")), None, MAX_SIZE),
        ("empty fragments", "6.1", text(b"", rsv=4, fin=False) + more(_HELLO, fin=False) + more(), hears("Hello"), None, MAX_SIZE),
        ("a message that is not", "6", text("a") + binary(_HELLO, rsv=4), hears("a", b"Hello"), None, MAX_SIZE),
        ("the bit on a continuation", "6.1", text(_HELLO[:3], rsv=4, fin=False) + more(_HELLO[3:], rsv=4), (), 1002, MAX_SIZE),
        ("the bit on a ping", "6.1", ping(rsv=4), (), 1002, MAX_SIZE),
        ("another bit", "6.1", text(_HELLO, rsv=6), (), 1002, MAX_SIZE),
        ("no deflate", "7.2.2", text(b"\xff" * 10, rsv=4), (), 1007, MAX_SIZE),
        ("no block at all", "7.2.2", text(b"", rsv=4), (), 1007, MAX_SIZE),
        ("a block that does not end", "7.2.2", text(_HELLO[:3], rsv=4), (), 1007, MAX_SIZE),
        ("a final block that is the last", "7.2.3.4", text(_FINAL[:-1], rsv=4), (), 1007, MAX_SIZE),
        ("text that is not UTF-8", "7.2.2", text(deflated(b"\xed\xa0\x80"), rsv=4), (), 1007, MAX_SIZE),
        ("just fits", "8", text(deflated(b"a" * 4000), rsv=4), hears("a" * 4000), None, 4000),
        ("one more", "8", text(deflated(b"a" * 4001), rsv=4), (), 1009, 4000),
        ("a bomb", "8", text(deflated(b"a" * (1 << 22)), rsv=4), (), 1009, 4000),
        ("a bomb, and its text is bad before that", "8", text(deflated(b"\xff" + b"a" * (1 << 22)), rsv=4), (), 1007, 4000),
        ("a bomb behind a final block", "8", binary(_FINAL[:-1] + deflated(b"a" * (1 << 22)), rsv=4), (), 1009, 4000),
        ("what cannot be compressed may be longer", "8", binary(deflated(bytes(range(256)) * 4, level=0), rsv=4), hears(bytes(range(256)) * 4), None, 1024),
        ("longer than any message", "8", binary(b"\0\0\0\xff\xff" * 10000, rsv=4), (), 1009, 1024),
    ]
]

TOPICS = {"framing": FRAMING, "control": CONTROL, "reserved": RESERVED, "fragments": FRAGMENTS, "unicode": UNICODE, "closing": CLOSING, "limits": LIMITS, "deflate": DEFLATE}
CASES = [(f"{topic}: {case.name}", case) for topic, cases in TOPICS.items() for case in cases]
assert masked(b"Hello") == b"\x7f\x9f\x4d\x51\x58"
