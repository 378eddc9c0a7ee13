"""Workers that outlive their zygote.

The zygote is their parent and reaps them. When it dies first, init adopts them, and
waitpid(2) in the Master no longer reports their end. A pidfd does: it becomes readable
when its process exits (pidfd_open(2)).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.master.worker_records import Worker
    from spyglass.runtime.poller import Poller

_LOOK_AGAIN = 0.5  # seconds until the next attempt to get a descriptor
_NEVER = float("inf")


class Orphans:
    """Watches the workers of a dead zygote by pidfd; `ended(worker)` is called for each
    that has exited.

    A worker for which no descriptor can be had is tried again later, not given up. It
    could not be ordered to stop otherwise: it would serve old code for as long as the
    Master lives, in a slot that belongs to another worker.
    """

    def __init__(self, poller: Poller, ended: Callable[[Worker], object]) -> None:
        self._poller = poller
        self._ended = ended
        self._retry_at = _NEVER  # monotonic seconds
        self._unwatched: list[Worker] = []
        self._fds: set[int] = set()

    def adopt(self, worker: Worker, now: float) -> None:
        """Watch `worker` from now on."""
        try:
            fd = os.pidfd_open(worker.pid)
        except ProcessLookupError:
            self._ended(worker)
            return
        except OSError:
            self._unwatched.append(worker)
            self._retry_at = now + _LOOK_AGAIN
            return

        def readable() -> None:
            self._poller.unwatch(fd)
            self._fds.remove(fd)
            os.close(fd)
            self._ended(worker)

        self._fds.add(fd)
        self._poller.watch(fd, readable)

    def due(self, _now: float) -> list[float]:
        return [self._retry_at]

    def look(self, now: float) -> None:
        if now >= self._retry_at:
            unwatched, self._unwatched, self._retry_at = self._unwatched, [], _NEVER
            for worker in unwatched:
                self.adopt(worker, now)

    def abandon(self) -> None:
        for fd in self._fds:
            os.close(fd)
