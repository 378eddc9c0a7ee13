"""Tells systemd that the app is ready, and its state, for `systemctl status`, when the
line has changed.

READY=1 and the line travel in one datagram. Otherwise a command that waited for the one
(`systemctl start`, `spyglass wake`) could read the line of before: that it is waking.
"""

from __future__ import annotations

from spyglass.master import status_line
from spyglass.runtime.sd_daemon import TELL_AGAIN, notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.master.failing import Failing
    from spyglass.master.generations import Generations
    from spyglass.master.reload_socket import Reloads


class StatusNotes:
    """What status_line.py makes of these parts' facts. systemd has `said` already, and
    READY=1 if `ready`.
    """

    def __init__(
        self, generations: Generations, failing: Failing, reloads: Reloads, said: str, ready: bool
    ) -> None:
        self._generations = generations
        self._failing = failing
        self._reloads = reloads
        self._stopping = False
        self._said, self._ready = said, ready
        self._unsent = False  # there was no descriptor to tell systemd the latest with

    def stop(self) -> None:
        """From now on the Master is leaving."""
        self._stopping = True

    def due(self, now: float) -> list[float]:
        """Otherwise it follows the others."""
        return [now + TELL_AGAIN] if self._unsent else []

    def look(self, now: float) -> None:
        status = self.line(now)
        self._unsent = False
        if not self._ready and self._generations.ready:
            self._unsent = not notify("READY=1", f"STATUS={status}")
            self._ready = not self._unsent
        elif status != self._said:
            self._unsent = not notify(f"STATUS={status}")
        if not self._unsent:
            self._said = status

    def abandon(self) -> None:
        """Nothing in it is open."""

    def line(self, now: float) -> str:
        """Return what is true now; systemd has the line of the last look."""
        generations = self._generations
        serving = generations.serving
        if self._stopping:
            return status_line.leaving(sum(slot.open for slot in generations.slots()))
        if serving:
            slots = serving.holders()
            return status_line.awake(
                len(serving.workers),
                slots,
                serving.departed.served,
                generations.exit_at(slots, now) - now,
                reloading=bool(generations.loading),
                reload_failure=self._reloads.failure,
            )
        if self._failing.why:
            return status_line.failing(self._failing.why)
        return status_line.waking(generations.config.app, waits=generations.waits)
