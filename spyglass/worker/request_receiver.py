"""Receive the bytes of requests from one client, and know what is unread when its
connection is closed.

Closing a socket while bytes are unread is not an ordinary close. TCP then sends a reset
instead of an end, and a reset may destroy the answer that is still on its way to the
client (RFC 9112 9.6). On a unix socket the client gets an error (ECONNRESET) after it
has read the answer. We have three uses for that:

- At the end of an answer nothing may be unread. A client that may still be sending is
  waited for (the state LINGERING in connection.py).
- A response without a length ends with its connection (RFC 9112 8). If the worker is
  killed in the middle, the kernel closes the socket, and the client would take what it
  has for the whole. So while such a response is under way a close has to be a reset.
  On TCP SO_LINGER with 0 seconds does that (socket(7)).
- A unix socket has no such option. There the last byte of a request of HTTP/1.0 is
  left unread until its answer is out. The request is looked at (MSG_PEEK) and then
  taken from the socket, all but that byte.
"""

from __future__ import annotations

import sys

from spyglass.http11.request_reader import RequestReader
from spyglass.runtime.bound_names import read, readv
from spyglass.runtime.fast_imports import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from spyglass.http11.request import Limits, Request
    from spyglass.http11.request_body import Body
    from spyglass.http11.request_head import HeadParser
    from spyglass.worker.client_socket import ClientSocket

# recv(2) into more than malloc has at hand costs more than all the parsing of a small
# request.
RECEIVE_HEAD: Final = 8 << 10
_RECEIVE_BODY: Final = 128 << 10
# No memory is allocated for what is received where it belongs.
_RECEIVE_IN_PLACE: Final = 256 << 10
_ON_AND_NONE = (1).to_bytes(4, sys.byteorder) + bytes(4)  # struct linger
_OFF = bytes(8)


