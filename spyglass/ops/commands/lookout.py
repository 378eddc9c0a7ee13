"""The lookout does systemd's part where there is no systemd: it holds the sockets and
starts a Master at the first connection.

It waits without the app, httptools or anything else that a server imports. The first
connection makes it start `spyglass serve` in a fresh process, under the contract of
sd_listen_fds(3). While that process lives, the lookout does not watch its sockets; when
it has exited, the lookout watches them again. A connection that was not accepted is
still in the kernel's queue and starts the next Master.
"""

from __future__ import annotations

import os
import select
import sys
import time

from spyglass.errors import ListenerError, UsageError
from spyglass.ops.addresses import how_to_reach
from spyglass.runtime.addresses import FIRST_FD, address_text
from spyglass.runtime.fast_imports import Listening, signal, signal_name, socket
from spyglass.runtime.poller import LONGEST_WAIT
from spyglass.runtime.signals import Signals, hold_back_unheard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from spyglass.config.settings import Config
    from spyglass.log import Log

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_PASSED_ON = (*_STOP, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2)
# Variables of systemd's that are meant for the lookout, or for the unit of its shell.
_SYSTEMDS = ("NOTIFY_SOCKET", "LISTEN_PIDFDID", "INVOCATION_ID")
_FAST = 1.0  # a Master that fails within this many seconds is not started again at once
_LONGEST_PAUSE = 10.0
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PROGRAM = os.path.join(_PACKAGE, "__main__.py")


def bind(address: str) -> Listening:
    """Return a listening socket for `host:port`, `[v6]:port`, `:port` (all addresses)
    or `unix:/path`.

    Raise UsageError if `address` is none of these, ListenerError if it cannot be used;
    both say what to do.
    """
    if address.startswith("unix:") and address != "unix:":
        return _bind_unix(address.removeprefix("unix:"))
    host, colon, port = address.rpartition(":")
    if (
        not colon
        or not port.isascii()
        or not port.isdigit()
        or int(port) > 65535
        or (":" in host and not host.startswith("["))
    ):
        raise UsageError(f"--bind {address}: expected host:port, [v6]:port, :port or unix:/path")
    try:
        return _bind_tcp(host.strip("[]"), int(port))
    except UnicodeError:
        raise UsageError(f"--bind {address}: {host!r} is not a valid host name") from None
    except OSError as error:
        raise ListenerError(f"cannot listen on {address}: {_why(error)}") from None


