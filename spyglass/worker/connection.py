"""Serve one client: what it sends is answered, until one of the two sides ends it.

What a connection does, and when, stands in the table of its states
(connection_states.py). All of it is run by the leader (leader_followers.py), but for
the exchange itself. Wherever the app is called, this thread may lose the lead. What
follows the call is then done by the next leader, through `resume()`.
"""

from __future__ import annotations

from select import EPOLLOUT
from time import monotonic

from spyglass.runtime.bound_names import write
from spyglass.runtime.timers import WRITE
from spyglass.worker.client_connection import ClientConnection
from spyglass.worker.connection_states import (
    CLOSED,
    DETACHED,
    EVICTED,
    READING,
    RESPONDING,
    STALLED,
    STATES,
    YIELDING,
)
from spyglass.worker.leader_followers import ELSEWHERE
from spyglass.worker.peer import Peer
from spyglass.worker.request_cycle import RequestCycle
from spyglass.worker.request_receiver import RequestReceiver
from spyglass.worker.responder import Responder
from spyglass.worker.response_writer import ResponseWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import Visit
    from spyglass.worker.host import Host
    from spyglass.worker.leader_followers import Piece
    from spyglass.worker.server import Server


class Connection(ClientConnection):
    """One accepted socket, its states, its deadlines and its end; `host` is the loop's
    side.

    What it receives is the receiver's, what it sends the responder's, and their order
    the cycle's.
    """

    __slots__ = ("_cycle", "_responder")

    def __init__(
        self,
        host: Host,
        server: Server,
        client: ClientSocket,
        address: Any,
        listener: Listener,
        visit: Visit | None = None,
    ) -> None:
        peer = Peer(server, client, address, listener)
        receiver = RequestReceiver(client, listener.is_unix, server.limits, server.heads)
        super().__init__(host, server, client, peer, receiver, visit, READING)
        self._responder = Responder(host, server, peer, receiver, ResponseWriter(client))
        self._cycle = RequestCycle(host, server, receiver, self._responder)

    @property
    def asked(self) -> bool:
        """True when the app has been asked, or is about to be."""
        return self._responder.asked

    def refuse(self, status: int, why: str) -> None:
        """See Responder."""
        self._responder.refuse(self, status, why)

    def refusal(self, status: int, why: str) -> bytes:
        """See Responder."""
        return self._responder.refusal(status, why)

    # Reading

    def read(self) -> None:
        try:
            data = self._receiver.receive()
        except BlockingIOError:
            if self.deadline is None:
                self._cycle.wait(self)
            return
        except OSError as error:
            self.close(f"reading failed: {error.strerror}")
            return
        self._cycle.run(self, data)

    def proceed(self, data: bytes = b"") -> None:
        """Finish the response under way, answer what has arrived, `data` the last of
        it; then wait for more.
        """
        self._cycle.run(self, data)

    # Responding

    def await_reader(self) -> None:
        """The socket is full: go on when the client has taken something."""
        host, exchange = self._host, self._responder.exchange
        self.state = RESPONDING
        if exchange is not None and not exchange.done:
            host.crew.bind(exchange)
        now = monotonic()
        host.warm_up.run(now)  # this may be the first answer
        self._responder.writer.note(host.warm_up.untaken(self.fd))
        host.watch(self, EPOLLOUT)
        host.deadlines.set(self, WRITE, now)

    def yield_turn(self) -> None:
        """There is more to do, without waiting: go on when the others have had a
        turn.
        """
        self._host.again(self, YIELDING)

    def go_on(self) -> None:
        self.state = RESPONDING
        self.proceed()

    def stall(self, _kind: int) -> None:
        self._host.again(self, STALLED)  # its end may call the app

    def judge_reader(self) -> None:
        if self._responder.writer.progresses(self._host.warm_up.untaken(self.fd)):
            self.state = RESPONDING
            self._host.deadlines.set(self, WRITE, monotonic())
        else:
            self.close("the client takes nothing")

    def let_go(self) -> None:
        """Send what was held.

        Each request of a busy worker passes here, so writer.send_held() stands in line:
        the call would cost 0.4 % of a small request.
        """
        responder = self._responder
        writer = responder.writer
        if not writer.held:
            return  # it was sent with something else, or the client has gone
        writer.held = False
        held = writer.pending
        try:
            sent = write(self.fd, held)
        except OSError:
            sent = 0  # it is full, or the next use of it will tell
        if sent == len(held):
            writer.pending = b""
            if not responder.final:
                return  # there is no more of it
        else:
            writer.pending = memoryview(held)[sent:]
        if responder.exchange is not None:
            return  # another thread makes the app's end of it
        if (not writer.pending or responder.flush(self)) and responder.final:
            responder.pump(self)

    def resume(self, piece: Piece) -> None:
        """Send what a call in another thread gave. What follows may call the app, and
        waits for its turn.
        """
        responder = self._responder
        if self.fd < 0:
            self._bury()
            return
        self.state = RESPONDING
        if responder.take(self, piece):
            done = responder.exchange is None or responder.exchange.done
            if self._host.cutting and not done:
                self.cut()
            elif done and not self._receiver.reader.buffer:
                self.proceed()
            else:
                self.yield_turn()

    def push(self, data: bytes) -> None:
        """See Responder; called by the app, in the thread of its call."""
        self._responder.push(data)

    def reset_unless_whole(self) -> None:
        """See RequestReceiver."""
        self._receiver.reset_unless_whole()

    # Ending

    def end(self) -> None:
        """The last answer is out, or held. A client that announced the end (Connection:
        close) sends no more; for another we linger.
        """
        responder = self._responder
        if responder.writer.held:
            responder.final = True
            self.state = RESPONDING
            self._host.deadlines.clear(self)
            return
        self.linger(responder.announced)

    def give_way(self) -> bool:
        """Close, being idle or slow, for other clients wait for this place. False when
        the client has sent or taken something meanwhile, and stays.
        """
        if self.state is RESPONDING:
            # A client that has taken what it was sent waits for us.
            if self.socket.has_room():
                return False
            self._host.again(self, EVICTED)  # its end may call the app
            return True
        return super().give_way()

    def progress(self) -> int:
        """Return how many bytes of its request the client has sent, or how many of the
        response it has taken: of what it is waited for.
        """
        if self.deadline == WRITE:
            return self._responder.given(self._host.warm_up.untaken(self.fd))
        body = self.body
        return len(self._receiver.reader.buffer) if body is None else body.length

    def cut(self) -> None:
        """Close, for the time to drain is over. A call in another thread cannot be
        ended but with the process.
        """
        if self.state is not DETACHED:
            self.close("cut: the worker leaves")

    def close(self, why: str) -> None:
        """End at once, whatever is under way. The app's close() is called, and the
        connection counts as open until that returns. Idempotent.
        """
        if self.fd < 0:
            return
        host = self._host
        if self._server.log.debugging:
            self._server.log.debug(f"{self}: closed: {why}")
        if self._responder.writer.held:
            self._responder.writer.send_held()
        host.forget(self)
        self._receiver.reader.close()
        exchange = self._responder.abandon()
        self.socket.close()
        self.fd = -1
        self.state = CLOSED
        if exchange is not None:
            host.crew.release(exchange)
            host.held.let_go()
            if host.crew.call(exchange, abandon=True) is ELSEWHERE:
                return
        self._bury()

    def _bury(self) -> None:
        self._responder.close()
        self._host.ended(self)


for _state in STATES:
    _state.bind(Connection)
