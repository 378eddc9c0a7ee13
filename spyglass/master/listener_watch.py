"""Whether the Master itself waits for connections on the listeners.

It does while no worker accepts: when the app cannot be loaded, and for the moment in
which an idle app decides whether to exit.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.runtime.poller import Poller
    from spyglass.runtime.sd_daemon import Listener


class ListenerWatch:
    """`ready()` is called while a connection waits on any of `listeners` and `on` is
    set.
    """

    def __init__(
        self, listeners: list[Listener], poller: Poller, ready: Callable[[], None]
    ) -> None:
        self.on = False
        self.listeners = listeners
        self._poller = poller
        self._ready = ready

    def set(self, on: bool) -> None:
        if on == self.on:
            return
        self.on = on
        for listener in self.listeners:
            if on:
                self._poller.watch(listener.fd, self._ready)
            else:
                self._poller.unwatch(listener.fd)
