"""`wsgi.file_wrapper`: sent by the kernel where that gives the same bytes, and closed
once whatever happens (PEP 3333).
"""

import io
import os
import tempfile

import pytest

from spyglass.gateway.file_wrapper import FileWrapper

from .fake_connection import Played, answering, coded, length, play


@pytest.fixture
def file():
    with tempfile.TemporaryFile() as made:
        made.write(b"0123456789")
        made.seek(0)
        yield made


@pytest.mark.parametrize(
    ("seek", "fields", "how", "span", "body"),
    [
        (0, [], {}, [(0, 10)], b"0123456789"),
        (4, [], {}, [(4, 6)], b"456789"),
        (4, [length(3)], {}, [(4, 3)], b"456"),
        (10, [], {}, [], b""),
        (99, [], {}, [], b""),
        (0, [], {"version": (1, 0)}, [(0, 10)], b"0123456789"),
        (0, [], {"method": "HEAD"}, [], b""),
    ],
)
def test_a_file_is_sent_by_the_kernel(file, seek, fields, how, span, body):
    file.seek(seek)
    played = play(answering(FileWrapper(file), *fields), **how)
    assert (played.spans, played.body, played.cut) == (span, body, None)
    assert file.closed
    if not how.get("method"):
        assert f"Content-Length: {len(body)}" in played.head


def test_a_file_shorter_than_its_content_length_cuts(file):
    played = play(answering(FileWrapper(file), length(11)))
    assert (played.body, file.closed) == (b"0123456789", True)
    assert "its Content-Length is 11" in played.cut


@pytest.mark.parametrize(
    "make", [io.BytesIO, lambda data: io.BufferedReader(io.BytesIO(data)), lambda data: _pipe(data)]
)
def test_what_is_no_real_file_is_read(make):
    stream = make(b"0123456789")
    played = play(answering(FileWrapper(stream, 4)))
    assert (played.spans, played.body) == ([], coded(b"0123", b"4567", b"89"))
    assert stream.closed


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/status",
        "/proc/version",
        "/sys/kernel/uevent_seqnum",
        "/sys/class/net/lo/mtu",
        "/proc/self/environ",
    ],
)
@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("version", [(1, 1), (1, 0)])
def test_what_the_kernel_makes_up_is_read_for_its_size_is_none(path, buffering, version):
    """In /proc st_size is 0 and in /sys 4096, whatever there is to be read."""
    with open(path, "rb") as stream:
        content = stream.read()
    assert content
    stream = open(path, "rb", buffering=buffering)
    played = play(answering(FileWrapper(stream)), version=version)
    got = (
        played.body
        if version < (1, 1)
        else played.body.partition(b"\r\n")[2].removesuffix(b"\r\n0\r\n\r\n")
    )
    assert (played.spans, played.cut, len(got), stream.closed) == (
        [],
        None,
        pytest.approx(len(content), abs=99),
        True,
    )
    assert got.split(b"\n")[0] == content.split(b"\n")[0]


def test_an_empty_file_says_that_it_is_empty():
    with tempfile.TemporaryFile() as empty:
        played = play(answering(FileWrapper(empty)))
    assert (played.body, played.cut) == (b"", None)
    assert "Content-Length: 0" in played.head


def test_a_file_with_a_hole_and_nothing_else(file):
    file.truncate(0)
    file.truncate(100_000)
    file.seek(0)
    played = play(answering(FileWrapper(file), length(100_000)))
    assert (played.spans, played.body, played.cut) == ([(0, 100_000)], bytes(100_000), None)


def _pipe(data):
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    return open(read_end, "rb")


def test_so_is_a_file_behind_a_write(file):
    def app(environ, start_response):
        start_response("200 OK", [])(b"first")
        return environ["wsgi.file_wrapper"](file)

    played = play(app)
    assert (played.spans, played.body) == ([], coded(b"first", b"0123456789"))


def test_a_wrapper_without_close_is_none_the_worse():
    class Reads:
        def read(self, size):
            return b""

    assert play(answering(FileWrapper(Reads()))).status == "200"


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_file_is_closed_when_its_client_goes(file, pieces):
    played = Played(answering(FileWrapper(file)))
    played.take(pieces).leave()
    assert file.closed
