"""PEP 3333: one request's way through the app.

An Exchange is driven by its connection: `run()` yields what is to be sent, piece by piece, and is asked for the next piece only
when the last one has left. So a generator that would give a gigabyte is never further than one chunk ahead of its reader, and a
client that goes away ends it through the generator's own close(), which always calls the app's.
"""

from __future__ import annotations

import sys

from spyglass.http11 import response
from spyglass.http11.refusal import REASONS
from spyglass.http11.response import Head, make_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import TracebackType
    from typing import Any

    from spyglass.http11.request import Request
    from spyglass.loader import App
    from spyglass.log import Log

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

_JOINED = 64 << 10  # a body of several parts up to this size is sent in one piece


class CutOff(Exception):
    """The response cannot be completed: the connection must end here so that its client can tell (RFC 9112 8)."""


class FileWrapper:
    """`wsgi.file_wrapper`: iterates over a file in blocks, or is sent by sendfile(2) where it is a real one."""

    def __init__(self, file: Any, block_size: int = 64 << 10) -> None:
        self.file = file
        self.block_size = block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.block_size), b"")


class FileSpan:
    """`count` bytes of the file behind descriptor `fd` from `offset` on."""

    __slots__ = ("count", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int) -> None:
        self.fd = fd
        self.offset = offset
        self.count = count


def base_environ() -> dict[str, Any]:
    """What is the same for every request of a worker; copied for each."""
    return {
        "SCRIPT_NAME": "",
        "SERVER_SOFTWARE": "spyglass",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
    }


def make_environ(base: dict[str, Any], request: Request, empty: Callable[[], Any]) -> dict[str, Any]:
    """The environ of `request` on a connection whose constant part is `base`; `empty` makes the input of a request without body."""
    environ = base.copy()
    environ.update(request.fields)
    path = request.path
    if "%" in path:
        from urllib.parse import unquote_to_bytes  # only who sends an escape pays for the import

        path = unquote_to_bytes(path).decode("latin-1")
    environ["REQUEST_METHOD"] = request.method
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = request.query
    environ["REQUEST_URI"] = request.target
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if request.version >= (1, 1) else "HTTP/1.0"
    environ["wsgi.input"] = request.body.open() if request.body is not None else empty()
    return environ


def _check_chunk(chunk: object) -> None:
    if not isinstance(chunk, bytes):
        raise TypeError(f"the app must give bytes, not {type(chunk).__name__}")


