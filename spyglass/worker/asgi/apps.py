"""The calls of one worker's ASGI app, and the loop in which they run."""

from __future__ import annotations

import sys
from asyncio import Task

from spyglass.printable import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine
    from typing import Any, NoReturn

    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.runtime.timers import Deadlines
    from spyglass.worker.asgi.duplex_connection import DuplexConnection
    from spyglass.worker.host import Host
    from spyglass.worker.loop import Loop
    from spyglass.worker.server import Server


class Apps:
    """What a connection needs to have its requests answered by `app`.

    `state` (dict) is what the app has put into its lifespan's; `calls` are those that
    wait for something. `completed` are connections whose response was completed by a
    task: another call cannot begin in there, so they go on when the loop is asked for
    events next. `open_websocket` is Opener.open (websocket_opener.py).
    """

    def __init__(
        self, app: Callable[..., Any], config: Config, make_call: Callable[..., Any]
    ) -> None:
        self.app = app
        self.make_call = make_call  # Call; it needs this class, which so cannot import it
        self.request_timeout = config.request_timeout
        self.state: dict[str, Any] = {}
        self.forget: Callable[[int], None] = lambda _: None  # see Selector.forget()
        self.calls: set[Any] = set()
        self.completed: list[DuplexConnection] = []
        self._cancelled: set[Any] = set()  # calls, at the end
        self.disobedient: dict[Any, int] = {}  # and when they began, monotonic nanoseconds
        self.open_websocket: Callable[..., bool] = _open_none
        # In a process that the app has forked: to be called where the app returns
        self.back: Callable[[], NoReturn] | None = None
        if sys.version_info < (3, 12):
            self._catch = self._take_step

    def join(self, loop: AbstractEventLoop, worker: Loop) -> None:
        """Run in `loop`, beside what is the worker's own."""
        self.loop = loop
        self.host: Host = worker.host
        self.deadlines: Deadlines = worker.deadlines
        self.server: Server = worker.server

    @property
    def log(self) -> Log:
        return self.server.log

    if sys.version_info >= (3, 12):

        def start(self, coroutine: Coroutine[Any, Any, None]) -> Task[None]:
            """Return a task whose first step has been made, in a context of its own.
            Not to be called in a task.
            """
            context = self.server.fresh_context()
            return Task(coroutine, loop=self.loop, eager_start=True, context=context)

    else:

        def start(self, coroutine: Coroutine[Any, Any, None]) -> Task[None]:
            """Return a task whose first step has been made, in a context of its own.
            Not to be called in a task.

            A task schedules its first step when it is made. That is caught here, and
            made at once, as the eager tasks of Python 3.12 do.
            """
            context = self.server.fresh_context()
            loop: Any = self.loop
            loop.call_soon = self._catch
            try:
                task = Task(coroutine, loop=loop, context=context)
            finally:
                del loop.call_soon
            context.run(self._step)
            return task

        def _take_step(self, step: Callable[[], object], *, context: object) -> None:
            self._step = step

    def settle(self) -> bool:
        """Go on where a response was completed. Return True if the app may have
        something to do at once: asyncio has not seen it when it decided how long to
        wait.
        """
        completed = self.completed
        stirred = False
        while completed:
            stirred = completed.pop().settle() or stirred
        return stirred

    def strayed(self, request: str, error: BaseException | None) -> NoReturn:
        """The call for `request` has ended in a process that the app has forked,
        perhaps with `error`: it ends, with the status of a SystemExit.
        """
        if error is not None:
            self.log.exception(f"{request}: the app raised {name_of(error)}", error)
        assert self.back is not None
        self.back()

    # When a call does not end

    def disobeyed(self, call: Any) -> None:
        """`call` was cancelled, and goes on."""
        self.disobedient[call] = call.began

    def obeyed(self, call: Any) -> None:
        """It has ended after all."""
        if self.disobedient:
            self.disobedient.pop(call, None)

    @property
    def overdue_since(self) -> int:
        """Since when the oldest call runs that cannot be ended; 0: there is none."""
        return min(self.disobedient.values()) if self.disobedient else 0

    def cancel(self) -> None:
        """End all calls: the time to drain is over. Each once, as each turn calls this,
        and what an app does at its end may take some.
        """
        for call in self.calls - self._cancelled:
            self._cancelled.add(call)
            call.cancel()


def _open_none(*_: object) -> bool:
    return False
