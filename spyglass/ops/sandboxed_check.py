"""Run `spyglass check` in the very sandbox of an app: its user, directories,
environment, credentials and limits.

Only systemd can make that sandbox. So the service's unit, with all drop-ins, is copied
to another name, spyglass-check@NAME.service, with a command that serves nothing. The
copy is in /run while the check runs. It omits what would affect the app itself: the
socket, commands before and after, restarts, the watchdog. systemd-run would be shorter,
but it does not read unit files: each line would have to become a property, and some
directives have none.

The service may be awake meanwhile. Both units then have the same dynamic user and the
same directories, which systemd keeps as long as either needs them (systemd.exec(5),
DynamicUser=).
"""

from __future__ import annotations

import codecs
import os
import re
import select
import shutil
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from spyglass.errors import StartError
from spyglass.ops import journal, locks, systemctl, unit_files
from spyglass.ops.termination_signals import exit_on_termination_signals
from spyglass.ops.untrusted_text import lines_of, number

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator, Sequence

UNITS = "/run/systemd/system"

# Appended to the copied [Service] section; the last assignment takes precedence. The
# command exits by itself, and systemctl start waits for it.
_OVERRIDES = """\
Type=oneshot
ExitType=main
Restart=no
RemainAfterExit=no
SuccessExitStatus=
WatchdogSec=0
NotifyAccess=none
TimeoutStopSec=5
# The service may be awake and use the same directory.
RuntimeDirectoryPreserve=yes
StandardInput=null
"""
_DROPPED = re.compile(
    r"Exec|Sockets$|RuntimeMaxSec$|RestartForceExitStatus$|FileDescriptorStore|OpenFile$|PIDFile$|BusName$"
)
_KEPT_IN_UNIT_SECTION = ("JoinsNamespaceOf",)  # part of the sandbox, but in another section


_GRACE = 30.0  # seconds that the unit may run longer than the app's start_timeout
_JOURNAL_LINES = 100


class SandboxError(StartError):
    """The sandbox cannot be made; the message says why."""


def check_unit(
    name: str, texts: Iterable[str], words: Sequence[str] = (), timeout: float = 60.0
) -> str:
    """Return the text of the unit that checks the app `name`.

    `texts` are its service's unit file and drop-ins in order. `words` are appended to
    the command, which systemd ends after `timeout` seconds. Raise SandboxError if the
    service does not run `spyglass serve`.
    """
    unit = ["Description=Check of the app %i", "StartLimitIntervalSec=0"]
    service, command = [], ""
    for text in texts:
        for line in unit_files.parse(text):
            if line.section == "Unit" and line.key in _KEPT_IN_UNIT_SECTION:
                unit.append(f"{line.key}={line.raw_value}")
            elif line.section == "Service" and line.key == "ExecStart":
                command = line.raw_value
            elif line.section == "Service" and not _DROPPED.match(line.key):
                service.append(f"{line.key}={_resolve_specifiers(line.raw_value, name)}")
    checks, found = re.subn(r"(?<=\s)serve(?=\s|$)", "check", command, count=1)
    if not found:
        raise SandboxError(
            f"{systemctl.service_of(name)} does not run Spyglass: ExecStart={command}"
        )
    command = " ".join([_resolve_specifiers(checks, name), *map(_quoted, words)])
    return "\n".join(
        [
            "[Unit]",
            *unit,
            "",
            "[Service]",
            *service,
            f"ExecStart={command}",
            f"TimeoutStartSec={timeout:.0f}",
            _OVERRIDES,
        ]
    )


def _resolve_specifiers(value: str, name: str) -> str:
    """Replace the specifiers in `value` that contain the unit's name, which differs in
    the copy (systemd.unit(5)).
    """
    theirs = {"%n": systemctl.service_of(name), "%N": f"spyglass@{name}"} | dict.fromkeys(
        ("%p", "%P", "%j", "%J"), "spyglass"
    )
    return re.sub("%.", lambda found: theirs.get(found[0], found[0]), value)


