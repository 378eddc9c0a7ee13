"""Errors that know their cost.

An error met at start carries the exit status to leave with, one met while reading a
request the HTTP status to answer with. Whoever catches one needs no table: it says its
line and pays its price.
"""

from __future__ import annotations

import errno
import os

from spyglass.runtime.printable import lines, one_line, paths

_SUMMARY = 500  # characters; systemd takes no note that is longer than 4 KiB
_SHORT = 200

EX_CONFIG = 78
"""Exit status for configuration or an app that fails (sysexits.h; the units name it in
RestartPreventExitStatus=).
"""


EX_UNAVAILABLE = 69
"""Exit status of a command that has not been done because nobody is there to do it
(sysexits.h).
"""


class StartError(Exception):
    """Something the administrator can mend keeps the server from starting; the text is
    one line that says what to do.
    """

    exit_status = EX_CONFIG


class ConfigError(StartError):
    """A setting is unknown, of the wrong type, or contradicts another; the text names
    the place (file:line, variable, option).

    `file` (str or None) is the file whose change would mend it, `also` (list of str)
    what else is wrong, in as many lines.
    """

    def __init__(self, text: str, file: str | None = None, also: list[str] | None = None) -> None:
        super().__init__(text)
        self.file = file
        self.also = also or []


class ListenerError(StartError):
    """There is no socket to accept from, or what was passed is not one."""


class UsageError(StartError):
    """The command line cannot be understood."""

    exit_status = 2


class LoadError(Exception):
    """The app could not be loaded.

    `summary` (str) is one line such as "ModuleNotFoundError: No module named 'blgo'",
    `details` (str) the traceback from the app's first frame on, and where the sandbox
    has refused something a line about that, or "", and `files` (list of str) the paths
    whose change makes another try worth while. `told` (bool) is set when the journal
    has it all.

    Any of it may be the app's words. They go to systemd, the journal, clients and
    root's terminal, so they are made printable and bounded here.
    """

    told = False

    def __init__(self, summary: str, details: str = "", files: list[str] | None = None) -> None:
        self.summary = one_line(summary, _SUMMARY)
        super().__init__(self.summary)
        self.details = lines(details)
        self.files = paths(files or [])


class PrefaceError(Exception):
    """A connection does not begin with a PROXY header where one must be: it is closed
    without a word, for nobody is known to hear it.
    """


class RequestError(Exception):
    """A request that is refused: `status` (int) is the HTTP status of the answer, after
    which the connection ends (RFC 9112 9.6).
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class RobbedError(Exception):
    """Somebody has closed a descriptor of ours. Which others are gone cannot be known:
    nothing more can be sent and be sure to whom.
    """


def blame(error: BaseException) -> str:
    """Whose fault it is when a worker cannot go on."""
    if isinstance(error, RobbedError) or (
        isinstance(error, OSError) and error.errno in (errno.EBADF, errno.ENOTSOCK)
    ):
        return "a descriptor of ours is gone, closed by the app as it seems"
    return "a bug of ours"


def told_shortly(error: BaseException) -> str:
    """Return `error` and the line of code that raised it, as one printable line: its
    text may hold what a client has sent.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = (
        f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"
        if trace is not None
        else ""
    )
    return f"{type(error).__name__}: {one_line(str(error), _SHORT)}{place}"
