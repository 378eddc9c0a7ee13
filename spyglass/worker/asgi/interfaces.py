"""What a session is to the connection whose socket it has (duplex_session.py), for the
type checker only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from spyglass.worker.connection_base import Visit


class Session(Protocol):
    """Another protocol than HTTP on a connection, and the call of the app for it.

    `running` (bool): the app's call has not returned. `status` (str) and `given` (int,
    bytes) are for the access log.
    """

    running: bool
    status: str

    @property
    def given(self) -> int: ...

    def start(self) -> None:
        """The socket is the session's: call the app (Apps.start())."""

    def on_readable(self) -> None:
        """Something has arrived, or the client has gone: call receive()."""

    def on_writable(self) -> None:
        """The client has taken all that was sent."""

    def on_deadline(self, kind: int) -> None:
        """A deadline that wait_for() has set has passed."""

    def leave(self, code: int) -> None:
        """The worker leaves: end, with this close code (RFC 6455 7.4)."""

    def lost(self, why: str) -> None:
        """The connection is closed."""

    def set_adrift(self, visit: Visit | None) -> None:
        """The connection has ended and the call has not: when it returns, call
        Host.branch_ended(visit).
        """
