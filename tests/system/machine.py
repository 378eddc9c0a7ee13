"""A Debian machine with a real systemd as its PID 1, booted in about a second and gone
without a trace.

Who starts it: the fixtures in conftest.py, and `make shell` (`python3
tests/system/machine.py trixie`). Standard library and tests/waiting.py only.

    def test_something(machine):                        # booted once per test module, on bookworm and again on trixie
        machine.write("/etc/spyglass/blog.toml", 'app = "flaskr:app"')
        machine.systemctl("start", "spyglass.socket")
        assert machine.processes() == []
        with machine.http(4222) as client:              # a socket in the machine's network, spoken to from the test process
            client.request("GET", "/")
            assert client.getresponse().status == 200
        machine.wait_until(lambda: not machine.processes(), what="everybody has left")
        assert machine.state("spyglass.socket")["SubState"] == "listening"
        assert "awake" in "\\n".join(machine.journal("spyglass.service"))

`run`, `popen`, `systemctl`, `write`, `read` act inside; `connect`, `http` and `network`
bring its loopback (it has nothing else) to the test process. `machine` is shared by the
tests of a module; it has the .deb installed and Flask and Django in /srv/venv.
`clean_machine` has neither, nor python3: it is for `apt install` itself, and booted for
one test.

How: packaging/root keeps the roots, packaging/overlay gives each boot a throwaway copy
in memory, systemd-nspawn boots it. Every machine lives in a cgroup of its own, for two
of them in one would mix their equally named units. Processes and mounts live in
namespaces that end with us, even by SIGKILL; the two things that would stay behind
then, an empty cgroup and an empty directory, are swept away by the next boot.
"""

from __future__ import annotations

import ctypes
import fnmatch
import functools
import http.client
import itertools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # also for `make shell`

from waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
OVERLAY = str(REPOSITORY / "packaging/overlay")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
PREFIX = "spyglass-test"  # names cgroups and directories: PREFIX-PID-N
CLONE_NEWNET = 0x40000000  # setns(2); os.setns came with Python 3.12

Address = int | tuple[str, int] | str

_serial = itertools.count(1)


@dataclass(frozen=True)
class Process:
    pid: int  # as the machine counts
    host_pid: int  # as we count
    unit: str
    argv: tuple[str, ...]


