"""`spyglass run`, `shell` and `wake`: a command as the app, in its sandbox, and nothing
of it is left.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator

import pytest
from instance import Instance
from machine import Machine
from process.visitor import visit
from waiting import wait_until

APP = """\
import os

path = os.environ["STATE_DIRECTORY"] + "/kept"

def app(environ, start_response):
    with open(path, "a") as kept:
        kept.write("x")
    start_response("200 OK", [])
    return [f"{os.getuid()} {os.stat(path).st_uid} {os.path.getsize(path)}".encode()]
"""
DROP_IN = """\
[Service]
Environment=UNIT=%n "TEXT=a b" SPYGLASS_THREADS=3
LoadCredential=key:/etc/spyglass/blog.key
SetCredential=set:plain
RuntimeDirectory=blog
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def blog(machine: Machine) -> Iterator[Instance]:
    """Listens, and asleep."""
    settings = {"idle_timeout": 1, "venv": "/srv/venv"}
    instance = Instance(machine, "blog", APP, settings=settings)
    machine.write("/etc/spyglass/blog.key", "sesame", 0o600)
    machine.write("/etc/spyglass/blog.env", "SECRET=pa$$ word\n", 0o600)
    machine.write(f"/etc/systemd/system/{instance.service}.d/more.conf", DROP_IN)
    yield instance.start()
    machine.systemctl("stop", instance.socket)


@pytest.fixture(scope="module")
def run(machine: Machine, blog: Instance) -> Run:
    return lambda *words, **more: machine.run("spyglass", "run", *words, check=False, **more)


@pytest.fixture(autouse=True)
def nothing_is_left(machine: Machine) -> Iterator[None]:
    yield
    units = machine.systemctl("list-units", "--all", "--plain", "--no-legend", "spyglass-run*")
    files = machine.run("find", "/run", "-xdev", "-path", "*spyglass-run[-/]*")
    assert (units, files.stdout, machine.processes("spyglass-run*")) == ("", "", [])


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_user_directory_and_environment_are_the_apps(blog: Instance, run: Run) -> None:
    script = (
        "id -un; pwd; which python; env; cat $CREDENTIALS_DIRECTORY/key $CREDENTIALS_DIRECTORY/set"
    )
    name, directory, python, *lines = said(run("blog", "sh", "-c", script)).splitlines()
    assert (name, directory, python) == ("spyglass-blog", "/srv/apps/blog", "/srv/venv/bin/python")
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    expected = {
        "UNIT": blog.service,
        "TEXT": "a b",
        "SECRET": "pa$$ word",
        "VIRTUAL_ENV": "/srv/venv",
        "HOME": "/var/lib/spyglass/blog",
        "STATE_DIRECTORY": "/var/lib/spyglass/blog",
        "CACHE_DIRECTORY": "/var/cache/spyglass/blog",
        "RUNTIME_DIRECTORY": "/run/blog",
    }
    assert {key: found.get(key) for key in expected} == expected
    assert lines[-1] == "sesameplain"
    ours = ("SPYGLASS_", "LISTEN_", "NOTIFY_", "WATCHDOG_", "INVOCATION_ID", "JOURNAL_STREAM")
    assert not [key for key in found if key.startswith(ours)]
    assert blog.asleep(), "the app was not woken"


ODD = ["a b", "", "$HOME ${HOME} $$", "%i %% %n", "'\"\\x41", "line\nbreak\ttab", "ä \x7f", ";", "--no-sandbox"]  # fmt: skip


@pytest.mark.one_release
def test_arguments_arrive_unharmed(machine: Machine, run: Run) -> None:
    script = "import os, sys; print([os.fsencode(each) for each in sys.argv[1:]])"
    assert (
        said(run("blog", "--", "python", "-c", script, *ODD))
        == f"{[each.encode() for each in ODD]}\n"
    )
    typed = "spyglass run blog python -c \"$0\" $'\\xff\\xfe'"
    assert machine.run("bash", "-c", typed, script).stdout == "[b'\\xff\\xfe']\n"
    long = "x" * 100_000
    assert said(run("blog", "sh", "-c", "echo ${#0}", long)) == "100000\n"


STATUSES = {
    "exit 0": 0,
    "exit 7": 7,
    "exit 203": 203,  # as systemd's own, but the command's
    "kill -9 $$": 137,
    "kill -TERM $$": 143,
    "kill -SEGV $$": 139,
    "sleep 1000 & exit 4": 4,  # what it leaves behind is ended with it
}


