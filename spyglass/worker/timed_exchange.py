"""An exchange that knows how long the app's code took, for the lines of `log_slow`."""

from __future__ import annotations

from time import monotonic

from spyglass.gateway.wsgi import Exchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.gateway.file_wrapper import FileSpan
    from spyglass.gateway.interfaces import Client, Server
    from spyglass.http11.request import Request


class TimedExchange(Exchange):
    """An Exchange; `in_app` (float, seconds) is the time in which its app ran: the
    call, and each piece of a response that it generates.

    Derived, so that a worker without `log_slow` does not look at the clock.
    """

    __slots__ = ("in_app",)

    # Each by its name: of `*arguments`, mypyc passes on the tuple.
    def __init__(
        self, server: Server, request: Request, environ: dict[str, Any], connection: Client
    ) -> None:
        super().__init__(server, request, environ, connection)
        self.in_app = 0.0

    def advance(self) -> bytes | tuple[bytes, bytes] | FileSpan | None:
        """As Exchange.advance()."""
        began = monotonic()
        try:
            return super().advance()
        finally:
            self.in_app += monotonic() - began
