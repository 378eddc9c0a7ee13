"""Run an ASGI app in a worker: the event loop, the app's lifespan, and its end.

In the order of a worker's life:

    start()  after the fork and post_fork(), before anything is accepted: the event
             loop, and `lifespan.startup`. What fails here makes the worker unfit.
    run()    serve until drained
    stop()   nothing is open any more: `lifespan.shutdown`, then what asyncio.run() does
             at its end
"""

from __future__ import annotations

from asyncio import all_tasks, current_task, gather, set_event_loop
from time import monotonic_ns

from spyglass.printable import name_of
from spyglass.runtime import scoreboard
from spyglass.worker.asgi.apps import Apps
from spyglass.worker.asgi.asgi_interface import AsgiInterface
from spyglass.worker.asgi.call import Call
from spyglass.worker.asgi.event_loop import EventLoop, Selector, provide_child_watcher
from spyglass.worker.asgi.lifespan import Lifespan
from spyglass.worker.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Coroutine
    from typing import Any, NoReturn

    from spyglass.config.settings import Config
    from spyglass.http11.request import Request
    from spyglass.log import Log
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.acceptor import Activity
    from spyglass.worker.asgi.duplex_connection import DuplexConnection
    from spyglass.worker.asgi.event_loop import Events


class Runner:
    """The ASGI side of a worker. `loop` is the worker's own."""

    def __init__(
        self,
        config: Config,
        app: Callable[..., Any],
        listeners: list[Listener],
        slot: memoryview[int],
        log: Log,
        activity: Activity | None = None,
    ) -> None:
        self._config = config
        self._slot = slot
        self._log = log
        self._apps = apps = Apps(app, config, Call)
        self.loop = Loop(config, app, listeners, slot, log, activity, AsgiInterface(apps))
        # Bodies stream: what all of them hold on disk is no limit for one.
        self.loop.server.limits.max_body = config.max_body
        self._turn = self.loop.poll
        self._asyncio: EventLoop | None = None
        self._lifespan: Lifespan | None = None
        self._drained: Future[None] | None = None
        self._back: Callable[[], NoReturn] | None = None
        self.ask_for_another: Callable[[], object] = lambda: None

    def start(self) -> None:
        """Have the app start. Raise StartupFailedError."""
        selector = Selector(self.loop.epoll, self.turn)
        events = self._asyncio = EventLoop(selector)
        set_event_loop(events)
        provide_child_watcher()
        self._apps.forget = selector.forget
        self._apps.join(events, self.loop)
        self._apps.open_websocket = self._open_first_websocket
        self._complete(self._start())

    async def _start(self) -> None:
        self._lifespan = Lifespan(self._apps.app, self._apps.state, self._log, self._replace)
        await self._lifespan.start()

    @property
    def has_lifespan(self) -> bool:
        """True if the app has a lifespan, and has started."""
        return self._lifespan is not None and self._lifespan.has_started

    def _replace(self) -> None:
        """The app's lifespan has failed: another worker is to take over."""
        self.loop.retire()
        self.ask_for_another()

    def _open_first_websocket(self, connection: DuplexConnection, request: Request) -> bool:
        # In here: many apps have none.
        from spyglass.worker.asgi.websocket_opener import Opener

        apps = self._apps
        apps.open_websocket = Opener(self._config, apps, self.loop.server).open
        return apps.open_websocket(connection, request)

    def run(self) -> None:
        """Serve until drained."""
        assert self._asyncio is not None
        self._drained = self._asyncio.create_future()
        self._turn = self._serve
        self._slot[scoreboard.STATE] = scoreboard.ACCEPTING
        self._complete(self._wait_until_drained(self._drained))
        self._turn = self._serve_to_the_end
        self._slot[scoreboard.CALL_SINCE] = 0
        self.loop.conclude()

    async def _wait_until_drained(self, drained: Future[None]) -> None:
        await drained

    def stop(self) -> None:
        """Have the app stop, and end what it has left. The Master ends this process if
        that takes too long.
        """
        self._complete(self._stop())
        if self._asyncio is not None:
            self._asyncio.close()

    async def _stop(self) -> None:
        assert self._asyncio is not None
        if self._lifespan is not None:
            await self._lifespan.stop()
        others = all_tasks() - {current_task()}
        for task in others:
            task.cancel()
        await gather(*others, return_exceptions=True)
        await self._asyncio.shutdown_asyncgens()
        await self._asyncio.shutdown_default_executor()

    def _complete(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the loop until `work` is done. An app may end the loop of asyncio, by
        stop() or a task that raises SystemExit, but not the worker (ARCHITECTURE 10.3).
        """
        events = self._asyncio
        assert events is not None
        task = events.create_task(work)
        task.add_done_callback(lambda _: events.stop())
        while not task.done():
            try:
                events.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                self._log.exception(f"a task of the app's raised {name_of(error)}", error)
            else:
                if not task.done():
                    self._log.warning("the app has stopped the event loop, which goes on")
        task.result()

    # Turns of the loop

    def turn(self, timeout: float | None) -> Events:
        """Wait for at most `timeout` seconds (None: for any time), do what is the
        worker's, and return all that was ready.
        """
        if self._back is not None:
            self._back()
        return self._turn(timeout)

    def _serve(self, timeout: float | None) -> Events:
        apps, loop, slot = self._apps, self.loop, self._slot
        if apps.completed and apps.settle():
            timeout = 0.0
        patience = loop.prepare()
        if loop.server.draining and loop.finished:
            assert self._drained is not None
            if not self._drained.done():
                self._drained.set_result(None)
            patience = 0.0
        if timeout is not None and (patience is None or timeout < patience):
            patience = timeout if timeout > 0 else 0.0
        # The Master sees since when the app keeps the loop from turning.
        slot[scoreboard.CALL_SINCE] = apps.overdue_since
        events = loop.wait(patience)
        if not apps.disobedient:
            slot[scoreboard.CALL_SINCE] = monotonic_ns()
        loop.serve(events)
        if loop.leaving.cutting:
            apps.cancel()
        return events

    def _serve_to_the_end(self, timeout: float | None) -> Events:
        """As _serve(), when nothing is open any more: orders are heard."""
        events = self.loop.wait(timeout if timeout is None or timeout > 0 else 0.0)
        self.loop.serve(events)
        return events

    def abandon(self, back: Callable[[], NoReturn]) -> None:
        """See Loop. In a process that the app has forked nothing turns."""
        self._back = back
        self._apps.back = back
