"""`spyglass reload`: have the Master load another generation, wait for the result, and
report it.

The unit runs it as ExecReload=, as another process of the unit in the same sandbox.
`spyglass reload NAME`, which people type, is in ops/apply/reload_app.py.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time

from spyglass.errors import EX_UNAVAILABLE, UsageError
from spyglass.log import open_log
from spyglass.master.reload_socket import OPENS_WITHIN, reload_addresses
from spyglass.printable import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

# Seconds without an answer. The Master tells systemd how long it needs, and systemd is
# less patient. This limit is for a reload that systemd did not start.
_ANSWERS = 3600.0
_LONGEST = 64 << 10  # bytes of an answer
_UNREACHED = -1  # no exit status
_LATER = 1.0  # seconds by which our stop signal may come after the Master's
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_MASTERS = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2)


def reload(environ: Mapping[str, str]) -> int:
    """Ask the Master that `environ` names (MAINPID, systemd.exec(5)); return 0 if the
    new generation serves.

    Wait as long as the Master needs. It gives up after start_timeout, and tells systemd
    to wait as long for us. Raise UsageError without MAINPID.
    """
    pid = environ.get("MAINPID", "")
    if not pid:
        raise UsageError(
            "reload needs the NAME of an app: MAINPID is not set, which systemd sets for ExecReload="
        )
    log = open_log("reload", environ=environ)
    # A signal that systemd or `systemctl kill` sends to all processes of the unit is
    # for the Master, which then answers at once. This process must not die of it:
    # systemd would show the stopped unit as failed (Result=signal).
    stops: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if number in _STOP:
            stops.append(number)

    for number in (*_STOP, *_MASTERS):
        signal.signal(number, note)
    status, why = _ask(reload_addresses(environ, pid), pid)
    by = time.monotonic() + _LATER
    while status == EX_UNAVAILABLE and not stops and time.monotonic() < by:
        time.sleep(0.01)
    if status == EX_UNAVAILABLE and stops:
        # systemd cancelled the reload when it was told to stop the unit. Any other
        # status would count as a failure of the unit.
        return 0
    if status:
        log.error(f"failed: {why}")
    return status


def _ask(addresses: list[str], pid: str) -> tuple[int, str]:
    """Return an exit status, and why it is not 0. Try for as long as a Master that has
    just started takes to open its socket.
    """
    by = time.monotonic() + OPENS_WITHIN
    while (answer := _try(addresses, pid))[0] == _UNREACHED and time.monotonic() < by:
        time.sleep(0.02)
    status, why = answer
    return (EX_UNAVAILABLE if status == _UNREACHED else status), why


def _try(addresses: list[str], pid: str) -> tuple[int, str]:
    status, why = _UNREACHED, ""
    for address in addresses:
        with socket.socket(socket.AF_UNIX) as desk:
            # A unix socket connects at once, or its queue is full (connect(2), EAGAIN).
            desk.setblocking(False)
            try:
                desk.connect(address)
            except OSError as error:
                why = why or f"cannot reach the Master, pid {pid}: {error.strerror or error}"
                continue
            if impostor := _impostor(desk, pid):
                status, why = EX_UNAVAILABLE, impostor
                continue
            return _understood(_hear(desk))
    return status, why


def _impostor(desk: socket.socket, pid: str) -> str:
    """Return "" if the Master listens, else which process does. SO_PEERCRED has the
    process that called listen(2), from the kernel (unix(7)).
    """
    peer, uid, _ = struct.unpack("iII", desk.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if os.geteuid() not in (0, uid):
        return "another user's process listens on the Master's socket"
    return (
        "" if str(peer) == pid else f"another process, pid {peer}, listens on the Master's socket"
    )


def _understood(said: str) -> tuple[int, str]:
    status, _, why = said.partition(" ")
    if not (status.isascii() and status.isdigit() and len(status) < 4):
        return EX_UNAVAILABLE, said or "the Master has ended"
    return int(status), one_line(why.rstrip())


def _hear(desk: socket.socket) -> str:
    """Return the Master's answer, "" if it ends without one. It comes when the app is
    loaded, or when the Master gives up after start_timeout.
    """
    said = b""
    desk.settimeout(_ANSWERS)
    try:
        while len(said) < _LONGEST and (piece := desk.recv(_LONGEST)):
            said += piece
    except TimeoutError:
        return f"no answer from the Master for {_ANSWERS:.0f} s"
    except ConnectionError:
        pass  # it ended before it accepted us
    return said.decode(errors="replace")
