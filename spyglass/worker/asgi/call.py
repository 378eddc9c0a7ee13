"""One call of an ASGI app, for one request: a task of asyncio's.

What `receive()` returns and what `send()` sends is decided by the exchange
(gateway/asgi/http_exchange.py), and moved by the connection. Here is what waits.

What a call that goes wrong costs:

- Its client leaves. The app is told (`http.disconnect`) and has `request_timeout` to
  come to its end; then it is cancelled. To cancel at once would end the clean-up of
  what it holds, and never to cancel would keep the whole app awake.
- It gives no response within `request_timeout`: it is cancelled, and its client gets a
  503. While the client itself is waited for, that time does not run.
- The worker leaves. An event stream, which has no end of its own, is told; one that
  does not listen is cancelled a second after its connection was closed.
- It does not end when it is cancelled: the worker is replaced (apps.py).
- A response that is complete is never cancelled, and neither is one that has begun and
  whose client is there: it may be an event stream.
"""

from __future__ import annotations

from asyncio import CancelledError, sleep
from time import monotonic, monotonic_ns

from spyglass.gateway.app_errors import explained
from spyglass.printable import name_of
from spyglass.runtime.timers import CALL, CANCEL, LAST_CALL
from spyglass.worker.asgi.call_timer import CallTimer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future, Task
    from typing import Any

    from spyglass.gateway.asgi.http_exchange import HttpExchange
    from spyglass.worker.asgi.apps import Apps
    from spyglass.worker.asgi.duplex_connection import DuplexConnection
    from spyglass.worker.connection_base import Visit


class Call:
    """The call of the app for `exchange`, the request under way at `connection`.

    `task` is strongly held from here: asyncio holds its tasks weakly.

    Most calls never wait, and have no more than what __init__ sets.
    """

    _is_adrift = False  # its connection does not need it any more
    _visit: Visit | None = None
    task: Task[None] | None = None
    timer: CallTimer | None = None
    began = 0  # monotonic nanoseconds
    _is_cancelled = False

    def __init__(self, apps: Apps, exchange: HttpExchange, connection: DuplexConnection) -> None:
        self._apps = apps
        self._exchange = exchange
        self._connection = connection
        self._waiters: list[Future[None]] = []

    def start(self, scope: dict[str, Any]) -> None:
        """Make the first step of the app. Most calls come to their end in it."""
        apps, exchange = self._apps, self._exchange
        task = apps.start(self._run(scope))
        if exchange.running:
            self.task = task
            apps.calls.add(self)
            self.began = monotonic_ns()
            self.timer = CallTimer(self)
            apps.deadlines.set(self.timer, CALL, monotonic())

    async def _run(self, scope: dict[str, Any]) -> None:
        error: BaseException | None = None
        try:
            await self._apps.app(scope, self.receive, self.send)
        except BaseException as raised:
            # SystemExit and KeyboardInterrupt, too: errors of this call (ARCHITECTURE
            # 10.3). asyncio would end its loop for them.
            error = raised
        self._ended(error)

    def _ended(self, error: BaseException | None) -> None:
        apps, exchange = self._apps, self._exchange
        if apps.back is not None:
            apps.strayed(f"{exchange.request.method} {exchange.request.target}", error)
        exchange.running = False
        if self.timer is not None:
            apps.deadlines.forget(self.timer)
            # The two hold each other, and a connection with what was not sent.
            self.timer = None
            apps.calls.discard(self)
            apps.obeyed(self)
        if not (exchange.complete or exchange.gone):
            self._connection.ended(exchange, error)
        elif error is not None:
            self._log_late(error)
        if self._is_adrift:
            self._is_adrift = False
            apps.host.branch_ended(self._visit)

    def _log_late(self, error: BaseException) -> None:
        """The app has raised `error` when its response is not waited for any more."""
        request, log = self._exchange.request, self._apps.log
        line = f"{request.method} {request.target}: the app raised {name_of(error)}"
        if self._exchange.complete:
            log.exception(f"{line}, after its response", explained(error))
        elif not isinstance(error, CancelledError):
            # Most often it says no more than that: Starlette's ClientDisconnect.
            log.info(f"{line}, after its client had gone")

    async def receive(self) -> dict[str, object]:
        """ASGI's receive()."""
        exchange, connection = self._exchange, self._connection
        while (event := exchange.next_event()) is None:
            connection.want_body()
            await self._wait()
        if event.get("more_body"):
            connection.read_on()
            if self.timer is not None:
                # While the client was waited for, no time of the app's has passed.
                self._apps.deadlines.set(self.timer, CALL, monotonic())
        return event

    async def send(self, message: Any) -> None:
        """ASGI's send()."""
        exchange, connection = self._exchange, self._connection
        try:
            piece = exchange.send(message)
        except RuntimeError:
            if exchange.broken and not exchange.gone:
                connection.close(exchange.broken)
            raise
        if piece is None:
            if exchange.gone:
                await sleep(0)  # an app that only sends would keep the loop for itself
            elif self._apps.server.draining:
                connection.last_call()  # it may have become a stream that has no end
            return
        if connection.give(exchange, piece):
            return
        if not connection.is_full(exchange):
            await sleep(0)
        while connection.is_full(exchange):
            await self._wait()

    async def _wait(self) -> None:
        waiter = self._apps.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def wake(self) -> None:
        """Something has happened that the app may wait for."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def client_left(self, *, soon: bool = False) -> None:
        """The app's client has said its last, or has gone. `soon`: the worker leaves,
        and this call has no end of its own.
        """
        self.wake()
        if self.timer is not None and not self._is_cancelled:
            kind = LAST_CALL if soon else CALL
            self._apps.deadlines.set(self.timer, kind, monotonic())

    def set_adrift(self, visit: Visit | None) -> None:
        """Its connection goes on, or has ended: the call counts by itself."""
        self._is_adrift = True
        self._visit = visit

    def late(self, kind: int) -> None:
        """Its deadline has passed."""
        apps, exchange = self._apps, self._exchange
        assert self.timer is not None
        if exchange.complete or self.task is None:
            return
        if kind == CANCEL:
            apps.disobeyed(self)
            return
        if not exchange.left:
            if exchange.started:
                return  # it may pause for any time
            if exchange.awaits_client:
                apps.deadlines.set(self.timer, CALL, monotonic())
                return
        exchange.is_late = True
        if kind == CALL:
            self._log_stack(self.task)
        self._is_cancelled = True
        self.task.cancel()
        apps.deadlines.set(self.timer, CANCEL, monotonic())

    def _log_stack(self, task: Task[None]) -> None:
        request = self._exchange.request
        since = "after its client had gone" if self._exchange.left else "without a response"
        self._apps.log.error(
            f"{request.method} {request.target}: cancelled: it took longer than "
            f"{self._apps.request_timeout:g} s (request_timeout) {since}\n{stack_of(task)}"
        )

    def cancel(self) -> None:
        """The worker leaves, and the time for that is over."""
        self._exchange.lose()
        if self.task is not None and not self._is_cancelled:
            self._is_cancelled = True
            self.task.cancel()


def stack_of(task: Task[None]) -> str:
    """Return where `task` waits, as a traceback has it, from the app's first frame on.

    asyncio's print_stack() shows the outermost coroutine alone.
    """
    from linecache import getline  # only accidents need it

    lines = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        code, number = frame.f_code, frame.f_lineno
        lines.append(f'  File "{code.co_filename}", line {number}, in {code.co_name}')
        if text := getline(code.co_filename, number).strip():
            lines.append(f"    {text}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "\n".join(lines[2:])
