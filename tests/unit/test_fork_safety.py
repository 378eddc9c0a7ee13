"""What is said of what an app leaves behind when it has been loaded. Each look is at a
process of its own.
"""

import os
import re
import subprocess
import sys

import pytest

# Prints what is found when the module `app` has been loaded after `earlier`: "grave" or
# "note", "settled" or nothing, and what is said.
CHILD = """
import os, sys
sys.path.insert(0, os.getcwd())
import earlier
from spyglass.zygote.fork_safety import Inspection
from spyglass.zygote.import_effects import Watch
with Watch() as watch:
    import app
for found in Inspection(watch.fds, watch.tids, watch.carers, hasattr(app, "post_fork")).found() if watch.fds or watch.tids else []:
    print(("grave" if found.grave else "note") + (" settled" if found.settled else ""), found)
sys.stdout.flush()
os._exit(0)
"""
THREAD = "import threading, time\ndef run():\n    while True: time.sleep(1)\nthreading.Thread(target=run, name='ticker', daemon=True).start()\n"
TICKER = "a thread, 'ticker', which runs run() of app.py:2: no worker has it"
# To the kernel, a thread lives for a moment longer than for join().
ENDED = "import os\nwhile len(os.listdir('/proc/self/task')) > 1: time.sleep(0.001)\n"
OTHERS = "all workers would send on it, and get each other's answers"
POSITION = "all workers would share one position in it"
LISTEN = "import socket\ns = socket.create_server(('127.0.0.1', 0)); port = s.getsockname()[1]\n"
DATABASE = "its connection is for one process; used by several, it can destroy the file"

ALONE = "only one process may use what the lock guards, most likely a database"


@pytest.fixture
def look(tmp_path):
    """look(source) -> what is found when the app is `source`."""

    def at(source, before=""):
        (tmp_path / "app.py").write_text(source)
        (tmp_path / "earlier.py").write_text(before)
        command = [sys.executable, "-P", "-B", "-c", CHILD]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environ, timeout=30
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.splitlines()

    return at


