"""A connection as its parts and the loop see it: what waits for its socket, has a
deadline, and goes on or ends when a response cannot.

The connection itself (connection.py) is made of its parts, so they cannot import it.
They get a class all the same, and not a Protocol: what is called for each request is
then found at once when the package is compiled.
"""

from __future__ import annotations

from spyglass.runtime.timers import Timed
from spyglass.worker.connection_states import READING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.http11.request import Request
    from spyglass.http11.request_body import Body
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_states import State
    from spyglass.worker.slow_clients import Seen


class Visit:
    """One connection as the idle exit sees it, where `idle_ignore` is set
    (idle_activity.py).
    """

    __slots__ = ()

    def asks_for(self, request: Request) -> None:
        """A request has arrived: from now on that one decides."""
        raise NotImplementedError

    def is_ignored(self) -> bool:
        """Return True while it does not keep the app awake."""
        raise NotImplementedError


class ConnectionBase(Timed):
    """One accepted `socket`, with the number `fd` (int; -1 when it is closed).

    `state` is a row of the table in connection_states.py, `watched` (int) the events
    that the loop waits for, `visit` what idle_activity.py and `seen` what
    slow_clients.py knows of it.
    """

    __slots__ = ("fd", "seen", "socket", "state", "visit", "watched")

    def __init__(self, socket: ClientSocket, visit: Visit | None) -> None:
        super().__init__()
        self.socket = socket
        self.fd = socket.fd
        self.state: State = READING
        self.watched = 0
        self.seen: Seen | None = None
        self.visit = visit

    @property
    def asked(self) -> bool:
        """True when the app has been asked, or is about to be."""
        raise NotImplementedError

    @property
    def body(self) -> Body | None:
        """The request body that is arriving."""
        raise NotImplementedError

    def await_request(self) -> None:
        """Everything that has arrived is answered: wait for more."""
        raise NotImplementedError

    def await_reader(self) -> None:
        """The socket is full: go on when the client has taken something."""
        raise NotImplementedError

    def stop_waiting(self) -> None:
        """Nothing is waited for: no deadline."""
        raise NotImplementedError

    def yield_turn(self) -> None:
        """There is more to do, without waiting: go on when the others have had a
        turn.
        """
        raise NotImplementedError

    def let_go(self) -> None:
        """Send what was held."""
        raise NotImplementedError

    def push(self, data: bytes) -> None:
        """Send `data` before returning; called by the app, in the thread of its
        call.
        """
        raise NotImplementedError

    def reset_unless_whole(self) -> None:
        """A response begins whose end its client can tell by the end of the connection
        alone.
        """
        raise NotImplementedError

    def progress(self) -> int:
        """Return how many bytes of its request the client has sent, or how many of the
        response it has taken: of what it is waited for.
        """
        raise NotImplementedError

    def last_call(self) -> None:
        """The worker is draining: an idle client gets a short while for the request
        that may be on its way.
        """
        raise NotImplementedError

    def part(self) -> None:
        """Nothing that is open keeps the app awake: end, if that would not come by
        itself.
        """

    def give_way(self) -> bool:
        """Close, being idle or slow, for other clients wait for this place. False when
        the client has sent or taken something meanwhile, and stays.
        """
        raise NotImplementedError

    def end(self) -> None:
        """The last answer is out, or held: end in a way that does not destroy it."""
        raise NotImplementedError

    def cut(self) -> None:
        """Close, for the time to drain is over."""
        raise NotImplementedError

    def close(self, why: str) -> None:
        """End at once, whatever is under way. Idempotent."""
        raise NotImplementedError
