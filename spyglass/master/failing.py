"""The state in which the app cannot serve: the Master answers 503 itself, and tries to
load the app again when a client comes.

Why it does not simply exit, and let systemd try again: systemd keeps the socket, finds
the client still in its queue, and starts the service at once, over and over. Each start
would keep a processor busy, and after too many of them (TriggerLimitBurst= of the
socket, StartLimitBurst= of the service, which our units switch off) systemd would fail
the *socket* unit (systemd.socket(5)): from then on connections are refused, until an
administrator resets it. So one Master stays, answers each client, and paces the
attempts itself.

No attempt is made while no client asks, so a broken app costs nothing. A client that
comes when another attempt is worth making starts it, and its connection stays in the
kernel's queue for a moment, in case the attempt succeeds. Without clients the Master
exits after idle_timeout, with status 78: RestartPreventExitStatus= tells systemd that a
restart would not help, and the next client starts the service by its socket.
"""

from __future__ import annotations

import time

from spyglass.errors import EX_CONFIG
from spyglass.master.failed_loads import FailedLoads, Trouble
from spyglass.runtime.sd_daemon import has_pending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.config.settings import Config
    from spyglass.errors import LoadError
    from spyglass.log import Log
    from spyglass.master.listener_watch import ListenerWatch
    from spyglass.master.unavailable import Answerer
    from spyglass.runtime.poller import Poller

_HOLD = 0.7  # seconds a client may wait for a new attempt at a broken app; then the 503
_NEVER = float("inf")


class Failing:
    """`loads` are the attempts that failed. `why` (str) is the error while this is the
    app's state, else "".

    `retry()` makes another attempt; it returns the seconds that the attempt may take,
    or 0.0 if it has not begun one. `busy()` says whether one is under way, or waits.
    `stop(status, why)` ends the Master.
    """

    def __init__(
        self,
        poller: Poller,
        log: Log,
        watch: ListenerWatch,
        retry: Callable[[], float],
        busy: Callable[[], bool],
        stop: Callable[[int, str], None],
    ) -> None:
        self.loads = FailedLoads(log)
        self._poller = poller
        self._log = log
        self._watch = watch
        self._retry = retry
        self._busy = busy
        self._stop = stop
        self._trouble: Trouble | None = None
        self._config: Config
        self._hold_until = _NEVER  # monotonic: clients wait for an attempt until then
        # Made for the first failure: a wake that goes well does not pay for its import.
        self._answerer: Answerer | None = None

    @property
    def why(self) -> str:
        return self._trouble.error.summary if self._trouble else ""

    @property
    def open(self) -> int:
        """Connections that the Master holds."""
        return self._answerer.open if self._answerer else 0

    @property
    def refused(self) -> int:
        """Requests that the Master has answered with 503."""
        return self._answerer.refused if self._answerer else 0

    def begin(self, error: LoadError, config: Config, began: float) -> None:
        """Answer from now on, as `config` says, because of `error`; see Trouble for
        `began`.
        """
        from spyglass.master.unavailable import Answerer
        from spyglass.zygote.app_files import candidates

        now = time.monotonic()
        self.loads.add("failing", error)
        error.files += [path for path in [config.file, *candidates(config)] if path]
        self._trouble = Trouble(error, self.loads.in_a_row, began, now)
        self._config = config
        self._hold_until = _NEVER
        if not self._answerer:
            self._answerer = Answerer(self._poller, self._page, config.header_timeout)
        self._answerer.activity = now  # its latest client may be long ago
        self._watch.set(True)

    def make_way(self) -> None:
        """The app serves; whether that lasts is not known yet."""
        self._trouble, self._hold_until = None, _NEVER

    def _page(self) -> tuple[str, int]:
        if not self._trouble:
            return "", 1
        error = self._trouble.error
        wait = max(1, round(self._trouble.retry_at - time.monotonic()))
        return (f"{error.summary}\n\n{error.details}" if self._config.debug else ""), wait

    def meet_clients(self) -> None:
        """A connection waits on a listener while no worker is to accept it."""
        if not self._trouble or not self._answerer:
            return  # an idle app decides whether to exit: the look that follows sees it
        now = time.monotonic()
        if self._trouble.may_retry(now):
            longest = self._retry()
            if longest:
                self._hold_until = now + min(_HOLD, longest)
                self._watch.set(False)
                return
        for listener in self._watch.listeners:
            self._answerer.accept(listener)

    def due(self, now: float) -> list[float]:
        return [self._hold_until, self._answerer_due(), self._exit_at(now)]

    def _answerer_due(self) -> float:
        due = self._answerer.due() if self._answerer else None
        return _NEVER if due is None else due

    def _exit_at(self, now: float) -> float:
        """When it will be time to exit if no client comes."""
        if not self._trouble or not self._answerer or self._busy():
            return _NEVER
        if not self._config.idle_timeout:
            return _NEVER
        return (now if self._answerer.open else self._answerer.activity) + self._config.idle_timeout

    def look(self, now: float) -> None:
        if self._answerer:
            if self._answerer_due() < now:
                # First take what is there. All of us may have stood still (SIGSTOP)
                # between the look and the clock, or while waiting, which is over then
                # without a look (PEP 475): no client may be called late for that.
                self._poller.wait(0)
            self._answerer.expire(now)
        if not self._trouble or not self._answerer:
            return
        if now >= self._hold_until:
            self._hold_until = _NEVER
        self._watch.set(self._hold_until == _NEVER and not self._answerer.full)
        if now >= self._exit_at(now) and not has_pending(self._watch.listeners):
            self._log.info(
                f"exiting after {self._config.idle_timeout:g} s without a client; still failing: {self.loads.latest}"
            )
            self._stop(EX_CONFIG, f"failing: {self.loads.latest}")

    def drain(self, by: float) -> None:
        """The Master stops, and accepts no more; see Answerer.drain()."""
        self._watch.set(False)
        self.make_way()
        if self._answerer:
            self._answerer.drain(by)

    def close(self) -> None:
        """Close all connections at once."""
        if self._answerer:
            self._answerer.close()

    def abandon(self) -> None:
        if self._answerer:
            self._answerer.abandon()
