"""A rehearsal in the very sandbox of an app: as its user, with its directories,
environment, credentials and limits.

The sandbox is made by systemd alone: the unit of the service, with all its
drop-ins, is copied under another name, spyglass-check@NAME.service, with a command that
serves nothing. The copy lives in /run for as long as the command runs. What is left out
is what would touch the app itself: the tie to its socket, whatever is done before and
after, restarts, the watchdog. systemd-run would be shorter, but has no notion of a unit
file: each line would have to be translated to a property, and some have none.

The service may be awake meanwhile. Both units have one dynamic user then, and the same
directories, which systemd keeps for as long as either needs them (systemd.exec(5),
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

# What is left of a service when its command ends by itself and no command waits for it.
# The last assignment wins.
_OVERRIDES = """\
Type=oneshot
ExitType=main
Restart=no
RemainAfterExit=no
SuccessExitStatus=
WatchdogSec=0
NotifyAccess=none
TimeoutStopSec=5
# The directory is the service's too, which may be awake.
RuntimeDirectoryPreserve=yes
StandardInput=null
"""
_DROPPED = re.compile(
    r"Exec|Sockets$|RuntimeMaxSec$|RestartForceExitStatus$|FileDescriptorStore|OpenFile$|PIDFile$|BusName$"
)
_KEPT_IN_UNIT_SECTION = ("JoinsNamespaceOf",)  # part of the sandbox though it is written elsewhere


_GRACE = 30.0  # seconds
_JOURNAL_LINES = 100  # lines of the journal at the most


class SandboxError(StartError):
    """The sandbox cannot be tried; the text says why."""


def check_unit(
    name: str, texts: Iterable[str], words: Sequence[str] = (), timeout: float = 60.0
) -> str:
    """The service of the app `name`, of which `texts` are the file and its drop-ins in
    order, as one that only checks.

    `words` are added to the command, which is ended after `timeout` seconds. Raises
    SandboxError when the command is not one of ours.
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
    """Specifiers that would be others in a unit of another name (systemd.unit(5))."""
    theirs = {"%n": systemctl.service_of(name), "%N": f"spyglass@{name}"} | dict.fromkeys(
        ("%p", "%P", "%j", "%J"), "spyglass"
    )
    return re.sub("%.", lambda found: theirs.get(found[0], found[0]), value)


def _quoted(word: str) -> str:
    """As a unit file has it: quotes are undone first, then specifiers, and variables
    when it is run (systemd.service(5)).
    """
    safe = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%$-_=./:,@+*"
    escaped = "".join(chr(byte) if byte in safe else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return '"' + escaped.replace("%", "%%").replace("$", "$$") + '"'


class CheckResult:
    """How a rehearsal ended: `status` is its exit status, or None when it never ran, or
    did not end by itself.

    `result` is systemd's word for that ("exit-code", "signal", "oom-kill"), `said` what
    systemd says, a line each.
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
    """Run `spyglass check` where the app `name` would run, and pass on what it says.
    Leaves nothing behind, also when it is interrupted.

    The command gives the app `start_timeout` seconds, and ends by itself soon after. An
    app may stop it, with all that would continue it, for it is the same user (kill(2)):
    then systemd ends it.
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
            systemctl.run("stop", unit)  # left behind by a command that was killed
            systemctl.run("reset-failed", unit)
            with open(
                path, "w", encoding="utf-8", errors="surrogateescape"
            ) as stream:  # as files.read() has read it
                stream.write(f"{text}StandardOutput=file:{out}\nStandardError=file:{err}\n")
            return _run(unit, pipes)
        finally:
            systemctl.run("stop", unit)
            if os.path.exists(path):
                os.unlink(path)
            systemctl.run(
                "reset-failed", unit
            )  # a failed one would stay in systemd's memory, and be what the next is


def _run(unit: str, pipes: dict[str, int]) -> CheckResult:
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
    """What systemd and its children have to complain of."""
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
    """Two named pipes for a unit's output and errors, path to descriptor, in this
    order. systemd opens them as root, before all else.
    """
    folder = f"/run/spyglass-check@{name}"
    shutil.rmtree(folder, ignore_errors=True)  # left behind by a command that was killed
    os.mkdir(folder, 0o700)
    pipes: dict[str, int] = {}
    try:
        for kind in ("out", "err"):
            path = os.path.join(folder, kind)
            os.mkfifo(path, 0o600)
            # For writing too, or end of file would be seen before the first writer
            # opens it (fifo(7)).
            pipes[path] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        yield pipes
    finally:
        for fd in pipes.values():
            os.close(fd)
        shutil.rmtree(folder)


def _forward_output(job: subprocess.Popen[bytes], pipes: dict[str, int]) -> None:
    """Pass on what comes until the job has ended."""
    out, err = pipes.values()
    # Text, so that it goes the way of all that is printed: the app prints, too
    # (outside.filtered()).
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
    try:
        while piece := os.read(fd, 65536):
            target.write(decoder.decode(piece))
            target.flush()
    except BlockingIOError:
        return
