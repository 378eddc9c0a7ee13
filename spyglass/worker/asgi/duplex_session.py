"""A connection of an ASGI app that speaks another protocol than HTTP: a *session* has
its socket from the answer to an Upgrade on, as WebSocket needs it (RFC 6455).

The session decides what the bytes mean. The connection goes on to do what it does for
HTTP: it is counted, has deadlines, is closed when its client takes nothing, and ends
with the worker. What a session must have is in interfaces.py.
"""

from __future__ import annotations

from os import read
from select import EPOLLHUP, EPOLLIN, EPOLLOUT
from time import monotonic

from spyglass.runtime.timers import LEAVE, WRITE
from spyglass.worker.asgi.duplex_exchange import DuplexExchange
from spyglass.worker.asgi.duplex_states import SESSION

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

_RECEIVE: Final = 64 << 10
_STOPPED: Final = 1001  # RFC 6455 7.4.1: going away
_REPLACED: Final = 1012  # IANA: service restart


class DuplexSession(DuplexExchange):
    """One client, as far as a session has its socket. `_session` is None while there is
    none; `_paused` (bool): it does not want to read now.
    """

    __slots__ = ("_paused", "_session")

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
        self._session: Any = None
        self._paused = False

    @property
    def server(self) -> Server:
        """What all connections of the worker share."""
        return self._server

    def _open_session(self, request: Request) -> bool:
        """Begin a session, if `request` asks for one. False: it is answered as any
        other request (RFC 9110 7.8: an offer need not be taken up).
        """
        session = self._apps.open_session(self, request)
        if session is None:
            return False
        if session is self:
            return True  # it was refused
        self._session = session
        self._served = True
        self.state = SESSION
        self.stop_waiting()
        self._watch_session()
        session.start()
        return True

    def attend_session(self) -> None:
        """Something can be received or sent, or the connection is broken."""
        if self._writer.size:
            try:
                if not self._writer.flush():
                    return  # more than a turn's: the socket is ready again at once
            except BlockingIOError:
                pass
            except OSError as error:
                self.close(f"writing failed: {error.strerror}")
                return
            else:
                self.stop_waiting()
                self._watch_session()
                self._session.on_writable()
        if self._session is not None:
            self._session.on_readable()

    def time_session(self, kind: int) -> None:
        """A deadline has passed."""
        if kind == LEAVE:
            self._session.leave(_REPLACED if self._server.is_replaced() else _STOPPED)
        elif kind != WRITE:
            self._session.on_deadline(kind)
        elif self._writer.progresses(self._host.warm_up.untaken(self.fd)):
            self._host.deadlines.set(self, WRITE, monotonic())
        else:
            self.close("the client takes nothing")

    def _watch_session(self) -> None:
        wanted = (0 if self._paused else EPOLLIN) | (EPOLLOUT if self._writer.size else 0)
        self._host.watch(self, wanted or EPOLLHUP)

    # What a session asks for

    def receive(self) -> bytes:
        """Return what has arrived, b"" at the end. Raise BlockingIOError when there is
        nothing, OSError when the connection is broken.
        """
        return read(self.fd, _RECEIVE)

    def take_buffer(self) -> bytes:
        """Return what has arrived behind the request, once."""
        reader = self._receiver.reader
        data, reader.buffer = reader.buffer, b""
        return data

    def write(self, data: bytes) -> bool:
        """Send `data`; False when some of it is left: on_writable() follows when the
        client has taken all. A connection that breaks is closed, and lost() is called.
        """
        if self.fd < 0:
            return True
        writer = self._writer
        if writer.size:
            writer.pending = bytes(writer.pending) + data
            return False
        try:
            if writer.send(data):
                return True
        except OSError as error:
            self.close(f"writing failed: {error.strerror}")
            return True
        writer.note(self._host.warm_up.untaken(self.fd))
        self._host.deadlines.set(self, WRITE, monotonic())
        self._watch_session()
        return False

    def pause(self, paused: bool) -> None:
        """Do not call on_readable() from now on, or do so again. A client that has gone
        is reported all the same.
        """
        self._paused = paused
        if self.fd >= 0:
            self._watch_session()

    def wait_for(self, kind: int) -> None:
        """Call on_deadline(kind) when the time for that is over. Sending has a deadline
        of its own, which comes first.
        """
        if self.fd >= 0 and not self._writer.size:
            self._host.deadlines.set(self, kind, monotonic())

    def finish_session(self) -> None:
        """The session has come to its end: close in a way that destroys nothing that
        was sent.
        """
        if self.fd >= 0:
            self._server.served += 1
            self.linger(False)

    def _let_go_of_session(self, session: Any, why: str) -> None:
        if session.running:
            session.set_adrift(self._host.branch(self))
        session.lost(why)
