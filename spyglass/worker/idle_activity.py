"""A worker's loop where `idle_ignore` is set: of who is there, not everybody puts off
the leaving.

A connection puts it off, *counts*, from when it asks for something that is not ignored
until it asks for something that is, or ends. One that has asked for nothing yet does
not count, for nobody knows what it wants; but if that is how it ends, its end does,
unless it came by an ignored listener.

What counts is told to the Master by OPEN less IGNORED; and ACTIVITY is only written
where something that counted ends. All that is open is waited for nonetheless: who is
ignored is served like everybody. So that a monitor with a kept-alive connection is not
waited for without end, the Master gives the order PART when nobody else is there: from
then on each answer says "Connection: close", and each of these connections ends with
its next request or, as ever, after keepalive_timeout. No end is earlier than it would
have been without a warning, so no request is lost that would not have been (RFC 9112
9.5). The last to end tells the Master.
"""

from __future__ import annotations

import time

from spyglass.policy.idle_ignore import Ignored
from spyglass.runtime import scoreboard
from spyglass.worker.connection import Connection
from spyglass.worker.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from spyglass.config.settings import Config
    from spyglass.http11.request import Request
    from spyglass.log import Log
    from spyglass.runtime.fast_imports import socket
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.zygote.app_loader import App


class IgnorableConnection(Connection):
    """`counts` (bool): it puts off the leaving; `noted` (bool): when it ends, that was
    the end of something that did.
    """

    __slots__ = ("_ignored", "_ignoring", "counts", "noted")

    def __init__(
        self, loop: IgnoringLoop, sock: socket.socket, address: Any, listener: Listener
    ) -> None:
        super().__init__(loop, sock, address, listener)
        self._ignoring = loop
        self._ignored = loop.ignored.listener(listener.name)
        self.counts = False
        self.noted = not self._ignored

    def _begin(self, request: Request) -> None:
        counts = not (self._ignored or self._ignoring.ignored.request(request))
        if counts != self.counts:
            self._ignoring.count(self, counts)
        self.counts = self.noted = counts
        super()._begin(request)


class IgnoringLoop(Loop):
    """See above; `tell_master` makes the Master look at the scoreboard."""

    def __init__(
        self,
        config: Config,
        app: App,
        listeners: list[Listener],
        slot: memoryview[int],
        log: Log,
        tell_master: Callable[[], None],
    ) -> None:
        super().__init__(config, app, listeners, slot, log)
        self.ignored = Ignored(config.idle_ignore)
        self._tell_master = tell_master

    def _meet(self, sock: socket.socket, address: Any, listener: Listener) -> Connection:
        return IgnorableConnection(self, sock, address, listener)

    def _enter(self) -> None:
        self._slot[scoreboard.IGNORED] += 1
        self._open += 1
        self._slot[scoreboard.OPEN] = self._open

    def exit(self, connection: Connection) -> None:
        """See Loop."""
        assert isinstance(connection, IgnorableConnection)
        slot = self._slot
        if connection.noted:
            slot[scoreboard.ACTIVITY] = time.monotonic_ns()
        self._open -= 1
        slot[scoreboard.SERVED] = self.served
        slot[scoreboard.OPEN] = self._open
        if not connection.counts:
            slot[scoreboard.IGNORED] -= 1
        if not self._open and slot[scoreboard.ORDER] != scoreboard.SERVE:
            self._tell_master()  # it may be waiting for this

    def count(self, connection: IgnorableConnection, counts: bool) -> None:
        """From now on it counts, or does so no more."""
        slot = self._slot
        if not counts:
            slot[scoreboard.ACTIVITY] = time.monotonic_ns()
            slot[scoreboard.IGNORED] += 1
            return
        slot[scoreboard.IGNORED] -= 1
        if slot[scoreboard.ORDER] == scoreboard.PART:
            self._tell_master()  # connections may be kept again
