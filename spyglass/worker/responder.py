"""Make the response to one request at a time: ask the app for it piece by piece, and
send each piece before the next is asked for.

So a generator that would give a gigabyte is never further than one piece ahead of its
reader. Pieces may come from another thread (leader_followers.py), small answers may be
held (response_writer.py), and the client may take nothing for a while. In each case the
work stops here, and the connection calls `pump()` again when it can go on.
"""

from __future__ import annotations

from time import monotonic

from spyglass.errors import RequestError, blame, told_shortly
from spyglass.gateway.file_wrapper import FileSpan
from spyglass.gateway.wsgi import CutOff, Exchange
from spyglass.worker.body_spool import FULL
from spyglass.worker.leader_followers import ELSEWHERE
from spyglass.worker.refusals import refuse
from spyglass.worker.response_writer import SMALL, ResponseWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.http11.request import Request
    from spyglass.worker.connection_base import ConnectionBase
    from spyglass.worker.host import Host
    from spyglass.worker.leader_followers import Piece
    from spyglass.worker.peer import Peer
    from spyglass.worker.request_receiver import RequestReceiver
    from spyglass.worker.server import Server


# A generator with a fast reader gives the others a turn after so many pieces, or
# when the time of the loop's turn is up: each of them may be a slow one.
_PIECES_A_TURN: Final = 64
_LARGE: Final = 128 << 10  # a piece that is worth a turn


