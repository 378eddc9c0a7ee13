"""The lifespan protocol (ASGI, "Lifespan"), once in each worker.

`lifespan.startup` comes after the fork, and before the worker accepts anything;
`lifespan.shutdown` when its last connection and its last call have ended. What the app
puts into `state` at startup belongs to the worker, and each scope has a copy of it.

Only an exception before the app has called receive(), or a return without a word, means
that it has no lifespan. An exception after that is a failure: an app whose database was
not there must not be served as if it had started.
"""

from __future__ import annotations

from asyncio import (
    FIRST_COMPLETED,
    CancelledError,
    create_task,
    get_running_loop,
    shield,
    wait,
)

from spyglass.printable import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future, Task
    from collections.abc import Callable
    from typing import Any

    from spyglass.log import Log

# For the task to raise the error about which it has sent startup.failed
_RAISE = 1.0  # seconds


class StartupFailedError(Exception):
    """The app has refused to start: `message` is what it has sent, or "", and the cause
    is what it has raised, if it has.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Lifespan:
    """The lifespan of `app`. `failed()` is called if it ends in the middle of the
    service.
    """

    def __init__(
        self, app: Callable[..., Any], state: dict[str, Any], log: Log, failed: Callable[[], object]
    ) -> None:
        self._app = app
        self._state = state
        self._log = log
        self._failed = failed
        self._task: Task[None] | None = None
        self._exit: BaseException | None = None  # what the app has raised to exit
        self._is_heard = False  # the app has called receive()
        self._is_stopping = False
        loop = get_running_loop()
        self._started: Future[str] = loop.create_future()
        self._stop: Future[None] = loop.create_future()
        self._stopped: Future[None] = loop.create_future()

    async def start(self) -> None:
        """Have the app start. Raise StartupFailedError."""
        self._task = create_task(self._run())
        either: set[Future[Any]] = {self._task, self._started}
        await wait(either, return_when=FIRST_COMPLETED)
        if self._started.done():
            refused = self._started.result()
            if not refused:
                self._task.add_done_callback(self._ended)
                return
            await wait({self._task}, timeout=_RAISE)
            error = self._error
            raise StartupFailedError(refused.strip()) from error
        error = self._error
        if error is not None and self._is_heard:
            raise StartupFailedError("") from error
        why = "it returned" if error is None else f"it raised {name_of(error)}"
        self._log.debug(f"the app has no lifespan: {why}")

    @property
    def has_started(self) -> bool:
        """True if the app has a lifespan, and has sent `lifespan.startup.complete`."""
        return self._started.done() and not self._started.result()

    @property
    def _error(self) -> BaseException | None:
        task = self._task
        if task is None or not task.done():
            return None
        if self._exit is not None:
            return self._exit
        return CancelledError() if task.cancelled() else task.exception()

    async def stop(self) -> None:
        """Have the app stop, if it has started."""
        task = self._task
        self._is_stopping = True
        if task is None or task.done() or not self._started.done():
            return
        self._stop.set_result(None)
        either: set[Future[Any]] = {task, self._stopped}
        await wait(either, return_when=FIRST_COMPLETED)
        if task.done() and (error := self._error) is not None:
            self._log.exception(f"lifespan.shutdown: the app raised {name_of(error)}", error)

    async def _run(self) -> None:
        versions = {"version": "3.0", "spec_version": "2.0"}
        scope = {"type": "lifespan", "asgi": versions, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except (SystemExit, KeyboardInterrupt) as error:
            self._exit = error  # asyncio would end its loop for it

    def _ended(self, task: Task[None]) -> None:
        """The app's part has ended. In the middle of the service that is a failure, if
        it has ended with an error.
        """
        error = self._error
        if self._is_stopping or error is None:
            return
        self._log.exception(f"lifespan: the app raised {name_of(error)} while it serves", error)
        self._failed()

    async def _receive(self) -> dict[str, str]:
        if not self._is_heard:
            self._is_heard = True
            return {"type": "lifespan.startup"}
        await shield(self._stop)
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        text = str(message.get("message", ""))
        if kind == "lifespan.startup.complete" and not self._started.done():
            self._started.set_result("")
        elif kind == "lifespan.startup.failed" and not self._started.done():
            self._started.set_result(text or " ")
        elif kind == "lifespan.shutdown.complete" and self._is_stopping:
            self._set_stopped()
        elif kind == "lifespan.shutdown.failed":
            self._log.error(f"lifespan.shutdown.failed: {text}".rstrip(": "))
            if self._is_stopping:
                self._set_stopped()
            else:
                self._failed()
        else:
            raise RuntimeError(f"unexpected message {kind!r}: this is the lifespan")

    def _set_stopped(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)
