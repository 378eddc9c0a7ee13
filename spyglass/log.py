"""Log lines, for the journal or for a terminal.

Under systemd each line goes to the journal and starts with its priority, `<6>`
(sd-daemon(3)); journald itself adds the time and the pid. It does not go through
stderr, which is the app's as well. What an app prints there can come from a client, and
a line that begins with "<0>" would be an emergency, which journald writes to every
terminal of the machine. So the units have journald take no priority from such a line
(SyslogLevelPrefix=no), and Spyglass has a stream of its own, see open_log(). Everywhere
else lines go to stderr, and start with the time, the pid and the role of the process.
The standard library's logging is not used: its import costs a wake more than everything
in this file does in a day.

A line that cannot be written (full disk, closed pipe) is dropped: a log must never take
down what it reports on.
"""

from __future__ import annotations

import os
import sys
import time

from spyglass.errors import blame
from spyglass.printable import lines, name_of, one_line, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7  # the priorities of syslog(3)
LEVELS = {"error": ERROR, "warning": WARNING, "info": INFO, "debug": DEBUG}
ACCESS_LOG = "spyglass-access"  # the journal's identifier for lines of the access log
_JOURNAL = "/run/systemd/journal/stdout"
_MOST_HINTS = 16
_LONGEST = 8 << 10  # characters of a line
_NAMES = {ERROR: "error: ", WARNING: "warning: "}


def stderr_is_journal(environ: Mapping[str, str]) -> bool:
    """Return True if stderr is the journal's stream: JOURNAL_STREAM holds its device
    and inode (systemd.exec(5)).
    """
    try:
        device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
        stat = os.fstat(2)
        return (int(device), int(inode)) == (stat.st_dev, stat.st_ino)
    except (ValueError, OSError):
        return False


def open_log(role: str, level: int = INFO, environ: Mapping[str, str] = os.environ) -> Log:
    """Return the log of this process: a stream of its own to the journal if stderr is
    the journal's and one can be had, else stderr.
    """
    journal = stderr_is_journal(environ)
    return Log(role, level, journal=journal, fd=open_stream() if journal else 2)


def open_stream(identifier: str = "spyglass") -> int:
    """Return a stream to the journal that takes lines with a priority; 2 if none can be
    had (another sandbox). `identifier` is the SYSLOG_IDENTIFIER= of its lines.

    sd_journal_stream_fd(3) makes one in the same way, but its library takes a tenth of
    a wake to load. The header is one item a line: the identifier, the unit (only root
    may name one; journald knows it by the control group), the priority of lines that
    have none, whether lines have one, and three ways of forwarding.
    """
    from spyglass.runtime.fast_imports import socket

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(_JOURNAL)
        sock.shutdown(socket.SHUT_RD)
        sock.sendall(f"{identifier}\n\n6\n1\n0\n0\n0\n".encode())
    except OSError:
        sock.close()
        return 2
    return sock.detach()


