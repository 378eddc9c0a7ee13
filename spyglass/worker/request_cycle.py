"""Read the requests of one connection, and have each answered before the next is read.

That bounds what a client can make us keep, and keeps the answers of a pipelining client
in order (RFC 9112 9.3.2).
"""

from __future__ import annotations

from time import monotonic

from spyglass.runtime.bound_names import EPOLLIN
from spyglass.runtime.timers import BODY, HEAD, IDLE, LAST_CALL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.worker.connection_base import ConnectionBase
    from spyglass.worker.host import Host
    from spyglass.worker.request_receiver import RequestReceiver
    from spyglass.worker.responder import Responder
    from spyglass.worker.server import Server


# A pipelining client gives the others a turn after so many requests, or when the time
# of the loop's turn is up: each of them may be a slow one.
_REQUESTS_A_TURN: Final = 16


class RequestCycle:
    """Takes requests from `receiver` to `responder`. As there, the connection is given
    with each call.
    """

    __slots__ = ("_host", "_receiver", "_responder", "_server")

    def __init__(
        self, host: Host, server: Server, receiver: RequestReceiver, responder: Responder
    ) -> None:
        self._host = host
        self._server = server
        self._receiver = receiver
        self._responder = responder

    def run(self, connection: ConnectionBase, data: bytes) -> None:
        """Finish the response under way, answer what has arrived, `data` the last of
        it, in order; then wait for more.
        """
        responder, receiver = self._responder, self._receiver
        writer, reader = responder.writer, receiver.reader
        answered = 0
        if responder.exchange is not None or responder.final:
            if not responder.pump(connection):
                return
            if reader.buffer and writer.pending and not responder.flush(connection):
                return
            answered = 1
        elif writer.pending:
            # The rest of an answer that was held, and is finished but for that.
            if not responder.flush(connection):
                return
            answered = 1
        while True:
            try:
                request = reader.next(data)
            except Exception as error:
                responder.refuse_unread(connection, error)
                return
            if receiver.looked_at:
                receiver.take_all_but_one(request)
            if request is None:
                more = receiver.receive_on(len(data))
                if more is None:
                    break
                data = more
                continue
            try:
                if connection.visit is not None:
                    connection.visit.asks_for(request)
                if self._server.log.debugging:
                    self._server.log.debug(f"{connection}: {request.method} {request.target}")
                responder.begin(connection, request)
            except Exception as error:
                responder.refuse_begun(connection, request, error)
                return
            if not responder.pump(connection):
                return
            if not reader.buffer:
                self._served_all(connection)
                return
            if writer.pending and not responder.flush(connection):
                return
            answered += 1
            if answered >= _REQUESTS_A_TURN or monotonic() >= self._host.turns.end:
                connection.yield_turn()
                return
            data = b""
        if answered:
            connection.deadline = None  # that of the last head; each has its own time
        self.wait(connection)

    def _served_all(self, connection: ConnectionBase) -> None:
        """Everything that has arrived is answered."""
        if (
            connection.deadline == IDLE
            and connection.watched == EPOLLIN
            and not self._receiver.at_end
            and not self._server.draining
        ):
            # Nothing has changed since the last time but the time.
            connection.due = self._server.meter.now + self._server.keepalive_timeout
        else:
            connection.deadline = None
            self.wait(connection)

    def wait(self, connection: ConnectionBase) -> None:
        host, receiver = self._host, self._receiver
        reader = receiver.reader
        if receiver.at_end:
            if reader.quiet or receiver.deaf:
                connection.close("closed by the client")
            else:
                # The client may have shut down its sending side only, so it can still
                # read this.
                self._responder.refuse(connection, 400, "the request is incomplete")
            return
        connection.await_request()
        if self._responder.served and reader.quiet:
            # An empty line says nothing: it must not keep the connection, and with it
            # the unit, for another while.
            if connection.deadline is None:
                host.deadlines.set(
                    connection, LAST_CALL if self._server.draining else IDLE, monotonic()
                )
        elif reader.pending is not None:
            if reader.pending.expects_continue:
                reader.pending.expects_continue = False
                # A socket that has sent nothing yet takes these few bytes.
                if not self._responder.take(connection, b"HTTP/1.1 100 Continue\r\n\r\n"):
                    return
            now = monotonic()
            server = self._server
            if receiver.lags(now, server.body_timeout, server.body_min_rate):
                self._responder.refuse(connection, 408, "the request body comes too slowly")
                return
            host.deadlines.set(connection, BODY, now)
        elif connection.deadline != HEAD:
            # Not set afresh by each byte: the time is for the whole head.
            host.deadlines.set(connection, HEAD, monotonic())
