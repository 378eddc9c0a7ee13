"""Choose the clients that are so slow that others may have their place, or the disk
space of their body.

A client that sends its body, or reads its response, a byte now and then is not closed
as long as there is room: it may be far away. But clients that hold all places in this
way lock out all others for a few bytes a minute ("slow POST", "slow read"). So when
room is needed, the slowest are closed.

A client is slow if it has moved less than SLOW bytes a second for GRACE seconds or
longer. The time before the first look does not count: what was sent at once, long ago,
is no credit. A fast client is never closed, however full the worker is: then others
wait. Nor is one that waits for the worker at that moment: then the worker had no time
for it, or stood still (SIGSTOP).
"""

from __future__ import annotations

import fcntl
import struct
import termios

from spyglass.runtime.timers import BODY, HEAD, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spyglass.worker.connection import Connection

SLOW = 4 << 10  # bytes a second; an old modem is faster
GRACE = 3.0  # seconds; a lost packet or two, and a handover between two cells, take less


class Seen:
    """What a connection was found doing: `kind` (of deadline) of what it is waited for,
    `since` when, and its `progress` by then.
    """

    __slots__ = ("kind", "progress", "since")

    def __init__(self, kind: int, since: float, progress: int) -> None:
        self.kind = kind
        self.since = since
        self.progress = progress


def slowest(connections: Iterable[Connection], now: float) -> list[Connection]:
    """Those of `connections` that are slow, the slowest first. The others are looked
    at, to be known the next time.
    """
    found = [
        (rate, connection)
        for connection in connections
        if (rate := _rate(connection, now)) is not None
    ]
    return [connection for _, connection in sorted(found, key=lambda each: each[0])]


def _rate(connection: Connection, now: float) -> float | None:
    """Bytes a second, if that is slow; else None."""
    kind = connection.deadline
    if kind not in (HEAD, BODY, WRITE):
        return None  # it waits for us, or for another time
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
    """Bytes that are sent as far as we are concerned, and lie in the kernel because the
    peer has not taken them (SIOCOUTQ, tcp(7)).
    """
    try:
        (size,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return 0
    return int(size)
