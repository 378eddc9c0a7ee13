"""Serve one client: what it sends is answered, until one of the two sides ends it.

What a connection does, and when, stands in the table of its states
(connection_states.py). All of it is run by the leader (leader_followers.py), but for
the exchange itself. Wherever the app is called, this thread may lose the lead. What
follows the call is then done by the next leader, through `resume()`.
"""

from __future__ import annotations

from select import EPOLLOUT, POLLOUT, poll
from time import monotonic

from spyglass.runtime.bound_names import EPOLLIN, write
from spyglass.runtime.fast_imports import socket
from spyglass.runtime.timers import BODY, HEAD, IDLE, LAST_CALL, LINGER, WRITE
from spyglass.worker.connection_base import ConnectionBase
from spyglass.worker.connection_states import (
    CLOSED,
    DETACHED,
    EVICTED,
    GREETING,
    LINGERING,
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

    from spyglass.http11.request_body import Body
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import Visit
    from spyglass.worker.host import Host
    from spyglass.worker.leader_followers import Piece
    from spyglass.worker.proxy_header import Greeting
    from spyglass.worker.server import Server


class Connection(ConnectionBase):
    """One accepted socket, its states, its deadlines and its end; `host` is the loop's
    side.

    What it receives is the receiver's, what it sends the responder's, and their order
    the cycle's.
    """

    __slots__ = ("_cycle", "_greeting", "_host", "_peer", "_receiver", "_responder", "_server")

    def __init__(
        self,
        host: Host,
        server: Server,
        client: ClientSocket,
        address: Any,
        listener: Listener,
        visit: Visit | None = None,
    ) -> None:
        super().__init__(client, visit)
        self._host = host
        self._server = server
        self._peer = peer = Peer(server, client, address, listener)
        self._receiver = receiver = RequestReceiver(
            client, listener.is_unix, server.limits, server.heads
        )
        self._responder = Responder(host, server, peer, receiver, ResponseWriter(client))
        self._cycle = RequestCycle(host, server, receiver, self._responder)
        self._greeting: Greeting | None = None
        if server.greeting is not None:
            self.state = GREETING
            self._greeting = server.greeting(server, peer.host)

    def __str__(self) -> str:
        return f"connection {self.fd} {self._peer}"

    def greet(self) -> None:
        assert self._greeting is not None
        heard = self._greeting.read(self)
        if heard is None:
            return
        self._greeting = None
        rest, endpoints = heard
        self._peer.endpoints = endpoints
        if self._server.log.debugging and endpoints is not None:
            self._server.log.debug(f"{self}: speaks for {endpoints}")
        self.state = READING
        self.proceed(rest)

    @property
    def asked(self) -> bool:
        """True when the app has been asked, or is about to be."""
        return self._responder.asked

    def await_header(self) -> None:
        """Some of the PROXY header is still to come."""
        self._host.watch(self, EPOLLIN)
        if self.deadline is None:
            # It has as long as the head of a request, and together with the first one.
            self._host.deadlines.set(self, HEAD, monotonic())

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

    def await_request(self) -> None:
        """Everything that has arrived is answered: wait for more."""
        self.state = READING
        if self.watched != EPOLLIN:
            self._host.watch(self, EPOLLIN)

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

    def stop_waiting(self) -> None:
        """Nothing is waited for: no deadline."""
        self._host.deadlines.clear(self)

    def end(self) -> None:
        """The last answer is out, or held. A client that announced the end (Connection:
        close) sends no more; for another we linger.
        """
        responder, receiver = self._responder, self._receiver
        if responder.writer.held:
            responder.final = True
            self.state = RESPONDING
            self._host.deadlines.clear(self)
            return
        if receiver.at_end or (
            responder.announced
            and not receiver.reader.buffer
            and not receiver.sends_on(self._host.warm_up.unread(self.fd))
        ):
            self.close("done")
            return
        self.state = LINGERING
        receiver.reader.close()
        try:
            self.socket.object.shutdown(socket.SHUT_WR)
        except OSError:
            self.close("closed by the client")
            return
        self._host.watch(self, EPOLLIN)
        self._host.deadlines.set(self, LINGER, monotonic())

    def drop(self) -> None:
        if self._receiver.drop():
            self.close("done")

    def leave_late(self, kind: int) -> None:
        """The client has not sent in time what is waited for."""
        if kind == BODY:
            self._responder.refuse(self, 408, "the request body did not arrive in time")
        elif kind == HEAD and not self._receiver.reader.quiet:
            self._responder.refuse(self, 408, "the request did not arrive in time")
        elif self._receiver.speaks():
            # A request that is on its way when we close gets no answer, and its client
            # cannot know whether it was heard (RFC 9112 9.3.1). This one arrived while
            # others were served: it is for the next turn to read.
            self._host.deadlines.set(self, kind, monotonic())
        else:
            self.leave_idle(kind)

    def leave_idle(self, _kind: int) -> None:
        # A client that never sent a word gets none either: it may be a browser's spare
        # connection.
        self.close("idle for too long")

    def last_call(self) -> None:
        """The worker is draining: an idle client gets a short while for the request
        that may be on its way.
        """
        if self.deadline == IDLE or (self.deadline == HEAD and self._receiver.reader.quiet):
            self._host.deadlines.set(self, LAST_CALL, monotonic())

    def give_way(self) -> bool:
        """Close, being idle or slow, for other clients wait for this place. False when
        the client has sent or taken something meanwhile, and stays.
        """
        if self.state is RESPONDING:
            # A client that has taken what it was sent waits for us.
            writable = poll()
            writable.register(self.fd, POLLOUT)
            if writable.poll(0):
                return False
            self._host.again(self, EVICTED)  # its end may call the app
            return True
        if self.state is READING and self._receiver.speaks():
            return False
        if not self._receiver.reader.quiet:
            # At once, and not lingering as after other refusals: its place is wanted.
            # It was silent, so there is nothing unread.
            try:
                write(self.fd, self._responder.refusal(408, "too slow, while others wait"))
            except OSError:
                pass
        self.leave_evicted()
        return True

    def leave_evicted(self) -> None:
        self.close("others wait for its place")

    @property
    def body(self) -> Body | None:
        """The request body that is arriving."""
        pending = self._receiver.reader.pending
        return None if pending is None else pending.body

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

    def ignore(self, _kind: int = 0) -> None:
        pass


for _state in STATES:
    _state.bind(Connection)