def _file_of(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def traceback_of(error: BaseException) -> str:
    """Return the traceback of `error`, bounded and printable. Never raises.

    It is the last line alone when no descriptor is left to import `traceback`, or when
    looking at `error` raises another error.
    """
    try:
        import traceback  # brings linecache and tokenize along: only a failure pays for them

        text = "".join(traceback.format_exception(error)).rstrip()
    except BaseException:
        text = f"{name_of(error)}: {words_of(error)}"
    return lines(text)


def print_by_lines() -> None:
    """Have what the app prints written at the end of each line. The journal is no
    terminal, so Python would buffer 8 KiB.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        except (AttributeError, ValueError, OSError):
            pass  # there is none, or a .pth file has replaced it


def flush() -> None:
    """Flush what the app has printed, which must not be lost at os._exit(), nor be
    printed by a fork as well. Never raises.

    The app may have put anything in the place of sys.stdout and sys.stderr.
    """
    for stream in {
        id(each): each for each in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    }.values():
        try:
            stream.flush()  # type: ignore[union-attr]  # None raises AttributeError
        except Exception:  # noqa: S110, closed, full, or no stream at all
            pass


class Log:
    """Writes lines of one process to `fd`; `role` (str) says which process, `level`
    (int) is the last priority that is written.

    `journal` (bool): the journal reads them. A log `like` another one (Log) goes where
    that goes.
    """

    def __init__(
        self,
        role: str,
        level: int = INFO,
        *,
        journal: bool = False,
        fd: int = 2,
        like: Log | None = None,
    ) -> None:
        self.role = role
        self.journal: bool = journal if like is None else like.journal
        self.fd: int = fd if like is None else like.fd
        # To notice when the number belongs to another file.
        self._file: tuple[int, int] | None = _file_of(fd) if like is None else like._file
        self.set_level(level)
        self._pid = os.getpid()
        # Kinds of refusals that were explained, and what explains one; None: none is
        # expected.
        self._hinted: set[str] = set()
        self._hint: Callable[[BaseException], tuple[str, str]] | None = None

    def set_level(self, level: int) -> None:
        self.level = level
        self.debugging = level >= DEBUG  # asked once a request, hence an attribute

    def child(self, role: str) -> Log:
        """Return the log of a process that was just forked."""
        return Log(role, self.level, like=self)

    def error(self, text: str) -> None:
        self._write(ERROR, text)

    def warning(self, text: str) -> None:
        self._write(WARNING, text)

    def info(self, text: str) -> None:
        self._write(INFO, text)

    def debug(self, text: str) -> None:
        self._write(DEBUG, text)

    def exception(self, text: str, error: BaseException) -> None:
        """Write `text`, then the traceback of `error`, all with the priority of an
        error.
        """
        self._write(ERROR, f"{text}\n{traceback_of(error)}")
        self.explain(error)

    def exit_status(self, live: Callable[[], None]) -> int:
        """Return 0, or 1 if `live()` has raised, which is logged then: an exception of
        a child must not go on to what its parent was doing.
        """
        try:
            live()
        except Exception as error:
            self.exception(blame(error), error)
            return 1
        return 0

    def expect_refusals(self, hint: Callable[[BaseException], tuple[str, str]]) -> None:
        """From now on explain what the sandbox refuses to the app, each kind once.

        `hint` returns for an error what helps, or "", and of which kind that is.

        Frameworks catch what an app raises, log it, and answer for it. The worker sees
        a 500, and only `logging` sees the error.
        """
        self._hint = hint
        logging = sys.modules.get("logging")
        if logging is None:
            return
        make = logging.getLogRecordFactory()

        def make_and_explain(*args: Any, **named: Any) -> Any:
            record = make(*args, **named)
            if isinstance(record.exc_info, tuple) and isinstance(record.exc_info[1], BaseException):
                self.explain(record.exc_info[1])
            return record

        logging.setLogRecordFactory(make_and_explain)

    def explain(self, error: BaseException) -> None:
        """If the sandbox has caused `error`, write which setting lifts the refusal."""
        if self._hint is None or len(self._hinted) >= _MOST_HINTS:
            return
        try:
            found, kind = self._hint(error)
        # No descriptor is left to import what explains it; or the app's error raises
        # another one when it is looked at.
        except Exception:
            return
        if found and kind not in self._hinted:
            self._hinted.add(kind)
            self.error(f"({found})")

    def start(self, priority: int) -> str:
        """Return what each line of `priority` begins with."""
        if self.journal:
            return f"<{priority}>{self.role}: "
        return f"{time.strftime('%H:%M:%S')} [{self._pid} {self.role}] {_NAMES.get(priority, '')}"

    def _write(self, priority: int, text: str) -> None:
        if priority > self.level:
            return
        if self.fd != 2 and _file_of(self.fd) != self._file:
            # The app has closed it, and may have opened a file since that got its
            # number.
            self.fd, self.journal = 2, False
        # Each line has its priority, or journald would file the rest of a traceback
        # under "info". For journald a line also ends at a NUL and after 48 KiB
        # (LineMax=), and what the app has put behind that would be taken for a
        # priority.
        start = self.start(priority)
        written = "".join(f"{start}{one_line(line, _LONGEST)}\n" for line in text.split("\n"))
        try:
            os.write(self.fd, written.encode(sys.getfilesystemencoding(), "backslashreplace"))
        except OSError:
            pass
