"""Run a command as an app: in a copy of its service's unit, with our stdin, stdout and
stderr.

The unit is spyglass-run-PID@NAME.service, so several commands may run at once, and with
them the app itself. It is a copy of the service (units/service_copy.py) that starts
enter_app.py, which is sent the command and the descriptors (run_channel.py). This
process then waits, passes signals on, and relays a terminal (terminal_relay.py).

The processes of the app's user are not trusted: the socket answers the unit's own
process only, which the kernel names (SO_PEERCRED), and no command runs as root.
"""

from __future__ import annotations

import glob
import os
import re
import select
import signal
import socket
import struct
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spyglass import __version__
from spyglass.errors import StartError
from spyglass.ops.files import memory_file, path_ownership
from spyglass.ops.output.untrusted_text import lines_of, number
from spyglass.ops.run import run_channel
from spyglass.ops.run.terminal_relay import TerminalRelay
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import service_copy, start_failures

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from spyglass.ops.run.run_channel import Request

DIRECTORY = "/run/spyglass-run"  # of the sockets
_START = 90.0  # seconds until the unit's process has connected
_FORWARDED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip

# What makes the sandbox, for --no-sandbox. Not PrivateTmp=: the app's /tmp is its own.
_SANDBOX = re.compile(
    r"(Protect|Restrict|SystemCall|IPAddress|SocketBind).*"
    r"|Private(Devices|IPC|Mounts|Network|PIDs|Users)"
    r"|MemoryDenyWriteExecute|LockPersonality|NoNewPrivileges|CapabilityBoundingSet|SecureBits"
    r"|DevicePolicy|DeviceAllow|KeyringMode|ProcSubset"
    r"|(ReadOnly|Inaccessible|Exec|NoExec)Paths"
)
_SERVICE = """\
TimeoutStartSec=infinity
StandardOutput=journal
StandardError=journal
# What enter-app prints before it has our stderr must show among the warnings.
SyslogLevel=warning
"""


def unit_text(
    name: str,
    texts: Sequence[str],
    channel: str,
    *,
    sandbox: bool = True,
    writable: Sequence[str] = (),
) -> str:
    """Return the text of the unit that runs a command as the app `name`.

    `texts` are its service's unit file and drop-ins in order, `channel` is the path of
    the socket. Without `sandbox` the directives that restrict the service are omitted.
    `writable` are paths that the command may write to, so far as its user may. Raise
    SandboxError if the service does not run `spyglass serve`.
    """
    service = systemctl.service_of(name)
    lines = [f'ReadWritePaths="{path.replace("%", "%%")}"\n' for path in writable]
    return service_copy.unit_text(
        name,
        # By default a unit is in a slice of its template, where limits may be set.
        ["[Service]\nSlice=system-spyglass.slice", *texts],
        f"enter-app {channel}",
        unit=[
            "Description=Command of the app %i (spyglass run)",
            "StartLimitIntervalSec=0",
            # With the app awake, both have one /tmp (PrivateTmp=).
            f"JoinsNamespaceOf={service}",
        ],
        service=_SERVICE + "".join(lines),
        dropped=None if sandbox else _SANDBOX,
    )


def run(
    name: str,
    texts: Sequence[str],
    request: Request,
    *,
    begun: Callable[[], object] = lambda: None,
    sandbox: bool = True,
    writable: Sequence[str] = (),
) -> int:
    """Run the command; return its exit status, or 128 + the number of the signal that
    ended it. Call `begun()` when it has been handed over.

    Raise StartError if it could not be started. Nothing is left behind, unless this
    process is killed: then the next one cleans up.
    """
    _sweep(name)
    unit = f"spyglass-run-{os.getpid()}@{name}.service"
    with _listening() as (listener, channel):
        text = unit_text(name, texts, channel, sandbox=sandbox, writable=writable)
        session = _Session(name, unit, texts, request, listener, begun)
        with session.signals_recorded():
            try:
                service_copy.write(unit, text)
                return session.run()
            finally:
                service_copy.remove(unit)


