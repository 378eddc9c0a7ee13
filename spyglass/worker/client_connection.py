"""What every connection does with its socket, whichever way the app is called: read the
PROXY header, wait for a request, give way to others, end.

The two kinds of connections are connection.py (WSGI) and asgi/duplex_connection.py.
"""

from __future__ import annotations

from os import write
from select import EPOLLIN
from time import monotonic

from spyglass.runtime.fast_imports import socket
from spyglass.runtime.timers import BODY, HEAD, IDLE, LAST_CALL, LINGER
from spyglass.worker.connection_base import ConnectionBase
from spyglass.worker.connection_states import GREETING, LINGERING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.http11.request_body import Body
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import Visit
    from spyglass.worker.connection_states import State
    from spyglass.worker.host import Host
    from spyglass.worker.peer import Peer
    from spyglass.worker.proxy_header import Greeting
    from spyglass.worker.request_receiver import RequestReceiver
    from spyglass.worker.server import Server


class ClientConnection(ConnectionBase):
    """One accepted socket; `host` is the loop's side, `peer` the other end, and
    `receiver` what is received of it. `reading` is the state in which a request is
    waited for.
    """

    __slots__ = ("_greeting", "_host", "_peer", "_reading", "_receiver", "_server")

    def __init__(
        self,
        host: Host,
        server: Server,
        client: ClientSocket,
        peer: Peer,
        receiver: RequestReceiver,
        visit: Visit | None,
        reading: State,
    ) -> None:
        super().__init__(client, visit)
        self._host = host
        self._server = server
        self._peer = peer
        self._receiver = receiver
        self._reading = self.state = reading
        self._greeting: Greeting | None = None
        if server.greeting is not None:
            self.state = GREETING
            self._greeting = server.greeting(server, peer.host)

    def __str__(self) -> str:
        return f"connection {self.fd} {self._peer}"

    def proceed(self, data: bytes = b"") -> None:
        """Finish the response under way, answer what has arrived, `data` the last of
        it; then wait for more.
        """
        raise NotImplementedError

    def refuse(self, status: int, why: str) -> None:
        """Answer with an error of our own, then end."""
        raise NotImplementedError

    def refusal(self, status: int, why: str) -> bytes:
        """Return such an answer."""
        raise NotImplementedError

    # The PROXY header

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
        self.state = self._reading
        self.proceed(rest)

    def await_header(self) -> None:
        """Some of the PROXY header is still to come."""
        self._host.watch(self, EPOLLIN)
        if self.deadline is None:
            # It has as long as the head of a request, and together with the first one.
            self._host.deadlines.set(self, HEAD, monotonic())

    # Waiting

    def await_request(self) -> None:
        """Everything that has arrived is answered: wait for more."""
        self.state = self._reading
        if self.watched != EPOLLIN:
            self._host.watch(self, EPOLLIN)

    def stop_waiting(self) -> None:
        """Nothing is waited for: no deadline."""
        self._host.deadlines.clear(self)

    @property
    def body(self) -> Body | None:
        """The request body that is arriving."""
        pending = self._receiver.reader.pending
        return None if pending is None else pending.body

    def leave_late(self, kind: int) -> None:
        """The client has not sent in time what is waited for."""
        if kind == BODY:
            self.refuse(408, "the request body did not arrive in time")
        elif kind == HEAD and not self._receiver.reader.quiet:
            self.refuse(408, "the request did not arrive in time")
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
        the client has sent something meanwhile, and stays.
        """
        if self.state is self._reading and self._receiver.speaks():
            return False
        if not self._receiver.reader.quiet:
            # At once, and not lingering as after other refusals: its place is wanted.
            # It was silent, so there is nothing unread.
            try:
                write(self.fd, self.refusal(408, "too slow, while others wait"))
            except OSError:
                pass
        self.leave_evicted()
        return True

    def leave_evicted(self) -> None:
        self.close("others wait for its place")

    # Ending

    def linger(self, announced: bool) -> None:
        """The last answer is out. A client that announced the end (Connection: close)
        sends no more; for another we linger.
        """
        receiver = self._receiver
        if receiver.at_end or (
            announced
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

    def ignore(self, _kind: int = 0) -> None:
        pass