def _bind_tcp(host: str, port: int) -> Listening:
    if not host and _has_dualstack():
        return _listen(socket.AF_INET6, ("::", port), dualstack=True)
    # As bytes: for text, Python loads the codec for international names, a megabyte
    # that a waiting process would keep. The codec also refuses what cannot be a name,
    # so an unusual name is left to it.
    is_plain = host.isascii() and all(0 < len(label) < 64 for label in host.split("."))
    name = host.encode() if is_plain else host
    family, _, _, _, where = socket.getaddrinfo(
        name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return _listen(family, where[:2])


def _has_dualstack() -> bool:
    try:
        with Listening(socket.AF_INET6):
            return True
    except OSError:
        return False


def _listen(family: int, where: tuple[Any, ...], *, dualstack: bool = False) -> Listening:
    sock = Listening(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dualstack)
        sock.bind(where)
        sock.listen(socket.SOMAXCONN)
    except OSError:
        sock.close()
        raise
    return sock


def _why(error: OSError) -> str:
    import errno

    if error.errno == errno.EADDRINUSE:
        return "another program uses this port; stop it, or choose another port with --bind HOST:PORT (with make: BIND=HOST:PORT make run)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission denied; only root may use ports below 1024, choose another port with --bind HOST:PORT"
    return error.strerror or str(error)


def _bind_unix(path: str) -> Listening:
    sock = Listening(socket.AF_UNIX)
    try:
        if _is_stale(path):
            os.unlink(path)
        sock.bind(path)
        sock.listen(socket.SOMAXCONN)
    except OSError as error:
        sock.close()
        why = str(error) if isinstance(error, FileExistsError) else _why(error)
        raise ListenerError(f"cannot listen on unix:{path}: {why}") from None
    return sock


def _is_stale(path: str) -> bool:
    """Return True if there is a socket file on which no process listens any more."""
    import stat

    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError("the file there is not a socket")
        with Listening(socket.AF_UNIX) as probe:
            probe.connect(path)
    except FileNotFoundError:
        return False
    except ConnectionRefusedError:
        return True
    raise FileExistsError("another program listens there")


class Lookout:
    """Holds a socket for each of `addresses` and runs `spyglass serve` with `arguments`
    (those after the command) on demand.
    """

    def __init__(
        self, addresses: list[str], config: Config, arguments: list[str], log: Log
    ) -> None:
        self._config = config
        self._arguments = arguments
        self._log = log
        self._sockets = [bind(address) for address in addresses]
        self._signals = Signals((*_PASSED_ON, signal.SIGCHLD))
        hold_back_unheard()
        self._master = 0  # its pid while there is one
        self._started = 0.0
        self._stopping = False
        self._failures = 0
        self._not_before = 0.0
        # The process group of a dead Master, and when to kill what is left of it.
        self._leftover: tuple[int, float] | None = None
        self._poll = select.poll()
        self._poll.register(self._signals.fd, select.POLLIN)
        self._watching = False

    def run(self) -> int:
        """Wait and start Masters until told to stop; return the exit status."""
        self._greet()
        while self._master or not self._stopping:
            self.turn()
        self._end_leftover(now=True)
        for sock in self._sockets:
            if sock.family == socket.AF_UNIX:
                os.unlink(sock.getsockname())
            sock.close()
        self._log.info("stopped")
        return 0

    def turn(self) -> None:
        """Wait once, then act."""
        now = time.monotonic()
        self._watch(not self._master and now >= self._not_before)
        ready = [fd for fd, _ in self._poll.poll(self._patience(now))]
        if self._signals.fd in ready:
            for number in self._signals.take():
                self._heed(number)
        elif ready:
            self._start()
        self._end_leftover(now=False)

    def _patience(self, now: float) -> float | None:
        """Return the milliseconds until something is due, None if nothing is."""
        due = [self._leftover[1]] if self._leftover else []
        if not self._master and now < self._not_before:
            due.append(self._not_before)
        return max(0.0, min(min(due) - now, LONGEST_WAIT)) * 1000 + 1 if due else None

    def _watch(self, watching: bool) -> None:
        if watching == self._watching:
            return
        self._watching = watching
        for sock in self._sockets:
            self._poll.register(sock, select.POLLIN) if watching else self._poll.unregister(sock)

    def _greet(self) -> None:
        what = self._config.app or "the welcome page"
        reached = how_to_reach.sentence(map(address_text, self._sockets), self._config)
        self._log.info(f"{what} is asleep; {reached}")
        if self._config.idle_timeout:
            self._log.info(
                f"the first visit wakes it, {self._config.idle_timeout:g} s without one and it sleeps again; Ctrl-C ends this"
            )
        else:
            self._log.info(
                "the first visit wakes it, and it stays awake (idle_timeout is 0); Ctrl-C ends this"
            )

    # The Master

    def _start(self) -> None:
        self._started = time.monotonic()
        sys.stdout.flush()
        # Blocked until the Master is ready for them (Signals.install): it must not die
        # of a SIGHUP that it has no handler for yet.
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        pid = os.fork()
        if not pid:
            self._become_master()
        self._master = pid
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        self._log.info(f"a visitor: starting the Master, pid {pid}")

    def _become_master(self) -> NoReturn:
        # A process group of its own: what a terminal sends to a group (Ctrl-C) must
        # reach it once, through the lookout, and not twice.
        os.setpgid(0, 0)
        self._signals.forget()
        count = len(self._sockets)
        # Moved to high numbers first: a socket may have a number that another must get.
        spare = [os.dup(sock.fileno()) for sock in self._sockets]
        high = [_move_up(fd, FIRST_FD + count) for fd in spare]
        for index, fd in enumerate(high):
            os.dup2(fd, FIRST_FD + index, inheritable=True)
        environ = {name: value for name, value in os.environ.items() if name not in _SYSTEMDS}
        environ.update(
            LISTEN_PID=str(os.getpid()),
            LISTEN_FDS=str(count),
            LISTEN_FDNAMES=":".join(["http"] * count),
        )
        # -S: see runtime/late_site.py. -P: a file in the working directory must not be
        # taken for a module of ours or of the standard library. A path, because -m
        # would import what searches for it.
        command = [sys.executable, "-S", "-P", _PROGRAM, "serve", *self._arguments]
        try:
            os.execve(sys.executable, command, environ)  # noqa: S606, of our own words
        finally:
            os._exit(127)

    def _heed(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
            return
        self._stopping = self._stopping or number in _STOP
        if self._master:
            os.kill(self._master, number)

    def _reap(self) -> None:
        """Take the Master's status, and those of all others that are ours.

        As PID 1, in a container, we are the parent of each process that has lost its
        own: workers of a dead zygote, what an app left in the background. Each would
        stay in the process table until it is waited for.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._master:
                self._master_ended(status)

    def _master_ended(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        lived = time.monotonic() - self._started
        master, self._master = self._master, 0
        if code < 0 or code == 1:
            # systemd would kill what is left in the cgroup. Workers drain on their own,
            # but an app that hangs at import does not notice the Master's end.
            self._leftover = (master, time.monotonic() + self._config.graceful_timeout)
            _signal_group(master, signal.SIGTERM)
        self._failures = self._failures + 1 if code and lived < _FAST else 0
        if self._failures:
            pause = min(0.5 * 2.0 ** min(self._failures - 1, 10), _LONGEST_PAUSE)
            self._not_before = time.monotonic() + pause
            self._log.warning(
                f"the Master {_how(code)} after {lived:.1f} s; not starting another for {pause:g} s"
            )
        elif not self._stopping:
            self._log.info(
                "asleep again"
                if not code
                else f"the Master {_how(code)}; the next visit starts another"
            )

    def _end_leftover(self, *, now: bool) -> None:
        if self._leftover and (now or time.monotonic() >= self._leftover[1]):
            _signal_group(self._leftover[0], signal.SIGKILL)
            self._leftover = None


def _move_up(fd: int, least: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def _how(code: int) -> str:
    return f"was killed by {signal_name(-code)}" if code < 0 else f"exited with status {code}"