def _sweep(name: str) -> None:
    """Remove what a `spyglass run` that was killed has left of its ended command."""
    for path in glob.glob(f"{service_copy.UNITS}/spyglass-run-*@{glob.escape(name)}.service"):
        unit = os.path.basename(path)
        pid = unit.removeprefix("spyglass-run-").partition("@")[0]
        if os.path.exists(f"/proc/{pid}") and pid != str(os.getpid()):
            continue
        state = systemctl.show([unit], ["ActiveState"])[unit]["ActiveState"]
        if state in ("inactive", "failed"):
            service_copy.remove(unit)
            if os.path.exists(f"{DIRECTORY}/{pid}"):
                os.unlink(f"{DIRECTORY}/{pid}")


@contextmanager
def _listening() -> Iterator[tuple[socket.socket, str]]:
    """Listen on a unix socket; yield it and its path."""
    os.makedirs(DIRECTORY, 0o755, exist_ok=True)
    if why := path_ownership.weakness(DIRECTORY):
        raise StartError(f"{why}: refusing to use a socket there")
    path = os.path.join(DIRECTORY, str(os.getpid()))
    if os.path.lexists(path):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(path)
        try:
            # A dynamic user has no number yet. _Session decides which process is
            # answered.
            os.chmod(path, 0o666)  # noqa: S103, see above
            listener.listen()
            yield listener, path
        finally:
            os.unlink(path)


