"""Run `spyglass check` in the very sandbox of an app: its user, directories,
environment, credentials and limits.

The service's unit is copied for that (units/service_copy.py), with a command that
serves nothing.
"""

from __future__ import annotations

import codecs
import os
import select
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from spyglass.ops.check import import_costs
from spyglass.ops.check.check_report import Verdict, fitted
from spyglass.ops.files import memory_file
from spyglass.ops.guards import locks, running_commands
from spyglass.ops.guards.termination_signals import exit_on_termination_signals
from spyglass.ops.output.untrusted_text import lines_of, number
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import service_copy, start_failures

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator, Sequence

# systemctl start waits for the command.
_SERVICE = """\
TimeoutStartSec={timeout:.0f}
TimeoutStopSec=5
StandardOutput=file:{out}
StandardError=file:{err}
"""

_UNFINISHED = 200  # milliseconds that a line may lack its end, and is not shown
_LONGEST_LINE = 64 << 10  # characters

_GRACE = 30.0  # seconds that the unit may run longer than the app's start_timeout


class CheckResult:
    """How a check ended.

    `status` is its exit status (int), or None if it never ran or did not exit by
    itself. `result` is the unit's Result= ("exit-code", "signal", "oom-kill").
    `messages` are lines of systemd's about it. `faults` (lines) and `warnings` (int)
    are those of the check's own verdict. `imports` is its line about them, or "".
    """

    def __init__(
        self, status: int | None, result: str = "success", messages: Sequence[str] = ()
    ) -> None:
        self.status = status
        self.result = result
        self.messages = list(messages)
        self.faults: list[str] = []
        self.warnings = 0
        self.imports = ""


def run_in_sandbox(
    name: str, texts: Iterable[str], words: Sequence[str], start_timeout: float
) -> CheckResult:
    """Run `spyglass check` as the app `name` would run, forward its output without its
    verdict, return its result.

    `texts` and `words` are as for check_unit(). The command gives the app
    `start_timeout` seconds and exits soon after. The app has the same user, so it can
    stop the command, and whatever would continue it (kill(2)): then systemd ends the
    unit. Nothing is left behind, also after Ctrl-C or SIGTERM. Raise SandboxError,
    LockedError.
    """
    unit = f"spyglass-check@{name}.service"
    with (
        locks.held(f"check-{name}", f"checking {name}"),
        running_commands.data_locked(name),
        exit_on_termination_signals(),
        _pipes(name) as pipes,
    ):
        out, err = pipes
        text = check_unit(name, texts, words, start_timeout + _GRACE, out, err)
        try:
            systemctl.run("stop", unit)  # from a check that was killed
            systemctl.run("reset-failed", unit)
            service_copy.write(unit, text)
            result = _run(unit, pipes)
            if result.status == 0 and not words:
                import_costs.record(name, result.imports)
            return result
        finally:
            service_copy.remove(unit)


def check_unit(
    name: str,
    texts: Iterable[str],
    words: Sequence[str] = (),
    timeout: float = 60.0,
    out: str = "/dev/null",
    err: str = "/dev/null",
) -> str:
    """Return the text of the unit that checks the app `name`.

    `texts` are its service's unit file and drop-ins in order. `words` are appended to
    the command, which systemd ends after `timeout` seconds. Its output goes to the
    files `out` and `err`. Raise SandboxError if the service does not run `spyglass
    serve`.
    """
    return service_copy.unit_text(
        name,
        texts,
        "check",
        words,
        unit=["Description=Check of the app %i", "StartLimitIntervalSec=0"],
        service=_SERVICE.format(timeout=timeout, out=out, err=err),
    )


def _run(unit: str, pipes: dict[str, int]) -> CheckResult:
    """Start the unit, forward its output until it has ended, and return the result."""
    out, err = (Relay(stream) for stream in (sys.stdout, sys.stderr))
    with memory_file.create() as words:
        job = systemctl.start_in_background(unit, words)
        try:
            _forward_output(job, dict(zip(pipes.values(), (out, err), strict=True)))
        finally:
            job.terminate()
            job.wait()
        result = _result(unit, job.returncode, memory_file.text_of(words))
    result.warnings, result.faults = out.verdict.warnings, err.verdict.faults
    result.imports = out.imports
    if result.status == 0:
        err.give_up_verdict()
    return result


