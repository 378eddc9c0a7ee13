"""The socket of a client that speaks WebSocket: reading and writing, as far as the
session allows and the client keeps up.

It takes the place of the connection on which the handshake came, with its socket and
its visit. What is kept for requests is gone then, as a WebSocket may be idle for days.

    SPEAKING   the session has the socket
    ENDING     all is said, and sent. What the client still sends is dropped, as closing
               on unread bytes could destroy the last words (request_receiver.py).
"""

from __future__ import annotations

from os import read
from select import EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from time import monotonic

from spyglass.runtime.fast_imports import socket
from spyglass.runtime.timers import LINGER, WRITE
from spyglass.websocket.close_codes import GOING_AWAY, SERVICE_RESTART
from spyglass.worker.asgi.websocket_base import WebSocketBase
from spyglass.worker.client_socket import GONE, SAID_ITS_LAST
from spyglass.worker.connection_states import CLOSED, State
from spyglass.worker.response_writer import ResponseWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.http11.request import Request
    from spyglass.http11.request_body import Body
    from spyglass.worker.asgi.scoped_peer import ScopedPeer
    from spyglass.worker.asgi.websocket_session import WebSocketSession
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import Visit
    from spyglass.worker.host import Host
    from spyglass.worker.server import Server

STATES = (
    #     state        its turn has come   its deadline has passed
    State("SPEAKING",  "attend",           "judge_client"),
    State("ENDING",    "drop",             "leave"),
)  # fmt: skip
SPEAKING, ENDING = STATES

# More than malloc has at hand is only asked for where so much has come before.
_RECEIVE: Final = 8 << 10
_RECEIVE_MORE: Final = 64 << 10


