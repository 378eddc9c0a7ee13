"""The socket of a client: a descriptor, and a socket object only where one is needed."""

import os
import socket

import pytest

from spyglass.runtime.sd_daemon import Listener
from spyglass.worker.client_socket import ClientSocket
from spyglass.worker.slow_clients import unread

from .stepped_worker import ONE


@pytest.fixture
def accepted():
    """A client's socket, and the client."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = Listener(sock, "http")
        with socket.create_connection(sock.getsockname()) as client:
            accepted = ClientSocket(sock._accept()[0], listener)
            yield accepted, client
            accepted.close()


def test_it_never_blocks(accepted):
    one, client = accepted
    with pytest.raises(BlockingIOError):
        os.read(one.fd, 1)
    with pytest.raises(BlockingIOError):
        one.object.recv(1)
    client.sendall(b"x")
    assert one.object.recv(1, socket.MSG_WAITALL) == b"x"


@pytest.mark.parametrize("with_object", [False, True])
def test_closed_it_has_no_number_and_its_client_knows(accepted, with_object):
    one, client = accepted
    fd = one.fd
    if with_object:
        assert one.object.fileno() == fd
    one.close()
    assert one.fd == -1
    assert client.recv(1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    again = os.open(os.devnull, os.O_RDONLY)
    one.close()
    os.close(again)  # a second close() has closed nothing


@pytest.mark.parametrize("with_object", [False, True])
def test_what_is_done_to_it_when_it_is_closed_is_an_oserror(accepted, with_object):
    """Another thread may use it while the loop closes it."""
    sock, _ = accepted
    if with_object:
        assert sock.object
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sock.object.shutdown(socket.SHUT_WR)


def test_an_ordinary_request_needs_no_socket_object(start):
    worker = start()
    worker.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as adoption does
    first, second = worker.client(ONE, tcp=True), worker.client(ONE, tcp=True)
    for client in (first, second):
        assert worker.answers(client, 1) == [b"/1"]
    # The first of a listener is asked whether it has the listener's options.
    made = [each.socket._object is not None for each in worker.loop._connections.values()]
    assert made == [True, False]


def test_what_is_unread_is_known_without_reading_it(accepted):
    one, client = accepted
    assert unread(one.fd) == 0
    client.sendall(b"12345")
    assert one.object.recv(1, socket.MSG_PEEK) == b"1"  # it has arrived
    assert unread(one.fd) == 5
    os.read(one.fd, 5)
    assert unread(one.fd) == 0
