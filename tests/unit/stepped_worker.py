"""A worker's loop with real sockets in this one process: the test is the client, and
turns the loop by hand.
"""

import functools
import os
import select
import socket
import struct

from waiting import wait_until

from spyglass.config.settings import Config
from spyglass.runtime.scoreboard import Scoreboard
from spyglass.runtime.sd_daemon import Listener
from spyglass.worker.idle_activity import IgnoringActivity
from spyglass.worker.loop import Loop

from .fake_log import FakeLog

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
ONE = GET % 1
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset


def echo(environ, start_response):
    body = environ["PATH_INFO"].encode() + environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class Steps:
    """What a test does with the clients of a worker that it turns: until()."""

    def read(self, client, size):
        """So many bytes of what comes. Each piece is waited for anew: on a busy machine
        all of them may take long.
        """
        got = bytearray()
        while len(got) < size:
            got += self.until(functools.partial(receive, client, size - len(got)))
        return bytes(got)

    def answers(self, client, count):
        """The bodies of so many answers that have a Content-Length."""
        bodies = []
        for _ in range(count):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self.read(client, 1)
            length = next(
                int(line[15:])
                for line in head.split(b"\r\n")
                if line.startswith(b"Content-Length:")
            )
            bodies.append(self.read(client, length))
        return bodies


class Worker(Steps):
    """A loop that serves `app`; `clients` are closed with it."""

    def __init__(self, path, app, **settings):
        self.path = str(path / "http.sock")
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        listeners = []
        for sock, name in ((self.sock, "http"), (self.tcp, "local")):
            sock.listen()
            sock.setblocking(False)
            listeners.append(Listener(sock, name))
        self.slot = Scoreboard(1).slot(0)
        self.journal = FakeLog()
        self.told = 0  # how often the Master was to look
        config = Config({"threads": 1} | settings)
        activity = None
        if config.idle_ignore:
            activity = IgnoringActivity(self.slot, config.idle_ignore, self.tell_master)
        self.loop = Loop(config, app, listeners, self.slot, self.journal, activity)
        self.clients = []
        # Always ready, so that no turn waits: the test decides how long.
        self.tick = os.eventfd(1)
        self.loop.open_door(self.tick, lambda: None)

    def tell_master(self):
        self.told += 1

    def client(self, data=b"", *, tcp=False):
        client = (
            socket.create_connection(self.tcp.getsockname())
            if tcp
            else socket.socket(socket.AF_UNIX)
        )
        if not tcp:
            client.connect(self.path)
        client.sendall(data)
        self.clients.append(client)
        return client

    def until(self, done, patience=10):
        """Turn until `done()` gives something; gives it back."""

        def turn():
            self.loop.turn()
            select.select([each for each in self.clients if each.fileno() >= 0], [], [], 0.001)

        return wait_until(done, patience, "it did not happen", between=turn)

    def turns(self, count=5):
        for _ in range(count):
            self.loop.turn()

    def to_the_end(self, client):
        """All that comes until the connection ends, for this client as for the
        worker.
        """
        got, ended = b"", False

        def all_of_it():
            nonlocal got, ended
            try:
                client.setblocking(False)
                data = client.recv(1 << 20)
                got, ended = got + data, not data
            except BlockingIOError:
                pass
            except ConnectionResetError:
                ended = True
            return ended

        self.until(all_of_it)
        client.close()
        return got

    def close(self):
        try:
            for connection in list(self.loop._connections.values()):
                connection.close("the test has ended")
        finally:
            for each in (*self.clients, self.sock, self.tcp):
                each.close()
            self.loop._epoll.close()
            os.close(self.tick)


def receive(client, size):
    client.setblocking(False)
    try:
        data = client.recv(size)
    except BlockingIOError:
        return b""
    assert data, "the connection has ended"
    return data


class Closing:
    """An endless body that counts its close()."""

    def __init__(self):
        self.closed = 0

    def __iter__(self):
        while True:
            yield b"x" * 10_000

    def close(self):
        self.closed += 1


def alive(worker):
    """Whatever was done to it, the next client is served."""
    client = worker.client(GET % 9)
    return worker.answers(client, 1) == [b"/9"]