FOUND = {
    "thread": (THREAD, [f"grave {TICKER}"]),
    "timer": (
        "import threading\ndef later(): pass\nt = threading.Timer(99, later); t.name = 'alarm'; t.daemon = True; t.start()",
        ["grave a thread, 'alarm', which runs later() of app.py:2: no worker has it"],
    ),
    "pool of threads": (
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2, 'pool'); pool.submit(int).result()",
        ["grave a thread, 'pool_0': no worker has it"],
    ),
    "bare thread": (
        "import _thread, time\ndef run(): time.sleep(99)\n_thread.start_new_thread(run, ())\ntime.sleep(0.05)",
        ["grave a thread, which runs run() of app.py:2: no worker has it"],
    ),
    "tcp": (LISTEN + "c = socket.create_connection(s.getsockname()); a = s.accept()[0]; s.close(); a.close()", [rf"grave a connection to 127.0.0.1:\d+ \(descriptor \d+\): {OTHERS}"]),
    "tcp6": (
        "import socket\ns = socket.create_server(('::1', 0), family=socket.AF_INET6); c = socket.create_connection(s.getsockname()[:2]); s.accept()[0].close(); s.close()",
        [rf"grave a connection to \[::1\]:\d+ \(descriptor \d+\): {OTHERS}"],
    ),
    "unix, several": (
        "import socket\ns = socket.socket(socket.AF_UNIX); s.bind('db.sock'); s.listen()\n"
        "c = [socket.socket(socket.AF_UNIX) for _ in range(3)]; [each.connect('db.sock') for each in c]",
        [
            r"grave a socket that listens on db.sock \(descriptor \d+\): each worker has it open, and none accepts from it",
            rf"grave a connection to db.sock \(descriptors \d+, \d+, \d+\): {OTHERS}",
        ],
    ),
    "unix, abstract": (
        "import socket\ns = socket.socket(socket.AF_UNIX); s.bind(b'\\0db%d' % __import__('os').getpid()); s.listen()\n"
        "c = socket.socket(socket.AF_UNIX); c.connect(s.getsockname()); a = s.accept()[0]; s.close()",
        [rf"grave a connection to @db\d+ \(descriptor \d+\): {OTHERS}", r"note one of a pair of sockets \(descriptor \d+\): all workers have both"],
    ),
    "listening": (LISTEN, [r"grave a socket that listens on 127.0.0.1:\d+ \(descriptor \d+\): each worker has it open, and none accepts from it"]),
    "event loop": (
        "import asyncio\nloop = asyncio.new_event_loop()",
        [r"grave an epoll, which event loops use \(descriptor \d+\): all workers would wait in the one, for each other's descriptors"],
    ),
    "sqlite": (
        "import sqlite3\ndb = sqlite3.connect('a.data'); db.execute('pragma journal_mode = wal'); db.execute('create table if not exists t (a)'); db.commit()",
        [rf"grave an SQLite database, a.data \(descriptor \d+\): {DATABASE}"],
    ),
    "sqlite, still empty": ("import sqlite3\ndb = sqlite3.connect('a.db')", [rf"grave an SQLite database, a.db \(descriptor \d+\): {DATABASE}"]),
    # One process alone may use it
    "locked by flock": ("import fcntl\nf = open('Data.fs.lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX)", [rf"grave a file that is locked for writing, Data.fs.lock \(descriptor \d+\): {ALONE}"]),
    "locked by fcntl": ("import fcntl\nf = open('x.duckdb', 'w+'); fcntl.lockf(f, fcntl.LOCK_EX)", [rf"grave a file that is locked for writing, x.duckdb \(descriptor \d+\): {ALONE}"]),
    "locked in part": ("import fcntl\nf = open('lock.mdb', 'w+'); fcntl.lockf(f, fcntl.LOCK_SH, 1, 0); fcntl.lockf(f, fcntl.LOCK_EX, 1, 9)", [rf"grave a file that is locked for writing, lock.mdb \(descriptor \d+\): {ALONE}"]),
    "locked by open file": (
        "import fcntl, struct\nf = open('x', 'w'); fcntl.fcntl(f, fcntl.F_OFD_SETLK if hasattr(fcntl, 'F_OFD_SETLK') else 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))",
        [rf"grave a file that is locked for writing, x \(descriptor \d+\): {ALONE}"],
    ),
    "a directory": ("import fcntl, os\nf = os.open('.', os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX)", [rf"grave a file that is locked for writing, .* \(descriptor \d+\): {ALONE}"]),
    "an SQLite transaction": (
        "import sqlite3\ndb = sqlite3.connect('a.data'); db.execute('create table t (a)'); db.execute('insert into t values (1)')",
        [rf"grave a file that is locked for writing, a.data \(descriptor \d+\): {ALONE}"],
    ),
    "locked for reading": ("import fcntl\nf = open('/etc/passwd'); fcntl.flock(f, fcntl.LOCK_SH)", [rf"note a file that is open for reading, /etc/passwd \(descriptor \d+\): {POSITION}"]),
    "locked by another": (
        "import fcntl, subprocess, sys\nf = open('x', 'w+')\nchild = subprocess.Popen([sys.executable, '-c', 'import fcntl, sys; fcntl.lockf(1, fcntl.LOCK_EX); sys.stderr.write(chr(10)); sys.stdin.read()'], stdout=f, stderr=subprocess.PIPE, stdin=subprocess.PIPE)\n"
        "child.stderr.readline(); child.stdin.close(); child.stderr.close()",
        [rf"note a file that is open for writing, x \(descriptor \d+\): {POSITION}"],
    ),
    "locked and let go": ("import fcntl\nf = open('x', 'w'); fcntl.flock(f, fcntl.LOCK_EX); fcntl.flock(f, fcntl.LOCK_UN)", [rf"note a file that is open for writing, x \(descriptor \d+\): {POSITION}"]),
    "called .db": ("import sqlite3\nf = open('t.db', 'w'); f.write('{}'); f.flush()", [rf"note a file that is open for writing, t.db \(descriptor \d+\): {POSITION}"]),
    "called .db, without SQLite": ("f = open('t.db', 'w')", [rf"note a file that is open for writing, t.db \(descriptor \d+\): {POSITION}"]),
    "netlink": ("import socket\ns = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", [rf"grave a socket of address family 16 \(descriptor \d+\): {OTHERS}"]),
    # Of which only `spyglass check` speaks
    "file for reading": ("f = open('/etc/passwd')", [rf"note a file that is open for reading, /etc/passwd \(descriptor \d+\): {POSITION}"]),
    "file for writing": ("f = open('x', 'w')", [rf"note a file that is open for writing, x \(descriptor \d+\): {POSITION}"]),
    "pipe": ("import os\np = os.pipe()", [r"note a pipe \(descriptors \d+, \d+\): all workers have both of its ends"]),
    "eventfd": ("import os\ne = os.eventfd(0)", [r"note an eventfd \(descriptor \d+\): all workers would share its state"]),
    "pair": ("import socket\np = socket.socketpair()", [r"note one of a pair of sockets \(descriptors \d+, \d+\): all workers have both"]),
    "unconnected": ("import socket\ns = socket.socket()", [r"note a socket that is not connected \(descriptor \d+\): all workers would have the same"]),
    "threads of a library": (
        "import ctypes\nlibc = ctypes.CDLL(None); threads = [ctypes.c_ulong(), ctypes.c_ulong()]\n"
        "for each in threads: libc.pthread_create(ctypes.byref(each), None, libc.pause, None)\nlibc.pthread_setname_np(threads[0], b'jemalloc_bg_thd')",
        [
            "note a thread, 'jemalloc_bg_thd', of a library: no worker has it",
            "note a thread of a library: no worker has it; numerical libraries start theirs again when needed",
        ],
    ),
    # Of which nothing is said
    "nothing": ("import json, random, logging, threading", []),
    "log": ("import logging\nlogging.basicConfig(filename='log')", []),
    "syslog, statistics": (
        "import socket\na = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\nb = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); b.connect(('127.0.0.1', 9))", [],
    ),
    "random numbers, nothing, shared memory": ("import os\nf = open('/dev/urandom', 'rb'), open('/dev/null', 'w'), os.memfd_create('a')", []),
    "closed again": (THREAD.replace("while True: time.sleep(1)", "pass") + LISTEN + "s.close()\n" + ENDED, []),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_found(look, name):
    source, expected = FOUND[name]
    lines = look(source)
    assert len(lines) == len(expected), lines
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern if "\\" in pattern else re.escape(pattern), line), line


