"""A histogram of durations: how many took how long. Pure.

Its bounds are fixed and few, so that the histograms of many workers, and those of each
time an app was awake, can be added up. They are those of Prometheus' clients, and one
below for apps that answer in less than a millisecond.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Seconds, the longest time that a bucket counts; one more bucket counts all that is
# longer. The worker counts in as many cells (runtime/scoreboard.py).
REQUESTS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WAKES = (0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Durations:
    """How many durations are in each bucket between `bounds` (seconds), and their sum,
    `seconds` (float).
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.seconds = 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Durations) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def add(self, seconds: float) -> None:
        """Count one that took so long."""
        self.counts[sum(seconds > bound for bound in self.bounds)] += 1
        self.seconds += seconds

    def include(self, counts: Sequence[int], seconds: float) -> None:
        """Add those of another histogram with the same bounds."""
        self.counts = [old + new for old, new in zip(self.counts, counts, strict=True)]
        self.seconds += seconds

    def text(self) -> str:
        """Return it in one line: the sum, and each bucket that is not empty."""
        pairs = zip((*self.bounds, "inf"), self.counts, strict=True)
        return " ".join(
            [f"{self.seconds:.6f}", *(f"{key}={count}" for key, count in pairs if count)]
        )
