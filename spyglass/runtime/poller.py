"""One wait point: an epoll and what to do when something behind one of its doors
stirs.
"""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


# Seconds; epoll_wait(2) and poll(2) count milliseconds in an int, which is enough for
# 24 days
LONGEST_WAIT = 86400.0


class Doors:
    """Maps descriptors to callables; `wait()` calls those of the descriptors that are
    ready.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._doors: dict[int, Callable[[], None]] = {}

    def open(self, fd: int, callback: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Call `callback` whenever `fd` is readable or has ended."""
        self._doors[fd] = callback
        self._epoll.register(fd, events)

    def close(self, fd: int) -> None:
        """Look no more. To be called before the descriptor is closed: its number may be
        somebody else's right after.
        """
        del self._doors[fd]
        self._epoll.unregister(fd)

    def wait(self, seconds: float | None) -> None:
        """Wait until a door stirs, or for `seconds`, but no longer than
        LONGEST_WAIT.
        """
        for fd, _ in self._epoll.poll(seconds if seconds is None else min(seconds, LONGEST_WAIT)):
            # What was called before may have closed this one.
            door = self._doors.get(fd)
            if door is not None:
                door()

    def abandon(self) -> None:
        """In a forked child. The epoll is shared with the parent: to unregister here
        would be to unregister there (epoll(7)).
        """
        self._epoll.close()


def wait_seconds(due: Iterable[float | None], looked: float, now: float) -> float | None:
    """Seconds to wait for the first of these times; None: only an event can change
    anything.

    What had come at the last look, at `looked`, was looked at and waits for an event.
    What has come since then was not, and is not waited for: a look takes some time, and
    a time that fell into it would never be looked at.
    """
    ahead = [when for when in due if when is not None and when > looked]
    return max(0.0, min(ahead) - now) if ahead else None