@pytest.mark.parametrize("name", ["thread", "bare thread", "listening", "sqlite", "event loop"])
def test_what_was_there_before_the_app_is_not_the_app_s(look, name):
    """sitecustomize, .pth files, debuggers: they have been at work when the app is
    loaded.
    """
    assert look("import threading", FOUND[name][0]) == []
    assert look(THREAD, FOUND[name][0]) == [f"grave {TICKER}"]


def test_app_with_post_fork_sees_to_it(look):
    assert look(THREAD + "def post_fork(): pass\n") == [f"grave settled {TICKER}"]


LIBRARY = "import threading, os\nclass Exporter(threading.Thread):\n    def run(self): threading.Event().wait()\n"


@pytest.mark.parametrize(
    ("source", "settled"),
    [
        ("import os\nos.register_at_fork(after_in_child=int)\n", True),
        ("import os\nos.register_at_fork(before=int, after_in_parent=int)\n", False),
        ("import random, logging\n", False),  # they have registered themselves, for their own sake
        ("import exporter\n", False),  # a library, for its own threads
        ("import helper\n", True),  # the app's
    ],
)
def test_app_that_registers_for_after_the_fork_sees_to_it(look, tmp_path, source, settled):
    library = tmp_path / "lib" / "site-packages" / "exporter"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(
        LIBRARY
        + "os.register_at_fork(after_in_child=int)\nExporter(name='exporter', daemon=True).start()\n"
    )
    (tmp_path / "helper.py").write_text("import os\nos.register_at_fork(after_in_child=int)\n")
    lines = look(f"{THREAD}import sys; sys.path.append({str(library.parent)!r})\n{source}")
    mark = "grave settled" if settled else "grave"
    assert f"{mark} {TICKER}" in lines
    others = [line for line in lines if "exporter" in line]
    assert others == (
        [
            "grave settled a thread, 'exporter', which runs Exporter.run() of exporter/__init__.py:3: no worker has it"
        ]
        if "exporter" in source
        else []
    )


def test_registering_works_as_ever(look):
    """What the app registers through us is called as if we were not there, also what it
    has imported by name.
    """
    source = """
import os
from os import register_at_fork
called = []
register_at_fork(before=lambda: called.append("before"), after_in_child=lambda: called.append("child"))
pid = os.fork()
if not pid:
    os._exit(called != ["before", "child"])
assert os.waitpid(pid, 0)[1] == 0
try:
    register_at_fork(whatever=1)
except TypeError:
    called.append("refused")
assert called == ["before", "refused"]
"""
    assert look(source) == []
