"""A connection of an ASGI app while the app works on a request: more of the body
arrives, the response goes out, and the client may leave.
"""

from __future__ import annotations

from select import EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from time import monotonic

from spyglass.errors import RequestError, blame, told_shortly
from spyglass.gateway.asgi.http_exchange import MOST_DROPPED, HttpExchange
from spyglass.http11.stream_body import HIGH, StreamBody
from spyglass.runtime.timers import BODY, LAST_CALL, LEAVE, WRITE
from spyglass.worker.asgi.duplex_sender import DuplexSender
from spyglass.worker.asgi.duplex_states import EXCHANGING
from spyglass.worker.client_socket import GONE, SAID_ITS_LAST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import Visit
    from spyglass.worker.host import Host
    from spyglass.worker.peer import Peer
    from spyglass.worker.request_receiver import RequestReceiver
    from spyglass.worker.server import Server

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SPREAD: Final = 5.0  # seconds over which a worker's streams end, at most
_APART: Final = 0.01  # seconds between two of them


class DuplexExchange(DuplexSender):
    """One client, as far as it takes part in an exchange.

    `_client_left` (bool): the client's end is known before what precedes it was read.
    `_drop_until` (int): so much of the last request's body is read, at most, to get to
    the next one; 0: there is none.
    """

    __slots__ = ("_began", "_client_left", "_drop_until", "_ready", "_served")

    def __init__(
        self,
        host: Host,
        server: Server,
        client: ClientSocket,
        peer: Peer,
        receiver: RequestReceiver,
        visit: Visit | None,
        apps: Any,
    ) -> None:
        super().__init__(host, server, client, peer, receiver, visit, apps)
        self._ready = 0.0  # monotonic: when the head of the request was there
        self._began = 0.0  # when the app was called; for the access log alone
        self._served = False
        self._client_left = False
        self._drop_until = 0

    def attend(self) -> None:
        """Something can be received or sent, or the connection is broken."""
        exchange = self._exchange
        if exchange is None:
            self.proceed()
            return
        data = self._hear(exchange)
        if data is not None:
            self.proceed(data)

    def _hear(self, exchange: HttpExchange) -> bytes | None:
        """Return more of the body; None when the connection has ended."""
        receiver = self._receiver
        reader = receiver.reader
        is_body = reader.pending is not None
        if receiver.at_end or not (is_body or (not reader.buffer and not receiver.looked_at)):
            return self._look_for_end(exchange)
        try:
            data = receiver.receive()
        except BlockingIOError:
            return b""
        except OSError as error:
            self.close(f"reading failed: {error.strerror}")
            return None
        if receiver.at_end:
            if is_body and not exchange.begun:
                self._abandon_call(400, "the request is incomplete")
                return None
            self._tell_of_end(exchange)
        if not is_body:
            # The next request, ahead of time: it waits, and so does what follows it.
            reader.buffer = data
            data = b""
        return data

    def _look_for_end(self, exchange: HttpExchange) -> bytes | None:
        """Nothing more is to be read: see whether the client has gone."""
        if self._writer.size:
            return b""  # sending will tell
        found = self.socket.look_for_end()
        if found == GONE:
            self.close("closed by the client")
            return None
        if found == SAID_ITS_LAST:
            self._client_left = True
            self._tell_of_end(exchange)
        return b""

    def _tell_of_end(self, exchange: HttpExchange) -> None:
        """The client has shut down its sending side. It may have gone, or wait for the
        rest: RFC 9112 9.6 does not say. So the app is told, and what it sends is sent.
        """
        exchange.leave()
        self._call.client_left()

    def _advance(self, data: bytes) -> bool:
        """Do what can be done for the request under way. Return True when its response
        is out, and the connection may go on.
        """
        exchange, writer = self._exchange, self._writer
        is_body = exchange is not None and self._receiver.reader.pending is not None
        if is_body and not self._feed(data):
            return False
        if (writer.pending or writer.span is not None) and not writer.held:
            if not self._flush():
                return False
            if exchange is not None:
                self._call.wake()
        if exchange is None:
            self._final = False
            self.end()
            return False
        if not exchange.complete:
            self._await_app(exchange)
            return False
        return self._finish(exchange)

    def _feed(self, data: bytes) -> bool:
        """Read on in the body; False when that fails."""
        receiver = self._receiver
        body = self.body
        assert isinstance(body, StreamBody)
        before = body.length
        try:
            request = receiver.reader.next(data)
        except RequestError as error:
            self._abandon_call(error.status, str(error))
            return False
        except Exception as error:
            self._misread(error)
            return False
        if receiver.looked_at:
            receiver.take_all_but_one(request)
        body.ended = request is not None
        if body.ended or body.length != before:
            self._call.wake()
        return True

    def _await_app(self, exchange: HttpExchange) -> None:
        """Wait for the app, and for all that may happen meanwhile."""
        reader = self._receiver.reader
        self.state = EXCHANGING
        wanted = EPOLLOUT if self._writer.size else 0
        reads_body = False
        if self._receiver.at_end:
            pass
        elif reader.pending is not None:
            body = reader.pending.body
            assert isinstance(body, StreamBody)
            if body.size < HIGH:
                wanted |= EPOLLIN
                # A client that waits for leave to send the body is not late.
                reads_body = not reader.pending.expects_continue
        elif not reader.buffer and not self._receiver.looked_at:
            wanted |= EPOLLIN
        elif not self._client_left:
            wanted |= EPOLLRDHUP
        # EPOLLHUP comes in any case; without a bit the epoll would not know the socket.
        self._host.watch(self, wanted or EPOLLHUP)
        if self._writer.size:
            return  # WRITE is set
        if not reads_body:
            if self._server.draining and exchange.is_event_stream:
                self.leave_soon()
            else:
                self.stop_waiting()
            return
        now, server = monotonic(), self._server
        if self._receiver.lags(now, server.body_timeout, server.body_min_rate):
            self._abandon_call(408, "the request body comes too slowly")
            return
        self._host.deadlines.set(self, BODY, now)

    def judge_client(self, kind: int) -> None:
        """A deadline has passed."""
        if kind == WRITE:
            if self._writer.progresses(self._host.warm_up.untaken(self.fd)):
                self._host.deadlines.set(self, WRITE, monotonic())
            else:
                self.close("the client takes nothing")
        elif kind == BODY:
            self._abandon_call(408, "the request body did not arrive in time")
        elif kind == LEAVE and self._exchange is not None:
            # The end of an event stream: with the next event, or soon.
            self._tell_of_end(self._exchange)
            self._host.deadlines.set(self, LAST_CALL, monotonic())
        else:
            self.close("the worker leaves")

    def want_body(self) -> None:
        """The app waits for more of the request."""
        pending = self._receiver.reader.pending
        exchange = self._exchange
        if pending is None or exchange is None or not pending.expects_continue:
            return
        if exchange.begun:
            return  # too late: the client would take it for a part of the response
        pending.expects_continue = False
        # A socket that has sent nothing yet takes these few bytes.
        self._put(exchange, _CONTINUE)
        if not self._inside and self.fd >= 0:
            self._await_app(exchange)

    def read_on(self) -> None:
        """The app has taken what had arrived."""
        exchange = self._exchange
        if not self._inside and exchange is not None and not self.watched & EPOLLIN:
            body = self.body
            if body is not None:
                body.forgive(monotonic())  # nothing was read meanwhile
            self._await_app(exchange)

    def leave_soon(self) -> None:
        """The worker drains, and the response under way has no end of its own. Have
        judge_client() end it, at the time that was set for that before.

        All clients come back at once, so where others take over from this worker their
        ends are spread.
        """
        if self.deadline in (LEAVE, LAST_CALL):
            return
        many = len(self._host.connections)
        spread = min(_SPREAD, _APART * many) if self._server.is_replaced() else 0.0
        # The golden ratio: no two descriptors are near each other.
        delay = spread * (self.fd * 0.618034 % 1.0)
        self._host.deadlines.set(self, LEAVE, monotonic() + delay)

    # How it ends

    def _finish(self, exchange: HttpExchange) -> bool:
        """The response is out; True when the connection may go on."""
        server, receiver, writer = self._server, self._receiver, self._writer
        request, self._request = exchange.request, None
        call, self._call, self._exchange, self._served = self._call, None, None, True
        self._open_ended = False
        exchange.close_file()
        if exchange.running:
            call.set_adrift(self._host.branch(self))
            call.wake()  # it may listen for the end
        server.served += 1
        server.meter.answered(exchange.status, self._ready, monotonic())
        if server.log.debugging:
            server.log.debug(
                f"{self}: answered {exchange.status}{', kept' if exchange.keep_alive else ''}"
            )
        kept = exchange.keep_alive and not (receiver.at_end and receiver.reader.quiet)
        if server.access is not None:
            unsent = 0 if writer.held else writer.size
            server.access.answered(self._peer, request, exchange, self._began, unsent, kept=kept)
        if not kept:
            receiver.whole()
            self._announced = not request.keep_alive
            self.end()
            return False
        if receiver.looked_at:
            receiver.take_all_but_one(None)
        body = self.body
        if body is not None:
            body.close()
            self._drop_until = body.length + MOST_DROPPED
        return True

    def ended(self, exchange: HttpExchange, error: BaseException | None) -> None:
        """The call of `exchange`, the one under way, has returned, or raised `error`,
        and its response is not complete.
        """
        if exchange.left and error is None:
            # It has heard that its client leaves, or the worker: event streams end so.
            self.close("the app has ended its response")
            return
        piece = exchange.failed(error, self._apps.request_timeout)
        if piece is None:
            self.close(exchange.broken)
        else:
            self.give(exchange, piece)

    def _misread(self, error: Exception) -> None:
        # As in responder.py
        self._server.log.error(
            f"{self}: {blame(error)} while reading a request: {told_shortly(error)}"
        )
        self._abandon_call(400, "the request cannot be read")

    def _abandon_call(self, status: int, why: str) -> None:
        """Answer in the place of the app, or cut its response."""
        exchange = self._exchange
        if exchange is not None and exchange.begun:
            self.close(why)
            return
        self._exchange = None
        if exchange is not None:
            self._let_go_of_call(exchange)
        self.refuse(status, why)

    def _let_go_of_call(self, exchange: HttpExchange) -> None:
        """The app's call is of no use any more. It is told, and counts by itself."""
        call, self._call = self._call, None
        exchange.lose()
        exchange.close_file()
        if exchange.running:
            call.set_adrift(self._host.branch(self))
        call.client_left(soon=self._server.draining and exchange.is_event_stream)
