"""`spyglass check`: what it says of an app that would be served, of one that would not,
and of the configuration; and how it ends.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from waiting import wait_until

from .fake_systemd import NOT_ROOT, ROOT, as_user, server_environ, spyglass
from .processes import members

APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'']\n"
POOL = "import threading, time\ndef run():\n    while True: time.sleep(1)\nthreading.Thread(target=run, name='pool', daemon=True).start()\n"
THREAD = (
    r"a thread, 'pool', which runs run\(\) of site\.py:5, created at site\.py:7: no worker has it"
)
SUITS = "preload: on (no problems found)"
REMEDY = "create it after the fork, in a function post_fork() of site, or set preload = false"


LOCKED = "data = open('data', 'w')\nimport fcntl; fcntl.flock(data, fcntl.LOCK_EX)\n"
ALONE = "only one process may use what the lock guards, most likely a database"

LIFESPAN = """
import time
async def app(scope, receive, send):
    await receive()
    {startup}
    print("up", flush=True)
    await send({{"type": "lifespan.startup.complete"}})
    await receive()
    print("down", flush=True)
    await send({{"type": "lifespan.shutdown.complete"}})
"""


@pytest.fixture
def check(tmp_path, pycache):
    """check(source, *words) -> the finished process of `spyglass check`, which has left
    no process behind.
    """
    (tmp_path / "app").mkdir()

    def run(source, *words, app=("site.py",), environ=None, command=None):
        (tmp_path / "app" / "site.py").write_text(source)
        command = [
            *NOT_ROOT,
            *(command or spyglass()),
            "check",
            *app,
            "--directory",
            str(tmp_path / "app"),
            *words,
        ]
        environ = server_environ(pycache) | (environ or {})
        started = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
            start_new_session=True,
        )
        try:
            started.out, started.err = started.communicate(timeout=30)
        finally:
            if (
                started.returncode == -signal.SIGKILL
            ):  # what it had started hears of that by the end of a pipe
                wait_until(
                    lambda: not members(started.pid, but=started.pid), what="a process is left"
                )
            left = members(started.pid, but=started.pid)
            for process in left:
                os.kill(process.pid, signal.SIGKILL)
        assert left == []
        return started

    return run


# site.py is named as a file: `site` is a module of the library.
SERVED = {
    "an app": (APP, [], ["app: site.py, loaded in .* s, WSGI, .* MiB; no request was tried", re.escape(SUITS)]),
    "without preload": (
        APP, ["--no-preload"],
        ["app: .*", "preload: off; turning it on would save memory, and no problems were found"],
    ),
    "post_fork": (APP + "def post_fork(): pass\n", [], ["app: .*", r"post_fork: called, 0\.\d\d s", re.escape(SUITS)]),
    "a thread": (APP + POOL, [], ["app: .*", f"warning: {THREAD}", re.escape(f"preload: on, but this app is not ready for it: {REMEDY}".replace("of site", "of site.py"))]),
    "a thread without preload": (
        APP + POOL, ["--no-preload"],
        ["app: .*", "note: .*", "preload: off, as this app needs: with it on, what is noted above would not work in workers"],
    ),
    "a thread that is seen to": (
        APP + POOL + "def post_fork(): pass\n", [],
        ["app: .*", "post_fork: .*", "note: .*", "preload: on; the app handles what its workers must not share"],
    ),
    "what a thread opens a little later": (
        APP + "import threading, time, sqlite3\ndef run():\n    global db\n    time.sleep(0.1)\n    db = sqlite3.connect('a.db', check_same_thread=False)\n    time.sleep(9)\n"
        "threading.Thread(target=run, name='pool', daemon=True).start()\n", [],
        ["app: .*", "warning: a thread, .*", r"warning: an SQLite database, a\.db, created at site\.py:\d+ .*", "preload: .*"],
    ),
    "a file": (
        APP + "import os\nf = open(__file__), os.pipe()\n", [],
        [
            "app: .*", r"note: a file that is open for reading, site\.py, created at site\.py:5 \(descriptor \d+\): all workers would share one position in it",
            "note: a pipe .*", re.escape(SUITS),
        ],
    ),
    "what only the collector would close": (
        APP + "import sqlite3\nclass Engine: pass\nengine = Engine()\nengine.me, engine.db = engine, sqlite3.connect('a.db')\ndel engine\n", [],
        ["app: .*", re.escape(SUITS)],
    ),
    "a file that is called as databases are": (
        APP + "f = open('tiny.db', 'w+')\n", [],
        ["app: .*", r"note: a file that is open for writing, tiny\.db, created at site\.py:4 .*", re.escape(SUITS)],
    ),
    "a locked file without preload": (
        APP + LOCKED, ["--no-preload"],
        [
            "app: .*",
            rf"warning: a file that is locked for writing, data, created at site\.py:4 \(descriptor \d+\): {ALONE}",
            "preload: off, as this app needs: .*; but only the first of 2 workers can lock the file: set workers = 1",
        ],
    ),
    "a locked file and one process": (
        APP + LOCKED, ["--no-preload", "--workers", "1"],
        ["app: .*", f"note: a file that is locked .*: {ALONE}", "preload: off, as this app needs: with it on, what is noted above would not work in workers"],
    ),
    "numpy": (
        APP + "import sys, types\nsys.modules['numpy.random'] = types.ModuleType('numpy.random')\n", [],
        ["app: .*", r"note: numpy\.random's own generator: all workers draw the same numbers from it, unless post_fork\(\) calls numpy\.random\.seed\(\)", re.escape(SUITS)],
    ),
    "threads that never end": (
        APP + "import threading, time\ndef post_fork():\n    threading.Thread(target=time.sleep, args=(3600,)).start()\n", [],
        ["app: .*", "post_fork: .*", re.escape(SUITS)],
    ),
}  # fmt: skip


def test_it_names_the_packages_that_the_import_is_spent_in(check, tmp_path):
    (tmp_path / "app" / "slow.py").write_text("import slower, time\ntime.sleep(0.005)\n")
    (tmp_path / "app" / "slower.py").write_text("import time\ntime.sleep(0.05)\n")
    done = check("import slow\n" + APP)
    assert (done.returncode, done.err) == (0, "")
    lines = done.out.splitlines()
    (imports,) = [line for line in lines if line.startswith("imports: ")]
    assert lines[lines.index(imports) - 1].startswith("app: site.py, loaded in ")
    assert re.search(r"slower \d+ ms \(1 module, by slow\)", imports)
    assert re.search(r"slow \d+ ms \(1 module\)", imports)
    assert " spyglass " not in imports


@pytest.mark.parametrize("name", SERVED)
def test_an_app_that_would_be_served(check, name):
    source, words, expected = SERVED[name]
    done = check(source, *words)
    assert (done.returncode, done.err) == (0, "")
    # Whether an import is worth a line depends on the machine.
    reported = [line for line in done.out.splitlines() if not line.startswith("imports: ")]
    first, *lines, verdict = reported
    given = [lines.pop(0) for line in lines[:] if re.match("  [a-z_]+ = ", line)]
    warnings = sum(line.startswith("warning: ") for line in lines)
    having = ["", ", with a warning", ", with 2 warnings"][warnings]
    assert verdict == f"site.py: can be served{having}"
    assert first == "configuration: no file"
    assert re.fullmatch(
        '  app = "site.py"\n  directory = ".*"(\n  workers = 1)?(\n  preload = false)?',
        "\n".join(given),
    )
    assert len(lines) == len(expected), done.out
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), line


def test_an_asgi_app_is_started_and_stopped(check):
    """What a worker does before it accepts, and before it exits; and which settings
    have no effect.
    """
    source = LIFESPAN.format(startup="time.sleep(0.05)") + "def post_fork(): time.sleep(0.3)\n"
    done = check(source, "--threads", "8", "--body-memory", "2M")
    assert (done.returncode, done.err) == (0, "")
    assert done.out.index("\nup\n") < done.out.index("\ndown\n")
    expected = r"""
