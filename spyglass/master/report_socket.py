"""What the Master reports to `spyglass list`, `status`, `doctor` and `reload NAME`: the
counters and the status line as they are now, and how the last reload ended.

A command connects to a unix socket in the state directory and reads to the end; it asks
nothing, so there is nothing here to parse or to wait for. The file of counters
(counters.py) is up to ten seconds old, and systemd's copy of the status line up to
five. To connect wakes no app: there is no such socket while the app sleeps.
"""

from __future__ import annotations

import os

from spyglass.master import counter_record
from spyglass.master.local_socket import LocalSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spyglass.master.counter_record import Record
    from spyglass.master.reload_socket import Outcome
    from spyglass.runtime.fast_imports import socket
    from spyglass.runtime.poller import Poller

NAME = ".spyglass-report"
LONGEST = 128 << 10  # bytes: the counters, and a traceback
_HEAD = "spyglass report 1"


class Reports:
    """The socket in STATE_DIRECTORY of `environ` (systemd.exec(5); without one, none).
    `compose()` returns the report to send.
    """

    def __init__(
        self, environ: Mapping[str, str], poller: Poller, compose: Callable[[], str]
    ) -> None:
        self._compose = compose
        state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
        addresses = [os.path.join(state, NAME)] if state else []
        self._socket = LocalSocket(addresses, poller, self._send)

    def close(self) -> None:
        """The Master exits."""
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child."""
        self._socket.abandon()

    def due(self, _now: float) -> list[float]:
        return []

    def look(self, _now: float) -> None:
        """Nothing is to be done later."""

    def _send(self, arrived: list[socket.socket]) -> None:
        report = self._compose().encode(errors="replace")
        for sock in arrived:
            try:
                sock.send(report)  # the buffer of a new connection has room for all of it
            except OSError:
                pass  # the client did not wait
            sock.close()


class Report:
    """`record` is None if the Master cannot read what the Masters before it counted,
    `outcome` if it has not been told to reload yet. `status` (str) is its status line.
    """

    def __init__(self, status: str, record: Record | None, outcome: Outcome | None) -> None:
        self.status = status
        self.record = record
        self.outcome = outcome

    def text(self) -> str:
        """The report as it is sent: a fact to a line, and the record at the end."""
        made = [_HEAD, f"status {counter_record.one_line(self.status)}"]
        done = self.outcome
        if done is not None:
            made.append(f"reload {done.status} {done.seconds:.3f} {done.ended:.3f} {done.why}")
            made += [f"detail {line}" for line in done.details.split("\n") if done.details]
        return "\n".join([*made, self.record.text() if self.record is not None else ""])


def parse(text: str) -> Report:
    """Return the report in `text`. Raise ValueError if it is none, or incomplete. Facts
    of a later version are skipped.
    """
    head, _, rest = text.partition("\n")
    if head != _HEAD:
        raise ValueError("not a report")
    report = Report("", None, None)
    details = []
    while rest and not rest.startswith(f"{counter_record.HEAD}\n"):
        line, _, rest = rest.partition("\n")
        name, _, value = line.partition(" ")
        if name == "status":
            report.status = counter_record.one_line(value)
        elif name == "reload":
            report.outcome = _outcome(value)
        elif name == "detail":
            details.append(value)
    if report.outcome is not None:
        report.outcome.details = "\n".join(details)
    report.record = counter_record.parse(rest) if rest else None
    return report


def _outcome(text: str) -> Outcome:
    from spyglass.master.reload_socket import Outcome  # here: the Master has no use for this

    status, seconds, ended, *why = text.split(" ", 3)
    if not (status.isascii() and status.isdigit() and len(status) < 4):
        raise ValueError(f"not an exit status: {status!r}")
    return Outcome(
        int(status), counter_record.seconds(seconds), counter_record.seconds(ended), *why
    )