class WebSocketConnection(WebSocketBase):
    """One client, whose handshake is `request`; it came at `began` (monotonic). Both
    are for the access log alone.
    """

    __slots__ = (
        *("_began", "_final", "_host", "_left", "_paused", "_peer", "_receive", "_request"),
        *("_server", "_writer", "session"),
    )

    def __init__(
        self,
        host: Host,
        server: Server,
        client: ClientSocket,
        visit: Visit | None,
        peer: ScopedPeer,
        request: Request,
        began: float,
    ) -> None:
        super().__init__(client, visit)
        self.state = SPEAKING
        self.session: WebSocketSession | None = None
        self._host = host
        self._server = server
        self._peer = peer
        self._request: Request | None = None
        if server.access is not None:
            self._request = request
        else:
            peer.scopes = None  # all that is known of the request: some KiB
        self._began = began
        self._writer = ResponseWriter(client)
        self._receive = _RECEIVE
        self._paused = False  # nothing is read
        self._left = False  # the client has shut down its side, behind what is unread
        self._final = False  # all is said, and some of it not yet sent

    def begin(self, session: WebSocketSession, rest: bytes) -> None:
        """Let `session` have what comes, after the `rest` that has come already."""
        self.session = session
        if rest:
            session.take_in(rest)
        self.watch()

    def __str__(self) -> str:
        return f"WebSocket {self.fd} {self._peer}"

    @property
    def asked(self) -> bool:
        return True

    @property
    def body(self) -> Body | None:
        return None

    # The loop's side

    def attend(self) -> None:
        """Something can be received or sent, or the connection is broken."""
        session = self.session
        assert session is not None
        if self._writer.pending and self._flush():
            if self._final:
                self.end()
                return
            self.watch()
            session.on_writable()
        if self.fd < 0 or self.state is not SPEAKING:
            return
        if not self._paused:
            session.on_readable()
        elif not self._writer.pending:
            self._look_for_end()

    def _flush(self) -> bool:
        """Send what is pending; False when some of it is left, or that fails."""
        before = self._writer.size
        try:
            if self._writer.flush():
                return True
        except BlockingIOError:
            if self._writer.size < before:
                self.await_reader()  # it has taken something: its time begins anew
        except OSError as error:
            self.close(f"writing failed: {error.strerror}")
        else:
            self._host.turns.enqueue(self)  # the others have their turn first
        return False

    def _look_for_end(self) -> None:
        """Nothing is to be read, and yet the socket is ready."""
        found = self.socket.look_for_end()
        if found == GONE:
            self.close("closed by the client")
            return
        if found == SAID_ITS_LAST:
            self._left = True  # what it has said before is still to be read
        self.watch()

    def judge_client(self, kind: int) -> None:
        """A deadline has passed."""
        if kind != WRITE:
            assert self.session is not None
            self.session.on_deadline(kind)
        elif self._writer.progresses(self._host.warm_up.untaken(self.fd)):
            self._host.deadlines.set(self, WRITE, monotonic())
        else:
            self.close("the client takes nothing")

    def last_call(self) -> None:
        """The worker drains: without a limit where another one takes over."""
        assert self.session is not None
        self.session.leave(SERVICE_RESTART if self._server.is_replaced() else GOING_AWAY)

    def part(self) -> None:
        assert self.session is not None
        if self.visit is not None and self.visit.is_ignored():
            self.session.leave(GOING_AWAY)

    def progress(self) -> int:
        """Return how many bytes the client has taken."""
        given = 0 if self.session is None else self.session.given
        return given - self._writer.size - self._host.warm_up.untaken(self.fd)

    def give_way(self) -> bool:
        """Close, being slow; False when the socket has room again."""
        if self.socket.has_room():
            return False
        self.close("others wait for its place")
        return True

    def cut(self) -> None:
        self.close("cut: the worker leaves")

    # The session's side

    def receive(self) -> bytes:
        data = read(self.fd, self._receive)
        self._receive = _RECEIVE_MORE if len(data) >= _RECEIVE else _RECEIVE
        return data

    def write(self, data: bytes) -> bool:
        writer = self._writer
        if self.fd < 0:
            return False
        if writer.pending:
            writer.pending = bytes(writer.pending) + data
            return False
        try:
            if writer.send(data):
                return True
        except OSError as error:
            self.close(f"writing failed: {error.strerror}")
            return False
        self.await_reader()
        return False

    def await_reader(self) -> None:
        """The socket is full: go on when the client has taken something."""
        host, now = self._host, monotonic()
        self._writer.note(host.warm_up.untaken(self.fd))
        host.deadlines.set(self, WRITE, now)
        self.watch()

    def watch(self) -> None:
        """Wait for what can be done now."""
        wanted = EPOLLOUT if self._writer.pending else 0
        if not self._paused:
            wanted |= EPOLLIN
        elif not self._left:
            wanted |= EPOLLRDHUP
        # EPOLLHUP comes in any case; without a bit the epoll would not know the socket.
        self._host.watch(self, wanted or EPOLLHUP)

    def pause(self) -> None:
        self._paused = True
        self.watch()

    def resume(self) -> None:
        self._paused = False
        self.watch()

    def wait_for(self, kind: int) -> None:
        if not self._writer.pending:
            self._host.deadlines.set(self, kind, monotonic())

    # Ending

    def end(self) -> None:
        self.say_goodbye(announced=False)

    def say_goodbye(self, *, announced: bool) -> None:
        if self.fd < 0:
            return
        if self._writer.pending:
            self._final = True
            return
        if announced and not self._host.warm_up.unread(self.fd):
            self.close("done")
            return
        self.state = ENDING
        try:
            self.socket.object.shutdown(socket.SHUT_WR)
        except OSError:
            self.close("closed by the client")
            return
        self._host.watch(self, EPOLLIN)
        self._host.deadlines.set(self, LINGER, monotonic())

    def drop(self) -> None:
        """Drop what has arrived behind the end."""
        try:
            if read(self.fd, _RECEIVE_MORE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close("done")

    def leave(self, _kind: int = 0) -> None:
        self.close("done")

    def close(self, why: str) -> None:
        """End at once, whatever is under way. Idempotent."""
        if self.fd < 0:
            return
        host, server, session = self._host, self._server, self.session
        assert session is not None
        if server.log.debugging:
            server.log.debug(f"{self}: closed: {why}")
        host.forget(self)
        if server.access is not None and self._request is not None:
            server.access.websocket_ended(self._peer, self._request, session, self._began)
        self.socket.close()
        self.fd = -1
        self.state = CLOSED
        # It may be large, and the session, its call and this hold each other.
        self._writer.pending = b""
        server.served += 1
        server.meter.answered_untimed(session.status)
        session.lost()
        if session.running:
            session.call.visit = host.branch(self)
        host.ended(self)

    def returned(self, visit: Visit | None) -> None:
        if self.fd < 0:
            self._host.branch_ended(visit)

    def ignore(self, _kind: int = 0) -> None:
        pass


for _state in STATES:
    _state.bind(WebSocketConnection)
