"""`spyglass enter-app SOCKET ...`: become the command that `spyglass run` was given.

systemd starts it, as the app's user and in its sandbox, from the unit that run_unit.py
makes. It reads the app's settings as `serve` does, fetches command and descriptors from
the socket, enters the app's directory and its virtual environment, and executes the
command in its own place. So what systemd and signals know as the unit's main process is
the command itself.

The other words are those of `serve`. It is not for people to type: neither the help nor
the man page has it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from spyglass.config import command_line, settings
from spyglass.errors import LoadError, StartError
from spyglass.ops.run import run_channel
from spyglass.runtime.sd_daemon import hide_from_the_app
from spyglass.zygote import venv
from spyglass.zygote.sandbox_hints import advice, user

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spyglass.config.settings import Config

NOT_RUN = 125
"""Exit status of `spyglass run` for a command that it did not run, as env(1) and
timeout(1) have it.
"""
CANNOT_RUN, NOT_FOUND = 126, 127  # as a shell has it

# systemd.exec(5), "Environment Variables in Spawned Processes". They describe this
# process, not the command: its output does not go to the journal.
_OF_SYSTEMD = ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "MAINPID", "MANAGERPID")


class _CannotRunError(StartError):
    """The command cannot be executed. `exit_status` is that of a shell."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.exit_status = status


def main(argv: Sequence[str]) -> int:
    """Run with the words after `enter-app`; return an exit status if there is nothing
    to become.
    """
    path, words = "".join(argv[:1]), argv[1:]
    try:
        request, fds = run_channel.receive(path)
    except EOFError:  # `spyglass run` has refused it, and said why
        return NOT_RUN
    except OSError as error:
        print(
            f"spyglass: cannot fetch the command from {path!r}: {error.strerror}; only the units of "
            "'spyglass run' use enter-app",
            file=sys.stderr,
        )
        return NOT_RUN
    _take(fds, request.terminal)
    os.environ |= request.variables
    try:
        if not request.words:
            os.execv(sys.argv[0], [sys.argv[0], "app-shell", *words])  # noqa: S606, no shell
        config = read_settings(words)
        _become(request.words, enter(config))
    except LoadError as error:
        said = f"{error.summary} {error.details}".rstrip()
        status = NOT_RUN
    except StartError as error:
        said = "\nspyglass: ".join(error.lines)
        status = error.exit_status if isinstance(error, _CannotRunError) else NOT_RUN
    print(f"spyglass: {said}", file=sys.stderr, flush=True)
    return status


def read_settings(words: Sequence[str]) -> Config:
    """Return the settings that `serve` with these `words` would have, and take those of
    Spyglass and systemd out of the environment. Raise StartError.
    """
    arguments = command_line.parse(["serve", *words])
    config = settings.load(arguments.file, os.environ, arguments.options)
    hide_from_the_app()
    for name in list(os.environ):
        if name.startswith(settings.PREFIX) or name in _OF_SYSTEMD:
            del os.environ[name]
    return config


def _take(fds: Sequence[int], terminal: int) -> None:
    """Make `fds` this process's stdin, stdout and stderr."""
    for target, fd in enumerate(fds):
        os.dup2(fd, target)  # numbers from 3 on: systemd has opened the first three
        os.close(fd)
    if terminal >= 0:
        import fcntl
        import termios

        # systemd has made this process the leader of a session without a terminal
        # (setsid(2)). This one becomes it, so that Ctrl-C, getpass and shells work.
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    # systemd and Python ignore them, and an ignored signal is inherited: then
    # `spyglass run blog yes | head -1` would not end.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def enter(config: Config) -> str:
    """Enter the app's directory and virtual environment; return its Python's path.
    Raise LoadError.
    """
    try:
        os.chdir(config.directory)
    except OSError as error:
        raise LoadError(f"directory {config.directory!r}: {error.strerror}", _hint(error)) from None
    if not config.venv:
        return sys.executable
    root = os.path.abspath(config.venv)
    python = venv.interpreter(root)
    if not python:
        raise LoadError(f"venv {config.venv!r}: there is no bin/python3 that {user()} may run")
    venv.announce(root)
    return python


def _hint(error: OSError) -> str:
    found = advice(error)
    return f"({found})" if found else ""


def complete(words: Sequence[str], python: str, environ: Mapping[str, str]) -> list[str]:
    """Return the command line to execute for `words`, in the app's directory.

    `python` (path) is the app's interpreter. It runs `python` where $PATH has no such
    command, which is so without a virtual environment, and a file *.py in the app's
    directory that cannot be executed by itself.
    """
    first, *rest = words
    if "/" not in first:
        if shutil.which(first, path=environ.get("PATH")):
            return list(words)
        if first in ("python", "python3"):
            return [python, *rest]
    elif os.access(first, os.X_OK):
        return list(words)
    if first.endswith(".py") and os.path.isfile(first):
        return [python, *words]
    return list(words)


def _become(words: Sequence[str], python: str) -> NoReturn:
    """Execute the command in place of this process. Raise _CannotRunError."""
    argv = complete(words, python, os.environ)
    try:
        os.execvp(argv[0], argv)  # noqa: S606, no shell
    except ValueError as error:
        raise _CannotRunError(f"{argv[0]!r}: {error}", CANNOT_RUN) from None
    except OSError as error:
        raise _why(argv[0], error) from None


def _why(name: str, error: OSError) -> _CannotRunError:
    found = name if "/" in name else shutil.which(name)
    if isinstance(error, FileNotFoundError):
        if found and os.path.exists(found):
            text = f"{found}: the program in its first line (#!) does not exist"
            return _CannotRunError(text, CANNOT_RUN)
        where = (
            f"there is no such file, seen from {os.getcwd()}"
            if "/" in name
            else f"there is no such command in {os.environ.get('PATH')}"
        )
        return _CannotRunError(f"{name}: {where}", NOT_FOUND)
    hint = _hint(error) if found is None else ""
    return _CannotRunError(f"{name}: {error.strerror} {hint}".rstrip(), CANNOT_RUN)
