"""Count open connections where `idle_ignore` is set: not every one of them puts off the
idle exit.

A connection *counts*, that is, puts off the idle exit, from its first request that is
not ignored until it sends one that is, or ends. One that has sent no request does not
count, for what it wants is unknown. But if it ends like that, its end is activity,
unless it came to an ignored listener.

The Master sees OPEN less IGNORED as what counts, and ACTIVITY is written only when
something that counted ends. All open connections are waited for nonetheless: an ignored
request is served like any other. A monitor with a kept-alive connection would be waited
for without end, so the Master gives the order PART when nothing that counts is left.
From then on each answer says "Connection: close", and each of these connections ends
with its next request or, as ever, after keepalive_timeout. No connection ends earlier
than it would have without a warning, so no request is lost that would not have been
(RFC 9112 9.5). A WebSocket has no next request: it is closed with the code 1001, and
its client, too, knows what has arrived. The last one to end tells the Master.
"""

from __future__ import annotations

from time import monotonic_ns

from spyglass.policy.idle_ignore import Ignored
from spyglass.runtime import scoreboard
from spyglass.worker.acceptor import Activity
from spyglass.worker.connection_base import Visit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.http11.request import Request
    from spyglass.runtime.sd_daemon import Listener


class IgnoringVisit(Visit):
    """One connection, as the idle exit sees it. `counts` (bool): it puts off the exit;
    `noted` (bool): its end will be activity.
    """

    __slots__ = ("_activity", "_ignored", "counts", "noted")

    def __init__(self, activity: IgnoringActivity, ignored: bool) -> None:
        self._activity = activity
        self._ignored = ignored
        self.counts = False
        self.noted = not ignored

    def asks_for(self, request: Request) -> None:
        """A request has arrived: from now on that one decides."""
        counts = not (self._ignored or self._activity.ignores(request))
        if counts != self.counts:
            self._activity.count(counts)
        self.counts = self.noted = counts

    def is_ignored(self) -> bool:
        """Return True while it does not keep the app awake."""
        return not self.counts


class IgnoringActivity(Activity):
    """The Activity where `idle_ignore` is set; `tell_master` makes the Master look at
    the scoreboard.
    """

    __slots__ = ("_ignored", "_tell_master", "ignores")

    def __init__(
        self, slot: memoryview[int], ignored: tuple[str, ...], tell_master: Callable[[], None]
    ) -> None:
        super().__init__(slot)
        self._ignored = Ignored(ignored)
        self._tell_master = tell_master
        self.ignores = self._ignored.request

    def enter(self, listener: Listener) -> Visit:
        """A client was accepted; it does not count yet."""
        # IGNORED first: what counts must not rise for a moment.
        self._slot[scoreboard.IGNORED] += 1
        self.open += 1
        self._slot[scoreboard.OPEN] = self.open
        return IgnoringVisit(self, self._ignored.listener(listener.name))

    def branch(self, visit: Visit | None) -> Visit | None:
        """See acceptor.Activity. It counts if its connection does at this moment."""
        assert isinstance(visit, IgnoringVisit)
        branch = IgnoringVisit(self, not visit.counts)
        branch.counts = visit.counts
        if not visit.counts:
            self._slot[scoreboard.IGNORED] += 1
        self.open += 1
        self._slot[scoreboard.OPEN] = self.open
        return branch

    def leave(self, visit: Visit | None, served: int) -> None:
        """See acceptor.Activity."""
        assert isinstance(visit, IgnoringVisit)
        slot = self._slot
        if visit.noted:
            slot[scoreboard.ACTIVITY] = monotonic_ns()
        self.open -= 1
        slot[scoreboard.SERVED] = served
        slot[scoreboard.OPEN] = self.open
        if not visit.counts:
            slot[scoreboard.IGNORED] -= 1
        if not self.open and slot[scoreboard.ORDER] != scoreboard.SERVE:
            self._tell_master()  # it may be waiting for this

    def count(self, counts: bool) -> None:
        """One more connection counts, or one less."""
        slot = self._slot
        if not counts:
            slot[scoreboard.ACTIVITY] = monotonic_ns()
            slot[scoreboard.IGNORED] += 1
            return
        slot[scoreboard.IGNORED] -= 1
        if slot[scoreboard.ORDER] == scoreboard.PART:
            self._tell_master()  # connections may be kept again