app: site\.py, loaded in .* s, ASGI, .* MiB; no request was tried
(imports: .*
)?post_fork: called, 0\.3\d s
lifespan: started, 0\.[01][0-9] s, and stopped
note: settings without effect on an ASGI app: threads, body_memory
preload: on \(no problems found\)
site\.py: can be served
"""
    assert re.search(expected, done.out), done.out


def test_an_asgi_app_without_a_lifespan_is_one(check):
    source = "async def app(scope, receive, send): raise ValueError(scope['type'])\n"
    done = check(source, "--no-preload")
    assert (done.returncode, done.err) == (0, "")
    assert "\nlifespan: the app has none\npreload: off" in done.out


BROKEN = {
    "import": ("import blgo\n", "ModuleNotFoundError: No module named 'blgo'", ['  File "{}/site.py", line 1, in <module>', "    import blgo"]),
    "exit": ("import sys\nsys.exit(3)\n", "the app called sys.exit(3) while it was being loaded", ['  File "{}/site.py", line 2, in <module>']),
    "not callable": ("app = 7\n", "'site.py:app' is not callable: it is of type 'int'", []),
    "crash": ("import os\nos.kill(os.getpid(), 9)\n", "the app's process was killed by SIGKILL while it was being loaded", []),
    "hang": ("import time\ntime.sleep(3600)\n", "the app was not loaded within 1 s (start_timeout)", ['  File "{}/site.py", line 2 in <module>']),
    "post_fork": (APP + "def post_fork():\n    1 / 0\n", "post_fork: ZeroDivisionError: division by zero", ['  File "{}/site.py", line 5, in post_fork']),
    "post_fork hangs": (
        APP + "import time\ndef post_fork():\n    time.sleep(3600)\n",
        "no worker was ready within 1 s (start_timeout): a function that the app has called after the fork does not return",
        ['  File "{}/site.py", line 6 in post_fork'],
    ),
    "lifespan hangs": (
        LIFESPAN.format(startup="time.sleep(3600)"),
        "no worker was ready within 1 s (start_timeout): what the app does after the fork, in post_fork() or lifespan.startup, does not end",
        ['  File "{}/site.py", line 5 in app'],
    ),
    "lifespan raises": (LIFESPAN.format(startup="1 / 0"), "lifespan.startup: ZeroDivisionError: division by zero", ['  File "{}/site.py", line 5, in app']),
    "lifespan refuses": (
        LIFESPAN.format(startup="await send({'type': 'lifespan.startup.failed', 'message': 'no database'}); return"),
        "the app sent lifespan.startup.failed: no database",
        [],
    ),
    "locked": (
        APP + LOCKED + "def post_fork(): data.close()\n",
        "data: locked for writing by the app's import, and workers must not share what is locked for one process: "
        "open it in a function post_fork() of site.py, or set preload = false and workers = 1",
        [],
    ),
    "fork": (APP + "import os\nos.register_at_fork(after_in_child=lambda: os._exit(3))\n", "a worker exited with status 3 before it was ready", []),
}  # fmt: skip


# Without preload nothing is forked after the load.
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (name, words)
        for name in BROKEN
        for words in ([], ["--no-preload"])
        if not (name in ("fork", "locked") and words)
    ],
)
def test_an_app_that_would_not(check, tmp_path, name, words):
    source, summary, traceback = BROKEN[name]
    done = check(source, "--start-timeout", "1", *words)
    assert done.returncode == 78
    assert done.err.splitlines()[-1] == f"site.py: cannot be served: {summary}"
    assert (
        set(traceback)
        - {line.replace(str(tmp_path / "app"), "{}") for line in done.err.splitlines()}
        == set()
    )
    first, *given = done.out.splitlines()
    assert first == "configuration: no file"
    assert all(re.match("  [a-z_]+ = ", line) for line in given)
    if "Fatal Python error" not in done.err:
        assert "spyglass/" not in done.err, "what is ours tells the author of an app nothing"


def test_the_line_that_has_locked_a_file_is_named(check):
    done = check(APP + LOCKED)
    assert re.search(
        r"^a file that is locked for writing, data, created at site\.py:4 \(descriptor \d+\)$",
        done.err,
        re.MULTILINE,
    ), done.err


def test_the_line_is_never_one_of_the_command_s(check, tmp_path):
    """Where all of an app is an installed package, its own line is one of a library,
    and what is further out is ours.
    """
    package = tmp_path / "site-packages"
    package.mkdir()
    (package / "theirs.py").write_text(f"{APP}f = open({str(tmp_path / 'x')!r}, 'w')\n")
    done = check(
        "",
        app=("theirs",),
        command=(sys.executable, str(ROOT / "packaging/bin/spyglass")),
        environ={"PYTHONPATH": f"{ROOT}:{package}"},
    )
    assert re.search(
        "^note: a file that is open for writing, .*/x, created at theirs.py:4 ",
        done.out,
        re.MULTILINE,
    ), done.out + done.err


def test_the_command_goes_on_in_no_process_of_the_app(check, tmp_path):
    """This worker exits with status 1, by a way that no report is made of."""
    rob = "application = app\nimport os\ndef post_fork(): os.closerange(3, 200)\n"
    (tmp_path / "app" / "robbed.py").write_text(APP + rob)
    checked = check(APP, app=("robbed",))
    assert "a worker exited with status 1 before it was ready" in checked.err
    assert checked.err.count("(robbed was taken for a module") == 1


def test_each_fault_of_a_configuration_has_a_line(check, tmp_path):
    file = tmp_path / "site.toml"
    file.write_text("wrokers = 2\nthreads = 0\n")
    done = check("raise SystemExit\n", "--config", str(file), app=())
    assert done.returncode == 78
    assert done.err.splitlines() == [
        f"{file}: cannot be served:",
        f"  {file}:1: unknown setting 'wrokers', did you mean 'workers'?",
        f"  {file}:2: threads: expected a whole number from 1 to 256, not 0",
    ]
    assert done.out == ""


def test_it_shows_what_is_in_force(check, tmp_path):
    file = tmp_path / "site.toml"
    file.write_text('workers = 3\nidle_timeout = 4\nidle_ignore = "/health,agent:x"\n')
    done = check(APP, "--config", str(file), environ={"SPYGLASS_THREADS": "7"})
    first, *lines = done.out.splitlines()[:8]
    assert first == f"configuration: {file}"
    assert "\n".join(lines) == textwrap.indent(
        f"""\
