"""Reloading, on the Master's side: which reload is under way, what systemd is told
meanwhile, and how the commands that wait for it learn how it ended.

`spyglass reload` connects to a listening unix socket of the Master's and waits for one
line: an exit status and a reason. Each connection is a request for a new generation.

The socket is a file in the app's state directory. An abstract name is used where there
is no state directory, as without systemd, or where nothing can be written to it
(local_socket.py). Other ways do not exist in the sandbox: with ProtectProc=
and PrivateUsers= a process sees nothing of the Master's in /proc, and a signal says
neither which process sent it nor how it went.

A reload ends when the new workers accept and the old ones do not, so that the next
client is sure to get the new code. systemd hears RELOADING=1 at its beginning and
READY=1 at its end (sd_notify(3), Type=notify-reload), unless the command was started by
systemd itself (ExecReload=), which then waits for the command.
"""

from __future__ import annotations

import os
import time

from spyglass.master.local_socket import LocalSocket
from spyglass.runtime import scoreboard
from spyglass.runtime.sd_daemon import TELL_AGAIN, notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spyglass.log import Log
    from spyglass.master.generation import Generation
    from spyglass.runtime.fast_imports import socket
    from spyglass.runtime.poller import Poller

# Seconds that the old workers have to stop accepting. One that is busy with its only
# thread cannot answer the order in time.
_HANDOVER = 1.0


NAME = ".spyglass-reload"
# Seconds within which a Master that has just started opens it: after the first answer
# (first_answer.py).
OPENS_WITHIN = 1.0


def reload_addresses(environ: Mapping[str, str], pid: str) -> list[str]:
    """Return the addresses at which the Master of this unit may listen; it takes the
    first one that works.

    That is the file in STATE_DIRECTORY (systemd.exec(5)), else an abstract name with
    the unit's INVOCATION_ID in it, or with the `pid`. The command tries all of them,
    and verifies that the process that listens is the Master.
    """
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    names = [f"\0spyglass/reload/{name}" for name in (environ.get("INVOCATION_ID"), pid) if name]
    return [os.path.join(state, NAME), *names] if state else names


class Outcome:
    """How a reload ended: exit `status` (int), 0 if the new code serves, else `why` and
    `details` as of LoadError. It took `seconds`, until `ended` (monotonic clock).
    """

    def __init__(
        self, status: int, seconds: float, ended: float, why: str = "", details: str = ""
    ) -> None:
        self.status = status
        self.seconds = seconds
        self.ended = ended
        self.why = why
        self.details = details


class Reloads:
    """`ask()` is called when a client of the socket requests a new generation; `poller`
    is the Master's wait point.

    `under_way` (bool): a requested generation is being loaded. `failure` (str): why the
    last reload failed, or "". `last` is how the last one ended, or None.
    """

    def __init__(self, poller: Poller, log: Log, ask: Callable[[], None]) -> None:
        self.under_way = False
        self.failure = ""
        self._ask = ask
        self.last: Outcome | None = None
        self._began = 0.0  # monotonic: the reload that is under way
        self._told_systemd = False
        self._outcome: Outcome | None = None  # of which the clients are to be told
        self._handover: tuple[Generation, Generation | None, float] | None = None
        self._arrived: list[socket.socket] = []
        self._waiting: list[socket.socket] = []
        self._socket = LocalSocket(
            reload_addresses(os.environ, str(os.getpid())), poller, self._meet
        )
        if why := self._socket.fault:
            log.warning(f"`spyglass reload` cannot reach this Master; use SIGHUP instead: {why}")

    def _meet(self, arrived: list[socket.socket]) -> None:
        self._arrived += arrived
        self._ask()

    def begin(self, *, ready: bool) -> None:
        """A new generation is about to be loaded for the clients that wait; `ready`
        (bool): systemd has had READY=1.
        """
        # A reload with its handover under way has succeeded for its clients; the new
        # one may fail. Clients of a reload that still loads get the outcome of the new
        # one.
        if self._handover is not None:
            self.end()
        self.tell()
        # With a client, it is systemd that runs the command (ExecReload=) and waits for
        # it. After RELOADING=1, systemd from 253 on would wait for READY=1 as well; if
        # the Master died meanwhile, until the timeout.
        if ready and not self._arrived:
            self._told_systemd = True
            notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._waiting += self._arrived
        self._arrived = []
        self.under_way, self.failure, self._began = True, "", time.monotonic()

    def take_over(self, new: Generation, old: Generation | None) -> None:
        """`new` was ordered to accept, and `old` to stop accepting. The reload ends
        when both have done so.
        """
        self.failure = ""
        if self.under_way:
            self._handover = new, old, time.monotonic() + _HANDOVER

    def end(self, status: int = 0, why: str = "", details: str = "", *, ready: bool = True) -> None:
        """End the reload that is under way, if any, with exit `status` (int); other
        than 0 it has failed, see Outcome for `why` and `details`.

        `ready` (bool): the service keeps running.
        """
        if self.under_way:
            self.under_way, self.failure, self._handover = False, why, None
            now = time.monotonic()
            self.last = self._outcome = Outcome(status, now - self._began, now, why, details)
            self._told_systemd = self._told_systemd and ready

    def due(self, now: float) -> list[float]:
        due = [self._handover[2]] if self._handover is not None else []
        if self._told_systemd and not self.under_way:
            due.append(now + TELL_AGAIN)
        return due

    def look(self, now: float) -> None:
        """End the reload once its handover is complete, and report it."""
        if self._handover is not None:
            new, old, by = self._handover
            if now >= by or (
                new.obeys(scoreboard.SERVE) and (old is None or old.obeys(scoreboard.RETIRE))
            ):
                self.end()
        self.tell()

    def tell(self) -> None:
        """Tell systemd and the clients how it ended, if it has."""
        if self._told_systemd and not self.under_way:
            # There may be no descriptor to do so just now.
            self._told_systemd = not notify("READY=1")
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return
        for sock in self._waiting:
            try:
                sock.send(f"{outcome.status} {outcome.why}\n".encode(errors="replace"))
            except OSError:
                pass  # the client did not wait
            sock.close()
        self._waiting.clear()

    def close(self) -> None:
        """The Master exits."""
        self._socket.close()
        self.abandon()

    def abandon(self) -> None:
        """In a forked child."""
        self._socket.abandon()
        for sock in self._arrived + self._waiting:
            sock.close()
