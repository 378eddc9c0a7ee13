"""A systemd in one thread: holds listening sockets, starts a Master when somebody
comes, waits until it has left.

What it copies is what Spyglass relies on (sd_listen_fds(3), sd_notify(3),
systemd.socket(5)): it looks at its sockets only while no process of the service is
there, passes them as descriptors 3 and up, reads the notification socket at all times
(a service would block on a full one), and after the end of the Master waits for the
rest of its control group. The control group is a session of its own here.

What it adds is a memory: each start, each note and each exit with its time, and each
process that outlived its Master. `close()` ends everything, by pid, and says what was
not as it should be.
"""

import contextlib
import fcntl
import functools
import itertools
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid

from waiting import wait_until

from .processes import members, workers
from .visitor import Visitor

ROOT = pathlib.Path(__file__).resolve().parents[2]
APPS = pathlib.Path(__file__).resolve().parent / "apps"
FIRST_FD = 3
SO_TIMESTAMPNS = 35  # socket(7); `socket` does not have it
STOP_TIMEOUT = (
    20.0  # seconds, as TimeoutStopSec= of the unit: then what is left is killed, and complained of
)
# A process is told by LISTEN_PID that it is meant, and only it knows its pid before
# exec.
TRAMPOLINE = 'export LISTEN_PID="${LISTEN_PID:-$$}"; exec "$@"'


class Run:
    """One life of a Master. Times are monotonic seconds; `status` is its exit status,
    negative for a signal, None while it lives.
    """

    def __init__(self, pid):
        self.pid = pid
        self.started = time.monotonic()
        self.ended = None
        self.cleared = None  # when the last process of its session had gone
        self.status = None
        self.left_behind = []  # what was still there at its exit
        self.notes = []  # (time, field, value), in order of arrival

    def told(self, field):
        """The values of the notes called `field`, in order: READY, STATUS, STOPPING."""
        return [value for _, name, value in self.notes if name == field]

    def told_at(self, field):
        return next(when for when, name, _ in self.notes if name == field)


@functools.cache
def server_environ(pycache):
    """What a service finds in its environment, and nothing that the tests were started
    with.

    Byte code goes to `pycache`: with none a wake would compile everything again, and in
    the tree it would be litter.
    """
    foreign = ("SPYGLASS_", "LISTEN_", "NOTIFY_", "PYTEST_", "INVOCATION_ID", "MAINPID")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) or name == "SPYGLASS_PURE"  # as conftest.py says
    }
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(pycache)}


def spyglass(*words):
    """The command, from the tree and by the interpreter that runs the tests."""
    return [sys.executable, "-P", "-m", "spyglass", *words]


def as_user(uid):
    """What to put before a command that is to be run as the user `uid`, in a user
    namespace: what the tests own is that user's there.
    """
    return ["unshare", "--user", f"--map-user={uid}", f"--map-group={uid}"]


NOT_ROOT = [] if os.geteuid() else as_user(1000)
"""Before `spyglass check`: root gets to check an app by its name alone."""


def options(settings):
    """Keyword arguments as the command line has them: idle_timeout=1 is --idle-timeout
    1.
    """
    return [
        word
        for name, value in settings.items()
        for word in (
            f"--{name.replace('_', '-')}",
            str(value).lower() if value is True else str(value),
        )
    ]


def listen(kind, place, backlog=4096):
    """A listening socket of `kind`: tcp, tcp6 or unix (a file in `place`)."""
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(place / f"http{len(list(place.glob('http*.sock')))}.sock"))
        sock.listen(backlog)
        return sock
    if kind == "tcp6":
        return socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=backlog)
    return socket.create_server(("127.0.0.1", 0), backlog=backlog)


def start(argv, fds, environ, log, *, limits="", cwd=None):
    """Run `argv` in a session of its own with `fds` as descriptors 3 and up and `log`
    as its output; returns the pid.

    posix_spawn, because forking a process with threads is asking for trouble. `limits`
    (str) is shell, such as "ulimit -n 40".
    """
    # Out of the way first: a socket may have one of the numbers that another is to get.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200) for fd in (log, *fds)]
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    actions += [(os.POSIX_SPAWN_DUP2, high[0], target) for target in (1, 2)]
    actions += [(os.POSIX_SPAWN_DUP2, fd, FIRST_FD + index) for index, fd in enumerate(high[1:])]
    # systemd lets nothing else through, and neither may what the tests themselves were
    # started with.
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable() if fd >= FIRST_FD + len(fds)]
    where = f"cd '{cwd or ROOT}' || exit; "
    command = ["/bin/sh", "-c", where + (limits and limits + "; ") + TRAMPOLINE, "sh", *argv]
    try:
        return os.posix_spawn("/bin/sh", command, environ, file_actions=actions, setsid=True)
    finally:
        for fd in high:
            os.close(fd)