app = "site.py"
directory = "{tmp_path / "app"}"
workers = 3
threads = 7
idle_timeout = 4
idle_ignore = ["/health", "agent:x"]
keepalive_timeout = 2""",
        "  ",
    )


def test_it_leaves_the_sockets_of_a_service_alone(check):
    """As an ExecStartPre= of the unit it would find them in its environment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = check(
            APP,
            environ={
                "LISTEN_FDS": "1",
                "LISTEN_PID": "1",
                "LISTEN_FDNAMES": "http",
                "NOTIFY_SOCKET": "/nowhere",
            },
        )
        assert done.returncode == 0
        assert listener.getsockname()


def test_an_interrupt_ends_all_of_it(tmp_path, pycache):
    (tmp_path / "site.py").write_text(
        "import pathlib, time\npathlib.Path('loading').touch()\ntime.sleep(3600)\n"
    )
    command = [*NOT_ROOT, *spyglass("check", "site.py", "--directory", str(tmp_path))]
    started = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=server_environ(pycache),
        start_new_session=True,
    )
    wait_until((tmp_path / "loading").exists, what="it does not load")
    os.killpg(started.pid, signal.SIGINT)
    _, err = started.communicate(timeout=30)
    assert (started.returncode, err) == (130, "")
    assert members(started.pid) == []


