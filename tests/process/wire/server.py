"""Starts the server that the wire cases are sent to, the way systemd would, and ends it.

The real command runs as a process of its own with two inherited listening sockets, TCP and unix, and a notification socket that is
bound and read. One worker, so that the app's counters are in one place. It is ended by its pid, and must leave with status 0.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

from waiting import wait_until

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
READY_TIMEOUT = 20  # seconds
EXIT_TIMEOUT = 20

# "plain" waits for nothing: whatever is closed there was closed on purpose. "small" has limits that a case can reach; "hasty" has
# no patience, and "unread" none with clients that do not read.
PATIENT = ["--header-timeout", "60", "--body-timeout", "60", "--keepalive-timeout", "60", "--idle-timeout", "0"]
HASTY = ["--header-timeout", "0.4", "--body-timeout", "0.4", "--keepalive-timeout", "0.4", "--write-timeout", "0.4", "--idle-timeout", "0"]
BELOW = "/blog"
SETTINGS = {
    "plain": PATIENT,
    "small": [*PATIENT, "--max-head", "4K", "--max-fields", "20", "--max-body", "64K", "--body-memory", "1K"],
    "hasty": HASTY,
    "unread": [*PATIENT, "--write-timeout", "0.4"],
    "chain": [*PATIENT, "--trusted-proxies", "127.0.0.1, ::1, unix, 10.0.0.0/8"],
    "credulous": [*PATIENT, "--forwarded-headers", "for,proto,host,port,by,prefix,scheme,server,ssl,forwarded"],
    "strangers": [*PATIENT, "--trusted-proxies", "10.0.0.1"],
    "below": [*PATIENT, "--script-name", BELOW, "--forwarded-headers", "for,proto,prefix"],
    "proxied": [*PATIENT, "--proxy-protocol"],
    "hasty_proxied": [*HASTY, "--proxy-protocol"],
}

# A process is told the fds by LISTEN_FDS and that it is meant by LISTEN_PID (sd_listen_fds(3)): only it knows its pid before exec.
# PR_SET_PDEATHSIG (1, prctl(2)): should the tests be killed, their server gets a SIGTERM (15). The largest file is limited because a
# server that runs wild can log gigabytes a minute.
INHERIT = """
import ctypes, fcntl, os, resource, sys
ctypes.CDLL(None).prctl(1, 15)
resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 20, 256 << 20))
fds = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 64) for each in sys.argv[1].split(",")]
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number)
    os.close(fd)
os.environ |= {"LISTEN_FDS": str(len(fds)), "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""
# The tree's own, unless a command is named: what is installed is sent the same cases (debian/tests).
COMMAND = os.environ.get("WIRE_COMMAND", "").split() or [sys.executable, "-m", "spyglass"]


def command(settings, app="apps:app"):
    return [*COMMAND, "serve", app, "--directory", str(HERE), "--workers", "1", *settings]


class Server:
    """A running server for an app, WSGI or ASGI. `tcp` and `unix` are the addresses of its listeners."""

    def __init__(self, name, directory, caches=True, app="apps:app"):
        self.caches = caches
        self.gates = directory
        self.log_path = directory / "log"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify"))
        self.ready = threading.Event()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        self.unix = str(directory / "http.sock")
        self.below = BELOW.encode() if "--script-name" in SETTINGS[name] else b""  # where its app is
        self.preface = b"PROXY UNKNOWN\r\n" if "--proxy-protocol" in SETTINGS[name] else b""
        self._start(command(SETTINGS[name], app))
        self._await_ready()
        self.worker = self.ask(b"/pid")

    def _start(self, arguments):
        tcp = socket.create_server(("127.0.0.1", 0), backlog=512)
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(self.unix)
        unix.listen(512)
        self.tcp = tcp.getsockname()
        fds = (tcp.fileno(), unix.fileno())
        environ = os.environ | {
            "NOTIFY_SOCKET": str(self.gates / "notify"),
            "LISTEN_FDNAMES": "http:http",
            "WIRE_CACHES": "on" if self.caches else "off",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        }
        with tcp, unix, self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", INHERIT, ",".join(map(str, fds)), *arguments],
                pass_fds=fds, env=environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _listen(self):
        # Read for as long as the server lives: a full notification socket would block its Master.
        while message := self.notify.recv(4096):
            if b"READY=1" in message.split(b"\n"):
                self.ready.set()

    def _await_ready(self):
        def ready():
            assert self.process.poll() is None, f"the server has ended:\n{self.log()}"
            return self.ready.is_set()

        try:
            wait_until(ready, READY_TIMEOUT, lambda: f"the server is not ready:\n{self.log()}")
        except AssertionError:
            self.stop()
            raise

    @property
    def log_size(self):
        return self.log_path.stat().st_size

    def log(self, start=0):
        with self.log_path.open(encoding="latin-1") as log:
            log.seek(start)
            return log.read()

    def trouble(self):
        """What has happened to the worker since the last time, or None. One that hangs is killed, for the sake of what follows."""
        before = self.worker
        try:
            self.worker = self.ask(b"/pid")
        except OSError as error:
            os.kill(int(before), signal.SIGKILL)
            self.worker = self.ask(b"/pid")
            return f"then the worker did not answer ({error}), and was killed"
        return None if self.worker == before else "then the worker had died"

    def ask(self, target):
        """The body of an answer, over a connection of its own."""
        with socket.create_connection(self.tcp, timeout=10) as connection:
            connection.sendall(self.preface + b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (self.below + target))
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        return received.partition(b"\r\n\r\n")[2]

    def stop(self):
        """Ask it to leave; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return f"none, SIGTERM did not end it within {EXIT_TIMEOUT} s"
        finally:
            self.process.wait()
            self.notify.shutdown(socket.SHUT_RDWR)
            self.listener.join()
            self.notify.close()
