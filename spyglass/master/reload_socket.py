"""Reloading, on the Master's side: which reload is under way, what systemd is told
meanwhile, and how the commands that wait for it learn how it ended.

`spyglass reload` connects to a listening unix socket of the Master's and waits for one
line: an exit status and a reason. Each connection is a request for a new generation.

The socket is a file in the app's state directory, where no other user can put another
in its place. An abstract name (unix(7)) could be taken first by any user of the
machine. It is used where there is no state directory, as without systemd, or where
nothing can be written to it. Other ways do not exist in the sandbox: with ProtectProc=
and PrivateUsers= a process sees nothing of the Master's in /proc, and a signal says
neither which process sent it nor how it went.

A reload ends when the new workers accept and the old ones do not, so that the next
client is sure to get the new code. systemd hears RELOADING=1 at its beginning and
READY=1 at its end (sd_notify(3), Type=notify-reload), unless the command was started by
systemd itself (ExecReload=), which then waits for the command.
"""

from __future__ import annotations

import os
import select
import sys
import time

from spyglass.runtime import scoreboard
from spyglass.runtime.fast_imports import Listening, socket
from spyglass.runtime.sd_daemon import notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spyglass.log import Log
    from spyglass.master.generation import Generation
    from spyglass.runtime.poller import Poller

# Seconds that the old workers have to stop accepting. One that is busy with its only
# thread cannot answer the order in time.
_HANDOVER = 1.0


_FILE = ".spyglass-reload"


def reload_addresses(environ: Mapping[str, str], pid: str) -> list[str]:
    """Return the addresses at which the Master of this unit may listen; it takes the
    first one that works.

    That is the file in STATE_DIRECTORY (systemd.exec(5)), else an abstract name with
    the unit's INVOCATION_ID in it, or with the `pid`. The command tries all of them,
    and verifies that the process that listens is the Master.
    """
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    names = [f"\0spyglass/reload/{name}" for name in (environ.get("INVOCATION_ID"), pid) if name]
    return [os.path.join(state, _FILE), *names] if state else names


class Reloads:
    """`ask()` is called when a client of the socket requests a new generation; `poller`
    is the Master's wait point.

    `under_way` (bool): a requested generation is being loaded. `failure` (str): why the
    last reload failed, or "".
    """

    def __init__(self, poller: Poller, log: Log, ask: Callable[[], None]) -> None:
        self.under_way = False
        self.failure = ""
        self._ask = ask
        self._told_systemd = False
        self._outcome: tuple[int, str] | None = None
        self._handover: tuple[Generation, Generation | None, float] | None = None
        self._arrived: list[socket.socket] = []
        self._waiting: list[socket.socket] = []
        self._listener: Listening | None = None
        self._path, self._made = "", (0, 0)  # of the file, if it is one, and which it is
        why = ""
        for address in reload_addresses(os.environ, str(os.getpid())):
            try:
                self._listener = _listen(address)
                break
            except OSError as error:
                why = error.strerror or str(error)
        if self._listener is None:
            log.warning(f"`spyglass reload` cannot reach this Master; use SIGHUP instead: {why}")
            return
        if not address.startswith("\0"):
            self._path, self._made = address, _which(address)
        # Edge-triggered: while no descriptor is left to accept with, a level-triggered
        # socket would stay ready and keep the Master busy.
        poller.watch(self._listener.fileno(), self._accept, select.EPOLLIN | select.EPOLLET)

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                break
            if _is_ours(sock):
                sock.setblocking(False)
                self._arrived.append(sock)
            else:
                sock.close()
        if self._arrived:
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
        self.under_way, self.failure = True, ""

    def take_over(self, new: Generation, old: Generation | None) -> None:
        """`new` was ordered to accept, and `old` to stop accepting. The reload ends
        when both have done so.
        """
        self.failure = ""
        if self.under_way:
            self._handover = new, old, time.monotonic() + _HANDOVER

    def end(self, status: int = 0, why: str = "", *, ready: bool = True) -> None:
        """End the reload that is under way, if any, with exit `status` (int); other
        than 0 it has failed.

        `ready` (bool): the service keeps running.
        """
        if self.under_way:
            self.under_way, self.failure, self._handover = False, why, None
            self._outcome = status, why
            self._told_systemd = self._told_systemd and ready

    def due(self, _now: float) -> list[float]:
        return [self._handover[2]] if self._handover is not None else []

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
        if self._outcome is None:
            return
        status, why = self._outcome
        self._outcome = None
        if self._told_systemd:
            notify("READY=1")
        self._told_systemd = False
        for sock in self._waiting:
            try:
                sock.send(f"{status} {why}\n".encode(errors="replace"))
            except OSError:
                pass  # the client did not wait
            sock.close()
        self._waiting.clear()

    def close(self) -> None:
        """The Master exits: delete its file, unless the next Master has already put its
        own there.
        """
        if self._path and self._made == _which(self._path):
            try:
                os.unlink(self._path)
            except OSError:
                pass
        self.abandon()

    def abandon(self) -> None:
        """In a forked child. A client must see the connection end with the Master, not
        with the last process that inherited it.
        """
        if self._listener is not None:
            self._listener.close()
        for sock in self._arrived + self._waiting:
            sock.close()


def _which(path: str) -> tuple[int, int]:
    try:
        status = os.lstat(path)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _listen(address: str) -> Listening:
    if not address.startswith("\0"):
        try:
            # Left by a Master that was killed, or made by the app: in the app's own
            # directory deleting it harms nothing else.
            os.unlink(address)
        except FileNotFoundError:
            pass
    sock = Listening(socket.AF_UNIX)
    try:
        sock.bind(address)
        sock.listen()
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _is_ours(sock: socket.socket) -> bool:
    """Return True for a client of root or of the Master's own user: those may send it a
    signal, too (unix(7), SO_PEERCRED: pid, uid, gid).
    """
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder) in (0, os.geteuid())