# Root imports nothing from another user's directory


TRAP = "import os\nos.close(os.open(os.path.join({place!r}, 'sprung-' + __name__), os.O_CREAT))\ndef app(environ, start_response): ...\n"


@pytest.fixture
def trapped(tmp_path):
    """A directory in which each module that the standard library has, each of ours and
    each that Python looks for at its start is a trap.
    """
    place = tmp_path / "trapped"
    place.mkdir()
    names = {
        *sys.stdlib_module_names,
        "spyglass",
        "httptools",
        "systemd",
        "sitecustomize",
        "usercustomize",
        "blog",
    }
    for name in names:
        (place / f"{name}.py").write_text(TRAP.format(place=str(tmp_path)))
    (place / "blog.toml").write_text('app = "blog"\n')
    return place


def sprung(tmp_path):
    return sorted(path.name for path in tmp_path.glob("sprung-*"))


SCRIPT = (sys.executable, str(ROOT / "packaging/bin/spyglass"))
BY_NAME = "root checks an app only in its unit's sandbox"
ROOTS = {
    "check blog": BY_NAME,
    "check blgo": BY_NAME,
    "check blog:app": BY_NAME,
    "check ./blog.py": BY_NAME,
    "check blog.py --directory /tmp": BY_NAME,
    "check --app blog": BY_NAME,
    "check --config blog.toml": BY_NAME,
    "check": BY_NAME,
    "check --name blog": "there is no /etc/spyglass/blog.toml",
    "check --name blog blog:app": "there is no /etc/spyglass/blog.toml",
    "check --name Blog": "expected 1 to 22 of a-z",
    "check blog --wrokers 2": "did you mean '--workers'?",
    "serve blog": "no listening socket was passed in",
    "lookout blog --bind nonsense": "nonsense",
    "reload": "",
    "reload blog": "",
    "status blog": "",
    "doctor blog": "",
    "apply blog": "",
    "remove blog": "",
    "list": "",
    "new --help": "usage: spyglass new",
    "new NO": "",
    "--help": "usage: spyglass COMMAND",
    "--version": "spyglass ",
    "chekc": "unknown command",
}


