"""What the Master's loop asks of each of its parts."""

from __future__ import annotations

from typing import Protocol


class Collaborator(Protocol):
    """A part of the Master with state and deadlines of its own.

    Times are monotonic seconds (float).
    """

    def due(self, now: float) -> list[float]:
        """Return when `look()` is to be called next, should no event come before; inf
        for never.
        """

    def look(self, now: float) -> None:
        """Do what is due. Called in each turn of the loop, after each event."""

    def abandon(self) -> None:
        """In a forked child: close what belongs to the Master, and tell no client."""
