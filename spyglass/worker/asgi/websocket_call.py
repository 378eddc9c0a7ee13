"""The app's call for a WebSocket: the coroutine, and what it awaits.

The session never waits (websocket_session.py). Here the app does, in receive() for an
event, in send() for room.
"""

from __future__ import annotations

from asyncio import CancelledError, sleep
from time import monotonic, monotonic_ns

from spyglass.runtime.timers import CALL, CANCEL
from spyglass.worker.asgi.call import stack_of
from spyglass.worker.asgi.call_timer import CallTimer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future, Task
    from typing import Any

    from spyglass.gateway.asgi.websocket_messages import Event
    from spyglass.worker.asgi.apps import Apps
    from spyglass.worker.asgi.websocket_session import WebSocketSession
    from spyglass.worker.connection_base import Visit

# Calls of receive() and send() in a row that need not wait, until the others get a
# turn: a fast client takes, and sends, as much as the app can.
_IN_A_ROW = 64


class WebSocketCall:
    """The call of the app for `session`, whose `target` (str) is for the log. It may
    outlive its connection, and counts as `visit` then.

    `is_late` (bool): it was cancelled, as it has not accepted in time.
    """

    __slots__ = (
        *("_apps", "_in_a_row", "_receivers", "_senders", "_session", "_target"),
        *("began", "is_late", "is_lost", "task", "timer", "visit"),
    )

    def __init__(self, apps: Apps, session: WebSocketSession, target: str) -> None:
        self._apps = apps
        self._session = session
        self._target = target
        self._receivers: list[Future[None]] = []
        self._senders: list[Future[None]] = []
        self._in_a_row = 0
        self.visit: Visit | None = None
        self.began = monotonic_ns()
        self.is_late = False
        self.is_lost = False  # it was cancelled, and nothing more is wanted of it
        self.timer = CallTimer(self)
        self.task: Task[None] | None = None

    def start(self, scope: dict[str, Any]) -> None:
        """Make the first step of the app; not in a task."""
        apps = self._apps
        apps.calls.add(self)
        apps.deadlines.set(self.timer, CALL, monotonic())
        # Strongly held from here: asyncio holds its tasks weakly.
        self.task = apps.start(self._run(scope))

    async def _run(self, scope: dict[str, Any]) -> None:
        error: BaseException | None = None
        try:
            await self._apps.app(scope, self.receive, self.send)
        except BaseException as raised:  # see call.py
            error = raised
        apps = self._apps
        if apps.back is not None:
            apps.strayed(f"WebSocket {self._target}", error)
        apps.deadlines.forget(self.timer)
        apps.calls.discard(self)
        apps.obeyed(self)
        if self.is_lost and isinstance(error, CancelledError):
            error = None
        self._session.returned(error)

    async def receive(self) -> Event:
        """Wait for the next event (ASGI)."""
        session = self._session
        if self._in_a_row >= _IN_A_ROW:
            await self._let_others()
        self._in_a_row += 1
        event = session.take()
        while event is None:
            await self._wait(self._receivers)
            event = session.take()
        return event

    async def send(self, message: Any) -> None:
        """Send `message`; wait until the client has taken it (ASGI)."""
        session = self._session
        if self._in_a_row >= _IN_A_ROW:
            await self._let_others()
        self._in_a_row += 1
        while session.pending:  # a message of another task
            await self._wait(self._senders)
        if not session.send(message):
            while session.pending:
                await self._wait(self._senders)

    async def _let_others(self) -> None:
        self._in_a_row = 0
        await sleep(0)

    async def _wait(self, waiting: list[Future[None]]) -> None:
        self._in_a_row = 0
        future = self._apps.loop.create_future()
        waiting.append(future)
        try:
            await future
        except CancelledError:
            # An app may ask again and again, with a timeout each time.
            if future in waiting:
                waiting.remove(future)
            raise

    def wake_receiver(self) -> None:
        """There is an event."""
        if self._receivers:
            _wake(self._receivers)

    def wake_sender(self) -> None:
        """There is room, or nothing can be sent any more."""
        if self._senders:
            _wake(self._senders)

    # How long it may take

    def accepted(self) -> None:
        """It may go on for as long as its client is there."""
        self._apps.deadlines.clear(self.timer)

    def client_left(self) -> None:
        """The WebSocket has ended, and not by the app's wish: it has to come to an
        end, too.
        """
        self._apps.deadlines.set(self.timer, CALL, monotonic())

    def late(self, kind: int) -> None:
        """Its deadline has passed."""
        apps = self._apps
        assert self.task is not None
        if kind == CANCEL:
            apps.disobeyed(self)
            return
        self.is_lost = self._session.connection.fd < 0
        self.is_late = not self.is_lost
        since = "without accepting it" if self.is_late else "after its client had gone"
        apps.log.error(
            f"WebSocket {self._target}: cancelled: it took longer than "
            f"{apps.request_timeout:g} s (request_timeout) {since}\n{stack_of(self.task)}"
        )
        self.task.cancel()
        apps.deadlines.set(self.timer, CANCEL, monotonic())

    def cancel(self) -> None:
        """The worker leaves, and the time for that is over."""
        self.is_lost = True
        if self.task is not None:
            self.task.cancel()


def _wake(waiting: list[Future[None]]) -> None:
    for future in waiting:
        if not future.done():  # nor cancelled
            future.set_result(None)
    waiting.clear()
