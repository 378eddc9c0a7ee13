"""Phusion Passenger, as far as the benchmarks beside this file need it: one that serves
one app, by itself (what it calls the builtin engine), without nginx or Apache.

Passenger is no Python package: it is measured where Debian's package is installed
(`apt install passenger`, Debian 12). It takes no socket from systemd. Its watchdog and
its core always run; what sleeps is the app, of which it starts a process for the first
request (`min_instances 0`) and ends it when that has been idle (`pool_idle_time`).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servers import ENVIRONMENT, PATIENCE, listener, session

AGENT = Path("/usr/lib/passenger/support-binaries/PassengerAgent")
LOCATIONS = "/usr/lib/ruby/vendor_ruby/phusion_passenger/locations.ini"
LOADER = Path("/usr/share/passenger/helper-scripts/wsgi-loader.py")
SHORTEST_IDLE = 1  # seconds
LOOK = 0.005  # seconds between two looks at what runs


@dataclass(frozen=True)
class Passenger:
    pid: int  # of the watchdog
    address: tuple[str, int]

    def processes(self) -> list[int]:
        return session(self.pid)

    def app_processes(self) -> list[int]:
        """Those that have the app, or are about to load it: what Python runs there."""
        return [pid for pid in self.processes() if _is_app(pid)]

    def wait_for_apps(self, number: int) -> None:
        """Wait until it has exactly so many."""
        deadline = time.monotonic() + PATIENCE
        while len(self.app_processes()) != number:
            if time.monotonic() > deadline:
                raise RuntimeError(f"Passenger has {self.app_processes()}, and not {number}")
            time.sleep(LOOK)


def missing() -> str:
    """Return why Passenger cannot be measured here, or "" if it can."""
    if not AGENT.exists():
        return "Passenger is left out, it is not installed: apt install passenger (Debian 12)"
    # Up to 6.0.17 its loader for WSGI needs a module that Python 3.12 has no more.
    if sys.version_info >= (3, 12) and " imp," in LOADER.read_text():
        return "Passenger is left out: this version cannot start apps on Python 3.12 or newer"
    return ""


@contextlib.contextmanager
def passenger(app: str, apps: Path, log: int, instances: int) -> Iterator[Passenger]:
    """Serve MODULE:CALLABLE of the directory `apps`; at least `instances` processes of
    it stay, and at most two are started. All processes end with the block.
    """
    with listener() as free:
        address = free.getsockname()
    # It looks for a file of its own in the app's directory, and nowhere else.
    with tempfile.TemporaryDirectory(prefix="spyglass-benchmark-") as place:
        for source in apps.glob("*.py"):
            Path(place, source.name).symlink_to(source)
        module, _, name = app.partition(":")
        Path(place, "passenger_wsgi.py").write_text(f"from {module} import {name} as application\n")
        process = subprocess.Popen(
            _command(Path(place), address, instances),
            cwd=place,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            served = Passenger(process.pid, address)
            _wait_for_connections(process, address)
            yield served
        finally:
            _end(process)


def _command(place: Path, address: tuple[str, int], instances: int) -> list[str]:
    """What `passenger start --engine builtin` runs, without the Ruby around it."""
    user = pwd.getpwuid(os.getuid()).pw_name  # else nobody's, who may not read all this
    return [
        *(str(AGENT), "watchdog", "--passenger-root", LOCATIONS),
        *("--no-user-switching", "--user", user, "--default-user", user),
        *("--instance-registry-dir", str(place), "--spawn-dir", str(place)),
        *("--BC", "--listen", f"tcp://{address[0]}:{address[1]}"),
        *("--app-type", "wsgi", "--startup-file", "passenger_wsgi.py"),
        *("--python", sys.executable, "--environment", "production"),
        *("--max-pool-size", "2", "--min-instances", str(instances)),
        *("--pool-idle-time", str(SHORTEST_IDLE)),
        # Nothing here may talk to anything outside.
        *("--disable-security-update-check", "--disable-anonymous-telemetry"),
        *(str(place), "--EC"),
    ]


def _is_app(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return str(LOADER).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _wait_for_connections(process: subprocess.Popen[bytes], address: tuple[str, int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(address, PATIENCE).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Passenger does not listen at {address}")
        time.sleep(LOOK)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, and what it has started: those are of its session, not of its group."""
    for pid in session(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    # Where orphans become our children (servers.adopt_orphans()), they wait for that.
    for pid in session(process.pid):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
