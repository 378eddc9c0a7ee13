"""Keep the Master still until the client that woke the app has its answer.

A wake forks its first zygote as soon as the settings are read. From then on the Master
does two things for the answer: it recovers the listeners and orders the first worker.
All else that it is for (failing, reloads, reports, counters, the idle exit, the
watchdog, recycling, more workers) needs two dozen modules. Where there is one
processor, importing them would come before the answer; where there are more, it would
compete with the zygote for caches and memory. So Master._build() imports them when the
answer is out.

They are imported early all the same if that takes long, or if something happens that
only they can handle: a signal, a load that failed, a worker that died. A client that
waits for a quarter of a second does not notice the milliseconds.
"""

from __future__ import annotations

import select
import time

from spyglass.runtime import scoreboard
from spyglass.runtime.sd_daemon import notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.master.zygote_process import ZygoteProcess
    from spyglass.runtime.shared_memory import Shared

_LONGEST = 0.25  # seconds from the fork of the zygote
# Seconds from when a worker accepts. It may have been started without a client, or the
# first answer may take long.
_LONGEST_ACCEPTING = 0.1


def wait(zygote: ZygoteProcess, shared: Shared, signals_fd: int, status: str) -> bool:
    """Return when the first worker of `zygote` has answered, or there is something else
    to do. `signals_fd` is readable when there is a signal; it is not read.

    Return True if systemd has been told READY=1 and, with it, `status`, which is the
    line of an app that is awake (status_notes.py). That does not wait for the answer:
    a client that has it finds the service active.
    """
    cells = shared.board.slot(zygote.first_worker)
    until = zygote.started + _LONGEST
    accepting = False
    poll = select.poll()
    for fd in (signals_fd, zygote.fd, shared.poke):
        poll.register(fd, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            if fd == signals_fd or (fd == zygote.fd and zygote.has_news()):
                return accepting
            if fd == shared.poke:
                shared.hear()
        # A worker pokes when it accepts, and again after its first answer
        # (worker/warm_up.py).
        if not accepting and cells[scoreboard.STATE] == scoreboard.ACCEPTING:
            accepting = notify("READY=1", f"STATUS={status}")
            until = min(until, time.monotonic() + _LONGEST_ACCEPTING)
        if cells[scoreboard.SERVED]:
            return accepting
    return accepting
