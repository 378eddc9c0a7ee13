"""One client: bytes in, bytes out, and what happens when either stops.

A connection is always in one of three conditions: *reading* (waiting for the rest of a request, or for the next one), *responding*
(an exchange is under way; nothing is read meanwhile, which bounds what a client can make us keep), or *lingering* (the last answer
is out, its client is still sending: what it sends is read and dropped, for closing on unread bytes sends a reset that can destroy the
answer on its way, RFC 9112 9.6).
"""

from __future__ import annotations

import io
import os
import select
import socket

from spyglass.deadlines import BODY, HEAD, IDLE, LAST_CALL, LINGER, WRITE, Timed
from spyglass.errors import RequestError
from spyglass.http11.refusal import refusal
from spyglass.http11.request import RequestReader
from spyglass.wsgi import CutOff, Exchange, FileSpan, make_environ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from spyglass.http11.request import Request
    from spyglass.systemd import Listener
    from spyglass.worker.loop import Loop

_RECEIVE = 64 << 10
# A pipelining client, or a generator whose reader keeps up, gives the others a turn after so many requests, or pieces.
_REQUESTS_A_TURN = 16
_PIECES_A_TURN = 64


class Connection(Timed):
    """One accepted socket. `loop` watches it, keeps its deadline and knows the app; `handle()` is called when it is ready."""

    def __init__(self, loop: Loop, sock: socket.socket, address: Any, listener: Listener) -> None:
        super().__init__()
        self.sock = sock
        self.fd = sock.fileno()
        self.watched = select.EPOLLIN
        self._loop = loop
        self._address = address
        self._listener = listener
        self._reader = RequestReader(loop.limits)
        self._base: dict[str, Any] | None = None
        self._steps: Generator[bytes | FileSpan] | None = None
        self._exchange: Exchange | None = None
        self._request: Request | None = None
        self._out: memoryview | bytes = b""
        self._span: FileSpan | None = None
        self._at_end = False  # the client will send no more
        self._lingering = False

    def __str__(self) -> str:
        if self._listener.is_unix:
            return f"connection {self.fd} on {self._listener}"
        return f"connection {self.fd} from {self._address[0]}:{self._address[1]}"

    def handle(self) -> None:
        """Go on: the socket is ready for what is being waited for, or broken."""
        if self._lingering:
            self._discard()
        elif self._steps is not None:
            if self._pump():
                self.proceed()
        else:
            self._receive()

    # Reading

    def _receive(self) -> None:
        try:
            data = self.sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"reading failed: {error.strerror}")
            return
        if data:
            self._reader.feed(data)
        else:
            self._at_end = True
        self.proceed()

    def proceed(self) -> None:
        """Answer what has come, in order; then wait for more."""
        # It may have been put back in the queue in the middle of a response.
        if self._steps is not None and not self._pump():
            return
        for _ in range(_REQUESTS_A_TURN):
            try:
                request = self._reader.next()
            except RequestError as error:
                self._refuse(error.status, str(error))
                return
            except OSError as error:
                self._loop.log.error(f"request body: temporary file: {error.strerror}")
                self._refuse(507, "no room for the request body")
                return
            if request is None:
                self._await_more()
                return
            if not self._respond(request):
                return
        self._loop.again(self)

    def _await_more(self) -> None:
        if self._at_end:
            if self._reader.quiet:
                self.close("closed by the client")
            else:
                # The client may have shut down its sending side only, so it can still read this.
                self._refuse(400, "the request is incomplete")
            return
        self._loop.watch(self, select.EPOLLIN)
        pending = self._reader.pending
        if pending is not None:
            if pending.expects_continue:
                pending.expects_continue = False
                self._out = b"HTTP/1.1 100 Continue\r\n\r\n"
                try:
                    self._send()  # a socket that has sent nothing yet takes these few bytes
                except CutOff as error:
                    self.close(str(error))
                    return
            self._loop.set_deadline(self, BODY)
        elif self._reader.quiet and self._exchange is not None:
            self._loop.set_deadline(self, LAST_CALL if self._loop.draining else IDLE)
        elif self.deadline != HEAD:
            # Not set afresh by each byte: the time is for the whole head.
            self._loop.set_deadline(self, HEAD)

    # Responding

    def _respond(self, request: Request) -> bool:
        """Start answering; True when the answer is out and the connection may go on."""
        loop = self._loop
        loop.clear_deadline(self)
        if loop.log.debugging:
            loop.log.debug(f"{self}: {request.method} {request.target}")
        if self._base is None:
            self._base = self._make_base()
        self._request = request
        environ = make_environ(self._base, request, io.BytesIO)
        self._exchange = Exchange(loop.app, request, environ, self._push, loop.log)
        self._steps = self._exchange.run(loop.date(), loop.would_keep, loop.debug)
        return self._pump()

    def _make_base(self) -> dict[str, Any]:
        base = self._loop.base.copy()
        if self._listener.is_unix:
            # PEP 3333 wants name and port never empty; a unix socket has neither, and its peer no address.
            base.update(REMOTE_ADDR="", SERVER_NAME="localhost", SERVER_PORT="80")
            return base
        host, port = self.sock.getsockname()[:2]
        # A dual-stack socket names IPv4 clients ::ffff:a.b.c.d (RFC 4291 2.5.5.2); apps and people know them as a.b.c.d.
        base.update(
            REMOTE_ADDR=self._address[0].removeprefix("::ffff:"),
            REMOTE_PORT=str(self._address[1]),
            SERVER_NAME=host.removeprefix("::ffff:"),
            SERVER_PORT=str(port),
        )
        return base

    def _pump(self) -> bool:
        """Send and ask for the next piece, until the answer is out (True), or the client does not take it (False)."""
        steps = self._steps
        assert steps is not None
        for _ in range(_PIECES_A_TURN):
            try:
                if not self._send():
                    self._loop.watch(self, select.EPOLLOUT)
                    self._loop.set_deadline(self, WRITE)
                    return False
                piece = self._loop.call(steps)
            except CutOff as error:
                self.close(str(error))
                return False
            if piece is None:
                return self._finish()
            if isinstance(piece, FileSpan):
                self._span = piece
            else:
                self._out = piece
        self._loop.again(self)
        return False

    def _send(self) -> bool:
        """Send what is pending; False when the client does not take all of it now. Raises CutOff when it has gone."""
        try:
            while self._out:
                sent = self.sock.send(self._out)
                if sent == len(self._out):
                    self._out = b""
                    break
                self._out = memoryview(self._out)[sent:]
            if self._span is not None:
                self._send_file(self._span)
        except BlockingIOError:
            return False
        except OSError as error:
            raise CutOff(f"writing failed: {error.strerror}") from None
        return True

    def _send_file(self, span: FileSpan) -> None:
        while span.count:
            sent = os.sendfile(self.fd, span.fd, span.offset, span.count)
            if not sent:
                raise CutOff("a file became shorter while it was sent")
            span.offset += sent
            span.count -= sent
        self._span = None

    def _push(self, data: bytes) -> None:
        """Send `data` before returning, for write(): the one call that lets a slow reader hold up its worker (PEP 3333 wants it so)."""
        self._out = data
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while not self._send():
            self._loop.still_busy()
            if not poll.poll(self._loop.write_timeout * 1000):
                raise CutOff("the client takes nothing")

    def _finish(self) -> bool:
        self._steps = None
        exchange, request = self._exchange, self._request
        if request is not None and request.body is not None:
            request.body.close()
        self._request = None
        if exchange is None:
            self._end(announced=False)
            return False
        self._loop.served()
        if self._loop.log.debugging:
            self._loop.log.debug(f"{self}: answered {exchange.status}{', kept' if exchange.keep_alive else ''}")
        if exchange.keep_alive and not (self._at_end and self._reader.quiet):
            return True
        self._end(announced=request is not None and not request.keep_alive)
        return False

    # Ending

    def _refuse(self, status: int, why: str) -> None:
        """Answer with an error of our own, then end the connection."""
        self._loop.log.debug(f"{self}: refused with {status}: {why}")
        self._loop.clear_deadline(self)
        self._exchange = None
        self._out = refusal(status, f"{status}: {why}\n", self._loop.date(), head_only=self._reader.is_head)
        self._steps = _nothing_more()
        self._pump()

    def _end(self, *, announced: bool) -> None:
        """The last answer is out. A client that announced the end (Connection: close) sends no more; for another we linger."""
        if self._at_end or (announced and not self._reader.buffered):
            self.close("done")
            return
        self._lingering = True
        self._reader.close()
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close("closed by the client")
            return
        self._loop.watch(self, select.EPOLLIN)
        self._loop.set_deadline(self, LINGER)

    def _discard(self) -> None:
        try:
            if self.sock.recv(_RECEIVE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close("done")

    def expire(self, kind: int) -> None:
        """The deadline `kind` has passed."""
        if kind == BODY:
            self._refuse(408, "the request body did not arrive in time")
        elif kind == HEAD and not self._reader.quiet:
            self._refuse(408, "the request did not arrive in time")
        else:
            # A client that never said a word gets none either: it may be a browser's spare connection.
            self.close("the client takes nothing" if kind == WRITE else "idle for too long")

    def last_call(self) -> None:
        """The worker is draining: an idle client gets a short while for the request that may be on its way."""
        if self.deadline == IDLE or (self.deadline == HEAD and self._reader.quiet):
            self._loop.set_deadline(self, LAST_CALL)

    def close(self, why: str) -> None:
        """End at once, whatever is under way; the app's close() is called. Idempotent."""
        if self.fd < 0:
            return
        self._loop.log.debug(f"{self}: closed: {why}")
        self._loop.forget(self)
        steps, self._steps = self._steps, None
        if steps is not None:
            if self._exchange is not None:
                self._exchange.abandoned = True
            self._loop.end_call(steps)
        if self._request is not None and self._request.body is not None:
            self._request.body.close()
        self._reader.close()
        self.sock.close()
        self.fd = -1


def _nothing_more() -> Generator[bytes | FileSpan]:
    yield from ()
