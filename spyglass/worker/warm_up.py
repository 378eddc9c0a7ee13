"""Import what later requests may need, once the first answer has been sent.

An app that is asleep wakes for one client, which waits for every module that is
imported on the way to its answer. So nothing is imported before that which the first
answer does not need. Nor is it left until something asks for it: an import takes a
descriptor, and when it is needed there may be none left.

What is imported here:
- slow_clients.py, to close slow clients when the worker is full;
- `threading`, where there are to be threads. In the main thread: before Python 3.13 the
  thread that imports it first is taken for the main one.

What is not: `tempfile`, `urllib.parse`, `ipaddress` and `traceback` take megabytes, and
most apps import them anyway. The first request that needs one pays for it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spyglass.log import Log
    from spyglass.worker.slow_clients import Client

_PAUSE = 1.0  # seconds until an import that failed is tried again


def _none(_connections: Iterable[Client], _now: float) -> list[Client]:
    return []


def _nothing(_fd: int) -> int:
    return 0


def _perhaps(_fd: int) -> int:
    return 1 << 30


class WarmUp:
    """What slow_clients.py offers, once it is there: `slowest`, `untaken` and `unread`.
    Until then no client is known to be slow, and any may have sent something.
    `when_done()` is called once.
    """

    def __init__(self, log: Log, threads: int) -> None:
        self.done = False
        self.when_done: Callable[[], object] = lambda: None
        self.slowest: Callable[[Iterable[Client], float], list[Client]] = _none
        self.untaken: Callable[[int], int] = _nothing
        self.unread: Callable[[int], int] = _perhaps
        self._log = log
        self._threads = threads
        self._again_at = 0.0  # monotonic
        self._told = False  # that it failed

    def run(self, now: float) -> None:
        """Import all of it, or try again a second later. `now` is monotonic."""
        if self.done or now < self._again_at:
            return
        try:
            # In here, since the first answer is not to wait for them
            from spyglass.worker import slow_clients

            self.slowest, self.untaken = slow_clients.slowest, slow_clients.untaken
            self.unread = slow_clients.unread
            if self._threads > 1:
                import threading  # noqa: F401
        except Exception as error:
            # Of whatever class: the app's code may stand behind the import system, and
            # forbid imports after the start. A worker serves without these, too.
            self._again_at = now + _PAUSE
            if not self._told:
                self._told = True
                self._log.error(f"cannot import what requests may need: {error}; trying again")
            return
        self.done = True
        self.when_done()
