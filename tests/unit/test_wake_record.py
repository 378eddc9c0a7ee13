"""last_wake(): what is made of what the Master has noted and the kernel knows."""

import os
import socket
import subprocess
import time

import pytest

import spyglass
from spyglass import api, wake_record
from spyglass.config.settings import Config
from spyglass.runtime.sd_daemon import Listener
from spyglass.runtime.shared_memory import Shared


@pytest.fixture
def listeners(tmp_path):
    socks = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)]
    socks[1].bind(str(tmp_path / "sock"))
    socks[1].listen()
    yield [Listener(sock, "http") for sock in socks]
    for sock in socks:
        sock.close()


@pytest.fixture
def served(listeners):
    """served(file) -> a Shared by which this process is served, as if a server had
    forked it.
    """
    made = []

    def serve(file=None):
        shared = Shared(listeners, 1)
        made.append(shared)
        api.process.claim(shared.board.slot(0), shared.ring)
        api.process.serves = shared, Config({}, file)
        return shared

    yield serve
    api.process.forget()
    api.process.serves = None
    for shared in made:
        for fd in (shared.bell, shared.poke, shared.lifeline, shared._held):
            os.close(fd)


def test_there_is_none_before_the_first_worker_accepts(served):
    shared = served()
    assert spyglass.last_wake() is None
    shared.board.note_accepting()
    assert spyglass.last_wake() is not None


def test_it_is_the_first_that_counts(served):
    board = served().board
    board.note_accepting()
    first = board.accepting_since
    board.note_accepting()
    assert board.accepting_since == first


@pytest.mark.parametrize("which", [None, 0, 1])
def test_client_in_the_queue_has_woken_it(served, listeners, which):
    with socket.socket(socket.AF_UNIX if which == 1 else socket.AF_INET) as visitor:
        if which is not None:
            visitor.connect(listeners[which].sock.getsockname())
        shared = served()
    shared.board.note_accepting()
    assert spyglass.last_wake().listener == ("" if which is None else str(listeners[which]))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (None, ""),
        ("/etc/spyglass/blog.toml", "blog"),
        ("/etc/spyglass/more/blog.toml", ""),
        ("blog.toml", ""),
        ("/etc/spyglass/x", "x"),
    ],
)
def test_its_name_is_that_of_its_file(served, file, name):
    served(file).board.note_accepting()
    assert spyglass.last_wake().name == name


def test_it_began_with_the_process(served):
    shared = served()
    shared.board.note_accepting()
    wake = spyglass.last_wake()
    started = time.time() - float(
        subprocess.check_output(["ps", "-o", "etimes=", "-p", str(os.getpid())])
    )
    assert wake.at == pytest.approx(started, abs=2)  # it is told in whole seconds
    assert wake.at + wake.seconds == pytest.approx(time.time(), abs=2)
    assert repr(wake).startswith("Wake(name='', listener='', at=")


def test_where_the_kernel_tells_nothing_it_began_with_our_first_line(served):
    shared = served()
    shared.master = 0  # there is no such process
    shared.board.note_accepting()
    assert spyglass.last_wake().seconds == pytest.approx(
        shared.board.accepting_since / 1e9 - shared.began
    )
    assert wake_record.began(shared) == shared.began


def test_a_look_at_two_clocks_that_was_interrupted_counts_for_nothing(monkeypatch):
    now = [100.0]

    def interrupted(seconds):
        def clock():
            now[0] += seconds.pop(0) if seconds else 0.0
            return now[0] + 7

        return clock

    monkeypatch.setattr(wake_record.time, "monotonic", lambda: now[0])
    assert wake_record._ahead(interrupted([3.0, 0.5])) == 7
    assert (
        7 <= wake_record._ahead(interrupted([0.25] * 50)) <= 7.25
    )  # again and again: somewhere between


def test_in_a_fork_there_is_none(served):
    served().board.note_accepting()
    pid = os.fork()
    if not pid:
        os._exit(spyglass.last_wake() is not None)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