def _quoted(word: str) -> str:
    """Return `word` quoted for ExecStart=.

    systemd first undoes quotes and escapes, then specifiers, and variables when it runs
    the command (systemd.service(5)).
    """
    safe = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%$-_=./:,@+*"
    escaped = "".join(chr(byte) if byte in safe else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return '"' + escaped.replace("%", "%%").replace("$", "$$") + '"'


class CheckResult:
    """How a check ended.

    `status` is its exit status (int), or None if it never ran or did not exit by
    itself. `result` is the unit's Result= ("exit-code", "signal", "oom-kill").
    `messages` are lines of systemd's about it.
    """

    def __init__(
        self, status: int | None, result: str = "success", messages: Sequence[str] = ()
    ) -> None:
        self.status = status
        self.result = result
        self.messages = list(messages)


def run_in_sandbox(
    name: str, texts: Iterable[str], words: Sequence[str], start_timeout: float
) -> CheckResult:
    """Run `spyglass check` as the app `name` would run, forward its output, return its
    result.

    `texts` and `words` are as for check_unit(). The command gives the app
    `start_timeout` seconds and exits soon after. The app has the same user, so it can
    stop the command, and whatever would continue it (kill(2)): then systemd ends the
    unit. Nothing is left behind, also after Ctrl-C or SIGTERM. Raise SandboxError,
    LockedError.
    """
    text = check_unit(name, texts, words, start_timeout + _GRACE)
    unit = f"spyglass-check@{name}.service"
    path = os.path.join(UNITS, unit)
    with (
        locks.held(f"check-{name}", f"checking {name}"),
        exit_on_termination_signals(),
        _pipes(name) as pipes,
    ):
        out, err = pipes
        try:
            systemctl.run("stop", unit)  # from a check that was killed
            systemctl.run("reset-failed", unit)
            # surrogateescape: as atomic_files.read() has read the unit files.
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.write(f"{text}StandardOutput=file:{out}\nStandardError=file:{err}\n")
            return _run(unit, pipes)
        finally:
            systemctl.run("stop", unit)
            if os.path.exists(path):
                os.unlink(path)
            # A failed unit stays in systemd's memory; the next check would inherit it.
            systemctl.run("reset-failed", unit)


def _run(unit: str, pipes: dict[str, int]) -> CheckResult:
    """Start the unit, forward its output until it has ended, and return the result."""
    with tempfile.TemporaryFile("w+") as words:
        job = systemctl.start_in_background(unit, words)
        try:
            _forward_output(job, pipes)
        finally:
            job.terminate()
            job.wait()
        if job.returncode == 0:
            return CheckResult(0)
        words.seek(0)
        state = systemctl.show(
            [unit], ["Result", "ExecMainCode", "ExecMainStatus", "InvocationID"]
        )[unit]
        status = number(state["ExecMainStatus"], 1) if state["Result"] == "exit-code" else None
        if status is not None and status < 200:
            return CheckResult(status, "exit-code")
        said = (
            _journal(state.get("InvocationID", ""))
            or [line for line in lines_of(words.read()) if line][:1]
        )
        return CheckResult(status, state["Result"], said)


def _journal(invocation: str) -> list[str]:
    """Return the warnings of systemd and of the unit's processes for one invocation of
    it (lines).
    """
    if not invocation:
        return []
    match = [f"INVOCATION_ID={invocation}", "+", f"_SYSTEMD_INVOCATION_ID={invocation}"]
    try:
        journal.sync()
        told = [
            entry.text for entry in journal.read(["--priority=warning", *match], _JOURNAL_LINES)
        ]
    except journal.JournalError:
        return []
    return list(
        dict.fromkeys(
            line
            for line in told
            if "Main process exited" not in line and "Failed with result" not in line
        )
    )


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


def _forward_output(job: subprocess.Popen[bytes], pipes: dict[str, int]) -> None:
    """Copy the pipes to our stdout and stderr until `job` has exited."""
    out, err = pipes.values()
    # As text, so that it passes untrusted_text.filtered(): the app prints here, too.
    targets = {out: sys.stdout, err: sys.stderr}
    decoders = {fd: codecs.getincrementaldecoder("utf-8")("replace") for fd in targets}
    sys.stdout.flush()
    poll = select.poll()
    for fd in targets:
        poll.register(fd, select.POLLIN)
    ended = os.pidfd_open(job.pid)
    poll.register(ended, select.POLLIN)
    try:
        while True:
            ready = [fd for fd, _ in poll.poll()]
            for fd in targets:
                _forward(fd, decoders[fd], targets[fd])
            if ended in ready:
                return
    finally:
        os.close(ended)


def _forward(fd: int, decoder: codecs.IncrementalDecoder, target: TextIO) -> None:
    """Copy what is in the pipe `fd` now."""
    try:
        while piece := os.read(fd, 65536):
            target.write(decoder.decode(piece))
            target.flush()
    except BlockingIOError:
        return
