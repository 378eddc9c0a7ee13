"""Detects workers that hang, and tells systemd's watchdog that the Master does not.

An idle worker does nothing, so it has no pulse that could be counted. But while it
*owes* something (an answer to a connection or to an order, a look at the listeners'
queue) and is not known to be in a call, it must show a sign of life. If it shows none,
the Master rings the bell, and a worker with a loop that turns writes the time into its
slot. One that does not is killed, as is a call that takes too long. Such a worker is
stopped, or it is dead and its zygote has not reported it, or something holds the
interpreter's lock, as a regular expression with catastrophic backtracking does. In that
case no thread of it can even note that a call is long.

WATCHDOG=1 is sent from the Master's loop, so a Master that is stopped, or in an endless
loop, does not send it. Nor is it sent while all workers hang and killing them does not
help: systemd then restarts the service.

Time in which the Master itself did not run (SIGSTOP, a frozen control group, a virtual
machine that was paused) counts against no process.
"""

from __future__ import annotations

import os

from spyglass.policy.hung_workers import Pulse
from spyglass.runtime import scoreboard
from spyglass.runtime.sd_daemon import has_pending, notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spyglass.master.generation import Generation
    from spyglass.master.worker_records import Worker
    from spyglass.runtime.shared_memory import Shared

_TURNING = (scoreboard.ACCEPTING, scoreboard.DRAINING)


def interval(environ: Mapping[str, str]) -> float:
    """Return the seconds within which systemd expects WATCHDOG=1; 0: it does not
    (sd_watchdog_enabled(3)).
    """
    try:
        seconds = int(environ.get("WATCHDOG_USEC") or 0) / 1e6
    except ValueError:
        return 0.0
    return max(seconds, 0.0) if environ.get("WATCHDOG_PID") in (None, "", str(os.getpid())) else 0.0


class Watchdog:
    """`seconds` (float) as interval() returns them. `generations()` returns all
    generations, `serving()` the one that serves, or None. Times are monotonic seconds.
    """

    def __init__(
        self,
        seconds: float,
        shared: Shared,
        generations: Callable[[], list[Generation]],
        serving: Callable[[], Generation | None],
    ) -> None:
        self._seconds = seconds
        self._shared = shared
        self._generations = generations
        self._serving = serving
        self._told = float("-inf")
        self._pulses: dict[Worker, Pulse] = {}

    def look(self, now: float) -> None:
        """Ask workers for a sign of life, kill those that give none, tell systemd."""
        serving = self._serving()
        pulses: dict[Worker, Pulse] = {}
        asking = False
        waiting = serving is not None and has_pending(self._shared.listeners)
        for generation in self._generations():
            timeout = generation.config.request_timeout
            for worker in generation.workers.values():
                slot = worker.slot()
                if slot.state not in _TURNING or worker.kill_at:
                    continue
                owes = slot.state == scoreboard.ACCEPTING and (
                    waiting or slot.answer != worker.cells[scoreboard.ORDER]
                )
                pulse = pulses[worker] = self._pulses.get(worker) or Pulse(now)
                pulse.feel(slot, owes, timeout, now)
                if now >= pulse.stuck_at:
                    generation.hung.abort(
                        worker, now, f"unresponsive for {now - pulse.moved:.0f} s"
                    )
                elif now >= pulse.ask_at:
                    asking = True
                    pulse.asked = now
                    pulse.feel(slot, owes, timeout, now)
        self._pulses = pulses
        if asking:
            self._shared.ring()
        self._tell(serving, now)

    def _tell(self, serving: Generation | None, now: float) -> None:
        # Half of the time is usual (sd_watchdog_enabled(3)); if something else has
        # woken us in good time, it need not be a wake of its own.
        if self._seconds and now >= self._told + self._seconds / 4 and not self._all_stuck(serving):
            self._told = now
            notify("WATCHDOG=1")

    def _all_stuck(self, serving: Generation | None) -> bool:
        workers = serving.workers.values() if serving is not None else ()
        return bool(workers) and all(worker.kill_at for worker in workers)

    def due(self, _now: float) -> list[float]:
        """Return when to look again, should nothing happen until then."""
        due = [self._told + self._seconds / 2] if self._seconds else []
        return due + [
            when for pulse in self._pulses.values() for when in (pulse.ask_at, pulse.stuck_at)
        ]

    def overslept(self, now: float) -> None:
        """Before `now` no process may have run: every pulse starts over."""
        for pulse in self._pulses.values():
            pulse.moved, pulse.asked = now, 0.0

    def abandon(self) -> None:
        """Nothing in it is open."""
