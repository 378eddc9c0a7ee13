"""What the WebSockets of a worker share: their settings, their number, and the pace at
which they are closed.
"""

from __future__ import annotations

from spyglass.websocket.close_codes import SERVICE_RESTART

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.worker.server import Server

# A client connects again as soon as it is closed, most often. Where another worker
# takes over, all of them would do that at once: so there is a pause from one to the
# next, and all pauses together are no longer than that.
_PAUSE: Final = 0.01  # seconds
_ALL_PAUSES: Final = 5.0


class Shared:
    """The WebSockets of a worker; `loop` is asyncio's. `last_server` is the Server for
    a response of HTTP after which the connection ends.
    """

    def __init__(self, config: Config, server: Server, loop: Any) -> None:
        self.max_size = config.websocket_max_size
        self.pings = config.websocket_ping > 0
        self.compresses = config.websocket_compression
        self.patience = config.request_timeout
        self.server = server
        self.last_server: Any = LastServer(server)
        self._loop = loop
        self._open = 0
        self._close_at = 0.0  # of the loop's time: when the last one is closed, in its turn

    def opened(self) -> None:
        """One more is open."""
        self._open += 1
        self.server.count_websockets(self._open)

    def closed(self) -> None:
        """One less."""
        self._open -= 1
        self.server.count_websockets(self._open)

    def soon(self, call: Callable[..., object], *arguments: Any) -> None:
        """Call it in the loop's next round."""
        self._loop.call_soon(call, *arguments)

    def in_turn(self, code: int, close: Callable[[int], None]) -> None:
        """Call `close(code)`: now, or in its turn, if others take over."""
        if code != SERVICE_RESTART:
            close(code)
            return
        loop, pause = self._loop, min(_PAUSE, _ALL_PAUSES / max(1, self._open))
        self._close_at = max(self._close_at, loop.time()) + pause
        loop.call_at(self._close_at, close, code)


class LastServer:
    """A Server as a response of HTTP sees it, after which the connection is closed: its
    client may have sent what is no request.
    """

    __slots__ = ("_server",)

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def log(self) -> Log:
        return self._server.log

    @property
    def debug(self) -> bool:
        return self._server.debug

    @property
    def date(self) -> str:
        return self._server.date

    def would_keep(self) -> bool:
        return False

    def count_error(self) -> None:
        self._server.count_error()
