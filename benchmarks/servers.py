"""Starts servers as systemd would, and ends them, for the benchmarks beside this file.
Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
PATIENCE = 20.0  # seconds
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
PR_SET_CHILD_SUBREAPER = 36
FIRST_FD = 3

# What every server finds in its environment: nothing of ours. HOME is where Python
# looks for a user's packages.
ENVIRONMENT = {
    "PATH": f"{BIN}:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "SERVER_SOFTWARE": "",
}

# Two workers each, the app in the working directory; otherwise what each takes for
# granted. {app} is MODULE:CALLABLE.
# As the package's units start it: without `site` (spyglass/runtime/late_site.py).
SPYGLASS = [sys.executable, "-S", str(BIN / "spyglass"), "serve", "{app}"]
# It does not look for the environment it is in.
UWSGI = [
    str(BIN / "uwsgi"),
    f"--virtualenv={sys.prefix}",
    "--master",
    "--workers=2",
    "--need-app",
    "--protocol=http",
    "--wsgi={app}",
]
GUNICORN = [str(BIN / "gunicorn"), "--workers=2", "{app}"]


def serving(command: list[str], app: str) -> list[str]:
    return [word.format(app=app) for word in command]


@contextlib.contextmanager
def workplace() -> Iterator[tuple[Path, int]]:
    """Yield a copy of the apps, so that no run finds another's byte code, and the
    descriptor of a log beside it. If something fails, the end of the log is printed.
    """
    with tempfile.TemporaryDirectory(prefix="spyglass-benchmark-") as place:
        directory = Path(place, "apps")
        shutil.copytree(HERE / "apps", directory, ignore=shutil.ignore_patterns("__pycache__"))
        log = os.open(Path(place, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            yield directory, log
        except BaseException:
            print("\n" + Path(place, "log").read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            os.close(log)


def adopt_orphans() -> None:
    """Workers whose parent has died become our children: so that clear() sees the end
    of each of them.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def prefer_us() -> None:
    """Let what else runs here wait, where we may ask for that; all that we start
    inherits it.

    Not by niceness, which counts only among the processes of one session (sched(7),
    autogroup).
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        print("without root, what else runs here runs beside", file=sys.stderr)


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


def asleep(argv: list[str], sock: socket.socket, directory: Path, log: int) -> int:
    """A process that becomes `argv` when somebody connects to `sock`, which it passes
    on (sd_listen_fds(3)); returns its pid.

    Forked ahead, because the fork is not what is measured, and without a shell, for
    only the process itself knows its pid before exec.
    """
    pid = os.fork()
    if not pid:
        _wake_up(argv, sock, directory, log)
    return pid


def _wake_up(argv: list[str], sock: socket.socket, directory: Path, log: int) -> None:
    try:
        os.setsid()
        os.chdir(directory)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(sock.fileno(), FIRST_FD)
        os.set_inheritable(FIRST_FD, True)  # dup2() of a descriptor to itself changes nothing
        environ = ENVIRONMENT | {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "http",
        }
        select.select([FIRST_FD], [], [])
        os.execve(argv[0], argv, environ)
    finally:
        os._exit(127)


def clear(pid: int) -> None:
    """End the server `pid` and all that came from it, and wait until the last of them
    has gone.
    """
    os.killpg(pid, signal.SIGKILL)
    while True:
        try:
            os.waitpid(-pid, 0)  # of its group only: passenger.py may have one as well
        except ChildProcessError:
            return


def session(pid: int) -> list[int]:
    """The processes of a session, which every server here is."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.getsid(int(name)) == pid:
                found.append(int(name))
        except ProcessLookupError:
            pass
    return sorted(found)


def ask(address: tuple[str, int], told: Callable[[], None] = lambda: None) -> bytes:
    """Visit the server at `address`; `told` is called when the first bytes of the
    answer are there. Returns the answer's body.
    """
    with socket.create_connection(address, PATIENCE) as client:
        client.sendall(REQUEST)
        answer = client.recv(4096)
        told()
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"not served: {answer!r}")
        while not _is_whole(answer):
            more = client.recv(4096)
            if not more:
                break
            answer += more
        return answer.partition(b"\r\n\r\n")[2]


def _is_whole(answer: bytes) -> bool:
    """False if more is to come, for all that its length says."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    return bool(end and length) and len(body) >= int(length[1])


class PortServer:
    """A server on a `port` of its own and on one core, which serves when this has been
    made. {app}, {port} and {workers} in its command line are filled in. Raises
    RuntimeError if it does not serve.
    """

    def __init__(self, command: list[str], app: str, log: int, core: str, workers: int = 1) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        argv = [word.format(app=app, port=self.port, workers=workers) for word in command]
        self._process = subprocess.Popen(
            ["taskset", "-c", core, *argv],
            cwd=HERE / "apps",
            env=ENVIRONMENT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.end()
                raise RuntimeError(f"it does not serve {app}")
            time.sleep(0.05)

    @property
    def pids(self) -> list[int]:
        return session(self._process.pid)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return client.recv(12).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def closes(self) -> bool:
        """True if it closes a connection when that is asked for."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            try:
                while client.recv(4096):
                    pass
            except TimeoutError:
                return False
        return True

    def end(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
