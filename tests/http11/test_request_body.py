"""A request's body: in memory up to a limit, then in a file without a name;
all of them together within their limits.
"""

import io
import itertools
import os
import tempfile

import pytest

from spyglass.errors import RequestError
from spyglass.http11.request_body import Bodies, Body, temporary_file


def bodies(memory=1 << 30, disk=1 << 30, **how):
    return Bodies(memory, disk, **({"open_file": tempfile.TemporaryFile} | how))


def in_memory(body):
    try:
        body.open().fileno()
    except io.UnsupportedOperation:
        return True
    return False


@pytest.mark.parametrize(
    ("pieces", "memory", "stays"),
    [
        ([], 0, True),
        ([b""], 0, True),
        ([b"x"], 0, False),
        ([b"x" * 10], 10, True),
        ([b"x" * 11], 10, False),
        ([b"x" * 10, b"y"], 10, False),
        ([b"x" * 5, memoryview(b"y" * 5)], 10, True),
        ([b"x" * 5, memoryview(b"y" * 500_000), b"z"], 10, False),
    ],
)
def test_where_it_lies_and_what_is_read(pieces, memory, stays):
    body, whole = Body(memory, bodies()), b"".join(pieces)
    for piece in pieces:
        body.write(piece)
    assert body.length == len(whole)
    assert in_memory(body) is stays
    stream = body.open()
    assert stream.read() == whole
    assert (stream.read(), stream.read(5), stream.readline()) == (
        b"",
        b"",
        b"",
    )  # PEP 3333: the end is not an error
    assert body.open().read(3) == whole[:3]
    body.close()
    body.close()


def test_a_file_is_gone_with_its_body():
    body = Body(1, bodies())
    body.write(b"secret")
    fd = body.open().fileno()
    assert os.fstat(fd).st_nlink == 0
    assert os.fstat(fd).st_mode & 0o077 == 0
    body.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("works", [True, False])
def test_a_file_never_has_a_name_for_long(tmp_path, monkeypatch, works):
    """Where there is no O_TMPFILE it has one for a moment."""
    monkeypatch.setattr(tempfile, "_O_TMPFILE_WORKS", works)
    with temporary_file(str(tmp_path)) as file:
        assert os.listdir(tmp_path) == []
        assert os.fstat(file.fileno()).st_dev == os.stat(tmp_path).st_dev
        assert os.readlink(f"/proc/self/fd/{file.fileno()}").startswith(str(tmp_path))


def no_file():
    raise FileNotFoundError(2, "No such file")


def test_no_room_for_the_file_is_told():
    body = Body(1, bodies(open_file=no_file))
    with pytest.raises(OSError, match="No such file"):
        body.write(b"too much")


def test_an_app_that_still_looks_at_its_body_does_not_keep_it_from_being_closed():
    """io.BytesIO refuses to be closed then (BufferError), which must not end the
    worker.
    """
    store = bodies()
    body = Body(10, store)
    body.write(b"hello")
    view = body.open().getbuffer()
    body.close()
    assert bytes(view) == b"hello"
    assert (store.memory, store.disk) == (0, 0)


# All bodies together


PIECES = [[b"x" * 10], [b"x"] * 10, [b"x"] * 30, [b"x" * 40], [b"x" * 20, b"y" * 20], [b"x" * 11]]


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("end", ["closed", "read", "finished", "closed by the app"])
def test_what_is_counted_is_given_back_once(pieces, end):
    store = bodies()
    body = Body(10, store)
    for piece in pieces:
        body.write(piece)
    size = sum(map(len, pieces))
    assert (store.memory, store.disk) == ((size, 0) if size <= 10 else (0, size))
    if end != "closed":
        body.finish()
    if end in ("read", "closed by the app"):
        body.open().read()
    if end == "closed by the app":
        body.open().close()
    assert store.memory + store.disk == size
    body.close()
    body.close()
    assert (store.memory, store.disk) == (0, 0)


def test_beyond_the_memory_of_all_a_small_body_goes_to_a_file():
    store = bodies(memory=15)
    first, second = Body(10, store), Body(10, store)
    first.write(b"x" * 10)
    second.write(b"y" * 5)
    assert (store.memory, store.disk) == (15, 0)
    second.write(b"z")
    assert (in_memory(first), in_memory(second)) == (True, False)
    assert (store.memory, store.disk) == (10, 6)
    assert second.open().read() == b"yyyyyz"
    first.close()
    third = Body(10, store)
    third.write(b"w")
    assert in_memory(third)
    for body in (second, third):
        body.close()
    assert (store.memory, store.disk) == (0, 0)


@pytest.mark.parametrize("memory", [0, 5])
def test_beyond_all_there_is_it_is_refused_for_now(memory):
    """RFC 9110 15.6.4: it is the moment that is at fault, not this request, so it is
    neither 413 nor 507.
    """
    store = bodies(memory=memory, disk=20)
    first, second = Body(10, store), Body(10, store)
    first.write(b"x" * 15)
    second.write(b"y" * 5)
    with pytest.raises(RequestError) as refused:
        second.write(b"y" * 6)
    assert refused.value.status == 503
    assert store.disk <= 20
    first.write(b"z" * (20 - store.disk))
    assert store.disk == 20
    second.close()
    first.close()
    assert (store.memory, store.disk) == (0, 0)