def _inheritable():
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(
            OSError
        ):  # the one that lists is gone, and other threads open and close
            if os.get_inheritable(int(name)):
                found.append(int(name))
    return found


class FakeSystemd:
    """Serves `app` with `settings` on `listeners` (kinds, see listen()) whenever
    somebody comes.

    `arguments` are words for the command line, `environ` is added to the environment,
    `limits` and `cwd` see start(), `command` is what is run, if it is not the module in
    the tree. `place` is an empty directory for sockets and log. `runs` is the memory,
    `addresses` is where to knock.
    """

    def __init__(
        self,
        place,
        pycache,
        app=None,
        *,
        listeners=("tcp",),
        arguments=(),
        environ=None,
        limits="",
        cwd=None,
        command=(),
        **settings,
    ):
        self.place = place
        self.runs = []
        self.complaints = []
        self._marks = itertools.count()
        self._commands = []
        self.log_path = place / "log"
        self._argv = list(command or spyglass())
        self._argv += ["serve", *([app] if app else []), *arguments, *options(settings)]
        self._log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._limits, self._cwd = limits, cwd
        self._sockets = [listen(kind, place) for kind in listeners]
        self.addresses = [sock.getsockname() for sock in self._sockets]
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # When a note was sent, however late this process hears of it (socket(7)).
        self._notify.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._notify.bind(f"\0spyglass-test-{os.getpid()}-{id(self):x}")
        self._environ = server_environ(pycache) | {
            "INVOCATION_ID": uuid.uuid4().hex,
            "NOTIFY_SOCKET": "@" + self._notify.getsockname()[1:].decode(),
            "LISTEN_FDS": str(len(self._sockets)),
            "LISTEN_FDNAMES": ":".join(["http"] * len(self._sockets)),
            **(environ or {}),
        }
        self._control = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = False
        self._start_now = False
        self._pidfd = -1
        self._thread = threading.Thread(target=self._manage, daemon=True)
        self._thread.start()

    # What a test asks

    @property
    def address(self):
        return self.addresses[0]

    @property
    def log(self):
        return self.log_path.read_text("utf-8", "replace")

    @property
    def run(self):
        """The latest life of a Master, which may be over."""
        if not self.runs:
            self.until(lambda: self.runs, "nobody has started a Master")
        return self.runs[-1]

    @property
    def asleep(self):
        """True when no process of the service is there and its sockets are looked
        at.
        """
        return not self.runs or self.runs[-1].cleared is not None

    def start(self):
        """Start the Master without a visitor, as `systemctl start` does."""
        self._start_now = True
        os.eventfd_write(self._control, 1)

    def signal(self, number):
        """To the Master alone."""
        os.kill(self.run.pid, number)

    def signal_all(self, number):
        """To the Master and all that came from it, as systemd stops a service
        (KillMode=control-group).
        """
        for process in members(self.run.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def reload(self):
        """`systemctl reload`: what ExecReload= of the unit runs, under way, as another
        process of it.
        """
        environ = self._environ | {"MAINPID": str(self.run.pid)}
        self._commands.append(
            subprocess.Popen(
                spyglass("reload"),
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return self._commands[-1]

    def until(self, condition, what, timeout=10.0):
        wait_until(condition, timeout, lambda: f"{what}\n{self.story()}")

    def until_asleep(self, starts=None, timeout=15.0):
        """Wait until everything has left; with `starts`, until that has happened so
        many times.
        """
        self.until(
            lambda: self.asleep and len(self.runs) >= (starts or 0),
            "it has not gone to sleep",
            timeout,
        )

    def until_logged(self, text, timeout=10.0):
        self.until(lambda: text in self.log, f"not logged: {text!r}", timeout)

    def until_ready(self, timeout=10.0):
        self.until(lambda: self.run.told("READY"), "not ready", timeout)

    def until_workers(self, count, timeout=10.0):
        """Wait until there are so many: all but the first come after the first
        answer.
        """
        self.until(lambda: len(workers(self.run.pid)) == count, f"not {count} workers", timeout)

    def visitor_under_way(self, target, **how):
        """A visitor whose request one of our apps is working on at this moment."""
        mark = self.place / f"mark{next(self._marks)}"
        visitor = Visitor(self.address)
        visitor.send(f"{target}?{mark}", **how)
        self.until(mark.exists, f"the app was not asked for {target}")
        return visitor

    def story(self):
        """What happened, for people who read a failed test."""
        lines = []
        for number, run in enumerate(self.runs[-3:], max(1, len(self.runs) - 2)):
            lines.append(
                f"start {number}: pid {run.pid}, status {run.status}, left behind {run.left_behind}"
            )
            lines += [
                f"  +{when - run.started:.3f} {name}={value}" for when, name, value in run.notes
            ]
        return "\n".join([*lines, "log:", self.log[-4000:]])

    # Being systemd

    def _manage(self):
        with select.epoll() as poll:
            poll.register(self._control, select.EPOLLIN)
            poll.register(self._notify, select.EPOLLIN)
            self._watch(poll, True)
            while not self._stopping:
                ready = {fd for fd, _ in poll.poll()}
                if self._notify.fileno() in ready:
                    self._read_notes()
                if self._pidfd in ready:
                    self._master_has_gone(poll)
                elif self._pidfd < 0 and (
                    ready & {sock.fileno() for sock in self._sockets} or self._start_now
                ):
                    self._start_master(poll)
                if self._control in ready:
                    os.eventfd_read(self._control)
            self._end_everything()

    def _watch(self, poll, watching):
        for sock in self._sockets:
            if watching:
                poll.register(sock, select.EPOLLIN)
            else:
                poll.unregister(sock)

    def _start_master(self, poll):
        self._start_now = False
        self._watch(poll, False)
        fds = [sock.fileno() for sock in self._sockets]
        run = Run(
            start(self._argv, fds, self._environ, self._log, limits=self._limits, cwd=self._cwd)
        )
        self._pidfd = os.pidfd_open(run.pid)
        poll.register(self._pidfd, select.EPOLLIN)
        self.runs.append(run)

    def _read_notes(self):
        while True:
            try:
                message, ancillary, _, _ = self._notify.recvmsg(
                    4096,
                    socket.CMSG_SPACE(struct.calcsize("iII"))
                    + socket.CMSG_SPACE(struct.calcsize("ll")),
                )
            except BlockingIOError:
                return
            told = {kind: data for _, kind, data in ancillary}
            sender = struct.unpack("iII", told[socket.SCM_CREDENTIALS])[0]
            seconds, nanoseconds = struct.unpack("ll", told[SO_TIMESTAMPNS])
            sent = seconds + nanoseconds / 1e9 - time.time() + time.monotonic()
            if sender != self.run.pid:  # NotifyAccess=main: systemd would not even read it
                self.complaints.append(
                    f"a note of pid {sender}, which is not the Master: {message!r}"
                )
                continue
            lines = message.decode().split("\n")
            if "READY=1" in lines and not self.run.told("READY"):
                [status] = [line for line in lines if line.startswith("STATUS=")] or [""]
                if not status or status.startswith("STATUS=waking"):
                    # `systemctl start` returns now, and its caller reads the status.
                    self.complaints.append(f"it was ready, and said {status!r} with it")
            for line in lines:
                name, _, value = line.partition("=")
                self.run.notes.append((sent, name, value))

    def _master_has_gone(self, poll):
        run = self.run
        poll.unregister(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._read_notes()
        run.left_behind = [str(process) for process in members(run.pid, but=run.pid)]
        _, status = os.waitpid(run.pid, 0)
        run.status = os.waitstatus_to_exitcode(status)
        run.ended = time.monotonic()  # last: tests wait for it, and then look at the others
        if run.status >= 0 and run.left_behind:
            self.complaints.append(
                f"Master {run.pid} exited with {run.status} and left behind {run.left_behind}"
            )
        self._await_rest(run)
        run.cleared = time.monotonic()
        if not self._stopping:
            self._watch(poll, True)

    def _await_rest(self, run):
        # systemd looks at its sockets again when the last process of the service has
        # gone.
        deadline = time.monotonic() + STOP_TIMEOUT
        while rest := members(run.pid):
            if time.monotonic() > deadline:
                self.complaints.append(
                    f"{STOP_TIMEOUT:g} s after the end of Master {run.pid} these had to be killed: {rest}"
                )
                for process in rest:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.005)

    def _end_everything(self):
        if self._pidfd < 0:
            return
        self.signal_all(signal.SIGTERM)
        with select.epoll() as poll:
            poll.register(self._pidfd, select.EPOLLIN)
            if not poll.poll(STOP_TIMEOUT):
                self.complaints.append(f"SIGTERM did not end Master {self.run.pid}")
                self.signal_all(signal.SIGKILL)
                poll.poll()
            self._master_has_gone(poll)

    def close(self):
        """End whatever runs, and tell what was wrong."""
        self._stopping = True
        os.eventfd_write(self._control, 1)
        self._thread.join()
        story = self.story()
        for command in self._commands:
            with command:
                command.kill()
        for sock in (*self._sockets, self._notify):
            sock.close()
        os.close(self._control)
        os.close(self._log)
        assert not self.complaints, "\n".join([*self.complaints, story])
