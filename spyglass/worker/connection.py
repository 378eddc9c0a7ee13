"""One client: bytes in, bytes out, and what happens when either stops.

A connection may have to introduce itself first: *greeting* (proxy_header.py), where
`proxy_protocol` is on. From then on it is always in one of three conditions: *reading*
(waiting for the rest of a request, or for the next one), *responding* (an exchange is
under way; nothing is read meanwhile, which bounds what a client can make us keep), or
*lingering* (the last answer is out, its client is still sending: what it sends is read
and dropped, for closing on unread bytes sends a reset that can destroy the answer on
its way, RFC 9112 9.6).

All of it is run by the leader of the crew (leader_followers.py), but for the exchange
itself. Wherever the app is called, this thread may lose the lead; what follows the call
is then done by another, through `resume()`.
"""

from __future__ import annotations

import select
import sys
from time import monotonic

from spyglass.errors import RequestError, blame, told_shortly
from spyglass.gateway.environ import EnvironMaker
from spyglass.gateway.wsgi import Exchange
from spyglass.http11.error_response import refusal
from spyglass.http11.request_reader import RequestReader
from spyglass.runtime.fast_imports import socket
from spyglass.runtime.timers import BODY, HEAD, IDLE, LAST_CALL, LINGER, WRITE
from spyglass.worker.body_spool import FULL
from spyglass.worker.leader_followers import ELSEWHERE
from spyglass.worker.response_writer import (
    AWAY,
    CLOSED,
    DISMISSED,
    GREETING,
    LINGERING,
    READING,
    RESPONDING,
    STALLED,
    UNFINISHED,
    Sender,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.http11.proxy_protocol import Endpoints
    from spyglass.http11.request import Request
    from spyglass.http11.request_body import Body
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.leader_followers import Piece
    from spyglass.worker.loop import Loop
    from spyglass.worker.proxy_header import Greeting
    from spyglass.worker.slow_clients import Seen

_RECEIVE_HEAD = (
    8 << 10
)  # recv(2) into more than malloc has at hand costs more than all the parsing of a small request
_RECEIVE_BODY = 128 << 10
# A pipelining client, or a generator whose reader keeps up, gives the others a turn
# after so many requests, or pieces, or when the time of the loop's turn is up: each of
# them may be a slow one.
_REQUESTS_A_TURN = 16
_PIECES_A_TURN = 64
_LARGE = 128 << 10  # a piece that is worth a turn
_RETRY_AFTER = 5  # seconds
_ON_AND_NONE = (1).to_bytes(4, sys.byteorder) + bytes(4)  # struct linger
_OFF = bytes(8)


class Connection(Sender):
    """One accepted socket. `loop` watches it, keeps its deadline and knows the app;
    `handle()` is called when it is its turn.
    """

    __slots__ = (
        *(
            "_address",
            "_announced",
            "_at_end",
            "_began",
            "_deaf",
            "_endpoints",
            "_environs",
            "_final",
            "_greeting",
            "_listener",
        ),
        *("_looked_at", "_may_be_old", "_reader", "_request", "_resets", "_served", "seen"),
    )

    def __init__(self, loop: Loop, sock: socket.socket, address: Any, listener: Listener) -> None:
        super().__init__(loop, sock, GREETING if loop.proxy_protocol else READING)
        self._address = address
        self._listener = listener
        self._reader = RequestReader(loop.limits, loop.heads)
        self._environs: EnvironMaker | None = None
        self._request: Request | None = None
        self._looked_at = 0  # bytes that the reader has, and that are still in the socket
        self._may_be_old = (
            listener.is_unix
        )  # whether the next request may be one of HTTP/1.0; see _take_all_but_one()
        self._resets = False  # whether a close is a reset
        self._served = False  # whether a request has been answered
        self._final = (
            False  # the answer under way is the last, and nothing of it will be asked for any more
        )
        self._announced = False  # the client knows that it is
        self._at_end = False  # the client will send no more
        self._deaf = False  # nor could it: it was idle for too long
        self._greeting: Greeting | None = None
        self._endpoints: Endpoints | None = None  # of whom a PROXY header has told
        self.seen: Seen | None = None  # slow_clients.py's

    def __str__(self) -> str:
        if self._listener.is_unix:
            return f"connection {self.fd} on {self._listener}"
        return f"connection {self.fd} from {self._address[0]}:{self._address[1]}"

    def handle(self) -> None:
        """Go on: the socket is ready for what is being waited for, or broken, or there
        is something to do without it.
        """
        if self.condition == READING:
            try:
                if self._reader.pending is None and not self._may_be_old:
                    data = self.sock.recv(_RECEIVE_HEAD)
                else:
                    size = (
                        _RECEIVE_HEAD
                        if self._reader.pending is None or not self._reader.bulky
                        else _RECEIVE_BODY
                    )
                    data = (
                        self._look(size)
                        if self._may_be_old and self._reader.left <= size
                        else self.sock.recv(size)
                    )
            except BlockingIOError:
                if self.deadline is None:
                    self._await_more()
                return
            except OSError as error:
                self.close(f"reading failed: {error.strerror}")
                return
            if not data:
                self._at_end = True
            self.proceed(data)
        elif self.condition == RESPONDING:
            self.proceed()
        elif self.condition == UNFINISHED:
            self.condition = RESPONDING
            self.proceed()
        elif self.condition == LINGERING:
            self._discard()
        elif self.condition == GREETING:
            self._greet()
        elif self.condition == STALLED:
            if self.progresses():
                self.condition = RESPONDING
                self._loop.deadlines.set(self, WRITE, monotonic())
            else:
                self.close("the client takes nothing")
        elif self.condition == DISMISSED:
            self.close("others wait for its place")

    def _greet(self) -> None:
        if self._greeting is None:
            from spyglass.worker.proxy_header import Greeting  # only who asks for it pays for it

            self._greeting = Greeting(
                self, self._loop, "" if self._listener.is_unix else self._address[0]
            )
        heard = self._greeting.read()
        if heard is None:
            return
        rest, self._endpoints = heard
        if self._loop.log.debugging and self._endpoints is not None:
            self._loop.log.debug(f"{self}: speaks for {self._endpoints}")
        self.condition = READING
        self.proceed(rest)

    # Reading

    def proceed(self, data: bytes = b"") -> None:
        """Finish the response under way, answer what has come, `data` the last of it,
        in order; then wait for more.
        """
        answered = 0
        if self._exchange is not None or self._final:
            if not self._pump():
                return
            if self._reader.buffer and self._out and not self._flush():
                return
            answered = 1
        elif self._out:
            # The rest of an answer that was held, and is finished but for that.
            if not self._flush():
                return
            answered = 1
        reader = self._reader
        while True:
            try:
                request = reader.next(data)
            except RequestError as error:
                self._refuse(error.status, str(error))
                return
            except OSError as error:
                self._loop.log.error(f"request body: temporary file: {error.strerror}")
                self._refuse(507 if error.errno in FULL else 503, "no room for the request body")
                return
            except Exception as error:
                self._misread(error)
                return
            if self._looked_at:
                self._take_all_but_one(request)
            if request is None:
                if (
                    len(data) == _RECEIVE_HEAD
                    and not self._may_be_old
                    and reader.pending is not None
                    and reader.bulky
                ):
                    # A body has begun, and there is more of it already.
                    data = self._receive_on()
                    if data:
                        continue
                break
            try:
                self._begin(request)
            except OSError as error:
                # What only some requests need is imported by them, and that takes a
                # descriptor.
                self._loop.log.error(f"{request.method} {request.target}: {error.strerror}")
                self._refuse(503, "out of resources")
                return
            except Exception as error:
                self._misread(error)
                return
            if not self._pump():
                return
            if not reader.buffer:
                self._served_all()
                return
            if self._out and not self._flush():
                return
            answered += 1
            if answered >= _REQUESTS_A_TURN or monotonic() >= self._loop.turn_ends:
                self._loop.again(self)
                return
            data = b""
        if answered:
            self.deadline = None  # that of the last head; each has its own time
        self._await_more()

    def _look(self, size: int) -> bytes:
        """So much of what has come. It stays in the socket, see _take_all_but_one()."""
        try:
            data = self.sock.recv(size, socket.MSG_PEEK)
        except BlockingIOError:
            # A byte that was sent out of band (MSG_OOB, send(2)) makes a unix socket
            # ready, but is not looked at. Only this drops it.
            return self.sock.recv(size)
        self._looked_at = len(data)
        return data

    def _take_all_but_one(self, request: Request | None) -> None:
        """Take from the socket what the reader has, less the last byte of `request` if
        it is one of HTTP/1.0.

        The end of its answer may be that of the connection (RFC 9112 8). On a unix
        socket a close is an error for the client as long as something is unread, even
        the kernel's when this process is killed; there is no other way. The byte is
        taken when the answer is out.
        """
        known = request or self._reader.pending
        if known is not None:
            self._may_be_old = known.version < (1, 1)
        left = int(request is not None and self._may_be_old and not self._reader.buffer)
        try:
            while self._looked_at > left:
                taken = len(self.sock.recv(self._looked_at - left))
                self._looked_at -= taken or self._looked_at
        except OSError:
            # The connection is broken. What is left must not be read as another
            # request.
            self._looked_at, self._at_end = 0, True

    def reset_unless_whole(self) -> None:
        """From now on have a close be a reset, even the kernel's when this process is
        killed. A mere close is how a whole answer ends.
        """
        if not self._listener.is_unix:  # there it is the byte that we have not read
            self._resets = True
            self._linger(_ON_AND_NONE)

    def _linger(self, how: bytes) -> None:
        try:
            self.sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, how
            )  # for 0 seconds: a reset, socket(7)
        except OSError:
            pass  # it has been closed meanwhile

    def _receive_on(self) -> bytes:
        try:
            return self.sock.recv(_RECEIVE_BODY)
        except OSError:
            return b""  # there is no more yet; what else is the matter will be said again

    def _served_all(self) -> None:
        """Everything that came has been answered."""
        if (
            self.deadline == IDLE
            and self.watched == select.EPOLLIN
            and not self._at_end
            and not self._loop.draining
        ):
            # Nothing has changed since the last time but the time.
            self.due = monotonic() + self._loop.keepalive_timeout
        else:
            self.deadline = None
            self._await_more()

    def _await_more(self) -> None:
        loop = self._loop
        reader = self._reader
        if self._at_end:
            if reader.quiet or self._deaf:
                self.close("closed by the client")
            else:
                # The client may have shut down its sending side only, so it can still
                # read this.
                self._refuse(400, "the request is incomplete")
            return
        self.condition = READING
        if self.watched != select.EPOLLIN:
            loop.watch(self, select.EPOLLIN)
        if self._served and reader.quiet:
            # An empty line says nothing: it must not keep the connection, and with it
            # the unit, for another while.
            if self.deadline is None:
                loop.deadlines.set(self, LAST_CALL if loop.draining else IDLE, monotonic())
        elif reader.pending is not None:
            if reader.pending.expects_continue:
                reader.pending.expects_continue = False
                # A socket that has sent nothing yet takes these few bytes.
                if not self._take(b"HTTP/1.1 100 Continue\r\n\r\n"):
                    return
            now = monotonic()
            if self._lags(reader.pending.body, now):
                self._refuse(408, "the request body comes too slowly")
                return
            loop.deadlines.set(self, BODY, now)
        elif self.deadline != HEAD:
            # Not set afresh by each byte: the time is for the whole head.
            loop.deadlines.set(self, HEAD, monotonic())

    def _lags(self, body: Body | None, now: float) -> bool:
        """Whether the client gives less than body_min_rate, and has nothing more on its
        way to us.
        """
        loop = self._loop
        if body is None or not body.lags(now, loop.body_timeout, loop.body_min_rate):
            return False
        if not self._speaks():
            return True
        # Then it was we who did not read: the worker was busy, or stood still
        # (SIGSTOP).
        body.forgive(now)
        return False

    # Responding

    def _begin(self, request: Request) -> None:
        loop = self._loop
        if loop.log.debugging:
            loop.log.debug(f"{self}: {request.method} {request.target}")
        self._request = request
        if loop.access is not None:
            self._began = monotonic()
        if self._environs is None:
            self._environs = self._environ_maker()
        self._exchange = Exchange(loop, request, self._environs.make(request), self)

    def _environ_maker(self) -> EnvironMaker:
        return EnvironMaker(
            self._constant(), self._loop.trusted_proxies, self._loop.forwarded_headers
        )

    def _constant(self) -> dict[str, Any]:
        """What is the same for every request of this connection."""
        if self._endpoints is not None:
            return self._loop.base | self._endpoints.environ()
        base = self._loop.base_of(self._listener)
        if self._listener.is_unix:
            return base
        # A dual-stack socket names IPv4 clients ::ffff:a.b.c.d (RFC 4291 2.5.5.2); apps
        # and people know them as a.b.c.d.
        base = {
            **base,
            "REMOTE_ADDR": self._address[0].removeprefix("::ffff:"),
            "REMOTE_PORT": str(self._address[1]),
        }
        if not base["SERVER_NAME"]:
            base["SERVER_NAME"] = server_name(self.sock.getsockname()[0])
        return base

    def _pump(self) -> bool:
        """Send and ask for the next piece, until the answer is out (True), or the
        client does not take it (False).
        """
        exchange = self._exchange
        held = self._loop.held
        pieces = 0
        while True:
            if (self._out or self._span is not None) and not self.held and not self._flush():
                return False
            if exchange is None:
                self._final = False
                self._end()
                return False
            if exchange.done:
                return self._finish(exchange)
            if (
                pieces
                and (pieces == _PIECES_A_TURN or monotonic() >= self._loop.turn_ends)
                and not exchange.complete
            ):
                self._loop.again(self)
                return False
            pieces += 1
            if held.pending and exchange.path != held.called:
                held.expect(exchange.path)
            piece = self._loop.crew.call(exchange, exchange.advance)
            if not self._take(piece):
                return False
            if exchange.done:
                return self._finish(exchange)
            if isinstance(piece, bytes) and len(piece) > _LARGE:
                pieces = _PIECES_A_TURN

    def let_go(self) -> None:
        """Send what was held."""
        if not self.held:
            return  # it went with something else, or its client has gone
        self._send_held()
        if not (self._final or self._out) or self._exchange is not None:
            return  # there is no more of it, or the app's end of it is being made in another thread
        if (not self._out or self._flush()) and self._final:
            self._pump()

    def resume(self, piece: Piece) -> None:
        """Send what a call gave that was made in another thread; what follows may call
        the app, and waits for its turn.
        """
        if self.fd < 0:
            self._bury()
            return
        self.condition = RESPONDING
        if self._take(piece):
            done = self._exchange is None or self._exchange.done
            if self._loop.cutting and not done:
                self.cut()
            elif done and not self._reader.buffer:
                self.proceed()
            else:
                self._loop.again(self)

    def _finish(self, exchange: Exchange) -> bool:
        """The answer is out; True when the connection may go on."""
        loop = self._loop
        request, self._request, self._exchange, self._served = self._request, None, None, True
        assert request is not None
        if request.body is not None:
            request.body.close()
        if exchange.bound:
            loop.crew.release(exchange)
        loop.served += 1
        if loop.log.debugging:
            loop.log.debug(
                f"{self}: answered {exchange.status}{', kept' if exchange.keep_alive else ''}"
            )
        kept = exchange.keep_alive and not (self._at_end and self._reader.quiet)
        if loop.access is not None:
            self._record(request, exchange, kept=kept)
        if kept:
            if self._looked_at:
                self._take_all_but_one(None)
            return True
        if self._resets:
            self._resets = False
            self._linger(_OFF)
        self._announced = not request.keep_alive
        if self.held:
            self._final = True
            self.condition = RESPONDING
            loop.deadlines.clear(self)
        else:
            self._end()
        return False

    # Ending

    def _refuse(self, status: int, why: str) -> None:
        """Answer with an error of our own, then end the connection."""
        loop = self._loop
        loop.log.debug(f"{self}: refused with {status}: {why}")
        if self._looked_at:
            self._take_all_but_one(None)
        loop.deadlines.clear(self)
        self._final = True
        self._announced = False
        self._out = self._refusal(status, why)
        # What has come of a body is of no use any more, while its client may take its
        # time to hear of that.
        self._reader.close()
        if self._request is not None and self._request.body is not None:
            self._request.body.close()
        self._pump()

    def _misread(self, error: Exception) -> None:
        """What the client has sent makes our own code fail. That costs this connection,
        not the worker and all the others.
        """
        self._loop.log.error(
            f"{self}: {blame(error)} while reading a request: {told_shortly(error)}"
        )
        self._refuse(400, "the request cannot be read")

    def _refusal(self, status: int, why: str) -> bytes:
        # What is wrong for a moment only may be tried again (RFC 9110 10.2.3).
        extra = f"Retry-After: {_RETRY_AFTER}\r\n" if status == 503 else ""
        said = refusal(
            status,
            f"{status}: {why}\n",
            self._loop.date,
            head_only=self._reader.is_head,
            extra=extra,
        )
        if self._loop.access is not None:
            self._record_refusal(status, len(said.partition(b"\r\n\r\n")[2]))
        return said

    def _end(self) -> None:
        """The last answer is out. A client that announced the end (Connection: close)
        sends no more; for another we linger.
        """
        if self._at_end or (self._announced and not self._reader.buffer and not self._sends_on()):
            self.close("done")
            return
        self.condition = LINGERING
        self._reader.close()
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close("closed by the client")
            return
        self._loop.watch(self, select.EPOLLIN)
        self._loop.deadlines.set(self, LINGER, monotonic())

    def _sends_on(self) -> bool:
        # It should not, but may have while the app was running; closing on that would
        # be a reset all the same.
        try:
            return len(self.sock.recv(_RECEIVE_HEAD)) > self._looked_at
        except OSError:
            return False

    def _discard(self) -> None:
        try:
            if self.sock.recv(_RECEIVE_BODY):
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
        elif self._speaks():
            # A request that is on its way when we close gets no answer, and its client
            # cannot know whether it was heard (RFC 9112 9.3.1). This one came while
            # others were served: it is for the next turn to read.
            self._loop.deadlines.set(self, kind, monotonic())
        else:
            # A client that never said a word gets none either: it may be a browser's
            # spare connection.
            self.close("idle for too long")

    def _speaks(self) -> bool:
        """Whether something has come since the loop has looked; an empty line says
        nothing.
        """
        if self.condition != READING:
            return False
        try:
            return bool(self.sock.recv(_RECEIVE_HEAD, socket.MSG_PEEK).strip(b"\r\n"))
        except BlockingIOError:
            if not self._listener.is_unix:
                return False
            # On a unix socket nothing can come in after this: who sends now is told at
            # once (EPIPE), and may safely come again. What has come by then is still
            # read, and answered.
            self._deaf = True
            self.sock.shutdown(socket.SHUT_RD)
            return self._speaks()
        except OSError:
            return False

    def _takes(self) -> bool:
        """Return True if the client has taken what it was sent: then it waits for
        us.
        """
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return bool(poll.poll(0))

    def last_call(self) -> None:
        """The worker is draining: an idle client gets a short while for the request
        that may be on its way.
        """
        if self.deadline == IDLE or (self.deadline == HEAD and self._reader.quiet):
            self._loop.deadlines.set(self, LAST_CALL, monotonic())

    def give_way(self) -> bool:
        """It is idle or slow, and somebody waits for its place. False when it has said
        something meanwhile, and stays.
        """
        if self.condition == RESPONDING:
            if self._takes():
                return False
            self._loop.dismiss(self)
            return True
        if self._speaks():
            return False
        if not self._reader.quiet:
            # At once, and not lingering as after other refusals: its place is wanted.
            # It was silent, so there is nothing to be read.
            try:
                self.sock.send(self._refusal(408, "too slow, while others wait"))
            except OSError:
                pass
        self.close("others wait for its place")
        return True

    @property
    def body(self) -> Body | None:
        """The one that is on its way."""
        pending = self._reader.pending
        return None if pending is None else pending.body

    def progress(self) -> int:
        """Bytes that the client has given of its request, or taken of the response: of
        what it is waited for.
        """
        if self.deadline == WRITE:
            from spyglass.worker.slow_clients import untaken

            return (
                0
                if self._exchange is None
                else self._exchange.given - self._not_sent - untaken(self.fd)
            )
        body = self.body
        return len(self._reader.buffer) if body is None else body.length

    def cut(self) -> None:
        """The worker leaves, and this one has not ended in time. A call in another
        thread cannot be ended but with the process.
        """
        if self.condition != AWAY:
            self.close("cut: the worker leaves")

    def close(self, why: str) -> None:
        """End at once, whatever is under way; the app's close() is called, and counts
        as open until it returns. Idempotent.
        """
        if self.fd < 0:
            return
        loop = self._loop
        if loop.log.debugging:
            loop.log.debug(f"{self}: closed: {why}")
        if self.held:
            self._send_held()
        loop.forget(self)
        self._reader.close()
        exchange, self._exchange = self._exchange, None
        if exchange is not None and loop.access is not None and self._request is not None:
            self._record(self._request, exchange, cut=True)
        self.sock.close()
        self.fd = -1
        self.condition = CLOSED
        if exchange is not None:
            loop.crew.release(exchange)
            loop.held.let_go()
            if loop.crew.call(exchange, exchange.abandon) is ELSEWHERE:
                return
        self._bury()

    def _bury(self) -> None:
        request, self._request = self._request, None
        if request is not None and request.body is not None:
            request.body.close()
        self._loop.exit(self)

    # The access log, when there is one

    def _record(
        self, request: Request, exchange: Exchange, *, cut: bool = False, kept: bool = False
    ) -> None:
        access = self._loop.access
        assert access is not None
        entry = access.entry(self._listener, self._client(request), request)
        entry.status = exchange.status[:3]
        entry.sent = max(0, exchange.given - (0 if self.held else self._not_sent))
        entry.taken = monotonic() - self._began
        entry.cut = cut
        entry.kept = kept
        access.add(entry)

    @property
    def _not_sent(self) -> int:
        """Bytes of the response that the kernel has not taken yet."""
        return len(self._out) + (self._span.count if self._span is not None else 0)

    def _record_refusal(self, status: int, size: int) -> None:
        access = self._loop.access
        assert access is not None
        request = self._request or self._reader.pending
        line = "" if request is not None else self._reader.line.decode("latin-1")
        entry = access.entry(self._listener, self._client(request), request, line)
        entry.status = str(status)
        entry.sent = size
        access.add(entry)

    def _client(self, request: Request | None) -> str:
        try:
            if request is not None:
                if self._environs is None:
                    self._environs = self._environ_maker()
                return self._environs.client(request)
            address: str = self._constant()["REMOTE_ADDR"]
            return address
        # No descriptor is left to import with what knows proxies, or this request is
        # one that was misread
        except Exception:
            return ""


def server_name(host: str) -> str:
    """The address `host` as SERVER_NAME has it: what can stand in a URL (RFC 3875
    4.1.14).
    """
    host = host.removeprefix("::ffff:")
    return f"[{host}]" if ":" in host else host
