"""Print without failing in the middle of the work.

The reader may close the pipe (`spyglass apply | head -1`), the disk may be full, the
descriptor closed (`>&-`). print() would then raise anywhere, between two systemctl
calls as well, and Python would raise once more at exit. Here the first error is stored
and everything printed after it is dropped; run() reports the error at the end.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys

# Not from typing: a waiting lookout keeps what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from _typeshed import ReadableBuffer

_NOT_PRINTED = 1  # exit status of a command that has no other effect than its output


class _Sink(io.RawIOBase):
    """A raw stream for the descriptor `fd`. Writing to it never fails; `error` is the
    first OSError, or None.
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
            except BlockingIOError:  # another process made the terminal non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


def open_missing() -> None:
    """Open descriptors 0, 1 and 2 on /dev/null where they are closed.

    Otherwise the next file or socket that we open would get such a number, and what is
    printed would be written into it.
    """
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            # With the opposite access mode, so that using it fails as using a closed
            # one does. open(2) returns the lowest free number, which is this one.
            os.open(os.devnull, mode)


def run(command: Callable[[], int], *, only_prints: bool) -> int:
    """Run `command` with stdout and stderr that cannot fail; return its exit status.

    If the output could not be written, say so on stderr. A command that `only_prints`
    (bool) then fails with status 1, unless the reader has closed the pipe: that is its
    choice.
    """
    open_missing()
    pid = os.getpid()
    out, err = _Sink(1), _Sink(2)
    sys.stdout, sys.stderr = _text_stream(out, sys.stdout), _text_stream(err, sys.stderr)
    status = _status_of(command)
    _flush(sys.stdout)
    is_child = os.getpid() != pid  # forked by `spyglass check`; its parent reports the error
    if out.error is not None and out.error.errno != errno.EPIPE and not is_child:
        print(
            f"spyglass: cannot write the output: {out.error.strerror}",
            file=sys.stderr,
        )
        if only_prints:
            return status or _NOT_PRINTED
    return status


def _status_of(command: Callable[[], int]) -> int:
    """Return the exit status of `command`, also if it ends by SystemExit."""
    try:
        return command()
    except SystemExit as end:  # argparse raises it after printing the help
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1


def _text_stream(sink: _Sink, like: TextIO | None) -> TextIO:
    # A character that the encoding lacks must not fail either.
    """Return a text stream over `sink`, with the encoding of `like`."""
    encoding = like.encoding if like is not None else None
    lines = sink.isatty() or sink.fileno() == 2
    return io.TextIOWrapper(
        io.BufferedWriter(sink), encoding=encoding, errors="backslashreplace", line_buffering=lines
    )


def _flush(stream: TextIO) -> None:
    """Flush a stream, unless the app has closed it."""
    try:
        stream.flush()
    except (
        KeyboardInterrupt,
        ValueError,
    ):  # Ctrl-C; or an app closed the stream during `spyglass check`
        pass
