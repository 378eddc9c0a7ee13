"""`spyglass.last_wake()`: what an app can know of how it came to be awake.

    wake = spyglass.last_wake()
    if wake is not None:
        log.info("woken by a visitor to %s, ready after %.0f ms", wake.listener,
        wake.seconds * 1000)

Nothing is noted for it but two numbers, once in the life of a Master; the rest the
kernel knows. So who asks pays for it, some ten microseconds and a look into /proc, and
no request does.
"""

from __future__ import annotations

import os
import time

import spyglass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.runtime.shared_memory import Shared


class Wake:
    """How the app was woken.

    `name` (str): what the app is called, as in /etc/spyglass/NAME.toml; "" for one that
    has no name. `listener` (str): where somebody waited when the Master began,
    "127.0.0.1:8000" or "unix:/run/spyglass/blog.sock"; "" when nobody did, because an
    administrator, or systemd after an accident, has started it. `at` (float): when the
    Master's process was made, by the wall clock (time.time()). `seconds` (float): from
    there until the first worker could accept. Linux notes the former to a hundredth of
    a second. What systemd does in this process, its sandbox, is a part of it; what it
    does before, a few milliseconds, is not.
    """

    __slots__ = ("at", "listener", "name", "seconds")

    def __init__(self, name: str, listener: str, at: float, seconds: float) -> None:
        self.name = name
        self.listener = listener
        self.at = at
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"Wake(name={self.name!r}, listener={self.listener!r}, at={self.at:.2f}, seconds={self.seconds:.2f})"


def last_wake() -> Wake | None:
    """The wake to which this process belongs; None where no Spyglass serves the app, or
    no worker has accepted yet.

    A worker that takes the place of another, and a generation that was reloaded, belong
    to the wake of their Master. None while an app is imported for the first time, and
    in processes that it forks itself.
    """
    if spyglass._serving is None or spyglass._slot is None or spyglass._slot[0] != os.getpid():
        return None
    shared, config = spyglass._serving
    first = shared.board.accepting_since
    if not first:
        return None
    started = began(shared)
    name = os.path.basename(config.file or "")
    return Wake(
        name.removesuffix(".toml")
        if config.file and os.path.dirname(config.file) == _directory()
        else "",
        str(shared.woken_by) if shared.woken_by is not None else "",
        _ahead(time.time) + started,
        max(0.0, first / 1e9 - started),
    )


def _directory() -> str:
    from spyglass.config.settings import DIRECTORY

    return DIRECTORY


def began(shared: Shared) -> float:
    """When the Master's process was made (monotonic seconds); where that cannot be
    read, when its first line of ours ran.
    """
    try:
        with open(f"/proc/{shared.master}/stat", "rb") as stream:
            # The name of the program, in brackets, may hold anything; starttime is the
            # twentieth field behind it (proc_pid_stat(5)).
            ticks = int(stream.read().rpartition(b")")[2].split()[19])
        # It is counted since the boot, and goes on while the machine is suspended; all
        # of ours does not.
        started = ticks / os.sysconf("SC_CLK_TCK") - _ahead(
            lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
        )
    except (OSError, ValueError, IndexError):
        return shared.began
    return min(shared.began, started)


def _ahead(clock: Callable[[], float]) -> float:
    """By how many seconds `clock` is ahead of the monotonic one; looked at again if
    much has passed between two looks.
    """
    for _ in range(10):
        before, there, after = time.monotonic(), clock(), time.monotonic()
        if after - before < 0.001:
            break
    return there - (before + after) / 2
