"""How an idle app exits without losing a connection: the Master's half of the
handshake.

The danger is a client that connects at the very moment of the decision. Where it is
then makes all the difference:

- In the kernel's queue of a listener it is safe. systemd holds the same socket, polls
  it again as soon as the Master has exited, and starts the next Master for it.
- Accepted by a worker it is ours. No other process can answer it, so exiting now would
  reset it.

Looking at the workers' counts alone cannot tell: a worker may accept between the look
and the exit. So the workers are stopped first, and looked at then.

1. *Quiesce.* Each worker gets an order with a new number. It takes the listeners out of
   its epoll, and only then copies the number into ANSWER (scoreboard.py). From that
   moment on its OPEN can only fall. The Master watches the listeners meanwhile.
2. *Look* at all workers: every one has answered, and none holds a connection. An older
   answer does not count, which is why each attempt has a number of its own.
3. *Look* at the queues once more. A client there means that the app is not idle: the
   workers get the order to serve, and the client waits a millisecond longer.
4. *Exit.* A client that connects from now on waits in the queue, for the next Master.

A worker writes ACTIVITY before it lowers OPEN, and the Master reads them in the
opposite order. So it never sees a connection gone without the time at which that
happened.

With `idle_ignore` some connections do not keep the app awake, such as a probe's with
keep-alive. Those are not cut. The order PART lets workers serve on but close each
connection after its answer; when the last is closed, the handshake begins.
"""

from __future__ import annotations

from spyglass.policy import idle
from spyglass.runtime import scoreboard
from spyglass.runtime.sd_daemon import has_pending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.log import Log
    from spyglass.master.generation import Generation
    from spyglass.policy.worker_slot import Slot
    from spyglass.runtime.sd_daemon import Listener

# Seconds in which a client that came during the handshake sends its request. That may
# be one that does not count (idle_ignore).
_HEAR = 0.1


class IdleExit:
    """Of the generation that serves.

    `order` (int, see scoreboard.py) is the one that its workers have. `watch(bool)` has
    the Master watch the listeners, or not. `prepare()` is called before each attempt,
    while the workers still accept: it may take its time.
    """

    def __init__(
        self,
        listeners: list[Listener],
        log: Log,
        watch: Callable[[bool], None],
        prepare: Callable[[], None],
    ) -> None:
        self.order = scoreboard.SERVE
        self.hear_until = 0.0  # monotonic; no new attempt before that
        self._attempt = scoreboard.HOLD  # the order of the latest attempt
        self._since = 0.0  # idle time counts from here at the earliest
        self._listeners = listeners
        self._log = log
        self._watch = watch
        self._prepare = prepare

    def begin(self, now: float) -> None:
        """Another generation serves from now on."""
        self._since, self.order = now, scoreboard.SERVE
        self._watch(False)

    def count_from(self, when: float) -> None:
        """A client of a generation that has gone was there until `when`."""
        self._since = max(self._since, when)

    def cancel(self, generation: Generation) -> None:
        """There is a reason to stay: have its workers accept again."""
        if self.order != scoreboard.SERVE:
            self._give(generation, scoreboard.SERVE)

    def exit_at(self, generation: Generation, slots: list[Slot], now: float) -> float:
        """Return when the app may exit if no client comes; inf for never."""
        since = max(self._since, generation.departed.activity)
        return idle.exit_at(slots, since, now, generation.config.idle_timeout)

    def step(self, generation: Generation, slots: list[Slot], timed_out: bool, now: float) -> bool:
        """Take the next step. Return True once no worker accepts and none holds a
        connection: what connects from then on is for the next Master.

        `timed_out` (bool): the app has been idle for its idle_timeout.
        """
        if self.order > scoreboard.SERVE:
            return self._decide(generation, slots, timed_out, now)
        if not timed_out:
            if self.order == scoreboard.PART:
                self._give(generation, scoreboard.SERVE)
        elif now >= self.hear_until and not (
            generation.config.idle_ignore and self._closing_ignored(generation)
        ):
            self._prepare()
            self._attempt += 1
            self._give(generation, self._attempt)
        return False

    def _decide(
        self, generation: Generation, slots: list[Slot], timed_out: bool, now: float
    ) -> bool:
        if not timed_out or has_pending(self._listeners) or any(slot.open for slot in slots):
            self._log.debug("a client connected: staying")
            if timed_out and generation.config.idle_ignore:
                # Its request may be one that does not count: the idle time goes on.
                self.hear_until = now + _HEAR
                self._give(generation, scoreboard.PART)
            else:
                self._since = now
                self._give(generation, scoreboard.SERVE)
            return False
        # The answers first, then the counts, read afresh: a count that was read before
        # the answer may be too low.
        return idle.quiesced(generation.slots(), self.order) and not any(
            slot.open or slot.busy for slot in generation.holders()
        )

    def _closing_ignored(self, generation: Generation) -> bool:
        """Return True while connections are open, though none keeps the app awake. They
        are closed after their next answer, and the last one wakes the Master.
        """
        if self.order != scoreboard.PART and any(slot.open for slot in generation.slots()):
            self._give(generation, scoreboard.PART)
        # Read again: a connection that was closed before its worker could see the order
        # has not woken the Master.
        return any(slot.open for slot in generation.slots())

    def _give(self, generation: Generation, order: int) -> None:
        self.order = order
        generation.order(order)
        self._watch(order > scoreboard.SERVE)
