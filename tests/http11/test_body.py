"""A request's body: in memory up to a limit, then in a file that nobody else can see."""

import io
import os

import pytest

from spyglass.http11.body import Body


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
    body, whole = Body(memory), b"".join(pieces)
    for piece in pieces:
        body.write(piece)
    assert body.length == len(whole)
    assert in_memory(body) is stays
    stream = body.open()
    assert stream.read() == whole
    assert (stream.read(), stream.read(5), stream.readline()) == (b"", b"", b"")  # PEP 3333: the end is not an error
    assert body.open().read(3) == whole[:3]
    body.close()
    body.close()


def test_a_file_has_no_name_and_is_gone_with_its_body(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    body = Body(1)
    body.write(b"secret")
    fd = body.open().fileno()
    assert os.listdir(tmp_path) == []
    assert os.fstat(fd).st_mode & 0o077 == 0
    body.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_no_room_for_the_file_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(OSError, match="No such file"):
        Body(1).write(b"too much")
