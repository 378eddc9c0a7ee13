"""One wait point: an epoll, and what to call when a descriptor is ready; and how long
to wait.
"""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


# Seconds; epoll_wait(2) and poll(2) count milliseconds in an int, which is enough for
# 24 days
LONGEST_WAIT = 86400.0


class Poller:
    """Maps descriptors to callables; `wait()` calls those of the descriptors that are
    ready.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, callback: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Call `callback` whenever `fd` is readable or has ended."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`. To be called before `fd` is closed: the kernel gives its
        number to the next file that is opened.
        """
        del self._callbacks[fd]
        self._epoll.unregister(fd)

    def wait(self, seconds: float | None) -> None:
        """Wait until a descriptor is ready, or for `seconds`, at most LONGEST_WAIT;
        call the callables of those that are.
        """
        callbacks = self._callbacks
        events = self._epoll.poll(seconds if seconds is None else min(seconds, LONGEST_WAIT))
        for fd, callback in [(fd, callbacks.get(fd)) for fd, _ in events]:
            # A callable that ran just now may have closed this one, and another file
            # may have its number by now: the event is not that one's.
            if callback is not None and callbacks.get(fd) is callback:
                callback()

    def abandon(self) -> None:
        """In a forked child. Both processes share the epoll: to unregister a descriptor
        here would be to unregister it in the parent (epoll(7)). So only close it.
        """
        self._epoll.close()


def wait_seconds(due: Iterable[float | None], looked: float, now: float) -> float | None:
    """Return the seconds to wait for the first of these times; None: until an event.

    Deadlines up to `looked` were handled by the last pass; a later one must wake us at
    once. A pass takes time, and a deadline that fell into it would otherwise never be
    handled.
    """
    ahead = [when for when in due if when is not None and when > looked]
    return max(0.0, min(ahead) - now) if ahead else None
