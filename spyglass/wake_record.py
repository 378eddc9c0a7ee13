"""The record of a wake, which last_wake() returns: when the app was woken, by which
listener, and how long that took.

Only two numbers are stored for it, once in the life of a Master (shared_memory.py and
the scoreboard). The kernel knows the rest. So a call of last_wake() costs some ten
microseconds and a read from /proc, and no request pays for it.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.config.settings import Config
    from spyglass.runtime.shared_memory import Shared


class Wake:
    """How the app was woken.

    `name` (str): the app's name, as in /etc/spyglass/NAME.toml; "" if it has none.
    `listener` (str): where a client waited when the Master began, "127.0.0.1:8000" or
    "unix:/run/spyglass/blog.sock"; "" if none did, because an administrator started the
    app, or systemd restarted it. `at` (float): when the Master's process was made, by
    the wall clock (time.time()); Linux notes that to a hundredth of a second.
    `seconds` (float): from then until the first worker could accept. What systemd does
    in this process (its sandbox) is included; the few milliseconds before are not.
    """

    __slots__ = ("at", "listener", "name", "seconds")

    def __init__(self, name: str, listener: str, at: float, seconds: float) -> None:
        self.name = name
        self.listener = listener
        self.at = at
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"Wake(name={self.name!r}, listener={self.listener!r}, at={self.at:.2f}, seconds={self.seconds:.2f})"


def wake_of(shared: Shared, config: Config) -> Wake | None:
    """Return the wake of the Master that made `shared`; None if no worker has accepted
    yet.
    """
    first = shared.board.accepting_since
    if not first:
        return None
    started = began(shared)
    return Wake(
        _name_in(config.file or ""),
        str(shared.woken_by) if shared.woken_by is not None else "",
        _ahead(time.time) + started,
        max(0.0, first / 1e9 - started),
    )


def _name_in(file: str) -> str:
    """Return NAME for /etc/spyglass/NAME.toml, "" for any other file."""
    from spyglass.config.settings import DIRECTORY

    folder, name = os.path.split(file)
    return name.removesuffix(".toml") if folder == DIRECTORY else ""


def began(shared: Shared) -> float:
    """Return when the Master's process was made (monotonic seconds); where that cannot
    be read, when its first line of ours ran.
    """
    try:
        with open(f"/proc/{shared.master}/stat", "rb") as stream:
            # The program's name, in brackets, may contain anything; starttime is the
            # twentieth word after it (proc_pid_stat(5)).
            ticks = int(stream.read().rpartition(b")")[2].split()[19])
        # starttime counts from the boot and includes time in suspend; the monotonic
        # clock does not.
        started = ticks / os.sysconf("SC_CLK_TCK") - _ahead(
            lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
        )
    except (OSError, ValueError, IndexError):
        return shared.began
    return min(shared.began, started)


def _ahead(clock: Callable[[], float]) -> float:
    """Return how many seconds `clock` is ahead of the monotonic clock. Read both again
    if this process was interrupted between the two.
    """
    for _ in range(10):
        before, there, after = time.monotonic(), clock(), time.monotonic()
        if after - before < 0.001:
            break
    return there - (before + after) / 2