def test_one_that_can_make_room_is_asked():
    asked = []

    def make_room(wanting):
        asked.append(wanting)
        other.close()
        return len(asked) < 2

    store = bodies(memory=0, disk=20, make_room=make_room)
    other, body = Body(0, store), Body(0, store)
    other.write(b"x" * 15)
    body.write(b"y" * 15)
    assert asked == [body]
    assert store.disk == 15
    with pytest.raises(RequestError):
        body.write(b"y" * 6)
    assert asked == [body, body]
    body.close()


@pytest.mark.parametrize("fails", ["open", "write", "flush"])
def test_a_disk_that_fails_costs_nothing_that_is_counted(fails):
    """Whatever happens in the middle, close() gives back all that was taken."""

    def open_file():
        if fails == "open":
            raise OSError(28, "No space left on device")
        return open("/dev/full", "w+b", buffering=0 if fails == "write" else 8192)

    store = bodies(open_file=open_file)
    body = Body(10, store)

    def fill():
        for _ in range(4):
            body.write(b"x" * 5)
        body.finish()

    with pytest.raises(OSError, match="No space left"):
        fill()
    body.close()
    assert (store.memory, store.disk) == (0, 0)


# How fast it comes


def steps(*pieces):
    """Whether a client lags when these have come: (seconds since the one before,
    bytes). 100 bytes a second are asked for in each 10 s.
    """
    body = Body(1 << 20, bodies())
    clock = itertools.accumulate(seconds for seconds, _ in pieces)
    lags = []
    for now, (_, size) in zip(clock, pieces, strict=True):
        body.write(b"x" * size)
        lags.append(body.lags(1000 + now, 10, 100))
    return lags


@pytest.mark.parametrize(
    ("pieces", "lags"),
    [
        ([(0, 1)], False),
        ([(0, 1), (9.9, 1)], False),  # the first period is its own
        ([(0, 1), (10, 1)], True),
        ([(0, 1), (10, 1000)], False),
        ([(0, 1), (10, 999)], True),
        ([(0, 1), (29, 1)], True),
        ([(0, 1), *[(1, 100)] * 40], False),
        ([(0, 1), *[(1, 99)] * 10], True),
        ([(0, 100_000), *[(5, 1)] * 2], True),  # what came at once, before, is no credit
        ([(0, 1), (5, 100_000), (5, 0), (5, 0), (5, 0)], True),
        ([(0, 1), (19, 1900)], False),
        ([(0, 1), (19, 1800)], True),
    ],
)
def test_a_client_that_gives_less_than_the_least_rate_lags(pieces, lags):
    assert steps(*pieces)[-1] is lags
    assert not any(steps(*pieces)[:-1])


def test_no_rate_is_asked_for_if_it_is_0():
    body = Body(10, bodies())
    body.write(b"x")
    assert [body.lags(now, 10, 0) for now in (0, 10, 100, 10**9)] == [False] * 4


# Received where the app reads it


def test_a_body_gets_its_place_when_a_sixteenth_has_come():
    store = bodies()
    body = Body(1000, store, 800)
    body.write(b"x" * 49)
    assert body.room is None, "announced is not sent"
    assert store.memory == 49
    body.write(b"y")
    assert (len(body.room), store.memory) == (750, 800)
    body.room[:2] = b"z1"
    body.arrived(2)
    body.write(memoryview(b"2" * 98))
    body.room[:] = b"e" * 650
    body.arrived(650)
    assert body.open().read() == b"x" * 49 + b"yz1" + b"2" * 98 + b"e" * 650
    body.close()
    body.close()
    assert (body.length, store.memory) == (800, 0)


def test_an_app_that_reads_all_of_it_gets_the_bytes_that_were_received():
    body = Body(1000, bodies(), 16)
    body.write(b"12345678")
    body.room[:] = b"90abcdef"
    body.arrived(8)
    stream = body.open()
    assert stream.read() is stream.getvalue()


@pytest.mark.parametrize(("memory", "all_memory"), [(15, 1000), (1000, 15)])
def test_no_place_is_taken_beyond_what_may_be_in_memory(memory, all_memory):
    store = bodies(all_memory)
    body = Body(memory, store, 16)
    body.write(b"12345678")
    assert (body.room, store.memory) == (None, 8)
    body.write(b"90abcdef")
    assert not in_memory(body)
    assert body.open().read() == b"1234567890abcdef"
    assert (store.memory, store.disk) == (0, 16)
    body.close()
    assert (store.memory, store.disk) == (0, 0)


def test_a_body_that_stays_behind_gives_its_place_back():
    store = bodies()
    body = Body(1000, store, 16)
    body.write(b"12345678")
    body.close()
    assert store.memory == 0
