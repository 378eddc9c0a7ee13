"""What `serve` does with what it is given instead of listening sockets: one line that
says what is wrong, and status 78.
"""

import os
import re
import socket

import pytest

from .fake_systemd import server_environ, spyglass, start
from .processes import members
from .visitor import Visitor


class Attempt:
    """`serve` started with `fds`, and what came of it: its exit `status` and the
    `lines` it wrote.
    """

    def __init__(self, directory, pycache, fds=(), **environ):
        log = os.open(directory / "log", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        if fds:
            environ = {"LISTEN_FDS": str(len(fds))} | environ
        pid = start(spyglass("serve"), fds, server_environ(pycache) | environ, log)
        self.status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(log)
        self.lines = (directory / "log").read_text().splitlines()


@pytest.fixture
def attempt(tmp_path, pycache):
    def attempt(*fds, **environ):
        return Attempt(tmp_path, pycache, fds, **environ)

    return attempt


def check_refused(attempted, pattern):
    assert attempted.status == 78
    assert len(attempted.lines) == 1, attempted.lines
    assert re.search(pattern, attempted.lines[0]), attempted.lines[0]


NONE = "no listening socket was passed in: start it through its .socket unit, or use 'spyglass lookout' where there is no systemd"


def test_without_sockets_it_says_how_to_get_some(attempt):
    check_refused(attempt(), NONE)


def test_sockets_of_other_programs_are_left_alone(attempt):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        check_refused(attempt(listener.fileno(), LISTEN_PID=str(os.getpid())), NONE)


def test_a_datagram_socket(attempt):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        check_refused(
            attempt(datagrams.fileno(), LISTEN_FDNAMES="talk"),
            r"descriptor 3 \(talk\) is not a stream socket.*ListenStream=",
        )


def test_a_socket_that_does_not_listen(attempt):
    with socket.socket() as idle:
        check_refused(
            attempt(idle.fileno(), LISTEN_FDNAMES="idle"), r"descriptor 3 \(idle\) is not listening"
        )


def test_a_connection_as_accept_yes_passes_it(attempt):
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        connection, _ = listener.accept()
        with connection:
            check_refused(
                attempt(connection.fileno()),
                r"descriptor 3 .* is not listening: the unit must have Accept=no",
            )


def test_a_closed_descriptor(attempt):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        check_refused(
            attempt(listener.fileno(), LISTEN_FDS="2", LISTEN_FDNAMES="http:lost"),
            r"descriptor 4 \(lost\) is closed",
        )


def test_a_plain_file(attempt, tmp_path):
    with open(tmp_path / "file", "w") as file, socket.create_server(("127.0.0.1", 0)) as listener:
        check_refused(
            attempt(listener.fileno(), file.fileno(), LISTEN_FDNAMES="http:notes"),
            r"descriptor 4 \(notes\) is not a socket",
        )


@pytest.mark.parametrize("number", ["many", "0", "-1", ""])
def test_a_number_of_descriptors_that_cannot_be(attempt, number):
    check_refused(attempt(LISTEN_FDS=number), f"LISTEN_FDS|{NONE}")


def test_the_app_is_not_imported_when_they_are_refused(tmp_path, pycache):
    (tmp_path / "app.py").write_text("open('imported', 'w')\n")
    environ = server_environ(pycache) | {"LISTEN_FDS": "1"}
    with socket.socket() as idle, open(tmp_path / "log", "wb") as log:
        command = spyglass("serve", "app", "--directory", str(tmp_path))
        pid = start(command, [idle.fileno()], environ, log.fileno())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 78
    assert not members(pid)
    assert not (tmp_path / "imported").exists()


NODELAY = """
import os, socket

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        with sock:
            try:
                port = sock.getpeername()[1]
            except (OSError, IndexError):
                continue
            if str(port) == environ["REMOTE_PORT"]:
                return [b"%d" % sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)]
    return [b"not found"]
"""


@pytest.mark.parametrize("kind", ["tcp", "tcp6"])
def test_no_answer_waits_for_an_acknowledgement_not_even_on_connections_older_than_the_server(
    systemd, tmp_path, kind
):
    (tmp_path / "app.py").write_text(NODELAY)
    life = systemd("app", directory=tmp_path, listeners=[kind], idle_timeout=60)
    for _ in range(2):  # the first wakes it
        with Visitor(life.address) as visitor:
            assert visitor.ask().text == "1"
