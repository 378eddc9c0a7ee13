"""A client that forgives nothing: it reads responses by the grammar of RFC 9112 and notices how a connection ends.

It sends what it is told, byte for byte, and reads while it sends, so that neither side can block the other. Anything a server must
not do raises Unstrict: a malformed line, a field twice that may be there once, a chunk that is off by one, a body where there must
be none, a reset where a close was due.
"""

import fcntl
import os
import re
import select
import socket
import struct
import termios
import time
from dataclasses import dataclass, field

DEADLINE = 10  # seconds for any one thing to happen; never waited out by a server that works

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t \x21-\x7e\x80-\xff]*)")
FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): *([^\s\x00-\x1f\x7f](?:[\t \x21-\x7e\x80-\xff]*[^\s\x00-\x1f\x7f])?|)[\t ]*")
# A recipient of two of these would have to guess (RFC 9110 5.3, RFC 9112 6.3).
SINGLE = ("content-length", "transfer-encoding", "connection", "date", "server", "content-type", "keep-alive", "location", "retry-after")


class Unstrict(AssertionError):
    """The server did what no server may do."""


class Reset(Unstrict):
    """RST instead of FIN: what was on its way may be lost to the client."""


@dataclass
class Response:
    status: int
    reason: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    body: bytes = b""
    framing: str = "none"  # none, length, chunked, close
    complete: bool = True

    def get(self, name):
        return ", ".join(self.fields[name]) if name in self.fields else None

    @property
    def closing(self):
        return "close" in [option.strip().lower() for option in (self.get("connection") or "").split(",")]


class Client:
    """One connection. `address`: (host, port) or the path of a unix socket."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(address)
        if not isinstance(address, str):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.received = b""
        self.ended = False
        self.reset = False

    def close(self):
        self.socket.close()

    def abort(self):
        # Linger 0: close() sends RST, as a client does that crashed (socket(7)).
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def end(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.reset = True

    def send(self, data, one_by_one=False, is_last=False):
        """Send everything, keeping what comes back meanwhile.

        `one_by_one` (unix sockets only) goes on when the server has taken the last piece from its socket buffer, so that each
        piece is a read of its own there. Of a request of HTTP/1.0 it leaves the last byte until it has answered: `is_last`.
        """
        if one_by_one:
            self._settle()
        view = memoryview(data)
        deadline = time.monotonic() + DEADLINE
        while view and not self.reset:
            readable, writable, _ = select.select([] if self.ended else [self.socket], [self.socket], [], deadline - time.monotonic())
            if readable:
                self._read()
            if writable:
                view = view[self._write(view) :]
            if not (readable or writable):
                raise Unstrict(f"{len(view)} bytes are not taken by the server")
        if one_by_one and not is_last:
            self._settle()

    def _settle(self):
        # SIOCOUTQ, unix(7): bytes that the peer has not read yet.
        deadline = time.monotonic() + DEADLINE
        while struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0" * 4))[0]:
            if time.monotonic() > deadline:
                raise Unstrict("the server neither reads nor closes")
            if not self.ended:
                self._read()  # it may be waiting for us to take an answer
            os.sched_yield()

    def _write(self, view):
        try:
            return self.socket.send(view)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            self.reset = True
            return 0

    def _read(self):
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.reset = self.ended = True
            return
        self.received += data
        self.ended = not data

    def fill(self):
        """Wait for more; False at the end of what the server sends."""
        if self.ended:
            return False
        if not select.select([self.socket], [], [], DEADLINE)[0]:
            raise Unstrict(f"nothing more within {DEADLINE} s after {self.received[-200:]!r}")
        self._read()
        return not self.ended

    def await_bytes(self, wanted):
        while wanted not in self.received:
            if not self.fill():
                raise Unstrict(f"{wanted!r} never came")

    def trickle(self, data):
        """Send it every 20 ms, until the server answers or closes."""
        deadline = time.monotonic() + DEADLINE
        while not (self.received or self.ended):
            if time.monotonic() > deadline:
                raise Unstrict("the server waits for ever")
            if select.select([self.socket], [], [], 0.02)[0]:
                self._read()
            else:
                self.send(data)

    def rest(self):
        """What comes until the end."""
        while self.fill():
            pass
        rest, self.received = self.received, b""
        return rest

    def response(self, head=False):
        """The next response, interim ones included, or None when the connection ends before its first byte."""
        line = self._line(start=True)
        if line is None:
            return None
        match = STATUS_LINE.fullmatch(line)
        if not match:
            raise Unstrict(f"not a status line: {line!r}")
        response = Response(int(match[1]), match[2].decode("latin-1"))
        while line := self._line():
            match = FIELD_LINE.fullmatch(line)
            if not match:
                raise Unstrict(f"not a field line: {line!r}")
            response.fields.setdefault(match[1].decode().lower(), []).append(match[2].decode("latin-1"))
        self._check_framing(response)
        if head or response.status < 200 or response.status in (204, 304):
            return response
        self._read_body(response)
        return response

    def _line(self, start=False):
        while b"\n" not in self.received:
            if not self.fill():
                if start and not self.received:
                    return None
                raise Unstrict(f"cut in a line: {self.received!r}")
        line, _, self.received = self.received.partition(b"\n")
        if not line.endswith(b"\r"):
            raise Unstrict(f"line without CR: {line!r}")
        return line[:-1]

    def _check_framing(self, response):
        for name in SINGLE:
            if len(response.fields.get(name, "")) > 1:
                raise Unstrict(f"{name} more than once: {response.fields[name]}")
        length, coding = response.get("content-length"), response.get("transfer-encoding")
        if coding not in (None, "chunked") or (coding and length):
            raise Unstrict(f"Transfer-Encoding {coding!r}, Content-Length {length!r}")
        if length is not None and not re.fullmatch("[0-9]+", length):
            raise Unstrict(f"Content-Length {length!r}")
        if (length or coding) and (response.status < 200 or response.status == 204):
            raise Unstrict(f"framing fields in a {response.status} (RFC 9112 6.1, RFC 9110 8.6)")
        if coding and response.status == 205:
            response.framing = "chunked"

    def _read_body(self, response):
        length = response.get("content-length")
        if response.get("transfer-encoding"):
            response.framing = "chunked"
            self._read_chunks(response)
        elif length is not None:
            response.framing = "length"
            while len(self.received) < int(length) and self.fill():
                pass
            response.body, self.received = self.received[: int(length)], self.received[int(length) :]
            response.complete = len(response.body) == int(length)
        else:
            response.framing = "close"
            response.body = self.rest()
            response.complete = not self.reset

    def _read_chunks(self, response):
        try:
            while size := self._chunk_size():
                response.body += self._exactly(size)
                if self._exactly(2) != b"\r\n":
                    raise Unstrict("chunk data without its CRLF")
            if self._line():
                raise Unstrict("a trailer nobody asked for")
        except _EndOfStream:
            response.complete = False

    def _chunk_size(self):
        if not self._have(1):
            raise _EndOfStream
        line = self._line()
        if not re.fullmatch(rb"0|[1-9a-fA-F][0-9a-fA-F]*", line):
            raise Unstrict(f"not a chunk size: {line!r}")
        return int(line, 16)

    def _have(self, size):
        while len(self.received) < size:
            if not self.fill():
                return False
        return True

    def _exactly(self, size):
        if not self._have(size):
            raise _EndOfStream
        data, self.received = self.received[:size], self.received[size:]
        return data


class _EndOfStream(Exception):
    """The connection ended inside a chunked body."""
