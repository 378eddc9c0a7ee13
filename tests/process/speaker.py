"""A WebSocket's client that keeps to the RFC, and holds the server to it."""

import base64
import hashlib
import os
import socket
import struct

from rfc6455 import speaking

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Speaker:
    """Connects to `address`, or takes the socket that it is, and asks for a WebSocket at `target`; `lines` are further
    headers; the answer is not waited for unless it `waits`. `status` (int), `fields` (names in small letters) and `body` are of the
    answer.
    """

    def __init__(
        self, address, target="/echo", *lines, key=None, early=b"", timeout=10.0, waits=True
    ):
        if isinstance(address, socket.socket):
            self.sock = address
        else:
            self.sock = socket.socket(
                socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM
            )
            self.sock.connect(address)
        self.sock.settimeout(timeout)
        key = key or base64.b64encode(os.urandom(16))
        head = [
            f"GET {target} HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}", "Sec-WebSocket-Version: 13", *lines, "", "",
        ]  # fmt: skip
        self.buffer = b""
        self.sock.sendall("\r\n".join(head).encode("latin-1") + early)
        if not waits:
            return
        text = self._until(b"\r\n\r\n").decode("latin-1")
        first, *rest = text[:-4].split("\r\n")
        self.status = int(first.split(" ")[1])
        self.fields = {}
        for line in rest:
            name, _, value = line.partition(": ")
            self.fields.setdefault(name.lower(), []).append(value)
        if self.status == 101:
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
            assert self.fields["sec-websocket-accept"] == [accept]
            assert self.fields["upgrade"] == ["websocket"]
            assert self.fields["connection"] == ["Upgrade"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    # Saying

    def say(self, what):
        self.send(speaking.text(what) if isinstance(what, str) else speaking.binary(what))

    def send(self, data):
        self.sock.sendall(data)

    def close(self, code=1000, reason=b""):
        self.send(speaking.close(code, reason))

    def answer_pings(self):
        """Answer pings until something else comes; return that."""
        while (heard := self.hear())[0] == "ping":
            self.send(speaking.pong(heard[1]))
        return heard

    def die(self):
        """Be gone, as a machine that crashes."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # Hearing

    def hear(self):
        """The next frame: ("text", str), ("binary", bytes), ("close", (code, reason)), ...
        ("end", None) when there is none.
        """
        return speaking.hear(self._exactly)

    def hear_the_end(self):
        """Hear a Close, answer it, and see the connection end; what it said."""
        kind, what = self.hear()
        assert kind == "close", (kind, what)
        self.close(what[0])
        assert self.hear() == ("end", None)
        return what

    @property
    def body(self):
        """What follows the head, to the end of the connection."""
        while data := self.sock.recv(65536):
            self.buffer += data
        return self.buffer

    def _until(self, end):
        while end not in self.buffer:
            data = self.sock.recv(65536)
            assert data, f"it has ended after {self.buffer!r}"
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(end)
        return found + end

    def _exactly(self, size):
        while len(self.buffer) < size:
            data = self.sock.recv(1 << 18)
            if not data:
                assert not self.buffer, f"it has ended in the middle of a frame: {self.buffer!r}"
                return b""
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data
