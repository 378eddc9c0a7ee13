"""Errors that know their cost.

An error at start carries the exit status of the process, an error while reading a
request the HTTP status of the response. The code that catches one needs no table.
"""

from __future__ import annotations

import errno
import os

from spyglass.printable import lines, one_line, paths

_SUMMARY = 500  # characters; systemd accepts no notification of more than 4 KiB
_SHORT = 200
_LINE = 4000  # characters: a path has up to 4096 bytes

EX_CONFIG = 78
"""Exit status for a broken configuration or app (sysexits.h). The units list it in
RestartPreventExitStatus=, because a restart would not help.
"""


EX_UNAVAILABLE = 69
"""Exit status of a command that needs a Master, or systemd, and finds none
(sysexits.h).
"""


class StartError(Exception):
    """The server cannot start, and the administrator can fix the cause. The text is one
    line that says how; `also` (list of str) has one line for each further mistake.
    """

    exit_status = EX_CONFIG

    def __init__(self, text: str, also: list[str] | None = None) -> None:
        super().__init__(text)
        self.also = also or []

    @property
    def lines(self) -> list[str]:
        """The text, and that of the further mistakes, each as one line: they may quote
        the name of a file, and an app or an archive may put a line end into one.
        """
        return [one_line(each, _LINE) for each in (str(self), *self.also)]


class ConfigError(StartError):
    """A setting is unknown, of the wrong type, or contradicts another; the text names
    the place (file:line, variable, option).

    `file` (str or None) is the file in which to fix it.
    """

    def __init__(self, text: str, file: str | None = None, also: list[str] | None = None) -> None:
        super().__init__(text, also)
        self.file = file


class ListenerError(StartError):
    """No listening socket was passed, or something that is not one."""


class RestartError(StartError):
    """The program cannot be read completely: its files were replaced while it started,
    or no descriptor is left. A restart helps, so this is not EX_CONFIG.
    """

    exit_status = 1


class UsageError(StartError):
    """The command line cannot be understood."""

    exit_status = 2


class LoadError(Exception):
    """The app could not be loaded.

    `summary` (str) is one line such as "ModuleNotFoundError: No module named 'blgo'".
    `details` (str) is the traceback from the app's first frame on, with a line about
    what the sandbox has refused, or "". `files` (list of str) are the paths to watch: a
    change of one makes a retry worthwhile. `told` (bool) is set when all of it is in
    the journal.

    Any of it may come from the app. It goes to systemd, the journal, clients and root's
    terminal, so it is made printable and its length is limited here.
    """

    told = False

    def __init__(self, summary: str, details: str = "", files: list[str] | None = None) -> None:
        self.summary = one_line(summary, _SUMMARY)
        super().__init__(self.summary)
        self.details = lines(details)
        self.files = paths(files or [])


class PrefaceError(Exception):
    """A connection lacks the PROXY header that `proxy_protocol` requires. It is closed
    without a response, because the peer need not speak HTTP.
    """


class RequestError(Exception):
    """A request is refused: `status` (int) is the HTTP status of the response, after
    which the connection is closed (RFC 9112 9.6).
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class RobbedError(Exception):
    """A file descriptor of the worker was closed by other code in its process. Others
    may be gone, too, and their numbers reused: whatever is sent now may reach the wrong
    client.
    """


def blame(error: BaseException) -> str:
    """Return why a worker cannot continue, for the log."""
    if isinstance(error, RobbedError) or (
        isinstance(error, OSError) and error.errno in (errno.EBADF, errno.ENOTSOCK)
    ):
        return "a file descriptor of Spyglass was closed, probably by the app"
    return "a bug in Spyglass"


def told_shortly(error: BaseException) -> str:
    """Return `error` and the line of code that raised it, as one printable line: the
    text may contain what a client has sent.
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
