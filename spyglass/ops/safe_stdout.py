"""What a command prints, made so that the command cannot fail on it.

A reader leaves (`spyglass apply | head -1`), a disk is full, a descriptor is closed
(`>&-`): print() would raise in the middle of the work, and Python once more at its end.
Here the first error is remembered, and all that is printed after it is dropped.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from _typeshed import ReadableBuffer

_NOT_PRINTED = 1  # exit status of a command that had only to print


class _Sink(io.RawIOBase):
    """The descriptor `fd`, to which writing never fails. `error` is what has happened
    to it, None so far.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: ReadableBuffer, /) -> int:
        while self.error is None:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # another process on the terminal has made it so
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


def open_missing() -> None:
    """Open descriptors 0, 1 and 2 where they are closed, or a file or a socket of ours
    would get what is printed.
    """
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            # The wrong way round: it is an error to use it, as it is to use a closed
            # one.
            os.open(os.devnull, mode)  # the lowest that is free (open(2)), hence this one


def run(command: Callable[[], int], *, only_prints: bool) -> int:
    """Run `command` with standard output and errors that cannot fail, and return its
    exit status.

    A command that `only_prints` (bool) has failed if that could not be written, unless
    its reader has left.
    """
    open_missing()
    pid = os.getpid()
    out, err = _Sink(1), _Sink(2)
    sys.stdout, sys.stderr = _text_stream(out, sys.stdout), _text_stream(err, sys.stderr)
    status = _status_of(command)
    _flush(sys.stdout)
    told = os.getpid() != pid  # a process that `spyglass check` has forked: its parent says it
    if out.error is not None and out.error.errno != errno.EPIPE and not told:
        print(
            f"spyglass: what was to be printed could not be written: {out.error.strerror}",
            file=sys.stderr,
        )
        if only_prints:
            return status or _NOT_PRINTED
    return status


def _status_of(command: Callable[[], int]) -> int:
    try:
        return command()
    except SystemExit as end:  # of argparse, when it has printed its help
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1


def _text_stream(sink: _Sink, like: TextIO | None) -> TextIO:
    # What cannot be said in the terminal's encoding is no reason to fail either.
    encoding = like.encoding if like is not None else None
    lines = sink.isatty() or sink.fileno() == 2
    return io.TextIOWrapper(
        io.BufferedWriter(sink), encoding=encoding, errors="backslashreplace", line_buffering=lines
    )


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except (
        KeyboardInterrupt,
        ValueError,
    ):  # an impatient user; an app that has closed it during `spyglass check`
        pass