class Responder:
    """The response under way: `request`, `exchange` and the `writer` of its pieces.

    `served` (bool): a request has been answered. `final` (bool): the app has no more
    part in the last answer of all, some of which is still to be sent. `announced`
    (bool): the client knows that it is the last. The `connection` is given with each
    call: were it kept here, only the garbage collector would free the two.
    """

    __slots__ = (
        *("_began", "_host", "_peer", "_ready", "_receiver", "_server"),
        *("announced", "exchange", "final", "request", "served", "writer"),
    )

    def __init__(
        self,
        host: Host,
        server: Server,
        peer: Peer,
        receiver: RequestReceiver,
        writer: ResponseWriter,
    ) -> None:
        self._host = host
        self._server = server
        self._peer = peer
        self._receiver = receiver
        self._ready = 0.0  # monotonic: when the request was there
        self._began = 0.0  # when the app was called; for the access log alone
        self.writer = writer
        self.request: Request | None = None
        self.exchange: Exchange | None = None
        self.served = False
        self.final = False
        self.announced = False

    @property
    def asked(self) -> bool:
        """True when the app has been called, or is about to be."""
        return self.served or self.exchange is not None

    def begin(self, connection: ConnectionBase, request: Request) -> None:
        """Prepare the exchange that answers `request`; pump() calls the app."""
        self.request = request
        self._ready = self._host.turns.began
        server = self._server
        environs = self._peer.environs or self._peer.make_environs()
        environ = environs.make(request)
        if server.access is not None:
            self._began = monotonic()
            self.exchange = server.access.exchange(server, request, environ, connection)
        else:  # by its name: a class from a variable costs a compiled module ten calls
            self.exchange = Exchange(server, request, environ, connection)

    def pump(self, connection: ConnectionBase) -> bool:
        """Send, and ask the app for the next piece, until the answer is out (True), or
        the client does not take it (False).
        """
        exchange, writer, host = self.exchange, self.writer, self._host
        held = host.held
        pieces = 0
        while True:
            if (
                (writer.pending or writer.span is not None)
                and not writer.held
                and not self.flush(connection)
            ):
                return False
            if exchange is None:
                self.final = False
                connection.end()
                return False
            if exchange.done:
                return self._finish(connection, exchange)
            if (
                pieces
                and (pieces == _PIECES_A_TURN or monotonic() >= host.turns.end)
                and not exchange.complete
            ):
                connection.yield_turn()
                return False
            pieces += 1
            if held.pending and exchange.path != held.called:
                held.expect(exchange.path)
            piece = host.crew.call(exchange)
            if not self.take(connection, piece):
                return False
            if exchange.done:
                return self._finish(connection, exchange)
            if isinstance(piece, bytes) and len(piece) > _LARGE:
                pieces = _PIECES_A_TURN

    def take(self, connection: ConnectionBase, piece: Piece) -> bool:
        """Send `piece`, or hold it; False when the client does not take all of it now,
        or the connection has ended.
        """
        writer = self.writer
        try:
            if isinstance(piece, bytes):
                if not piece:
                    return True
                held, exchange = self._host.held, self.exchange
                if (
                    held.holding
                    and exchange is not None
                    and exchange.complete
                    and len(piece) <= SMALL
                ):
                    writer.pending = piece
                    writer.held = True
                    held.add(connection)
                    return True
                if writer.send(piece):
                    return True
            elif piece is None:
                return True
            elif isinstance(piece, tuple):
                if writer.send_both(*piece):
                    return True
            elif isinstance(piece, FileSpan):
                writer.span = piece
            elif piece is ELSEWHERE:
                self._host.detach(connection.fd)
                return False
            else:
                connection.close(str(piece))
                return False
        except OSError as error:
            connection.close(f"writing failed: {error.strerror}")
            return False
        return self.flush(connection)

    def flush(self, connection: ConnectionBase) -> bool:
        """Send what is pending; False when the client does not take all of it now, when
        it is more than a turn's, or when that fails.
        """
        try:
            if self.writer.flush():
                return True
        except BlockingIOError:
            connection.await_reader()
        except (OSError, CutOff) as error:
            connection.close(str(error))
        else:
            connection.yield_turn()
        return False

    def _finish(self, connection: ConnectionBase, exchange: Exchange) -> bool:
        """The answer is out; True when the connection may go on."""
        host, server, receiver = self._host, self._server, self._receiver
        request, self.request, self.exchange, self.served = self.request, None, None, True
        assert request is not None
        if request.body is not None:
            request.body.close()
        if exchange.bound:
            host.crew.release(exchange)
        server.served += 1
        server.meter.answered(exchange.status, self._ready, monotonic())
        if server.log.debugging:
            server.log.debug(
                f"{connection}: answered {exchange.status}{', kept' if exchange.keep_alive else ''}"
            )
        kept = exchange.keep_alive and not (receiver.at_end and receiver.reader.quiet)
        if server.access is not None:
            unsent = 0 if self.writer.held else self.writer.size
            server.access.answered(self._peer, request, exchange, self._began, unsent, kept=kept)
        if kept:
            if receiver.looked_at:
                receiver.take_all_but_one(None)
            return True
        receiver.whole()
        self.announced = not request.keep_alive
        connection.end()
        return False

    def push(self, data: bytes) -> None:
        """Send `data` before returning, for write(). The app calls it, in the thread of
        its call.
        """
        host, exchange = self._host, self.exchange

        def progress() -> None:
            if exchange is not None:
                host.crew.progress(exchange)

        def untaken(fd: int) -> int:
            host.warm_up.run(monotonic())  # this may be the first answer
            return host.warm_up.untaken(fd)

        self.writer.push(data, self._server.write_timeout, untaken, progress)

    def refuse_unread(self, connection: ConnectionBase, error: Exception) -> None:
        """Reading a request has failed."""
        if isinstance(error, RequestError):
            self.refuse(connection, error.status, str(error))
        elif isinstance(error, OSError):
            self._server.log.error(f"request body: temporary file: {error.strerror}")
            self.refuse(
                connection, 507 if error.errno in FULL else 503, "no room for the request body"
            )
        else:
            self._misread(connection, error)

    def refuse_begun(self, connection: ConnectionBase, request: Request, error: Exception) -> None:
        """Preparing the answer to `request` has failed."""
        if isinstance(error, RequestError):
            self.refuse(connection, error.status, str(error))
        elif isinstance(error, OSError):
            # An import that only some requests need takes a descriptor.
            self._server.log.error(f"{request.method} {request.target}: {error.strerror}")
            self.refuse(connection, 503, "out of resources")
        else:
            self._misread(connection, error)

    def _misread(self, connection: ConnectionBase, error: Exception) -> None:
        """What the client has sent makes our own code fail. That costs this connection,
        not the worker and all the others.
        """
        self._server.log.error(
            f"{connection}: {blame(error)} while reading a request: {told_shortly(error)}"
        )
        self.refuse(connection, 400, "the request cannot be read")

    def refuse(self, connection: ConnectionBase, status: int, why: str) -> None:
        """Answer with an error of our own, then end the connection."""
        self._server.log.debug(f"{connection}: refused with {status}: {why}")
        if self._receiver.looked_at:
            self._receiver.take_all_but_one(None)
        connection.stop_waiting()
        self.final = True
        self.announced = False
        self.writer.pending = self.refusal(status, why)
        # What has arrived of a body is of no use any more, while its client may take
        # its time to read the answer.
        self._receiver.reader.close()
        if self.request is not None and self.request.body is not None:
            self.request.body.close()
        self.pump(connection)

    def refusal(self, status: int, why: str) -> bytes:
        """Return our own answer to what was being read, or to the request."""
        return refuse(self._server, self._peer, self._receiver.reader, self.request, status, why)

    def given(self, untaken: int) -> int:
        """Return how many bytes of the response the client has taken, if so many that
        the kernel has are still `untaken`.
        """
        return 0 if self.exchange is None else self.exchange.given - self.writer.size - untaken

    def abandon(self) -> Exchange | None:
        """The connection is closed: return the exchange that is under way, if any; its
        end is for the caller to call.
        """
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._server.meter.cut()
        if exchange is not None and self._server.access is not None and self.request is not None:
            self._server.access.answered(
                self._peer, self.request, exchange, self._began, self.writer.size, cut=True
            )
        return exchange

    def close(self) -> None:
        """All that was done for the request has ended."""
        request, self.request = self.request, None
        if request is not None and request.body is not None:
            request.body.close()
