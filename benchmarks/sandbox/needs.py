"""What apps do, tried from inside the sandbox. Runs in the machine, in the place of
/usr/bin/spyglass, under the shipped units.

The first connection starts it; it tries everything below and answers with a JSON
object: name to "ok", or to what went wrong. NEEDS must work, or somebody's app does
not. REFUSED must fail: it is what the sandbox is for, and each line shows the error
that an administrator will find in a traceback. check.py starts the peers that some of
these talk to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import getpass
import json
import logging.handlers
import mmap
import multiprocessing
import os
import resource
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory
from pathlib import Path

PEER_PORT = 9901
PEER_PATH = "/run/database.sock"
STATE = Path(os.environ.get("STATE_DIRECTORY", "/nowhere"))
CACHE = Path(os.environ.get("CACHE_DIRECTORY", "/nowhere"))
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """A function of the C library that returns -1 and sets errno."""
    result: int = getattr(libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def flask() -> None:
    from flask import Flask

    app = Flask("needs")
    app.add_url_rule("/", view_func=lambda: "hello")
    assert app.test_client().get("/").data == b"hello"


def django() -> None:
    from django.conf import settings

    settings.configure(
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": STATE / "django.sqlite3"}
        },
        SECRET_KEY="needs",
    )
    import django as package
    from django.db import connection

    package.setup()
    with connection.cursor() as cursor:
        cursor.execute("create table if not exists visits (n integer)")
        cursor.execute("insert into visits values (%s)", [1])
        cursor.execute("select count(*) from visits")
        assert cursor.fetchone()[0] > 0


def sqlite_wal() -> None:
    with contextlib.closing(
        sqlite3.connect("relative.sqlite3")
    ) as database:  # the working directory is the state directory
        assert database.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        with database:
            database.execute("create table if not exists t (x)")
            database.execute("insert into t values (zeroblob(100000))")
    assert Path(STATE, "relative.sqlite3").exists()


def files() -> None:
    path = STATE / "file"
    path.write_text("x")
    path.chmod(0o640)
    os.utime(path)
    with path.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
    path.rename(STATE / "renamed")
    os.link(STATE / "renamed", STATE / "linked")
    for name in ("renamed", "linked"):
        (STATE / name).unlink()


def upload() -> None:
    for directory in (None, "/var/tmp"):
        with tempfile.TemporaryFile(dir=directory) as spool:
            for _ in range(20):
                spool.write(bytes(1 << 20))
            assert spool.tell() == 20 << 20


def peer(family: socket.AddressFamily, address: object) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(address)  # type: ignore[arg-type]
        return client.recv(100).decode()


def database_peer() -> None:
    # What PostgreSQL's "peer" authentication asks the kernel for: it must see our uid
    # as it is outside of our user namespace.
    assert peer(socket.AF_UNIX, PEER_PATH) == str(os.getuid())


def lookup() -> None:
    assert socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)


def subprocesses() -> None:
    assert (
        subprocess.run(["/bin/sh", "-c", "echo $((6 * 7))"], capture_output=True, check=True).stdout
        == b"42\n"
    )
    subprocess.run(["/usr/bin/id", "-un"], check=True, capture_output=True, start_new_session=True)


def async_subprocess() -> None:
    async def main() -> int:
        return await (await asyncio.create_subprocess_exec("/bin/true")).wait()

    assert asyncio.run(main()) == 0


def threads() -> None:
    found: list[int] = []
    started = [threading.Thread(target=found.append, args=(n,)) for n in range(16)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert len(found) == 16


def pool(method: str) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as workers:
        assert list(workers.map(abs, [-1, -2])) == [1, 2]


def shared() -> None:
    with multiprocessing.Lock(), multiprocessing.Semaphore(2):
        block = shared_memory.SharedMemory(create=True, size=1 << 20)
        block.buf[:2] = b"hi"
        block.close()
        block.unlink()


def callback() -> None:
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    libc.qsort(numbers, 3, ctypes.sizeof(ctypes.c_int), kind(lambda a, b: a[0] - b[0]))
    assert list(numbers) == [1, 2, 3]


def jit() -> None:
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        code.write(b"\xc3")


def watching() -> None:
    os.close(os.memfd_create("needs"))
    os.close(os.pidfd_open(os.getpid()))
    os.close(call("inotify_init1", 0))
    os.close(os.eventfd(0))


def limits() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    assert soft >= 0 or hard
    assert os.sched_getaffinity(0)
    for path in (
        "/proc/meminfo",
        "/proc/loadavg",
        "/proc/cpuinfo",
        "/proc/self/status",
        "/proc/sys/net/core/somaxconn",
    ):
        assert Path(path).read_text()


def identity() -> None:
    assert Path.home() == Path(os.environ["HOME"])
    assert Path.home().resolve() == STATE.resolve()
    assert getpass.getuser().startswith("spyglass")
    Path.home().joinpath(".config").mkdir(exist_ok=True)


def byte_code() -> None:
    subprocess.run(
        [sys.executable, "-c", "import some_module"],
        env={
            **os.environ,
            "PYTHONPATH": "/srv/needs",
            "PYTHONPYCACHEPREFIX": str(CACHE / "pycache"),
        },
        check=True,
    )
    assert list(CACHE.rglob("some_module*.pyc"))


def system_log() -> None:
    handler = logging.handlers.SysLogHandler("/dev/log")
    handler.emit(logging.LogRecord("needs", logging.INFO, "", 0, "to syslog", None, None))
    handler.close()


NEEDS: dict[str, Callable[[], object]] = {
    "Flask": flask,
    "Django with its database in the state directory": django,
    "sqlite, write-ahead log, relative path": sqlite_wal,
    "files: chmod, utime, flock, rename, link": files,
    "uploads of 20 MB in /tmp and /var/tmp": upload,
    "home and user name": identity,
    "byte code in the cache directory": byte_code,
    "TCP out": lambda: peer(socket.AF_INET, ("127.0.0.1", PEER_PORT)),
    "TCP out, IPv6": lambda: peer(socket.AF_INET6, ("::1", PEER_PORT)),
    "unix socket to a database, peer authentication": database_peer,
    "names: getaddrinfo": lookup,
    "TLS context with the system's certificates": ssl.create_default_context,
    "subprocesses": subprocesses,
    "asyncio subprocess": async_subprocess,
    "threads": threads,
    "process pool, fork": lambda: pool("fork"),
    "process pool, spawn": lambda: pool("spawn"),
    "semaphores and shared memory in /dev/shm": shared,
    "ctypes callback": callback,
    "memfd, pidfd, inotify, eventfd": watching,
    "limits and machine facts in /proc": limits,
    "syslog": system_log,
}

REFUSED: dict[str, Callable[[], object]] = {
    "write beside the code": lambda: Path("/srv/needs/x").write_text(""),
    "write in /etc": lambda: Path("/etc/x").write_text(""),
    "chown": lambda: os.chown(STATE, 0, 0),
    "nice": lambda: os.nice(1),
    "sched_setaffinity": lambda: os.sched_setaffinity(0, {0}),
    "ptrace": lambda: call("ptrace", 0, 0, 0, 0),
    "mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "unshare (a user namespace)": lambda: call("unshare", 0x10000000),
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "netlink socket (if_nameindex)": socket.if_nameindex,
    "another's process in /proc": lambda: Path("/proc/1/status").read_text(),
    "cgroup": lambda: Path("/sys/fs/cgroup/x").mkdir(),
    "kernel log": lambda: Path("/dev/kmsg").read_bytes(),
    "a device (/dev/fuse)": lambda: Path("/dev/fuse").read_bytes(),
    "set the clock": lambda: call("clock_settime", 0, (ctypes.c_long * 2)(0, 0)),
    "writable and executable memory (a JIT)": jit,
    "a setuid file": lambda: (STATE / "s").touch() or (STATE / "s").chmod(0o4755),
}


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def main() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    with socket.socket(fileno=3) as listener:
        client, _ = listener.accept()
    with client:
        client.recv(4096)
        found = {
            "needs": {n: outcome(a) for n, a in NEEDS.items()},
            "refused": {n: outcome(a) for n, a in REFUSED.items()},
        }
        client.sendall(json.dumps(found).encode())


if __name__ == "__main__":
    main()
