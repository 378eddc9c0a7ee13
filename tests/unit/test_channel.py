"""The channel between a zygote and its Master: the app runs where its far end is, so
the Master hears whatever the app writes there.
"""

import marshal
import os
import random
import socket

import pytest

from spyglass.runtime import channel
from spyglass.runtime.scoreboard import ACCEPTING, STATE

GOOD = [
    (channel.SPAWN, 3),
    (channel.LISTENERS, 2, ["http", "", "admin"]),
    (channel.FAILED, "RuntimeError: größer", "Traceback\n  line", ["/srv/a\udcff.py", ""]),
    (channel.FAILED, "", "", []),
    (channel.SPAWNED, 3, 4194304),
    (channel.UNFIT, 0, 1, "why", "", ["/srv/app.py"]),
    (channel.DIED, 3, 1234, 0xFF00),
    (channel.CANNOT, 0, "Resource temporarily unavailable"),
    (channel.FOUND, 1, 0, "a socket", "why", ""),
]


@pytest.fixture
def pair():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        yield near, far


@pytest.mark.parametrize("message", GOOD, ids=lambda message: message[0])
def test_what_is_sent_is_received(pair, message):
    near, far = pair
    assert channel.send(far, *message)
    assert channel.receive(near) == message


BAD = {
    "nothing": b"",
    "marshal": marshal.dumps((channel.DIED, 0, 1000, 0)),
    "no kind": b"nonsense\x000",
    "no facts": b"died",
    "too few": b"died\x000\x001000",
    "too many": b"died\x000\x001000\x000\x000",
    "no number": b"died\0a\x001000\x000",
    "a sign": b"died\x00-1\x001000\x000",
    "another script's": "died\0\u0663\0001000\0000".encode(),
    "huge": b"died\0" + b"9" * 5000 + b"\x001000\x000",
    "no text": b"died\xff\xfe\x000",
    "an unknown slot": b"died\x007\x001007\x000",
    "unfit, an unknown slot": b"unfit\x007\x000\0why\0",
    "cannot, an unknown slot": b"cannot\x007\0why",
    "another's death": b"died\x000\x001001\x000",
    "no end": b"died\x000\x001000\x004991",  # WIFSTOPPED
    "no status": b"died\x000\x001000\x00999999999999999999",
    "no process's pid": b"spawned\x002\x000",
    "init's pid": b"spawned\x002\x001",
    "the Master's pid": b"spawned\x002\0%d" % os.getpid(),
    "a huge pid": b"spawned\x002\x00999999999999",
    "not for the Master": b"spawn\x000",
    "a rehearsal's": b"loaded\x000\x000\x000",
}


@pytest.mark.parametrize("packet", BAD.values(), ids=BAD)
def test_what_no_zygote_says_changes_nothing(breed, packet):
    it = breed(workers=2)
    before = {number: worker.pid for number, worker in it.generation.workers.items()}
    it.channel.send(packet)
    it.generation.zygote.hear()
    assert {number: worker.pid for number, worker in it.generation.workers.items()} == before
    assert it.generation.failures.loading is None
    assert it.generation.zygote.fd >= 0
    assert len([line for line in it.journal.lines if "invalid message" in line]) == 1
    it.ended(1, 9)  # and what is said in earnest is still heard
    assert list(it.generation.workers) == [0]


def test_whatever_is_said_is_survived_and_told_once(breed):
    it = breed(workers=2)
    chance = random.Random(9)
    kinds = [kind.encode() for kind in channel._SHAPES]
    for _ in range(3000):
        fields = [chance.choice(kinds)] + [
            chance.choice(
                [b"0", b"1", b"1000", b"65280", b"", b"9" * 18, bytes(chance.randbytes(5))]
            )
            for _ in range(chance.randrange(6))
        ]
        it.channel.send(b"\0".join(fields))
        it.generation.zygote.hear()
    assert len([line for line in it.journal.lines if "invalid message" in line]) == 1


def test_a_flood_is_heard_in_parts(breed):
    it = breed(workers=1)
    it.channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    sent = 0
    try:
        while sent < 5000:
            it.channel.send(b"x")
            sent += 1
    except BlockingIOError:
        pass
    it.generation.zygote.hear()
    it.generation.zygote.hear()
    assert it.generation.zygote.fd >= 0


def test_a_zygote_that_has_closed_its_channel_and_lives_is_ended(breed, killed):
    it = breed(workers=1)
    it.channel.shutdown(socket.SHUT_WR)
    it.generation.zygote.hear()
    ended_at = it.generation.zygote.mute_since + 5
    it.generation.hung.end_overdue(ended_at - 0.1)
    assert killed == []
    assert min(it.generation.due(ended_at - 1)) <= ended_at
    it.cells(0)[STATE] = ACCEPTING
    it.generation.hung.end_overdue(ended_at)
    assert [pid for pid, _ in killed] == [it.generation.zygote.pid]