class Machine:
    """A booted machine. `boot` makes one and ends it."""

    def __init__(self, release: str, name: str, leader: int, cgroup: Path) -> None:
        self.release = release
        self.name = name
        self.leader = leader  # its PID 1, as we count
        self._cgroup = cgroup
        self._popen: list[subprocess.Popen[str]] = []

    wait_until = staticmethod(wait_until)

    # Inside the machine

    def _enter(
        self, argv: Sequence[str], user: str | None, env: dict[str, str] | None
    ) -> dict[str, Any]:
        """Arguments for subprocess. What runs inside is told when nsenter, all that we
        can signal from here, has gone.
        """
        # runuser goes through PAM and so gives `user` the groups and limits of a login.
        become = ["runuser", "-u", user, "--"] if user else []
        enter = ["nsenter", "--all", "--target", str(self.leader), "setpriv", "--pdeathsig", "TERM"]
        return {"args": [*enter, *become, *argv], "env": ENVIRONMENT | (env or {})}

    def run(
        self,
        *argv: str,
        check: bool = True,
        input: str | None = None,
        timeout: float = 180,
        user: str | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs `argv` to its end. `check`: a status other than 0 is an AssertionError
        that shows everything it said.
        """
        feed: dict[str, Any] = (
            {"stdin": subprocess.DEVNULL} if input is None else {"input": input.encode()}
        )
        ended = subprocess.run(
            **self._enter(argv, user, env), **feed, capture_output=True, timeout=timeout
        )
        # Not text=True, which would turn the CR LF of an HTTP head into LF.
        said = [stream.decode(errors="replace") for stream in (ended.stdout, ended.stderr)]
        done = subprocess.CompletedProcess(argv, ended.returncode, *said)
        if check and done.returncode != 0:
            raise AssertionError(
                f"{self.release}: `{shlex.join(argv)}` exited {done.returncode}:\n{''.join(said).strip()}"
            )
        return done

    def popen(
        self, *argv: str, user: str | None = None, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Starts `argv`; options as for subprocess. Ended with SIGTERM by
        `.terminate()`, at the latest with the machine.
        """
        options.setdefault("stdin", subprocess.DEVNULL)
        process: subprocess.Popen[str] = subprocess.Popen(
            **self._enter(argv, user, env), text=True, **options
        )
        self._popen.append(process)
        return process

    def systemctl(self, *argv: str, check: bool = True, timeout: float = 60) -> str:
        """What `systemctl` says."""
        return self.run("systemctl", *argv, check=check, timeout=timeout).stdout

    def state(self, unit: str) -> dict[str, str]:
        """All properties of `systemctl show unit`: ActiveState, SubState, Result,
        MainPID, NRestarts, StatusText...
        """
        lines = self.systemctl("show", "--all", unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    unit_state = state

    def records(self, unit: str | None = None, *options: str) -> list[dict[str, Any]]:
        """The journal as records of fields (systemd.journal-fields(7)), oldest first,
        of one unit or of everything.
        """
        self.run("journalctl", "--sync")
        only = ["--unit", unit] if unit else []
        said = self.run(
            "journalctl", "--quiet", "--no-pager", "--all", "--output=json", *only, *options
        ).stdout
        return [json.loads(line) for line in said.splitlines()]

    def journal(self, unit: str | None = None, *options: str) -> list[str]:
        """The messages of `records`."""
        return [str(record.get("MESSAGE")) for record in self.records(unit, *options)]

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Puts a file in place as a whole: whoever looks meanwhile sees the old one or
        the new one, never a half.
        """
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1.new" && chmod "$2" "$1.new" && mv -T "$1.new" "$1"'
        self.run("sh", "-c", script, "write", path, f"{mode:o}", input=text)

    def read(self, path: str) -> str:
        return self.run("cat", path).stdout

    def copy(self, source: Path, target: str) -> None:
        """Brings a file or a directory of ours into the machine: `target` is its new
        name there.
        """
        script = 'd=$(dirname "$2") && mkdir -p "$d" && tar -C "$d" -x --no-same-owner --transform "s,^$1,$(basename "$2"),"'
        enter = self._enter(["sh", "-c", script, "copy", source.name, target], None, None)
        with subprocess.Popen(
            ["tar", "-C", source.parent, "-c", source.name], stdout=subprocess.PIPE
        ) as packed:
            subprocess.run(**enter, stdin=packed.stdout, check=True)
        assert packed.returncode == 0

    def processes(self, units: str = "spyglass*") -> list[Process]:
        """Who lives in the cgroups of the units that match: exact, whatever the
        processes call themselves.
        """
        found = []
        # Not glob(): a unit may end while its cgroup is walked through, which os.walk()
        # does not mind.
        for cgroup, _, _ in os.walk(self._cgroup / "payload/system.slice"):
            unit = next(
                (part for part in Path(cgroup).parts if fnmatch.fnmatch(part, f"{units}.service")),
                None,
            )
            if unit:
                found += [
                    process
                    for pid in _pids(Path(cgroup, "cgroup.procs"))
                    if (process := _process(pid, unit))
                ]
        return sorted(found, key=lambda process: process.pid)

    # The machine's network, from here

    @contextmanager
    def network(self) -> Iterator[None]:
        """Everything this thread opens or starts in the block is in the machine's
        network: sockets, programs of ours, and threads for as long as they run.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        with (
            open("/proc/thread-self/ns/net") as ours,
            open(f"/proc/{self.leader}/ns/net") as theirs,
        ):
            for namespace in (theirs, ours):
                if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                if namespace is theirs:
                    try:
                        yield
                    except BaseException:
                        libc.setns(ours.fileno(), CLONE_NEWNET)
                        raise

    def path(self, path: str) -> str:
        """Where a path of the machine's is found from here: a file, or a unix socket to
        connect to.
        """
        return f"/proc/{self.leader}/root{path}"

    def connect(self, address: Address, timeout: float | None = 30) -> socket.socket:
        """A connected socket. A port is one of 127.0.0.1, a pair is host (numeric) and
        port, a path is a unix socket's.
        """
        if isinstance(address, str):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(timeout)
            connection.connect(self.path(address))
            return connection
        host, port = ("127.0.0.1", address) if isinstance(address, int) else address
        with self.network():
            return socket.create_connection((host, port), timeout)

    @contextmanager
    def http(
        self, address: Address, timeout: float | None = 30
    ) -> Iterator[http.client.HTTPConnection]:
        """A client that is connected when the block begins, and closed when it ends."""
        client = http.client.HTTPConnection("localhost", timeout=timeout)
        client.sock = self.connect(address, timeout)
        try:
            yield client
        finally:
            client.close()

    def end(self) -> None:
        """Ends what `popen` started; `boot` ends the rest."""
        for process in self._popen:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()


def _pids(procs: Path) -> list[int]:
    # A cgroup that is removed while it is read: ENOENT or ENODEV.
    with suppress(OSError):
        return [int(line) for line in procs.read_text().split()]
    return []


def _process(host_pid: int, unit: str) -> Process | None:
    """None when it has gone meanwhile, or is a zombie: that has no argv."""
    with suppress(OSError):
        argv = (
            Path(f"/proc/{host_pid}/cmdline")
            .read_bytes()
            .rstrip(b"\0")
            .decode(errors="replace")
            .split("\0")
        )
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{host_pid}/status").read_text().splitlines()
        )
        if not status["State"].strip().startswith(("Z", "X")):
            return Process(int(status["NSpid"].split()[-1]), host_pid, unit, tuple(argv))
    return None


# Booting


def boot_script(cgroups: Sequence[Path]) -> str:
    """What runs in packaging/overlay: joins the machine's cgroups (its own pid is 0
    there), then is nspawn.
    """
    join = "".join(f"echo 0 >{shlex.quote(str(cgroup))}/cgroup.procs; " for cgroup in cgroups)
    return join + (
        'exec systemd-nspawn --quiet --directory "$1/root" --machine "$2" --boot --register=no --keep-unit '
        "--private-network --link-journal=no --resolv-conf=off --timezone=off --console=pipe"
    )


def hierarchies() -> list[Path]:
    """Where cgroups are made: the one hierarchy of today, or on a hybrid machine
    systemd's two.
    """
    base = Path("/sys/fs/cgroup")
    if (base / "cgroup.controllers").exists():
        return [base]
    if (base / "unified/cgroup.procs").exists():
        return [base / "unified", base / "systemd"]
    raise RuntimeError("no cgroup2 is mounted at /sys/fs/cgroup: a systemd cannot be booted here")


@contextmanager
def boot(release: str, *layers: Path, options: Sequence[str] = ()) -> Iterator[Machine]:
    """Boots a copy of the root that `layers` make, the topmost first; everything ends
    with the block. `options` are for systemd-nspawn.
    """
    sweep()
    name = f"{PREFIX}-{os.getpid()}-{next(_serial)}"
    directory = Path(tempfile.gettempdir(), name)
    cgroups = [hierarchy / name for hierarchy in hierarchies()]
    for path in (directory, directory / "mounts", *cgroups):
        path.mkdir()
    lower = ":".join(str(layer) for layer in layers)
    script = [
        "sh",
        "-euc",
        f"{boot_script(cgroups)} {shlex.join(options)}",
        "boot",
        str(directory / "mounts"),
        name,
    ]
    with open(directory / "console", "w+") as console:
        # A session of its own: Ctrl-C is for us, and we end the machine in order.
        nspawn = subprocess.Popen(
            [OVERLAY, str(directory / "mounts"), lower, *script],
            env=ENVIRONMENT | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            machine = Machine(release, name, _leader(nspawn, cgroups[0], console), cgroups[0])
            try:
                _settled(machine, nspawn, console)
                yield machine
            finally:
                machine.end()
        finally:
            # PID 1 of a namespace takes all of it along, the unmounting included.
            nspawn.kill()
            nspawn.wait()
            _remove(cgroups, directory)


def _leader(nspawn: subprocess.Popen[bytes], cgroup: Path, console: IO[str]) -> int:
    """The machine's PID 1, as we count. (Number 1 is nspawn's first child too, for a
    moment, before it has become systemd.)
    """

    def look() -> int | None:
        _alive(nspawn, console)
        for pid in _pids(cgroup / "payload/cgroup.procs") + _pids(
            cgroup / "payload/init.scope/cgroup.procs"
        ):
            process = _process(pid, "")
            if process and process.pid == 1 and process.argv[0].endswith(("/systemd", "/init")):
                return pid
        return None

    return wait_until(look, 30, "systemd is the first process of the machine") or 0


def _settled(machine: Machine, nspawn: subprocess.Popen[bytes], console: IO[str]) -> None:
    """Waits until the boot is over. A unit of Debian's own that failed is no matter of
    ours: degraded will do.
    """

    def look() -> bool:
        _alive(nspawn, console)
        # "offline" or "Failed to connect": systemd is there, and not yet to be talked
        # to.
        said = machine.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
        return said in ("running", "degraded")

    wait_until(look, 60, "the machine has booted")


def _alive(nspawn: subprocess.Popen[bytes], console: IO[str]) -> None:
    if nspawn.poll() is not None:
        console.seek(0)
        raise RuntimeError(
            f"systemd-nspawn ended with status {nspawn.returncode}:\n{console.read()}"
        )


def _remove(cgroups: Sequence[Path], directory: Path) -> None:
    for cgroup in cgroups:
        # The last of the killed may still be on its way out; a cgroup can be removed
        # once it is empty.
        wait_until(functools.partial(_rmdir, cgroup), 20, f"{cgroup} is empty")
    shutil.rmtree(directory, ignore_errors=True)


def _rmdir(cgroup: Path) -> bool:
    """Removes the directories of a cgroup, from the leaves; False when a process is
    still in it.
    """
    with suppress(FileNotFoundError):
        try:
            for leaf, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(leaf)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            return False
    return True


def sweep() -> None:
    """Removes what the killed have left: cgroups and directories named after processes
    that are no more.
    """
    for base in (*hierarchies(), Path(tempfile.gettempdir())):
        for path in base.glob(f"{PREFIX}-*"):
            owner = path.name.removeprefix(f"{PREFIX}-").split("-")[0]
            if owner.isdigit() and not Path("/proc", owner).exists():
                if base.is_relative_to("/sys"):
                    _rmdir(path)
                else:
                    shutil.rmtree(path, ignore_errors=True)


# What is booted


def root(kind: str, release: str) -> Path:
    """The kept root of a release, made now if there is none (packaging/root)."""
    command = [str(REPOSITORY / "packaging/root"), kind, release]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHON": sys.executable}
    )
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} failed with status {done.returncode}")
    return Path(done.stdout.strip())


