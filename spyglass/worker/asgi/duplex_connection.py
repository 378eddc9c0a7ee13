"""Serve one client of an ASGI app: it may be read from and written to at the same time.

An ASGI app is called when the head of its request is there. It asks for the body while
that arrives, sends its response meanwhile, and may go on when both are over. So unlike
a WSGI app's (connection.py) this connection reads while it answers. Three things bound
what a client can make us keep:

- no more of a body is read while HIGH bytes of it wait for the app;
- one read at most of what follows a request is kept until that is answered;
- the app's `send()` waits until the client has taken what was sent before.

All of it runs in the one thread of the event loop. What the app does is called from two
places: its first step from here (call.py says why), and all others by asyncio. In the
first case `_inside` is true, and what follows the app's messages is done when its step
has ended. In the second it is done when the loop is asked for events next.
"""

from __future__ import annotations

from select import EPOLLIN
from time import monotonic

from spyglass.errors import RequestError
from spyglass.gateway.asgi.http_exchange import HttpExchange
from spyglass.http11.stream_body import StreamBody
from spyglass.runtime.timers import BODY, HEAD, IDLE, LAST_CALL, WRITE
from spyglass.worker.asgi.duplex_exchange import DuplexExchange
from spyglass.worker.asgi.duplex_states import EXCHANGING, READING, STATES
from spyglass.worker.asgi.scoped_peer import ScopedPeer
from spyglass.worker.connection_states import CLOSED
from spyglass.worker.request_receiver import RequestReceiver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from spyglass.http11.request import Request
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import ConnectionBase, Visit
    from spyglass.worker.host import Host
    from spyglass.worker.server import Server

_REQUESTS_A_TURN: Final = 16  # see request_cycle.py