class RequestReceiver:
    """The receiving side of `client`, and the `reader` of what it gives.

    `looked_at`: bytes that the reader has and that are still in the socket. `at_end`
    (bool): the client will send no more. `deaf` (bool): nor could it, for it was idle
    for too long and a unix socket was shut down. OSError is for the caller where
    nothing else is said.
    """

    __slots__ = (
        "_client",
        "_is_unix",
        "_may_be_old",
        "_resets",
        "at_end",
        "deaf",
        "looked_at",
        "reader",
    )

    def __init__(
        self,
        client: ClientSocket,
        is_unix: bool,
        limits: Limits,
        heads: HeadParser,
        make_body: Callable[[int], Body] | None = None,
    ) -> None:
        self._client = client
        self._is_unix = is_unix
        self.reader = RequestReader(limits, heads, make_body)
        self.looked_at = 0
        self._may_be_old = is_unix  # the next request may be one of HTTP/1.0
        self._resets = False  # a close is a reset
        self.at_end = False
        self.deaf = False

    def receive(self) -> bytes:
        """Return what has arrived; b"" at the end, or where it was received in the
        place of a body. Raises BlockingIOError when there is nothing.
        """
        reader = self.reader
        if reader.pending is None and not self._may_be_old:
            data = read(self._client.fd, RECEIVE_HEAD)
        elif not self._may_be_old and (room := reader.room) is not None:
            self.at_end = not self._fill(room)
            return b""
        else:
            size = RECEIVE_HEAD if reader.pending is None or not reader.bulky else _RECEIVE_BODY
            look = self._may_be_old and reader.left <= size
            data = self._look(size) if look else read(self._client.fd, size)
        if not data:
            self.at_end = True
        return data

    def _fill(self, room: memoryview) -> int:
        """Receive the rest of a body in `room`; 0 at the end."""
        size = readv(self._client.fd, (room[:_RECEIVE_IN_PLACE],))
        self.reader.arrived(size)
        return size

    def receive_on(self, last: int) -> bytes | None:
        """Return more of a body that has begun, if the `last` bytes filled all they
        could: as receive() does, but None when there is no more yet.
        """
        reader = self.reader
        if last != RECEIVE_HEAD or self._may_be_old or reader.pending is None or not reader.bulky:
            return None
        try:
            room = reader.room
            if room is not None:
                return b"" if self._fill(room) else None
            return read(self._client.fd, _RECEIVE_BODY) or None
        except OSError:
            return None  # any other error will be met again

    def _look(self, size: int) -> bytes:
        """Look at up to `size` bytes, and leave them in the socket: see
        take_all_but_one().
        """
        try:
            data = self._client.object.recv(size, socket.MSG_PEEK)
        except BlockingIOError:
            # A byte that was sent out of band (MSG_OOB, send(2)) makes a unix socket
            # ready, but is not looked at. Only this drops it.
            return read(self._client.fd, size)
        self.looked_at = len(data)
        return data

    def take_all_but_one(self, request: Request | None) -> None:
        """Take from the socket what the reader has, less the last byte of `request` if
        it is one of HTTP/1.0. That byte is taken when the answer is out.
        """
        reader = self.reader
        known = request or reader.pending
        if known is not None:
            self._may_be_old = known.version < (1, 1)
        left = int(request is not None and self._may_be_old and not reader.buffer)
        try:
            while self.looked_at > left:
                taken = len(read(self._client.fd, self.looked_at - left))
                self.looked_at -= taken or self.looked_at
        except OSError:
            # The connection is broken. What is left must not be read as another
            # request.
            self.looked_at, self.at_end = 0, True

    def reset_unless_whole(self) -> None:
        """From now on make a close a reset, even the kernel's when this process is
        killed: an ordinary close is how a whole answer ends.
        """
        if not self._is_unix:  # there it is the byte that is unread
            self._resets = True
            self._linger(_ON_AND_NONE)

    def whole(self) -> None:
        """The answer is whole: a close is an ordinary one again."""
        if self._resets:
            self._resets = False
            self._linger(_OFF)

    def _linger(self, how: bytes) -> None:
        try:
            self._client.object.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
        except OSError:
            pass  # it has been closed meanwhile

    def speaks(self) -> bool:
        """Return True if something has arrived since the loop has looked; an empty line
        says nothing.
        """
        try:
            return bool(self._client.object.recv(RECEIVE_HEAD, socket.MSG_PEEK).strip(b"\r\n"))
        except BlockingIOError:
            if not self._is_unix:
                return False
            # On a unix socket nothing can arrive after this: a client that sends now
            # gets an error at once (EPIPE), and may safely retry. What has arrived by
            # then is still read, and answered.
            self.deaf = True
            self._client.object.shutdown(socket.SHUT_RD)
            return self.speaks()
        except OSError:
            return False

    def lags(self, now: float, timeout: float, min_rate: int) -> bool:
        """Return True if the body that is arriving is slower than `min_rate` (bytes a
        second, body_min_rate) and nothing more has arrived.
        """
        pending = self.reader.pending
        body = None if pending is None else pending.body
        if body is None or not body.lags(now, timeout, min_rate):
            return False
        if not self.speaks():
            return True
        # Then the delay was ours: the worker was busy, or was stopped (SIGSTOP).
        body.forgive(now)
        return False

    def sends_on(self, unread: int) -> bool:
        """Return True if something is unread after the last answer, and drop it; the
        kernel may have `unread` bytes.

        After "Connection: close" a client should send nothing, but it may have while
        the app was running. Closing on that would be a reset all the same.
        """
        try:
            return unread > 0 and len(read(self._client.fd, RECEIVE_HEAD)) > self.looked_at
        except OSError:
            return False

    def drop(self) -> bool:
        """Drop what has arrived; True when that was the end."""
        try:
            return not read(self._client.fd, _RECEIVE_BODY)
        except BlockingIOError:
            return False
        except OSError:
            return True
