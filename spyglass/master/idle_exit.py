"""Being quiet: whether it is time to leave, and the handshake in which nobody is lost
to that.

What waits in the kernel's queue is safe: systemd polls it the moment we are dead. What
a worker has accepted is ours. So: stop accepting (quiesce), ask what is held, look at
the queue again, and only then leave. While the workers look away from the listeners the
Master watches them: whoever comes makes it look again at once, and everybody stays.
"""

from __future__ import annotations

from spyglass.policy import idle
from spyglass.runtime import scoreboard
from spyglass.runtime.sd_daemon import somebody_waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.log import Log
    from spyglass.master.generation import Generation
    from spyglass.policy.worker_slot import Slot
    from spyglass.runtime.sd_daemon import Listener

# Seconds for whoever came in the moment of leaving to say what they want, which may be
# nothing that counts
_WHO = 0.1


class Quiet:
    """Of the generation that serves. `order` (int, see scoreboard.py) is the one that
    its workers have; `watch(bool)` has the Master watch the listeners, or not;
    `prepare()` is called when it is time to leave, while everybody still accepts: it
    may take as long as it likes.
    """

    def __init__(
        self,
        listeners: list[Listener],
        log: Log,
        watch: Callable[[bool], None],
        prepare: Callable[[], None],
    ) -> None:
        self.order = scoreboard.SERVE
        self.hear_until = 0.0  # who came in the moment of leaving is heard before another try
        self._orders = scoreboard.HOLD
        self._since = 0.0  # quiet is counted from here at the earliest
        self._listeners = listeners
        self._log = log
        self._watch = watch
        self._prepare = prepare

    def begin(self, now: float) -> None:
        """Another generation serves from now on."""
        self._since, self.order = now, scoreboard.SERVE
        self._watch(False)

    def resume(self, generation: Generation) -> None:
        """There is a reason to stay: whoever has stopped accepting goes on."""
        if self.order != scoreboard.SERVE:
            self._give(generation, scoreboard.SERVE)

    def leave_at(self, generation: Generation, slots: list[Slot], now: float) -> float | None:
        """When it will be time to leave if nobody comes (monotonic seconds); None for
        never.
        """
        return idle.leave_at(
            slots,
            max(self._since, generation.departed.activity),
            now,
            generation.config.idle_timeout,
        )

    def over(
        self, generation: Generation, slots: list[Slot], time_to_leave: bool, now: float
    ) -> bool:
        """Take the next step; True when nobody accepts any more and nothing is held:
        who connects from then on is for the next Master.
        """
        if self.order > scoreboard.SERVE:
            return self._quiesced(generation, slots, time_to_leave, now)
        if not time_to_leave:
            if self.order == scoreboard.PART:
                self._give(generation, scoreboard.SERVE)
        elif now >= self.hear_until and not (
            generation.config.idle_ignore and self._somebody_parts(generation)
        ):
            self._prepare()
            self._orders += 1
            self._give(generation, self._orders)
        return False

    def _quiesced(
        self, generation: Generation, slots: list[Slot], time_to_leave: bool, now: float
    ) -> bool:
        if not time_to_leave or somebody_waits(self._listeners) or any(slot.open for slot in slots):
            self._log.debug("somebody came: staying")
            if time_to_leave and generation.config.idle_ignore:
                # They may be of those who do not count: how long it has been quiet
                # remains as it is.
                self.hear_until = now + _WHO
                self._give(generation, scoreboard.PART)
            else:
                self._since = now
                self._give(generation, scoreboard.SERVE)
            return False
        return idle.quiesced(generation.slots(), self.order) and not any(
            slot.open or slot.busy for slot in generation.holders()
        )

    def _somebody_parts(self, generation: Generation) -> bool:
        """True while connections are open, though none puts off the leaving: they are
        not kept for long, and the last to go tells.
        """
        if self.order != scoreboard.PART and any(slot.open for slot in generation.slots()):
            self._give(generation, scoreboard.PART)
        return any(
            slot.open for slot in generation.slots()
        )  # once more: who went before it could read the order has told nobody

    def _give(self, generation: Generation, order: int) -> None:
        self.order = order
        generation.order(order)
        self._watch(order > scoreboard.SERVE)