class DuplexConnection(DuplexExchange):
    """One client. `apps` starts the app's calls (apps.py).

    In four files, from below: what it sends (duplex_sender.py), an exchange under way
    (duplex_exchange.py), and
    here its requests, one after the other, and its end.
    """

    __slots__ = ("_scoped",)

    def __init__(
        self,
        host: Host,
        server: Server,
        client: ClientSocket,
        address: Any,
        listener: Listener,
        visit: Visit | None,
        apps: Any,
    ) -> None:
        self._scoped = peer = ScopedPeer(server, client, address, listener)
        receiver = RequestReceiver(
            client, listener.is_unix, server.limits, server.heads, StreamBody
        )
        super().__init__(host, server, client, peer, receiver, visit, apps)

    @property
    def asked(self) -> bool:
        """True when the app has been asked."""
        return self._served or self._exchange is not None

    # Requests

    def read(self) -> None:
        try:
            data = self._receiver.receive()
        except BlockingIOError:
            if self.deadline is None:
                self._await_more()
            return
        except OSError as error:
            self.close(f"reading failed: {error.strerror}")
            return
        self.proceed(data)

    def proceed(self, data: bytes = b"") -> None:
        self._inside = True
        try:
            self._run(data)
        finally:
            self._inside = False

    def _run(self, data: bytes) -> None:
        receiver, writer = self._receiver, self._writer
        reader = receiver.reader
        answered = 0
        while True:
            if self._exchange is not None or self._final:
                if not self._advance(data):
                    return
                data = b""
                if not reader.buffer:
                    self._served_all()
                    return
                answered += 1
                if writer.pending and not self._flush():
                    return
                if answered >= _REQUESTS_A_TURN or monotonic() >= self._host.turns.end:
                    self.yield_turn()
                    return
            elif writer.pending and not self._flush():
                return  # the rest of an answer that was held
            try:
                request = reader.next(data)
            except Exception as error:
                self._refuse_unread(error)
                return
            if receiver.looked_at:
                receiver.take_all_but_one(request)
            if request is None:
                more = receiver.receive_on(len(data))
                if more is not None:
                    data = more
                    continue
            data = b""
            if self._drop_until:
                if request is None:
                    self._drop_on()
                    return
                self._drop_until = 0
                continue
            request = request or reader.pending
            if request is None:
                if answered:
                    self.deadline = None  # that of the last head; each has its own time
                self._await_more()
                return
            self._begin(request)
            if self._exchange is None:
                return  # it was refused, or the connection has ended

    def _begin(self, request: Request) -> None:
        """Call the app."""
        server, apps = self._server, self._apps
        self._request = request
        self._ready = self._host.turns.began
        try:
            if self.visit is not None:
                self.visit.asks_for(request)
            if server.log.debugging:
                server.log.debug(f"{self}: {request.method} {request.target}")
            if server.access is not None:
                self._began = monotonic()
            if "HTTP_UPGRADE" in request.fields and apps.open_websocket(self, request):
                return
            scopes = self._scoped.scopes or self._scoped.make_scopes()
            body = request.body
            assert body is None or isinstance(body, StreamBody)
            if body is not None:
                body.ended = self._receiver.reader.pending is None
            exchange = HttpExchange(server, request, body)
            scope = scopes.make(request, apps.state)
            call = apps.make_call(apps, exchange, self)
        except Exception as error:
            self._refuse_begun(request, error)
            return
        held = self._host.held
        if held.pending and exchange.path != held.called:
            held.expect(exchange.path)
        self._exchange, self._call = exchange, call
        self._pieces = 0
        call.start(scope)

    def make_websocket_scope(self, request: Request) -> dict[str, Any]:
        """Return the scope of a handshake: see ScopeMaker."""
        scopes = self._scoped.scopes or self._scoped.make_scopes()
        return scopes.make_websocket(request, self._apps.state)

    def hand_over(self, make: Callable[..., ConnectionBase]) -> tuple[Any, bytes]:
        """Let another connection have the socket. Return it, made by `make`, and what
        has come behind the request.
        """
        self._host.held.let_go()  # the app is called next, and is not known to be quick
        rest = self._receiver.reader.buffer
        other = make(
            *(self._host, self._server, self.socket, self.visit, self._peer),
            *(self._request, self._began),
        )
        self._host.replace(self, other)
        self.fd = -1
        self.state = CLOSED
        return other, rest

    def _served_all(self) -> None:
        """Everything that has arrived is answered."""
        if (
            self.deadline == IDLE
            and self.watched == EPOLLIN
            and self.state is READING
            and not self._receiver.at_end
            and not self._drop_until
            and not self._server.draining
        ):
            # Nothing has changed since the last time but the time.
            self.due = self._server.meter.now + self._server.keepalive_timeout
        else:
            self.deadline = None
            self._await_more()

    def _await_more(self) -> None:
        host, receiver = self._host, self._receiver
        reader = receiver.reader
        if receiver.at_end:
            if reader.quiet or receiver.deaf or self._drop_until:
                self.close("closed by the client")
            else:
                # As in request_cycle.py
                self.refuse(400, "the request is incomplete")
            return
        self.await_request()
        now = monotonic()
        if reader.pending is not None:
            host.deadlines.set(self, BODY, now)
        elif self._served and reader.quiet:
            if self.deadline is None:
                host.deadlines.set(self, LAST_CALL if self._server.draining else IDLE, now)
        elif self.deadline != HEAD:
            # Not set afresh by each byte: the time is for the whole head.
            host.deadlines.set(self, HEAD, now)

    def _drop_on(self) -> None:
        """Read on in a body that the app did not want, if it is not too much."""
        body = self.body
        if body is None or body.length > self._drop_until:
            self.end()
        else:
            self._await_more()

    def leave_late(self, kind: int) -> None:
        if self._drop_until:
            self.end()  # its answer is out
        else:
            super().leave_late(kind)

    # Ending

    def settle(self) -> bool:
        """A response was completed while asyncio ran its app: go on. Return as
        Apps.settle() does.
        """
        exchange = self._exchange
        if self.fd < 0 or exchange is None or not exchange.complete:
            return False
        # It may listen for the end of its response; and the next request may be here.
        stirs = exchange.running or bool(self._receiver.reader.buffer)
        self.proceed()
        return stirs

    def _refuse_unread(self, error: Exception) -> None:
        """Reading a request has failed."""
        if self._drop_until:
            self.end()  # the request was answered
        elif isinstance(error, RequestError):
            self.refuse(error.status, str(error))
        else:
            self._misread(error)

    def _refuse_begun(self, request: Request, error: Exception) -> None:
        """Preparing the call for `request` has failed."""
        if isinstance(error, OSError):
            # An import that only some requests need takes a descriptor.
            self._server.log.error(f"{request.method} {request.target}: {error.strerror}")
            self.refuse(503, "out of resources")
        else:
            self._refuse_unread(error)

    def last_call(self) -> None:
        """See ClientConnection. Event streams have no end of their own: their app is
        told.
        """
        exchange = self._exchange
        if exchange is None:
            super().last_call()
        elif exchange.is_event_stream and not exchange.complete:
            self.leave_soon()

    def give_way(self) -> bool:
        """See ClientConnection."""
        if self.state is not EXCHANGING:
            return super().give_way()
        if self.deadline == WRITE:
            if self.socket.has_room():
                return False
        elif self._receiver.speaks():
            return False
        self.leave_evicted()
        return True

    def cut(self) -> None:
        """Close, for the time to drain is over."""
        self.close("cut: the worker leaves")

    def close(self, why: str) -> None:
        """End at once, whatever is under way. Idempotent."""
        if self.fd < 0:
            return
        host, server = self._host, self._server
        if server.log.debugging:
            server.log.debug(f"{self}: closed: {why}")
        if self._writer.held:
            self._writer.send_held()
        host.forget(self)
        self._receiver.reader.close()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            server.meter.cut()
        if exchange is not None and server.access is not None:
            assert self._request is not None
            size = self._writer.size
            server.access.answered(self._peer, self._request, exchange, self._began, size, cut=True)
        self.socket.close()
        self.fd = -1
        self.state = CLOSED
        if exchange is not None:
            self._let_go_of_call(exchange)
        host.ended(self)


for _state in STATES:
    _state.bind(DuplexConnection)