class _Session:
    """One command, from the start of its unit to its end."""

    def __init__(
        self,
        name: str,
        unit: str,
        texts: Sequence[str],
        request: Request,
        listener: socket.socket,
        begun: Callable[[], object],
    ) -> None:
        self._name = name
        self._unit = unit
        self._texts = texts
        self._request = request
        self._listener = listener
        self._begun = begun
        self._relay = TerminalRelay()
        self._signals: list[int] = []
        self._handed_over = False
        self._wakeup, self._written = -1, -1

    @contextmanager
    def signals_recorded(self) -> Iterator[None]:
        """Record signals instead of ending, up to the end of the clean-up.

        One that is ignored stays so, as nohup(1) and a shell's background jobs expect.
        """
        self._wakeup, self._written = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Python writes the number of each signal there.
        signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        before = {
            each: signal.signal(each, lambda _number, _frame: None)
            for each in (*_FORWARDED, signal.SIGWINCH)
            if signal.getsignal(each) is not signal.SIG_IGN
        }
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
            signal.set_wakeup_fd(-1)
            os.close(self._wakeup)
            os.close(self._written)

    def run(self) -> int:
        with memory_file.create() as words:
            job = systemctl.start_in_background(self._unit, words)
            try:
                with self._relay.raw_keyboard():
                    self._wait(job)
            finally:
                job.terminate()
                job.wait()
            return self._status(job.returncode, memory_file.text_of(words))

    def _wait(self, job: subprocess.Popen[bytes]) -> None:
        """Hand the command over, then relay, until the unit's job has ended."""
        ended = os.pidfd_open(job.pid)
        until = time.monotonic() + _START
        try:
            while True:
                poll = select.poll()
                for fd in (ended, self._wakeup):
                    poll.register(fd, select.POLLIN)
                if not self._handed_over:
                    poll.register(self._listener, select.POLLIN)
                for fd, events in self._relay.events().items():
                    poll.register(fd, events)
                timeout = None if self._handed_over else max(0.0, until - time.monotonic()) * 1000
                ready = [fd for fd, _ in poll.poll(timeout)]
                # Any process may connect, so there may be something ready for ever.
                if not self._handed_over and time.monotonic() >= until:
                    raise StartError(
                        f"{self._unit} has not started for {_START:.0f} s: journalctl -u {self._unit}"
                    )
                # Whatever the poll said: a signal that came as it returned came before
                # the keys, which are for a terminal that has its new size by now.
                self._take_signals()
                if self._listener.fileno() in ready:
                    self._hand_over()
                for fd in ready:
                    if fd in self._relay.events():
                        self._relay.handle(fd)
                if self._relay.is_abandoned:
                    sys.exit(128 + signal.SIGTERM)  # the unit is stopped below
                if ended in ready:
                    self._relay.drain()
                    return
        finally:
            os.close(ended)

    def _take_signals(self) -> None:
        try:
            recorded = os.read(self._wakeup, 4096)
        except BlockingIOError:
            return
        for each in recorded:
            if each == signal.SIGWINCH:
                self._relay.resize()
            elif each in _FORWARDED and self._handed_over:
                # To all processes of the unit, as a terminal's Ctrl-C.
                systemctl.run("kill", f"--signal={each}", self._unit)
            elif each in _FORWARDED:
                sys.exit(128 + each)

    def _hand_over(self) -> None:
        """Send the command to the unit's process. Raise StartError if it is root's."""
        channel, _ = self._listener.accept()
        with channel:
            peer = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, uid, _ = struct.unpack("iII", peer)
            if not _is_in(self._unit, pid, uid):
                return
            if uid == 0:
                raise StartError(
                    f"{systemctl.service_of(self._name)} runs as root, and this command runs nothing as "
                    f"root: set user in /etc/spyglass/{self._name}.toml, and remove User= from drop-ins"
                )
            self._relay.give_to(uid)
            self._request.terminal = self._relay.terminal
            try:
                run_channel.send(channel, self._request, self._relay.stdio)
            except OSError as error:
                raise StartError(
                    f"{self._unit}: cannot send the command: {error.strerror or error}"
                ) from None
            self._handed_over = True
        self._begun()

    def _status(self, returncode: int, said: str) -> int:
        """Return the command's exit status, when its unit has ended.

        `returncode` is that of `systemctl start`, which has `said` something. Raise
        StartError if there was no command.
        """
        if returncode == 0 and self._handed_over:
            return 0
        state = systemctl.show(
            [self._unit], ["Result", "ExecMainCode", "ExecMainStatus", "InvocationID"]
        )[self._unit]
        status = number(state["ExecMainStatus"])
        if self._handed_over:
            # CLD_EXITED is 1 (waitid(2)); without a status the unit was stopped by
            # `systemctl stop`.
            if state["ExecMainCode"] == "1":
                return status
            if state["Result"] == "oom-kill":
                print(
                    "spyglass: the command ran out of memory: memory_max, or this machine, is too small",
                    file=sys.stderr,
                )
            return 128 + (status or signal.SIGTERM)
        raise self._failure(state, status, said)

    def _failure(self, state: Mapping[str, str], status: int, said: str) -> StartError:
        """Return why there was no command: the unit has this `state`, and its process
        the exit status `status`.
        """
        told = start_failures.messages(state["InvocationID"])
        if any("unknown command 'enter-app'" in line for line in told):
            return StartError(
                f"the Spyglass in the virtual environment of {self._name} is too old for this: install "
                f"{__version__} there"
            )
        lines = [
            *start_failures.missing_files(self._texts),
            *(f"systemd: {line}" for line in told),
        ] or [line for line in lines_of(said) if line][:1]
        if status >= 200:
            service = systemctl.service_of(self._name)
            return StartError(f"{service} {start_failures.step(status)}", also=lines)
        stopped = state["Result"] == "success"
        why = "was stopped before the command began" if stopped else f"failed: {state['Result']}"
        return StartError(f"{self._unit} {why}", also=lines)


def _is_in(unit: str, pid: int, uid: int) -> bool:
    """Return True if the process `pid` of the user `uid` belongs to `unit`.

    The process that has connected may have ended, and its number may be another's: the
    user must be the same.
    """
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii", errors="replace") as stream:
            groups = [line.rstrip("\n").rpartition("/")[2] for line in stream]
        return unit in groups and os.stat(f"/proc/{pid}").st_uid == uid
    except OSError:
        return False
