"""Whether there is progress: of the workers, whom the Master asks, and of the Master
itself, which systemd's watchdog waits for.

A worker that is idle does nothing, so it has no pulse that could be counted. But while
it *owes* something (an answer to one of its connections or to an order; a look at who
waits in the listeners' queue) and is not known to be making a call, something must be
heard of it. If nothing is, the Master rings, and the worker's loop, should it turn,
leaves the time in its slot. Who does not even do that is ended, as is a call that takes
too long: it is stopped, or dead and its zygote has not told, or held up by something
that keeps the interpreter's lock, as a regular expression gone wild does; then nobody
in it is left who could tell of a long call.

WATCHDOG=1 is said in the Master's loop, so a Master that is stopped, or goes round in
circles, does not say it. Neither is it said while all workers are stuck and what is
done about that does not help: systemd then starts everything afresh.

Time in which the Master has not run itself (SIGSTOP, a frozen control group, a virtual
machine that stood still) counts against nobody.
"""

from __future__ import annotations

import os

from spyglass.policy.hung_workers import Pulse
from spyglass.runtime import scoreboard
from spyglass.runtime.sd_daemon import notify, somebody_waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spyglass.master.generation import Generation
    from spyglass.master.worker_records import Worker
    from spyglass.runtime.shared_memory import Shared

_TURNING = (scoreboard.ACCEPTING, scoreboard.DRAINING)


def interval(environ: Mapping[str, str]) -> float:
    """Seconds within which systemd wants to be told that all is well; 0: it does not
    ask (sd_watchdog_enabled(3)).
    """
    try:
        seconds = int(environ.get("WATCHDOG_USEC") or 0) / 1e6
    except ValueError:
        return 0.0
    return max(seconds, 0.0) if environ.get("WATCHDOG_PID") in (None, "", str(os.getpid())) else 0.0


class Watchdog:
    """`seconds` (float) as interval() gives them. `generations()` are all that there
    are, `serving()` the one that serves, or None. Times are monotonic seconds.
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
        waiting = serving is not None and somebody_waits(self._shared.listeners)
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
        """When to look again, should nothing happen until then."""
        due = [self._told + self._seconds / 2] if self._seconds else []
        return due + [
            when for pulse in self._pulses.values() for when in (pulse.ask_at, pulse.stuck_at)
        ]

    def overslept(self, now: float) -> None:
        """What lies behind may be time in which nobody has run."""
        for pulse in self._pulses.values():
            pulse.moved, pulse.asked = now, 0.0

    def abandon(self) -> None:
        """Nothing in it is open."""
