"""The sending side of a connection of an ASGI app.

What the app sends is sent at once. If its client does not take all of it, the rest is
kept and the app waits in its `send()`: so there is never more than one message of each
of its tasks.
"""

from __future__ import annotations

from select import EPOLLOUT
from time import monotonic

from spyglass.gateway.asgi.http_exchange import HttpExchange
from spyglass.gateway.file_wrapper import FileSpan
from spyglass.gateway.wsgi import CutOff
from spyglass.runtime.timers import WRITE
from spyglass.worker.asgi.duplex_states import EXCHANGING, READING, YIELDING
from spyglass.worker.client_connection import ClientConnection
from spyglass.worker.refusals import refuse
from spyglass.worker.response_writer import SMALL, ResponseWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from spyglass.http11.request import Request
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import Visit
    from spyglass.worker.host import Host
    from spyglass.worker.peer import Peer
    from spyglass.worker.request_receiver import RequestReceiver
    from spyglass.worker.server import Server

    Piece = bytes | tuple[bytes, bytes] | tuple[bytes, FileSpan]

_PIECES_A_TURN: Final = 64  # see responder.py


class DuplexSender(ClientConnection):
    """One client, as far as it is sent to.

    `_exchange` is the request under way, `_call` its call. `_inside` (bool): the app
    runs below this connection's turn. `_final` (bool): the last answer of all is being
    sent; `_announced` (bool): the client knows that it is the last.
    """

    __slots__ = (
        *("_announced", "_apps", "_call", "_exchange", "_final", "_inside", "_open_ended"),
        *("_pieces", "_request", "_writer"),
    )

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
        super().__init__(host, server, client, peer, receiver, visit, READING)
        self._apps = apps
        self._writer = ResponseWriter(client)
        self._exchange: HttpExchange | None = None
        self._call: Any = None
        self._request: Request | None = None  # being answered
        self._inside = False
        self._final = False
        self._announced = False
        self._open_ended = False  # the response under way ends with the connection
        self._pieces = 0  # that were taken at once

    def give(self, exchange: HttpExchange, piece: Piece) -> bool:
        """Send a piece of the response; False when the app has to wait: until
        `is_full()` is false, but for one turn of the loop at least.
        """
        if self.fd < 0:
            return True
        if exchange.until_close and not self._open_ended:
            self._open_ended = True
            self._receiver.reset_unless_whole()
        taken = self._put(exchange, piece)
        if self.fd < 0:
            return True
        if exchange.complete:
            if not self._inside:
                self._apps.completed.append(self)
        elif self._server.draining and exchange.is_event_stream:
            self.close("the worker leaves")
            return True
        if not taken:
            if not self._inside:
                self.await_reader()
            return False
        self._pieces += 1
        if self._pieces < _PIECES_A_TURN:
            return True
        # A fast client takes whatever is sent: its app would never wait.
        self._pieces = 0
        return monotonic() < self._host.turns.end

    def _put(self, exchange: HttpExchange, piece: Piece) -> bool:
        """Send `piece`, or hold it; False when some of it is left."""
        writer, held = self._writer, self._host.held
        if writer.pending or writer.span is not None:
            # Two tasks of the app's, or one that does not wait
            first, second = (piece, b"") if isinstance(piece, bytes) else piece
            writer.pending = bytes(writer.pending) + first
            if isinstance(second, bytes):
                writer.pending += second
            else:
                writer.span = second
            return False
        try:
            if isinstance(piece, bytes):
                if held.holding and self._inside and exchange.complete and len(piece) <= SMALL:
                    writer.pending = piece
                    writer.held = True
                    held.add(self)
                    return True
                return not piece or writer.send(piece)
            first, second = piece
            if isinstance(second, bytes):
                return writer.send_both(first, second)
            writer.pending, writer.span = first, second
            return False
        except OSError as error:
            self.close(f"writing failed: {error.strerror}")
            return True

    def is_full(self, exchange: HttpExchange) -> bool:
        """Return True while the client has not taken all that was sent."""
        writer = self._writer
        return (
            self._exchange is exchange
            and not writer.held
            and (writer.span is not None or bool(writer.pending))
        )

    def _flush(self) -> bool:
        """Send what is pending; False when the client does not take all of it now, when
        it is more than a turn's, or when that fails.
        """
        try:
            if self._writer.flush():
                return True
        except BlockingIOError:
            self.await_reader()
        except (OSError, CutOff) as error:
            self.close(str(error))
        else:
            self.yield_turn()
        return False

    def await_reader(self) -> None:
        """The socket is full: go on when the client has taken something."""
        host = self._host
        now = monotonic()
        self.state = EXCHANGING
        host.warm_up.run(now)  # this may be the first answer
        self._writer.note(host.warm_up.untaken(self.fd))
        host.deadlines.set(self, WRITE, now)
        if self._exchange is None:
            host.watch(self, EPOLLOUT)
        else:
            self._await_app(self._exchange)

    def _await_app(self, exchange: HttpExchange) -> None:
        """Wait for the app, and for all that may happen meanwhile."""
        raise NotImplementedError

    def yield_turn(self) -> None:
        """There is more to do, without waiting: go on when the others have had a
        turn.
        """
        self._host.again(self, YIELDING)

    def go_on(self) -> None:
        self.state = EXCHANGING
        self.proceed()

    def let_go(self) -> None:
        """Send what was held."""
        writer = self._writer
        if not writer.held:
            return  # it was sent with something else, or the client has gone
        if writer.send_held() and not self._final:
            return
        if (not writer.pending or self._flush()) and self._final:
            self._final = False
            self.end()

    def end(self) -> None:
        """The last answer is out, or held: end in a way that does not destroy it."""
        if self._writer.held:
            self._final = True
            self.state = EXCHANGING
            self.stop_waiting()
        else:
            self.linger(self._announced)

    def refuse(self, status: int, why: str) -> None:
        """Answer with an error of our own, then end."""
        self._server.log.debug(f"{self}: refused with {status}: {why}")
        if self._receiver.looked_at:
            self._receiver.take_all_but_one(None)
        self.stop_waiting()
        self._final = True
        self._announced = False
        self._writer.pending = self.refusal(status, why)
        self._receiver.reader.close()
        if self._flush():
            self._final = False
            self.end()

    def refusal(self, status: int, why: str) -> bytes:
        """Return such an answer."""
        reader = self._receiver.reader
        return refuse(self._server, self._peer, reader, self._request, status, why)

    def progress(self) -> int:
        """Return how many bytes of its request the client has sent, or how many of the
        response it has taken: of what it is waited for.
        """
        if self.deadline == WRITE:
            given = 0 if self._exchange is None else self._exchange.given
            return given - self._writer.size - self._host.warm_up.untaken(self.fd)
        body = self.body
        return len(self._receiver.reader.buffer) if body is None else body.length
