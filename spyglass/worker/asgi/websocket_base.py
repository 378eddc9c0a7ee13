"""A WebSocket's connection as its session sees it: what it reads from and writes to.

The connection has the session (websocket_connection.py), which so cannot import it. See
connection_base.py.
"""

from __future__ import annotations

from spyglass.worker.connection_base import ConnectionBase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.worker.connection_base import Visit


class WebSocketBase(ConnectionBase):
    """One client."""

    __slots__ = ()

    def receive(self) -> bytes:
        """Return what has arrived; b"" at the end. Raise BlockingIOError, OSError."""
        raise NotImplementedError

    def write(self, data: bytes) -> bool:
        """Send `data`; False when some of it is left, or the connection has ended:
        `fd` tells.
        """
        raise NotImplementedError

    def pause(self) -> None:
        """Read nothing more for now."""
        raise NotImplementedError

    def resume(self) -> None:
        """Read on."""
        raise NotImplementedError

    def wait_for(self, kind: int) -> None:
        """Set the deadline `kind`, if the client is not late already with taking what
        was sent.
        """
        raise NotImplementedError

    def say_goodbye(self, *, announced: bool) -> None:
        """All is said. A client that has `announced` its end sends no more."""
        raise NotImplementedError

    def returned(self, visit: Visit | None) -> None:
        """The app's call has ended. It has counted as `visit` since the connection has
        ended, if it has.
        """
        raise NotImplementedError