class Exchange:
    """One request and its response.

    `keep_alive` (bool) holds once `run()` is exhausted; `abandoned` (bool) is set by whoever closes `run()` early.
    `push` sends bytes at once, blocking if it must: what write() promises (PEP 3333, "The write() Callable").
    """

    def __init__(self, app: App, request: Request, environ: dict[str, Any], push: Callable[[bytes], None], log: Log) -> None:
        self.keep_alive = False
        self.abandoned = False
        self.status = ""
        self._app = app
        self._request = request
        self._environ = environ
        self._push = push
        self._log = log
        self._fields: response.Fields = []
        self._head: Head | None = None
        self._sent = 0  # bytes of the body
        self._broken = False  # a write() was cut; whatever the app makes of that, nothing more is sent
        self._overrun = False  # the app has given more than it promised
        self._date = ""
        self._willing: Callable[[], bool] = bool
        self._written = False

    def run(self, date: str, willing: Callable[[], bool], debug: bool = False) -> Generator[bytes | FileSpan]:
        """Call the app and yield what is to be sent. Raises CutOff.

        `willing()` says whether this side would keep the connection; it is asked when the head is made, for the app may take its time.
        """
        self._date = date
        self._willing = willing
        try:
            yield from self._respond()
        except CutOff:
            raise
        except BaseException as error:
            if self.abandoned:
                raise  # GeneratorExit: the connection has closed us; any other is the app's
            self._log.exception(f"{self._request.method} {self._request.target}: the app raised {type(error).__name__}", error)
            if self._head is not None:
                raise CutOff(f"the app raised {type(error).__name__} in the middle of its response") from None
            yield self._failure(error, debug)

    def _respond(self) -> Iterator[bytes | FileSpan]:
        result = self._app(self._environ, self.start_response)
        try:
            if isinstance(result, FileWrapper):
                span = self._span(result)
                if span is not None:
                    yield from span
                    return
            yield from self._body(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                self._close(close)

    def _close(self, close: Callable[[], object]) -> None:
        try:
            close()
        except BaseException as error:
            # The response is out, or its client is gone: nobody is left to be told but the journal.
            self._log.exception(f"{self._request.method} {self._request.target}: close() raised {type(error).__name__}", error)

    def _body(self, result: Iterable[bytes]) -> Iterator[bytes]:
        if self._broken:
            raise CutOff("the client has gone")
        if isinstance(result, list | tuple) and not self._written:
            yield from self._whole(result)
        else:
            for chunk in result:
                _check_chunk(chunk)
                # PEP 3333: the head may change until the first byte of the body that is not empty.
                if chunk:
                    yield (b"" if self._head else self._begin(None)) + self._frame(chunk)
                if self._head is not None and (self._head.silent or self._overrun):
                    break  # nothing of the rest could be sent, and it need not end
            if self._head is None:
                yield self._begin(0)
        yield self._end()

    def _whole(self, chunks: list[bytes] | tuple[bytes, ...]) -> Iterator[bytes]:
        # All of it is there, so its length is known (PEP 3333, "Handling the Content-Length Header").
        for chunk in chunks:
            _check_chunk(chunk)
        size = sum(map(len, chunks))
        head = self._begin(size)
        if size <= _JOINED:
            yield head + self._frame(b"".join(chunks))
            return
        yield head
        for chunk in chunks:
            yield self._frame(chunk)

    def start_response(self, status: str, fields: response.Fields, exc_info: ExcInfo | None = None) -> Callable[[bytes], None]:
        """PEP 3333, "The start_response() Callable"."""
        if exc_info is not None:
            try:
                if self._head is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no circle through this frame
        elif self.status:
            raise AssertionError("start_response() was called twice without exc_info")
        response.check_status(status)
        response.check_fields(fields)
        self.status = status
        self._fields = list(fields)
        return self._write

    def _write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"write() takes bytes, not {type(data).__name__}")
        self._written = True
        if self._broken:
            raise CutOff("the client has gone")
        if data:
            try:
                self._push((b"" if self._head else self._begin(None)) + self._frame(data))
            except CutOff:
                self._broken = True
                raise

    def _begin(self, length: int | None) -> bytes:
        if not self.status:
            raise AssertionError("the app gave a body before it called start_response()")
        keep_alive = self._request.keep_alive and self._willing()
        self._head = head = make_head(self.status, self._fields, self._request, self._date, keep_alive, length)
        self.keep_alive = head.keep_alive
        return head.data

    def _frame(self, chunk: bytes) -> bytes:
        """`chunk` as the head promised it; more than Content-Length never leaves, it would be read as the next response."""
        head = self._head
        assert head is not None
        if head.silent or not chunk:
            return b""
        if head.framing == response.CHUNKED:
            return b"%x\r\n%b\r\n" % (len(chunk), chunk)
        if head.length is not None and self._sent + len(chunk) > head.length:
            if not self._overrun:
                self._overrun = True
                text = f"the app gave more than its Content-Length, {head.length}"
                self._log.error(f"{self._request.method} {self._request.target}: {text}")
            chunk = chunk[: head.length - self._sent]
        self._sent += len(chunk)
        return chunk

    def _end(self) -> bytes:
        head = self._head
        assert head is not None
        if head.framing == response.CHUNKED:
            return b"0\r\n\r\n"
        if head.framing == response.LENGTH and not head.silent and self._sent < (head.length or 0):
            text = f"the app gave {self._sent} bytes, its Content-Length says {head.length}"
            self._log.error(f"{self._request.method} {self._request.target}: {text}")
            raise CutOff(text)
        return b""

    def _span(self, wrapper: FileWrapper) -> Iterator[bytes | FileSpan] | None:
        """The response made of a regular file, or None when its bytes must be read by us after all."""
        import io
        import os
        import stat

        # Only what is nothing but its descriptor: a gzip.GzipFile has a fileno(), too, and other bytes behind it than it reads.
        if type(wrapper.file) not in (io.FileIO, io.BufferedReader, io.BufferedRandom):
            return None
        try:
            fd = wrapper.file.fileno()
            status = os.fstat(fd)
            offset = wrapper.file.tell()
        except (AttributeError, OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode) or self._written:
            return None
        size = max(0, status.st_size - offset)
        head_data = self._begin(size)
        head = self._head
        assert head is not None
        count = 0 if head.silent else min(size, size if head.length is None else head.length)
        return self._send_span(head_data, FileSpan(fd, offset, count))

    def _send_span(self, head_data: bytes, span: FileSpan) -> Iterator[bytes | FileSpan]:
        self._sent = span.count
        yield head_data
        if span.count:
            yield span
        yield self._end()

    def _failure(self, error: BaseException, debug: bool) -> bytes:
        text = "Internal Server Error\n"
        if debug:
            import traceback

            text += "\n" + "".join(traceback.format_exception(error))
        body = text.encode("utf-8", "backslashreplace")
        self.status = f"500 {REASONS[500]}"
        self._fields = [("Content-Type", "text/plain; charset=utf-8")]
        self._sent = 0
        return self._begin(len(body)) + self._frame(body)
