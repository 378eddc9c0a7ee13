"""Reloading, on the Master's side: who has asked for another generation, what systemd
is told meanwhile, and who is told how it ended.

At the desk, a listening unix socket, `spyglass reload` asks by connecting, and waits
for one line: an exit status and a reason. It is a file in the app's state directory,
where no other user can put another in its place. An abstract name (unix(7)) any user of
the machine could have first; it is what is left where there is no state directory, as
without systemd, or where nothing can be written to it. Other ways cannot be had in the
sandbox: with ProtectProc= and PrivateUsers= a process sees nothing of the Master's in
/proc, and a signal says neither who sent it nor how it went.
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
    from spyglass.runtime.poller import Doors

# Seconds that the old workers have to stop accepting; one that is busy with its only
# thread cannot say so
_HANDOVER = 1.0


_FILE = ".spyglass-reload"


def desk_addresses(environ: Mapping[str, str], pid: str) -> list[str]:
    """Where the Master of this unit may be asked; it is at the first that can be had.

    That is the file in STATE_DIRECTORY (systemd.exec(5)), else an abstract name with
    the unit's INVOCATION_ID in it, or with the `pid`. The command looks at all of them,
    and makes sure that it is the Master that listens.
    """
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    names = [f"\0spyglass/reload/{name}" for name in (environ.get("INVOCATION_ID"), pid) if name]
    return [os.path.join(state, _FILE), *names] if state else names


class Reloads:
    """`ask()` is called when somebody at the desk wants another generation; `doors` is
    where the Master waits.

    `under_way` (bool): a generation that somebody has asked for is being loaded.
    `failure` (str): why the last one came to nothing, or "".
    """

    def __init__(self, doors: Doors, log: Log, ask: Callable[[], None]) -> None:
        self.under_way = False
        self.failure = ""
        self._ask = ask
        self._told_systemd = False
        self._outcome: tuple[int, str] | None = None
        self._handover: tuple[Generation, Generation | None, float] | None = None
        self._arrived: list[socket.socket] = []
        self._waiting: list[socket.socket] = []
        self._desk: Listening | None = None
        self._path, self._made = "", (0, 0)  # of the file, if it is one, and which it is
        why = ""
        for address in desk_addresses(os.environ, str(os.getpid())):
            try:
                self._desk = _listen(address)
                break
            except OSError as error:
                why = error.strerror or str(error)
        if self._desk is None:
            log.warning(f"`spyglass reload` cannot reach this Master; use SIGHUP instead: {why}")
            return
        if not address.startswith("\0"):
            self._path, self._made = address, _which(address)
        # Edge-triggered: should there be no descriptor for who comes, that must not
        # keep the Master busy.
        doors.open(self._desk.fileno(), self._meet, select.EPOLLIN | select.EPOLLET)

    def _meet(self) -> None:
        assert self._desk is not None
        while True:
            try:
                sock, _ = self._desk.accept()
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
        """Another generation is about to be loaded for those who wait; `ready` (bool):
        systemd has been told that we are there.
        """
        # Who waits for nothing but the end of the handover has got what was asked for;
        # what comes now may fail. For the others it is what they wait for.
        if self._handover is not None:
            self.end()
        self.tell()
        # Who runs the command for ExecReload= knows. Told again it would, from 253 on,
        # wait for READY=1 also when the command has ended; should we have died
        # meanwhile, until its patience ends.
        if ready and not self._arrived:
            self._told_systemd = True
            notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._waiting += self._arrived
        self._arrived = []
        self.under_way, self.failure = True, ""

    def take_over(self, new: Generation, old: Generation | None) -> None:
        """`new` has been told to accept, and `old` that it is not to any more. It is
        when both do that the reload is over.
        """
        self.failure = ""
        if self.under_way:
            self._handover = new, old, time.monotonic() + _HANDOVER

    def end(self, status: int = 0, why: str = "", *, ready: bool = True) -> None:
        """The reload that is under way, if there is one, has ended; with another
        `status` (int) than 0 it has failed.

        `ready` (bool): the service goes on.
        """
        if self.under_way:
            self.under_way, self.failure, self._handover = False, why, None
            self._outcome = status, why
            self._told_systemd = self._told_systemd and ready

    def due(self, _now: float) -> list[float]:
        return [self._handover[2]] if self._handover is not None else []

    def look(self, now: float) -> None:
        """Look at what is under way, and tell what is known by now."""
        if self._handover is not None:
            new, old, by = self._handover
            if now >= by or (
                new.obeys(scoreboard.SERVE) and (old is None or old.obeys(scoreboard.RETIRE))
            ):
                self.end()
        self.tell()

    def tell(self) -> None:
        """Tell systemd and those at the desk how it ended, if it has."""
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
                pass  # it did not wait
            sock.close()
        self._waiting.clear()

    def close(self) -> None:
        """The Master ends: its file goes, unless the next Master has put one of its own
        there already.
        """
        if self._path and self._made == _which(self._path):
            try:
                os.unlink(self._path)
            except OSError:
                pass
        self.abandon()

    def abandon(self) -> None:
        """In a forked child: who waits must see the Master's end, not the end of all
        that came from it.
        """
        if self._desk is not None:
            self._desk.close()
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
            os.unlink(
                address
                # Of a Master that was killed, or the app's: in its own directory that
                # harms itself alone
            )
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
    """Whether root or the Master's own user asks: those who may also send it a signal
    (unix(7), SO_PEERCRED: pid, uid, gid).
    """
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder) in (0, os.geteuid())
