"""Find the slow clients, which give way to others when the worker is full or the disk
space for bodies is used up.

A client that sends its body, or reads its response, a byte now and then is not closed
as long as there is room: it may be far away. But clients that take all places in this
way lock out all others for a few bytes a minute ("slow POST", "slow read"). So when
room is needed, the slowest are closed.

A client is slow if it has moved less than SLOW bytes a second for GRACE seconds or
longer. The time before the first look does not count: a burst long ago is no credit. A
fast client is never closed, however full the worker is: then others wait. Nor is one
that waits for the worker at that moment: then the worker had no time for it, or was
stopped (SIGSTOP).
"""

from __future__ import annotations

import fcntl
import sys
import termios

from spyglass.runtime.timers import BODY, HEAD, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from spyglass.http11.request_body import Body

    class Client(Protocol):
        """A connection: what it waits for (`deadline`, a kind, passes at `due`), and
        what was `seen` of it here.
        """

        deadline: int | None
        due: float
        seen: Seen | None

        @property
        def body(self) -> Body | None: ...
        def progress(self) -> int: ...
        def give_way(self) -> bool: ...


SLOW = 4 << 10  # bytes a second; an old modem is faster
GRACE = 3.0  # seconds; a lost packet or two, and a handover between two cells, take less


class Seen:
    """What a connection was found doing: the `kind` of its deadline, `since` when, and
    its `progress` (bytes) by then.
    """

    __slots__ = ("kind", "progress", "since")

    def __init__(self, kind: int, since: float, progress: int) -> None:
        self.kind = kind
        self.since = since
        self.progress = progress


def slowest(connections: Iterable[Client], now: float) -> list[Client]:
    """Return the slow ones of `connections`, the slowest first. What the others have
    moved by now is noted for the next time.
    """
    found = [
        (rate, connection)
        for connection in connections
        if (rate := _rate(connection, now)) is not None
    ]
    return [connection for _, connection in sorted(found, key=lambda each: each[0])]


def _rate(connection: Client, now: float) -> float | None:
    """Return the bytes a second that a slow client moves; None for another client."""
    kind = connection.deadline
    if kind not in (HEAD, BODY, WRITE):
        return None  # it waits for us, or is idle
    progress = connection.progress()
    seen = connection.seen
    if (
        seen is None or seen.kind != kind or progress < seen.progress
    ):  # less: that was another request
        connection.seen = Seen(kind, now, progress)
        return None
    seconds = now - seen.since
    if seconds < GRACE:
        return None
    rate = (progress - seen.progress) / seconds
    if rate < SLOW:
        return rate
    connection.seen = Seen(kind, now, progress)
    return None


def untaken(fd: int) -> int:
    """Return how many bytes that we have sent are still in the kernel, for the peer has
    not taken them (SIOCOUTQ, tcp(7)).
    """
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


_size = bytearray(4)  # the leader's
_sizes = memoryview(_size).cast("i")


def unread(fd: int) -> int:
    """Return how many bytes of the peer's are still in the kernel (SIOCINQ, tcp(7)).

    To receive and find nothing would tell that, too. But that is an exception, and
    costs ten times as much.
    """
    try:
        fcntl.ioctl(fd, termios.FIONREAD, _size)
    except OSError:
        return 0
    return _sizes[0]