def _result(unit: str, returncode: int, words: str) -> CheckResult:
    """Return how the unit ended: `returncode` is that of systemctl, which has printed
    `words`.
    """
    if returncode == 0:
        return CheckResult(0)
    state = systemctl.show([unit], ["Result", "ExecMainCode", "ExecMainStatus", "InvocationID"])[
        unit
    ]
    status = number(state["ExecMainStatus"], 1) if state["Result"] == "exit-code" else None
    if status is not None and status < 200:
        return CheckResult(status, "exit-code")
    said = (
        start_failures.messages(state.get("InvocationID", ""))
        or [line for line in lines_of(words) if line][:1]
    )
    return CheckResult(status, state["Result"], said)


@contextmanager
def _pipes(name: str) -> Iterator[dict[str, int]]:
    """Make two named pipes for a unit's stdout and stderr; yield {path: descriptor} in
    this order.

    systemd opens them as root, before it enters the sandbox.
    """
    folder = f"/run/spyglass-check@{name}"
    shutil.rmtree(folder, ignore_errors=True)  # from a check that was killed
    os.mkdir(folder, 0o700)
    pipes: dict[str, int] = {}
    try:
        for kind in ("out", "err"):
            path = os.path.join(folder, kind)
            os.mkfifo(path, 0o600)
            # O_RDWR: read-only, we would see end of file before the first writer opens
            # it (fifo(7)).
            pipes[path] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        yield pipes
    finally:
        for fd in pipes.values():
            os.close(fd)
        shutil.rmtree(folder)


class Relay:
    """Writes what a check prints to `stream`, in lines that fit the terminal, but for
    its `verdict`. Keeps the line about `imports`, too, which the app may have forged.
    """

    def __init__(self, stream: TextIO) -> None:
        self.verdict = Verdict()
        self.imports = ""
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""  # a line without its end
        self._is_shown = False  # the beginning of that line is written already

    @property
    def waits(self) -> bool:
        """True if a line has begun, and is not written yet."""
        return bool(self._begun)

    def read(self, fd: int) -> None:
        """Write what is in the pipe `fd` now."""
        try:
            while piece := os.read(fd, 65536):
                *lines, self._begun = (self._begun + self._decoder.decode(piece)).split("\n")
                for line in lines:
                    self._write_line(line)
                if len(self._begun) > _LONGEST_LINE:
                    self.show_begun()
        except BlockingIOError:
            pass
        self._stream.flush()

    def show_begun(self) -> None:
        """Write the beginning of a line: its end may come late, or never."""
        if self._begun:
            self.give_up_verdict()
            self._stream.write(self._begun)
            self._stream.flush()
            self._begun, self._is_shown = "", True

    def give_up_verdict(self) -> None:
        """Write what was taken for the verdict: it is none."""
        for line in self.verdict.release():
            self._stream.write(f"{line}\n")

    def _write_line(self, line: str) -> None:
        if self._is_shown:
            self._is_shown = False
        elif self.verdict.takes(line):
            return
        else:
            self.give_up_verdict()
            if self.verdict.takes(line):
                return
            if line.startswith(import_costs.TITLE):
                self.imports = line
            line = fitted(line, self._stream)
        self._stream.write(f"{line}\n")


def _forward_output(job: subprocess.Popen[bytes], relays: dict[int, Relay]) -> None:
    """Copy the pipes ({descriptor: relay}) to our stdout and stderr until `job` has
    exited.
    """
    # Through sys.stdout and sys.stderr, and so through untrusted_text.filtered(): the
    # app prints here, too.
    sys.stdout.flush()
    poll = select.poll()
    for fd in relays:
        poll.register(fd, select.POLLIN)
    ended = os.pidfd_open(job.pid)
    poll.register(ended, select.POLLIN)
    try:
        while True:
            waits = any(relay.waits for relay in relays.values())
            ready = [fd for fd, _ in poll.poll(_UNFINISHED if waits else None)]
            for fd, relay in relays.items():
                relay.read(fd)
                if ended in ready or not ready:
                    relay.show_begun()
            if ended in ready:
                return
    finally:
        os.close(ended)