@pytest.mark.parametrize("words", ROOTS)
def test_root_imports_nothing_from_where_it_stands(trapped, tmp_path, pycache, words):
    command = [*([] if not os.geteuid() else as_user(0)), *SCRIPT, *words.split()]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=trapped,
        env=server_environ(pycache),
        timeout=60,
    )
    assert ROOTS[words] in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert sprung(tmp_path) == []
    if words.startswith("check") and "wrokers" not in words:
        assert done.returncode == 78


def test_it_would_spring(trapped, tmp_path, pycache):
    done = subprocess.run(
        [*as_user(1000), *SCRIPT, "check", "blog"],
        capture_output=True,
        text=True,
        cwd=trapped,
        env=server_environ(pycache),
        timeout=60,
    )
    assert "sprung-blog" in sprung(tmp_path), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stops", "words", "status"),
    [
        ("os.kill(os.getppid(), signal.SIGSTOP)", ["--start-timeout", "4"], 0),
        ("os.kill(os.getppid(), signal.SIGSTOP)", ["--start-timeout", "4", "--no-preload"], 0),
        ("os.killpg(0, signal.SIGSTOP)", ["--start-timeout", "1"], 78),
        ("while True: os.kill(os.getppid(), signal.SIGSTOP)", ["--start-timeout", "1"], 78),
        ("os.kill(os.getppid(), signal.SIGKILL)", ["--start-timeout", "60"], -signal.SIGKILL),
    ],
)
def test_it_ends_whatever_the_app_does_to_its_parent(check, stops, words, status):
    assert check(f"{APP}import os, signal\n{stops}\n", *words).returncode == status


# An app that writes to the channel on which its process reports.
TALKER = """
import os, socket
def say(*messages):
    for fd in range(3, 64):
        try:
            channel = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if (channel.family, channel.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            for message in messages:
                channel.send(message)
        os.close(channel.detach())
"""
BABBLE = {
    "no message": "say(b'junk')",
    "an empty one": "say(b'')",
    "too few facts": "say(b'loaded\\x001')",
    "no status": "say(b'died\\x000\\x001\\x00999999999999999999')",
}


@pytest.mark.parametrize("case", BABBLE)
def test_what_an_app_writes_to_ours(check, case):
    done = check(APP + TALKER + BABBLE[case])
    assert (done.returncode, done.err) == (0, "")
    assert SUITS in done.out


@pytest.mark.parametrize(
    "source",
    ["while True: say(b'junk')", "say(b'spawned\\x000\\x00999999999999999999')\nwhile True: pass"],
)
def test_an_app_that_writes_to_ours_and_does_not_end(check, source):
    done = check(APP + TALKER + source, "--start-timeout", "1")
    assert done.returncode == 78
    assert "the app was not loaded within 1 s (start_timeout)" in done.err
    assert "Traceback" not in done.err
