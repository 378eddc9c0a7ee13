"""Where the access log goes, when that takes no more: asked for each kind of file, for
each has its own way of not waiting.
"""

import contextlib
import os
import socket

import pytest

from spyglass.worker import access_log

LINE = b"x" * 4095 + b"\n"


def pipe():
    reader, writer = os.pipe()
    return reader, writer


def pair():
    return tuple(end.detach() for end in socket.socketpair())


@pytest.fixture
def stderr():
    """stderr(fd): descriptor 2 is `fd` until the test has ended."""
    kept = os.dup(2)
    yield lambda fd: os.dup2(fd, 2)
    os.dup2(kept, 2)
    os.close(kept)


@pytest.mark.parametrize("kind", [pipe, pair])
@pytest.mark.parametrize("reopened", [True, False])
def test_what_is_full_is_not_waited_for(stderr, monkeypatch, kind, reopened):
    reader, writer = kind()
    if not reopened:
        # A pipe that belongs to somebody else cannot be opened anew.
        monkeypatch.setattr(
            access_log.os,
            "open",
            lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")),
        )
    stderr(writer)
    fd, send = access_log._outlet()
    written = 0
    with contextlib.suppress(BlockingIOError):
        while written < 100 << 20:
            written += send(LINE)
    assert 0 < written < 100 << 20
    assert os.get_blocking(writer)  # it is not ours alone
    assert len(os.read(reader, 8192)) == 8192
    os.close(reader)
    with pytest.raises(OSError, match="Broken pipe"):
        send(LINE)
    if kind is pair:
        send.__self__.close()
    else:
        os.close(fd)
    os.close(writer)


def test_a_file_takes_everything(stderr, tmp_path):
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stderr(file)
    fd, send = access_log._outlet()
    assert [send(LINE) for _ in range(100)] == [4096] * 100
    for each in (file, fd):
        os.close(each)
    assert (tmp_path / "log").stat().st_size == 409600