def package(release: str) -> Path:
    """The .deb that `make deb` made."""
    found = sorted((REPOSITORY / "dist" / release).glob("spyglass_*.deb"))
    if len(found) != 1:
        raise RuntimeError(
            f"there should be one .deb in dist/{release}, and there are {len(found)}: make deb"
        )
    return found[0]


def installed(release: str, layer: Path, kind: str = "tests") -> list[Path]:
    """Layers of a machine with the package in it. `layer`, an empty directory, takes
    what dpkg changes in the root of that kind; dpkg runs where no systemd does, so
    nothing is started, and once, not at every boot.
    """
    below = root(kind, release)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}-{os.getpid()}-") as directory:
        # No --install-recommends nor network: the root has what the package depends on,
        # or this fails aloud.
        script = """
            mount -t proc proc "$1/root/proc"
            cp "$2" "$1/root/tmp/spyglass.deb"
            chroot "$1/root" dpkg --install /tmp/spyglass.deb >&2
            rm "$1/root/tmp/spyglass.deb"
            umount "$1/root/proc"
            cp -a "$1/upper/." "$3"
        """
        argv = ["sh", "-euc", script, "install", directory, str(package(release)), str(layer)]
        done = subprocess.run(
            [OVERLAY, directory, str(below), *argv], env=ENVIRONMENT, capture_output=True, text=True
        )
    if done.returncode != 0:
        raise RuntimeError(f"the package could not be installed on {release}:\n{done.stderr}")
    return [layer, below]


def shell(release: str) -> int:
    """`make shell`: root's shell in a booted machine with the package installed."""
    with ExitStack() as stack:
        layer = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{PREFIX}-{os.getpid()}-"))
        machine = stack.enter_context(boot(release, *installed(release, Path(layer))))
        print(
            f"Debian {release} with the package and Flask and Django in /srv/venv. Try: systemctl start spyglass.socket"
        )
        print(
            "Leave with exit or Ctrl-D; the machine and everything in it is gone then.", flush=True
        )
        # Ctrl-C is for what runs in the shell. It reaches us too, and does nothing;
        # ignoring it would be inherited.
        signal.signal(signal.SIGINT, lambda signum, frame: None)
        enter = ["nsenter", "--all", "--target", str(machine.leader), "bash", "--login"]
        return subprocess.run(
            enter, env=ENVIRONMENT | {"TERM": os.environ.get("TERM", "dumb")}
        ).returncode


if __name__ == "__main__":
    sys.exit(shell(sys.argv[1] if len(sys.argv) > 1 else "trixie"))
