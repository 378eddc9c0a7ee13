"""What a Master begins with, and the fork of a zygote.

A zygote imports the worker's modules, and a Master those that read the command line and
the settings. Neither needs the other's. So the first zygote of a wake is forked before
all of that: then the two import at the same time, and the client waits for the longer
of them only. What both need is imported here, before the fork, once.

Such a zygote is told the settings (config/sent_settings.py) and the listeners
(runtime/shared_memory.py) when the Master knows them, and runs no code of the app
before. If there is nothing to tell, because the settings are wrong or there are no
listeners, the Master discards it.
"""

from __future__ import annotations

import os
import time
from stat import S_ISREG

from spyglass.errors import blame
from spyglass.log import LEVELS, open_log
from spyglass.runtime import fork
from spyglass.runtime.fast_imports import signal, socket
from spyglass.runtime.module_finder import import_all
from spyglass.runtime.shared_memory import Shared
from spyglass.runtime.signals import Signals, hold_back_unheard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from spyglass.config.settings import Config
    from spyglass.log import Log

_SLOTS = 1024  # two generations of the most workers there can be, and those on their way out
STOP = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
_SIGNALS = (
    *STOP,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR2,
    signal.SIGCHLD,
    signal.SIGTSTP,
)
# systemctl sends these to every process of the unit.
_SENT_TO_ALL = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP, signal.SIGUSR2)
_LONGEST = 1 << 20  # bytes of a settings file that are looked at
_BUFFER = 1 << 20  # bytes, the channel's; neither end must ever wait for the other


def is_woken(environ: Mapping[str, str]) -> bool:
    """Return True if systemd has passed listeners to this process."""
    return environ.get("LISTEN_PID") == str(os.getpid())


def may_fork_early(argv: list[str], environ: Mapping[str, str]) -> bool:
    """Return True if the first zygote may be forked before the command line and the
    settings are parsed.

    Not where they set `health`: then the Master may answer a health check by itself,
    without a zygote. To look for the word is enough: it costs nothing but time if it
    means something else.
    """
    if not is_woken(environ) or "SPYGLASS_HEALTH" in environ:
        return False
    file = ""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in ("-h", "--help", "--health"):
            return False
        if name in ("--name", "--config"):
            value = value if equals else following
            file = f"/etc/spyglass/{value}.toml" if name == "--name" else value
    content = _content(file) if file else b""
    return content is not None and b"health" not in content


def _content(file: str) -> bytes | None:
    """Return what is in a settings file; b"" if it cannot be read, which will be
    explained when it is parsed; None if it is a pipe, which can be read only once.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not S_ISREG(os.fstat(fd).st_mode):
                return None
            return os.read(fd, _LONGEST)
        finally:
            os.close(fd)
    except OSError:
        return b""


class Beginning:
    """The Master's log, what it shares with its children, its signals, and `fork` (Fork
    or None), that of a zygote which waits to be told the settings.
    """

    def __init__(self) -> None:
        self.log = open_log("master")
        self.shared = Shared(None, _SLOTS)
        self.signals = Signals(_SIGNALS)
        hold_back_unheard()
        self.fork: Fork | None = None

    def fork_zygote(self) -> None:
        """Fork the first zygote. Must be called below fork.run().

        If it fails, there is none: the Master tries again, and explains what failed.
        """
        try:
            made = Fork()
            made.run(self.shared, self.log, None, self.signals.forget, first=True)
        except OSError:
            return
        self.fork = made


class Fork:
    """A zygote and the channel to it: `near` is the Master's end, `far` the zygote's.

    `pid` (int) is 0 before the fork, `number` (int or None) is that of its slot of the
    scoreboard. `started` (float) is monotonic, `started_wall` (float) the wall clock's,
    for comparison with times of files.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.number: int | None = None
        self.started = time.monotonic()
        self.started_wall = time.time()
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def run(
        self,
        shared: Shared,
        log: Log,
        config: Config | None,
        become_child: Callable[[], None],
        *,
        first: bool,
    ) -> None:
        """Fork it. In the child `become_child` closes what belongs to the Master; see
        Zygote for `config` and `first`. Raises OSError when there is no process to be
        had.
        """
        for end in (self.near, self.far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self.number = number = shared.board.take()
        # A fork resets no handler, but what the handlers record goes to the parent's
        # pipe until signals.py has given the child its own. The signals that systemctl
        # sends to all processes are blocked until then, or one that comes in between
        # would end the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SENT_TO_ALL)
        pid = -1
        try:
            pid = os.fork()
        except OSError:
            shared.board.give_back(number)
            self.number = None
            self.near.close()
            self.far.close()
            raise
        finally:
            if pid:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if not pid:
            self._become_zygote(shared, log, config, become_child, first=first)
        self.pid = pid
        self.far.close()

    def _become_zygote(
        self,
        shared: Shared,
        log: Log,
        config: Config | None,
        become_child: Callable[[], None],
        *,
        first: bool,
    ) -> NoReturn:
        """In the child: leave the Master's stack, see fork.enter(), and be the zygote.

        Until then no exception may leave: the frames further up are the Master's, which
        would take it for a failed fork of its own and carry on as a second Master.
        """
        far, number, log = self.far, self.number, log.child("child")
        assert number is not None
        try:
            become_child()
            self.near.close()
            shared.leave_the_line()
            if config is not None:
                log.set_level(LEVELS[config.log_level])
        except Exception as error:
            log.exception(blame(error), error)
            raise SystemExit(1) from None

        def live() -> int:
            try:
                import_all("zygote")
                # In here: the Master of a wake imports it when the first answer is out.
                from spyglass.zygote import main as zygote
            except Exception as error:
                log.exception(blame(error), error)
                return 1
            return zygote.main(config, shared, number, far, log, first=first)

        fork.enter(live)
