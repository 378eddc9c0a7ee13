"""Keep account of the app's calls that take long, for the Master and for the next call
at the same path.
"""

from __future__ import annotations

import sys
from time import monotonic_ns

from spyglass.runtime import scoreboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.gateway.wsgi import Exchange

_MOST_PATHS = 256
# While a long call computes, the leader has to ask for the interpreter's lock after
# every system call. By default it gets it within 5 ms (sys.setswitchinterval), which
# would be the pace of all short requests then.
_SWITCH_BESIDE_LONG = 0.0005


class LongCalls:
    """`running` are the calls known to be long, and since when (monotonic nanoseconds).
    `paths` are those where the last call was a long one.

    In `slot` the Master sees since when the oldest runs. The caller of a method holds
    the crew's lock.
    """

    __slots__ = ("_slot", "_switch", "paths", "running")

    def __init__(self, slot: memoryview[int]) -> None:
        self._slot = slot
        self._switch = sys.getswitchinterval()
        self.running: dict[Exchange, int] = {}
        self.paths: set[str] = set()

    def begin(self, exchange: Exchange) -> None:
        """The call of `exchange` is a long one."""
        self.running[exchange] = monotonic_ns()

    def end(self, exchange: Exchange) -> None:
        """It has returned, if it was one."""
        if self.running.pop(exchange, None) is not None:
            self.tell_master()

    def progress(self, exchange: Exchange) -> None:
        """It still runs, but its client has taken something: its time begins anew."""
        if exchange in self.running:
            self.begin(exchange)
            self.tell_master()

    def expect(self, path: str) -> None:
        """The next call at `path` is expected to be a long one."""
        if len(self.paths) >= _MOST_PATHS:
            self.paths.clear()
        self.paths.add(path)

    def tell_master(self) -> None:
        """To be called when `running` has changed."""
        self._slot[scoreboard.CALL_SINCE] = min(self.running.values(), default=0)
        sys.setswitchinterval(_SWITCH_BESIDE_LONG if self.running else self._switch)
