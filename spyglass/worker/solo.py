"""Run the app where `threads` is 1: the one thread leads, and makes every call itself.

It has the interface of Crew (leader_followers.py) and takes its place.
"""

from __future__ import annotations

from time import monotonic_ns

from spyglass.gateway.wsgi import CutOff
from spyglass.runtime import scoreboard
from spyglass.runtime.fast_imports import deque
from spyglass.worker.leader_followers import bare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from spyglass.gateway.wsgi import Exchange
    from spyglass.worker.leader_followers import Piece


class Solo:
    """A crew of one thread, which has no lead to lose."""

    bell = -1
    crowded = False
    ample = False

    def __init__(self, slot: memoryview[int]) -> None:
        self._slot = slot
        self.returned: deque[tuple[Exchange, Piece]] = deque()

    def run(self, lead: Callable[[int | None], None]) -> None:
        """Lead until all is done."""
        lead(None)

    def call(self, exchange: Exchange, *, abandon: bool = False) -> Piece:
        """See Crew.call(). The Master sees since when the call runs."""
        self._slot[scoreboard.CALL_SINCE] = monotonic_ns()
        try:
            if abandon:
                exchange.abandon()
                return None
            return exchange.advance()
        except CutOff as error:
            return bare(error)
        finally:
            self._slot[scoreboard.CALL_SINCE] = 0

    def progress(self, exchange: Exchange) -> None:
        """See Crew.progress()."""
        self._slot[scoreboard.CALL_SINCE] = monotonic_ns()

    def abandon(self, back: Callable[[], NoReturn]) -> None:
        """See Crew.abandon()."""
        self._slot = _Barrier(back)  # type: ignore[assignment]

    def bind(self, exchange: Exchange) -> None: ...
    def release(self, exchange: Exchange) -> None: ...
    def ended(self, exchange: Exchange) -> None: ...
    def resign(self) -> None: ...


class _Barrier:
    """In the place of the scoreboard, which is written to when the app returns: calls
    `back`, which does not return.
    """

    def __init__(self, back: Callable[[], NoReturn]) -> None:
        self._back = back

    def __setitem__(self, _cell: int, _value: int) -> None:
        self._back()
