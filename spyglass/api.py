"""What an app may ask of the server it runs in: `stay_awake()` and `last_wake()`.

    with spyglass.stay_awake("nightly import"):
        ...

    @spyglass.stay_awake()
    def rebuild_index(): ...

    wake = spyglass.last_wake()
    if wake is not None:
        log.info("woken at %s, ready after %.0f ms", wake.listener, wake.seconds * 1000)

Both are answered from one object, `process`. The zygote and each worker tell it right
after their fork which slot of the scoreboard is theirs. Under another server, in tests
and at a prompt it is told nothing: then a hold has no effect and there is no wake.

Each wake imports this file, so it has only what the zygote and the workers themselves
need. hold.py and wake_record.py come when an app asks.
"""

from __future__ import annotations

import os
import time

from spyglass.runtime.scoreboard import ACTIVITY, DRAINING, HOLDS, STATE, write_reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.config.settings import Config
    from spyglass.hold import Hold
    from spyglass.runtime.shared_memory import Shared
    from spyglass.wake_record import Wake


def stay_awake(reason: str = "") -> Hold:
    """Return a hold on the idle exit, a context manager and decorator.

    `reason` (str) is shown in the status line, at most 64 bytes of it. A hold may be
    nested, used again, and shared by threads. A decorated generator holds from its
    first `next()` to its end, a decorated coroutine while it runs. A stop or a reload
    waits for holds, too, for `graceful_timeout` at most. Raise TypeError if it is used
    as a decorator without its parentheses, or for an asynchronous generator.
    """
    if not isinstance(reason, str):
        raise TypeError(
            "the reason must be text; as a decorator it is @stay_awake(), with parentheses"
        )
    from spyglass.hold import Hold  # only apps that hold pay for it

    return Hold(process, reason)


def last_wake() -> Wake | None:
    """Return the wake that this process belongs to.

    None where no Spyglass serves the app, while an app is imported for the first time
    (no worker has accepted yet), and in processes that the app forks itself. A worker
    that replaced another, and a generation that was reloaded, belong to the wake of
    their Master.
    """
    if process.serves is None or not process.has_slot:
        return None
    from spyglass.wake_record import wake_of  # only apps that ask pay for it

    return wake_of(*process.serves)


class Process:
    """What this process knows of its server, and the holds that the app has taken here.

    A hold is a number in this process's slot of the scoreboard: a worker's, or the
    zygote's, where the threads live that a preloaded app started at import. Taking and
    ending one are a few stores to shared memory. The Master reads them when it
    considers the idle exit.

    There is no lock, for a hold may be ended anywhere, even by the garbage collector in
    the middle of taking another: a lock would deadlock there.
    """

    __slots__ = ("_cells", "_has_reasons", "_reasons", "_ring", "serves")

    def __init__(self) -> None:
        self.serves: tuple[Shared, Config] | None = None
        self.forget()

    def forget(self) -> None:
        """Start with no slot and no holds, as each forked child must.

        The slot is its parent's, and the threads that held did not come along
        (fork(2)). A child of the app's own stays without one: if it was killed while it
        held, nothing could end the hold. A zygote or worker claims a slot next.
        """
        self._cells: memoryview[int] | None = None
        self._ring: Callable[[], None] | None = None
        self._reasons: dict[object, str] = {}  # of each hold, by its token
        self._has_reasons = False  # at least one hold had a reason

    def claim(self, cells: memoryview[int], ring: Callable[[], None]) -> None:
        """Take the slot `cells` as this process's own. `ring` wakes its loop."""
        self._cells, self._ring = cells, ring
        self._write()

    @property
    def has_slot(self) -> bool:
        return self._cells is not None

    def take(self, token: object, reason: str) -> None:
        """Add the hold `token`."""
        self._reasons[token] = reason
        self._has_reasons = self._has_reasons or bool(reason)
        self._write()

    def end(self, token: object) -> None:
        """Remove the hold `token`; one from before a fork means nothing here."""
        if token not in self._reasons:
            return
        cells = self._cells
        if cells is not None:
            # Before the number falls: else the Master could see neither the hold nor
            # that there was one a moment ago.
            cells[ACTIVITY] = time.monotonic_ns()
        del self._reasons[token]
        self._write()

    def _write(self) -> None:
        """Write the number of holds and the latest reason into the slot."""
        cells = self._cells
        if cells is None:
            return
        # Several threads may be in here. Each checks after its store, so the last
        # store is always of the current number.
        count = -1
        while count != len(self._reasons):
            count = cells[HOLDS] = len(self._reasons)
        if self._has_reasons:
            self._write_reason(cells)
        if not count and cells[STATE] == DRAINING and self._ring is not None:
            self._ring()  # a draining worker may be waiting for this alone

    def _write_reason(self, cells: memoryview[int]) -> None:
        written = None
        while (reasons := list(self._reasons.values())) != written:
            write_reason(cells, next((reason for reason in reversed(reasons) if reason), ""))
            written = reasons


process = Process()
os.register_at_fork(after_in_child=process.forget)