@pytest.mark.one_release
@pytest.mark.parametrize("script", STATUSES)
def test_exit_status_is_the_commands(run: Run, script: str) -> None:
    done = run("blog", "bash", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (STATUSES[script], "", "")


def test_drop_ins_for_all_services_do_not_repeat_it(machine: Machine, run: Run) -> None:
    path = "/etc/systemd/system/service.d/all.conf"
    machine.write(path, "[Service]\nRestart=on-failure\nRestartSec=0\nSuccessExitStatus=7\n")
    machine.systemctl("daemon-reload")
    done = run("blog", "sh", "-c", "echo once; exit 7")
    machine.run("rm", "-r", "/etc/systemd/system/service.d")
    machine.systemctl("daemon-reload")
    assert (done.returncode, done.stdout) == (7, "once\n")


REFUSED = {
    "none": (["blog", "none"], 127, "none: there is no such command in /srv/venv/bin:"),
    "file": (["blog", "./none"], 127, "./none: there is no such file, seen from /srv/apps/blog"),
    "mode": (["blog", "/etc/passwd"], 126, "/etc/passwd: Permission denied"),
    "app": (["blgo", "true"], 125, "there is no app 'blgo', no /etc/spyglass/blgo.toml, did you mean 'blog'?"),
    "word": (["bl/go", "true"], 125, "not a valid app name: 'bl/go': expected 1 to 22 of a-z"),
    "command": (["blog"], 2, "run: which command? spyglass run blog COMMAND ..."),
    "option": (["blog", "--nope", "true"], 2, "unknown option '--nope'"),
    "path": (["--writable", "/none", "blog", "true"], 125, "--writable /none: there is no /none"),
    "toml": (["broken", "true"], 125, "/etc/spyglass/broken.toml:1: "),
    "gone": (["gone", "true"], 125, "/etc/spyglass/gone.toml:1: directory: /srv/gone is not a directory"),
}  # fmt: skip


@pytest.mark.one_release
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_is_said_in_one_line(machine: Machine, run: Run, name: str) -> None:
    machine.write("/etc/spyglass/broken.toml", "app = [\n")
    machine.write("/etc/spyglass/gone.toml", 'directory = "/srv/gone"\n')
    words, status, text = REFUSED[name]
    done = run(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("spyglass: ")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    machine.run("rm", "/etc/spyglass/broken.toml", "/etc/spyglass/gone.toml")


@pytest.mark.one_release
def test_only_root_may(run: Run) -> None:
    done = run("blog", "true", user="www-data")
    assert (done.returncode, "only root may run a command as an app" in done.stderr) == (125, True)


UNITS = {
    "root": ("DynamicUser=no\nUser=root\nPrivateUsers=no", "runs as root, and this command runs nothing as root"),
    "credential": ("LoadCredential=more:/etc/none", "credential more: there is no /etc/none"),
    "path": ("ReadWritePaths=/srv/none", "ReadWritePaths: there is no /srv/none"),
    "program": ("ExecStart=\nExecStart=/bin/true", "does not run Spyglass: ExecStart=/bin/true"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNITS)
def test_drop_ins_count_also_where_they_break_it(
    machine: Machine, blog: Instance, run: Run, name: str
) -> None:
    line, expected = UNITS[name]
    path = f"/etc/systemd/system/{blog.service}.d/wrong.conf"
    machine.write(path, f"[Service]\n{line}\n")
    machine.systemctl("daemon-reload")
    done = run("blog", "id")
    machine.run("rm", path)
    machine.systemctl("daemon-reload")
    assert (done.returncode, done.stdout) == (125, "")
    assert expected in done.stderr


def test_sandbox_and_how_to_open_it(machine: Machine, run: Run) -> None:
    machine.run("install", "-d", "-m", "1777", "/srv/apps/blog/shared")
    touch = ["touch", "shared/there"]
    assert "Read-only file system" in run("blog", *touch).stderr
    said(run("--writable", "shared", "blog", *touch))
    clock = "import time; time.clock_settime(time.CLOCK_REALTIME, 0)"
    namespace = ["unshare", "--user", "true"]
    assert "Operation not permitted" in run("blog", *namespace).stderr
    said(run("--no-sandbox", "blog", *namespace))
    # Its user may not do so without a sandbox, either.
    assert "PermissionError" in run("--no-sandbox", "blog", "python", "-c", clock).stderr
    assert said(run("--no-sandbox", "blog", "id", "-un")) == "spyglass-blog\n"


def test_files_and_pipes_are_those_of_the_caller(machine: Machine, run: Run) -> None:
    assert said(run("blog", "tr", "a-z", "A-Z", input="through\n")) == "THROUGH\n"
    done = run("blog", "sh", "-c", "echo out; echo err >&2; tty")
    assert (done.stdout, done.stderr) == ("out\nnot a tty\n", "err\n")
    typed = """
        cd /tmp; { echo one; spyglass run blog echo two; echo three; } >both
        printf 'a\\nb\\n' | while read line; do spyglass run blog echo "$line" </dev/null; done >>both
        printf 'c\\nd\\n' | { spyglass run blog head -c 2; cat; } >>both; cat both
        spyglass run blog yes | head -1
    """
    assert " ".join(machine.run("bash", "-euc", typed).stdout.split()) == "one two three a b c d y"


def test_while_the_app_is_awake(machine: Machine, blog: Instance, run: Run) -> None:
    """Both have one user and one state directory, which the end of the command leaves
    as they are.
    """
    with machine.connect("/run/spyglass/blog.sock"):  # keeps it awake
        uid, owner, size = visit(blog.unix).text.split()
        assert uid == owner
        main, invocation = (blog.state()[each] for each in ("MainPID", "InvocationID"))
        script = "id -u; stat -c %u $STATE_DIRECTORY/kept; printf y >>$STATE_DIRECTORY/kept; echo >$STATE_DIRECTORY/new"
        for _ in range(2):
            assert said(run("blog", "sh", "-c", script)).split() == [uid, uid]
        assert visit(blog.unix).text.split() == [uid, uid, str(int(size) + 3)]
        assert [blog.state()[each] for each in ("MainPID", "InvocationID")] == [main, invocation]
    machine.wait_until(blog.asleep, what="it sleeps")
    assert blog.state()["Result"] == "success"
    assert visit(blog.unix).text.split()[:2] == [uid, uid]
    machine.wait_until(blog.asleep, what="it sleeps")


def test_an_app_that_wakes_and_sleeps_meanwhile(machine: Machine, blog: Instance) -> None:
    command = machine.popen(
        "spyglass", "run", "blog", "sh", "-c", "id -u; read go; echo $go >>$STATE_DIRECTORY/new",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert command.stdout is not None
    uid = command.stdout.readline().strip()
    assert visit(blog.unix).text.split()[:2] == [uid, uid]
    machine.wait_until(blog.asleep, what="it sleeps")
    command.communicate("written\n", timeout=30)
    assert command.returncode == 0
    assert visit(blog.unix).text.split()[:2] == [uid, uid]
    assert "written" in machine.read("/var/lib/spyglass/blog/new")
    machine.wait_until(blog.asleep, what="it sleeps")


TRAP = "trap 'echo got INT; exit 3' INT; trap 'echo got TERM; exit 4' TERM; echo ready; while :; do sleep 0.1; done"


def test_signals_are_passed_on(machine: Machine, blog: Instance) -> None:
    # A shell's background job ignores SIGINT, so it is set back for this one.
    start = 'echo $$; exec env --default-signal=INT spyglass run blog bash -c "$0"'
    for number, script, status, last in (
        (signal.SIGINT, TRAP, 3, "got INT\n"),
        (signal.SIGTERM, TRAP, 4, "got TERM\n"),
        (signal.SIGHUP, TRAP, 129, ""),
        (signal.SIGUSR1, TRAP, 138, ""),
    ):
        command = machine.popen("sh", "-c", start, script, stdout=subprocess.PIPE)
        assert command.stdout is not None
        pid = command.stdout.readline().strip()
        assert command.stdout.readline() == "ready\n"
        machine.run("kill", f"-{number:d}", pid)
        output, _ = command.communicate(timeout=30)
        assert (command.returncode, output.replace("ready\n", "")) == (status, last)


def test_the_next_one_cleans_up_after_one_that_was_killed(machine: Machine, run: Run) -> None:
    command = machine.popen(
        "sh", "-c", "echo $$; exec spyglass run blog sh -c 'echo ready; cat'",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert command.stdout is not None
    assert command.stdin is not None
    pid = command.stdout.readline().strip()
    assert command.stdout.readline() == "ready\n"
    machine.run("kill", "-9", pid)
    machine.wait_until(
        lambda: not machine.run("pgrep", "-f", "spyglass run blog sh", check=False).stdout
    )
    command.stdin.close()
    machine.wait_until(lambda: not machine.processes("spyglass-run*"), what="the command has ended")
    command.wait(30)
    said(run("blog", "true"))


# On a terminal


class Typist:
    """Someone at a terminal of 31 lines and 97 columns."""

    def __init__(self, machine: Machine, typed: str) -> None:
        self._fd, theirs = os.openpty()
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", 31, 97, 0, 0))
        os.set_blocking(self._fd, False)
        # setsid gives the shell this terminal, as a login does. Where the tests run in the
        # background, SIGINT is ignored, and a shell cannot change what it has inherited.
        self._shell = machine.popen(
            "env", "--default-signal=INT,QUIT", "setsid", "--ctty", "--wait", "bash", "-c", typed,
            env={"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def look(self) -> str:
        try:
            self.seen += os.read(self._fd, 65536).decode().replace("\r\n", "\n")
        except (BlockingIOError, OSError):
            pass
        return self.seen

    def sees(self, text: str) -> None:
        wait_until(lambda: text in self.look(), 30, lambda: f"{text!r} is shown: {self.seen!r}")

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def resize(self) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))

    def status(self) -> int:
        status = self._shell.wait(30)
        self.look()
        return status

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def terminal(machine: Machine, blog: Instance) -> Iterator[Callable[[str], Typist]]:
    typists: list[Typist] = []

    def open_one(typed: str) -> Typist:
        typists.append(Typist(machine, typed))
        return typists[-1]

    yield open_one
    for each in typists:
        each.close()


@pytest.mark.one_release
def test_a_terminal_is_one(terminal: Callable[[str], Typist]) -> None:
    ask = 'import getpass; print(repr(getpass.getpass("Who? ")))'
    at = terminal(
        f"spyglass run blog sh -c 'test -t 0 && test -t 1 && echo $TERM; stty size; python -c \"$0\"' '{ask}'; exec stty -a"
    )
    at.sees("Who? ")
    at.resize()
    at.type("me\r")
    assert at.status() == 0
    assert "xterm\n31 97\n" in at.seen
    assert "'me'" in at.seen
    # The administrator's terminal is as it was.
    assert {"icanon", "echo", "isig", "opost"} <= {*at.seen.split()}


@pytest.mark.one_release
def test_keys_are_the_commands(terminal: Callable[[str], Typist]) -> None:
    at = terminal("spyglass run blog bash --norc; echo status $?")
    at.sees("$ ")
    at.type("sleep 1000; echo after $?\r")
    at.sees("sleep 1000")
    at.type("\x03")
    at.sees("^C")
    at.resize()
    at.type("stty size; tty >/dev/null && exit 3\r")
    assert at.status() == 0
    assert "40 100\n" in at.seen
    assert at.seen.endswith("status 3\n")


@pytest.mark.one_release
def test_ctrl_c_ends_the_command(terminal: Callable[[str], Typist]) -> None:
    for command in ("sh -c 'echo ready; sleep 1000'", "sh -c 'echo ready >&2; sleep 1000' | cat"):
        at = terminal(f"set -o pipefail; trap : INT; spyglass run blog {command}; echo status $?")
        at.sees("ready")
        at.type("\x03")
        at.status()
        assert at.seen.endswith("status 130\n")


@pytest.mark.one_release
def test_a_command_that_hears_nothing_gives_the_terminal_back(
    terminal: Callable[[str], Typist],
) -> None:
    deaf = "trap '' INT; echo ready; kill -STOP $$"
    at = terminal(
        f'spyglass run blog sh -c "{deaf}"; echo status $?; stty -a'.replace("$$", r"\$\$")
    )
    at.sees("ready")
    at.type("\x03\x1d\x1d\x1d")
    assert at.status() == 0
    assert "status 143\n" in at.seen
    assert {"icanon", "echo", "isig", "opost"} <= {*at.seen.split()}


@pytest.mark.one_release
def test_a_pipe_leaves_the_keyboard_to_its_reader(terminal: Callable[[str], Typist]) -> None:
    at = terminal(
        "spyglass run blog sh -c 'cat; echo told >&2; echo end' | "
        "sh -c 'read line; read key </dev/tty; echo got $line $key'"
    )
    at.sees("told")
    at.type("mine\r")
    assert at.status() == 0
    assert "got end mine" in at.seen


@pytest.mark.one_release
def test_a_closed_terminal_ends_the_command(machine: Machine, blog: Instance) -> None:
    at = Typist(machine, "spyglass run blog sh -c 'echo ready; exec sleep 1000'")
    at.sees("ready")
    at.close()
    machine.wait_until(lambda: not machine.processes("spyglass-run*"), what="it has ended")
    machine.wait_until(lambda: not machine.run("pgrep", "-f", "spyglass run", check=False).stdout)


# The Python prompt


@pytest.mark.one_release
def test_shell_has_the_app_loaded(
    machine: Machine, run: Run, terminal: Callable[[str], Typist]
) -> None:
    script = "import os, sys\nprint(app, os.getcwd(), sys.prefix, 'SPYGLASS_THREADS' in os.environ)\nsys.exit(5)"
    done = machine.run("spyglass", "shell", "blog", input=script, check=False)
    assert (done.returncode, done.stderr) == (5, "")
    assert done.stdout.startswith("<function app at ")
    assert done.stdout.endswith(" /srv/apps/blog /srv/venv False\n")
    done = machine.run("spyglass", "shell", "blog", input="\n1 / 0", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1:] == [
        '  File "<stdin>", line 2, in <module>',
        "ZeroDivisionError: division by zero",
    ]
    at = terminal("spyglass shell blog; echo status $?")
    at.sees(">>> ")
    assert "as spyglass-blog in /srv/apps/blog\napp is app:app, loaded; Ctrl-D ends" in at.seen
    at.type("6 * 7, app.__name__\r")
    at.sees("(42, 'app')")
    at.type("\x04")
    at.status()
    assert at.seen.endswith("status 0\n")


@pytest.mark.one_release
def test_shell_of_a_broken_app(machine: Machine, terminal: Callable[[str], Typist]) -> None:
    Instance(machine, "torn", "import nothing_like_it\n").write()
    done = machine.run("spyglass", "shell", "torn", check=False)
    assert done.returncode == 125
    assert "the app cannot be loaded: ModuleNotFoundError" in done.stderr
    at = terminal("spyglass shell torn")
    at.sees("app is None; Ctrl-D ends this shell")
    at.sees(">>> ")
    at.type("\x04")
    assert at.status() == 0


# Before `apply`, and with settings that are not applied


def test_settings_before_and_after_apply(machine: Machine) -> None:
    Instance(machine, "fresh", APP, settings={"environment": {}}).write()
    file = "/etc/spyglass/fresh.toml"
    text = machine.read(file).replace("environment = {}\n", "")
    machine.write(file, f'{text}environment = {{ STAGE = "one" }}\n')
    command = ["spyglass", "run", "fresh", "sh", "-c", "echo $STAGE"]
    assert machine.run(*command).stdout == "one\n"
    machine.run("spyglass", "apply", "fresh")
    machine.write(file, f'{text}environment = {{ STAGE = "two" }}\n')
    done = machine.run(*command)
    assert (done.stdout, done.stderr) == (
        "one\n",
        f"warning: {file} has settings that are not in force; the command runs without them: spyglass apply fresh\n",
    )
    machine.run("spyglass", "apply", "fresh")
    assert machine.run(*command).stdout == "two\n"
    machine.run("spyglass", "remove", "--purge", "fresh")


# Waking


def test_wake(machine: Machine, blog: Instance) -> None:
    machine.wait_until(blog.asleep, what="it sleeps")
    woken = machine.run("spyglass", "wake", "blog").stdout
    assert woken.startswith("blog: awake after ")
    with machine.connect("/run/spyglass/blog.sock"):
        visit(blog.unix)
        again = machine.run("spyglass", "wake", "blog").stdout
        assert again.startswith("blog: already awake (2 workers")
    torn = Instance(machine, "torn", "import nothing_like_it\n").start()
    done = machine.run("spyglass", "wake", "torn", "blog", check=False)
    assert done.returncode == 78
    assert done.stderr.startswith(
        "spyglass: torn: failing: ModuleNotFoundError: No module named 'nothing_like_it'"
    )
    assert done.stdout.startswith("blog: ")
    machine.systemctl("stop", torn.socket)
    done = machine.run("spyglass", "wake", "torn", check=False)
    assert (done.returncode, "torn: off: its socket does not listen" in done.stderr) == (78, True)
    done = machine.run("spyglass", "wake", "blgo", check=False)
    assert (done.returncode, "there is no app 'blgo'" in done.stderr) == (4, True)
    machine.wait_until(blog.asleep, what="it sleeps")
