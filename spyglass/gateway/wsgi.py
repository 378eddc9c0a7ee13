"""PEP 3333: one request's way through the app.

An Exchange is driven by its connection: `advance()` gives the next piece that is to be
sent, and is called again only when that has left. So a generator that would give a
gigabyte is never further than one chunk ahead of its reader. All of the app's code runs
in there, in `abandon()` and nowhere else: whoever calls the one or the other may have
to wait.
"""

from __future__ import annotations

import os
import sys
from contextvars import copy_context
from io import BytesIO

from spyglass.http11.error_response import REASONS
from spyglass.http11.request import PROXY_FIELDS
from spyglass.http11.response_head import (
    CHUNKED,
    LENGTH,
    NONE,
    UNTIL_CLOSE,
    CheckedFields,
    Head,
    check_fields,
    check_status,
    make_head,
)
from spyglass.log import traceback_of
from spyglass.runtime.printable import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextvars import Context, ContextVar
    from types import TracebackType
    from typing import Any, Protocol

    from spyglass.http11.request import Request
    from spyglass.log import Log
    from spyglass.worker.leader_followers import Hand, Piece
    from spyglass.zygote.app_loader import App

    class Server(Protocol):
        """What an exchange asks of the worker it runs in; `date` (str) is now, as a
        Date field has it.
        """

        app: App
        log: Log
        debug: bool
        date: str

        def fresh_context(self) -> Context: ...
        def would_keep(self) -> bool: ...
        def count_error(self) -> None: ...

    class Client(Protocol):
        """Its connection. `push()` sends at once and blocks if it must (CutOff);
        `resume()` takes what `advance()` gave elsewhere.

        `reset_unless_whole()` is called when a response begins whose end its client can
        tell by the end of the connection alone.
        """

        fd: int

        def push(self, data: bytes) -> None: ...
        def reset_unless_whole(self) -> None: ...
        def resume(self, piece: Piece) -> None: ...

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

_TO_BE_CHANGED = PROXY_FIELDS | {
    "HTTP_UPGRADE"
}  # fields that an app does not get as the client has sent them
_JOINED = (
    16 << 10
    # Bytes of a body that are sent in one piece with the head: to copy them costs less
    # than to send two
)


class CutOff(Exception):
    """The response cannot be completed: the connection must end here so that its client
    can tell (RFC 9112 8).
    """


class Breach(Exception):
    """The app has not kept to PEP 3333, and what it did is told in words that say how
    to put it right.
    """


class FileWrapper:
    """`wsgi.file_wrapper`: iterates over a file in blocks, or is sent by sendfile(2)
    where it is a real one.
    """

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


def base_environ(threads: int = 1) -> dict[str, Any]:
    """What is the same for every request of a worker that runs the app in so many
    threads.
    """
    return {
        "SCRIPT_NAME": "",
        "SERVER_SOFTWARE": "spyglass",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": threads > 1,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "wsgi.input": None,  # its place, for each request's own
    }


class EnvironMaker:
    """Makes the environ of each request of a connection whose constant part is `base`;
    the other two are the settings of that name.
    """

    __slots__ = ("_base", "_fields", "_forwarded_headers", "_last", "_prepared", "_trusted_proxies")

    def __init__(
        self, base: dict[str, Any], trusted_proxies: str = "", forwarded_headers: str = ""
    ) -> None:
        self._base = base
        self._forwarded_headers = forwarded_headers
        self._trusted_proxies = trusted_proxies
        self._last: Request | None = None
        self._fields: dict[str, str] | None = None
        self._prepared: dict[str, Any] = {}

    def client(self, request: Request) -> str:
        """REMOTE_ADDR in the environ of `request`."""
        if request is not self._last:
            self._prepare(request)
        address: str = self._prepared["REMOTE_ADDR"]
        return address

    def make(self, request: Request) -> dict[str, Any]:
        """The environ of `request`, and nobody else's."""
        # The reader gives the same Request for the same bytes, and the same dict for
        # the same fields: what is the same is kept.
        if request is not self._last:
            self._prepare(request)
        environ = self._prepared.copy()
        environ["wsgi.input"] = BytesIO() if request.body is None else request.body.open()
        return environ

    def _prepare(self, request: Request) -> None:
        if request.fields is not self._fields:
            self._fields = request.fields
            self._prepared = {**self._base, **request.fields}
            if not _TO_BE_CHANGED.isdisjoint(request.fields):
                if "HTTP_UPGRADE" in request.fields:
                    _hide_offer(self._prepared)
                if not PROXY_FIELDS.isdisjoint(request.fields):
                    from spyglass.http11.forwarded_headers import (
                        believe,
                    )  # only who is told something pays for it

                    believe(self._prepared, self._trusted_proxies, self._forwarded_headers)
        path = request.path
        if "%" in path:
            from urllib.parse import (
                unquote_to_bytes,
            )  # only who sends an escape pays for the import

            path = unquote_to_bytes(path).decode("latin-1")
        prepared = self._prepared
        prepared["REQUEST_METHOD"] = request.method
        prepared["PATH_INFO"] = path
        prepared["QUERY_STRING"] = request.query
        prepared["REQUEST_URI"] = request.target
        prepared["SERVER_PROTOCOL"] = "HTTP/1.1" if request.version >= (1, 1) else "HTTP/1.0"
        self._last = request


def _hide_offer(environ: dict[str, Any]) -> None:
    """Remove the offer of an upgrade (RFC 9110 7.8): it was made to us, and is not
    taken up.

    Libraries that find it in the environ look for the server's socket next to it, and
    have an error when there is none: engineio and simple-websocket, that is
    Flask-SocketIO and flask-sock, for each client.
    """
    del environ["HTTP_UPGRADE"]
    environ.pop("HTTP_HTTP2_SETTINGS", None)
    options = [option.strip() for option in environ.pop("HTTP_CONNECTION", "").split(",")]
    others = [
        option for option in options if option.lower() not in ("", "upgrade", "http2-settings")
    ]
    if others:
        environ["HTTP_CONNECTION"] = ", ".join(others)


class Contexts:
    """Makes the context (PEP 567) of each request: a copy of that in which the app was
    imported and post_fork() was called.

    Made in the thread where that was done. The threads that serve have contexts of
    their own, in which nothing is set: what the app has set at import (a precision of
    decimal, a language, a tracer) would hold in some of its requests only.
    """

    __slots__ = ("_base", "_decimal", "fresh")

    def __init__(self) -> None:
        self._base = copy_context()
        # decimal changes its context in place: what one request sets would be set for
        # all of them.
        self._decimal: ContextVar[Any] | None = next(
            (each for each in self._base if each.name == "decimal_context"), None
        )
        # Called for each request, so it is the copying itself where nothing else is to
        # be done.
        self.fresh: Callable[[], Context] = (
            self._base.copy if self._decimal is None else self._with_its_own_decimal
        )

    def _with_its_own_decimal(self) -> Context:
        assert self._decimal is not None
        context = self._base.copy()
        context.run(self._decimal.set, self._base[self._decimal].copy())
        return context


class Exchange:
    """One request and its response.

    `complete` (bool) becomes true when nothing is to be sent after the piece just
    given, `done` (bool) when the app has no part in it any more, either; then
    `keep_alive` (bool) tells whether the connection can take another request, and
    `status` (str) what was answered. `home` and `bound` are the crew's.

    All of the app's code runs in a context of its own (Contexts): what a generator has
    left in it when it waits for its reader, a request for instance that is the current
    one, is none of the business of whoever is served meanwhile in the same thread.
    """

    __slots__ = (
        *("bound", "complete", "connection", "done", "home", "keep_alive", "path", "status"),
        *("_broken", "_called", "_context", "_environ", "_fields", "_head", "_iterator"),
        *("_overrun", "_request", "_result", "_sent", "_server", "_span", "_written"),
    )

    def __init__(
        self, server: Server, request: Request, environ: dict[str, Any], connection: Client
    ) -> None:
        self.connection = connection
        self.home: Hand | None = None
        self.bound = False
        self.complete = False
        self.done = False
        self.keep_alive = False
        self.status = ""
        self.path = request.path
        self._server = server
        self._request = request
        self._environ = environ
        self._fields: CheckedFields | None = None
        self._head: Head | None = None
        self._sent = 0  # bytes of the body
        self._called = False
        self._context = server.fresh_context()
        self._result: object = None
        self._iterator: Iterator[bytes] | None = None
        self._span: FileSpan | None = None
        self._broken = (
            False  # a write() was cut; whatever the app makes of that, nothing more is sent
        )
        self._overrun = False  # the app has given more than it promised
        self._written = False

    @property
    def called(self) -> bool:
        """Whether the app has been called."""
        return self._called

    @property
    def given(self) -> int:
        """Bytes of the body that have been given to be sent, less what frames them."""
        head = self._head
        if head is None or head.framing == NONE:
            return 0
        if self.done and head.framing == LENGTH:
            return head.length or 0  # a response that was whole at once is not counted otherwise
        return self._sent - (self._span.count if self._span is not None else 0)

    def advance(self) -> bytes | tuple[bytes, bytes] | FileSpan | None:
        """The next piece, which may be empty, or may be two; None when there is no
        more. Raises CutOff.
        """
        try:
            if not self._called:
                self._called = True
                result = self._result = self._context.run(
                    self._server.app, self._environ, self.start_response
                )
                if type(result) in _PLAIN and not self._written:
                    return self._whole(result, True)  # type: ignore[arg-type]
                return self._context.run(self._open, result)
            if self._span is not None:
                span, self._span = self._span, None
                return span
            if self._iterator is not None:
                piece = self._context.run(self._next, self._iterator)
                if piece or self._iterator is not None:
                    return piece
        except CutOff:
            self._close()
            raise
        except BaseException as error:
            return self._failed(error)
        self._close()
        self.done = True
        return None

    def abandon(self) -> None:
        """The response will not be completed: the client has gone."""
        self._called = True
        self._close()

    def _whole(
        self, chunks: list[bytes] | tuple[bytes, ...], plain: bool
    ) -> bytes | tuple[bytes, bytes]:
        """All of a response that is there at once. `plain`: the list has no close()
        that would have to be called.
        """
        # So its length is known (PEP 3333, "Handling the Content-Length Header").
        if len(chunks) == 1:
            body = chunks[0]
            if not isinstance(body, bytes):
                raise _no_bytes(body)
        else:
            for chunk in chunks:
                if not isinstance(chunk, bytes):
                    raise _no_bytes(chunk)
            body = b"".join(chunks)
        size = len(body)
        head = self._begin(size)
        if head.framing == NONE:
            self.complete = True
            self.done = plain
            return head.data
        if head.length == size:
            self.complete = True
            self.done = plain
            return head.data + body if size <= _JOINED else (head.data, body)
        self._iterator = iter((body,))
        return head.data

    def _open(self, result: Iterable[bytes]) -> bytes | tuple[bytes, bytes]:
        """The first piece of a body that is not simply there."""
        if self._broken:
            raise CutOff("the client has gone")
        if not self._written:
            if isinstance(result, list | tuple):  # of a class of the app's, with perhaps a close()
                piece = self._whole(result, False)
                if self._iterator is None and self._head is not None:
                    self._sent = self._head.length or 0
                return piece
            if isinstance(result, FileWrapper):
                head = self._open_file(result)
                if head is not None:
                    return head
        self._iterator = _iterate(result)
        return self._next(self._iterator)

    def _next(self, iterator: Iterator[bytes]) -> bytes:
        for chunk in iterator:
            if not isinstance(chunk, bytes):
                raise _no_bytes(chunk)
            piece = b""
            # PEP 3333: the head may change until the first byte of the body that is not
            # empty.
            if chunk:
                piece = (
                    self._frame(chunk)
                    if self._head is not None
                    else self._begin(None).data + self._frame(chunk)
                )
                head = self._head
                self.complete = (
                    head is not None and head.framing == LENGTH and self._sent == head.length
                )
            if self._head is not None and (self._head.framing == NONE or self._overrun):
                self._iterator = None  # nothing of the rest could be sent, and it need not end
            if piece or self._iterator is None:
                return piece
        if self._head is None:
            # By itself, for the app may have promised more than nothing: then that much
            # can still be said.
            self._iterator = iter(())
            return self._begin(0).data
        self._iterator = None
        return self._end()

    def _close(self) -> None:
        result, self._result, self._iterator = self._result, None, None
        close = getattr(result, "close", None)
        if close is None:
            return
        try:
            self._context.run(close)
        except BaseException as error:
            # The response is out, or its client is gone: nobody is left to be told but
            # the journal.
            self._server.log.exception(
                f"{self._request.method} {self._request.target}: close() raised {name_of(error)}",
                error,
            )

    def start_response(
        self, status: str, fields: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333, "The start_response() Callable"."""
        if exc_info is not None:
            try:
                if self._head is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no circle through this frame
        elif self._fields is not None:
            raise AssertionError("start_response() was called twice without exc_info")
        check_status(status)
        self._fields = checked = check_fields(fields)
        if checked.dropped:
            request, names = self._request, ", ".join(checked.dropped)
            self._server.log.debug(
                f"{request.method} {request.target}: dropped of the app's headers, as only the server can know: {names}"
            )
        self.status = status if type(status) is str else str.__str__(status)
        return self._write

    def _write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"write() takes bytes, not {type(data).__name__}")
        self._written = True
        if self._broken:
            raise CutOff("the client has gone")
        if data:
            try:
                self.connection.push(
                    (b"" if self._head is not None else self._begin(None).data) + self._frame(data)
                )
            except CutOff:
                self._broken = True
                raise

    def _begin(self, length: int | None) -> Head:
        if self._fields is None:
            raise Breach(
                "the app gave its response without having called start_response(status, headers)"
            )
        request, server = self._request, self._server
        if self.status[0] == "5":
            server.count_error()
        keep_alive = request.keep_alive and server.would_keep()
        self._head = head = make_head(
            self.status, self._fields, request, server.date, keep_alive, length
        )
        if head.keep_alive:
            self.keep_alive = True
        elif head.framing == UNTIL_CLOSE:
            self.connection.reset_unless_whole()
        return head

    def _frame(self, chunk: bytes) -> bytes:
        """`chunk` as the head promised it; more than Content-Length never leaves, it
        would be read as the next response.
        """
        head = self._head
        assert head is not None
        if head.framing == NONE or not chunk:
            return b""
        if head.framing == CHUNKED:
            self._sent += len(chunk)
            return b"%x\r\n%b\r\n" % (len(chunk), chunk)
        if head.length is not None and self._sent + len(chunk) > head.length:
            if not self._overrun:
                self._overrun = True
                text = f"the app gave more than its Content-Length, {head.length}"
                self._server.log.error(f"{self._request.method} {self._request.target}: {text}")
            chunk = chunk[: head.length - self._sent]
        self._sent += len(chunk)
        return chunk

    def _end(self) -> bytes:
        head = self._head
        assert head is not None
        if head.framing == CHUNKED:
            self.complete = True
            return b"0\r\n\r\n"
        if head.framing == LENGTH and self._sent < (head.length or 0):
            text = f"the app gave {self._sent} bytes, its Content-Length says {head.length}"
            self._server.log.error(f"{self._request.method} {self._request.target}: {text}")
            raise CutOff(text)
        return b""

    def _open_file(self, wrapper: FileWrapper) -> bytes | None:
        """The head of a response made of a regular file, or None when its bytes must be
        read by us after all.

        That is so where no block of a disk holds them and the last one is not there:
        the size of a file in /proc is 0, of one in /sys 4096, whatever they give.
        """
        import io
        import stat

        # Only what is nothing but its descriptor: a gzip.GzipFile has a fileno(), too,
        # and other bytes behind it than it reads.
        if type(wrapper.file) not in (io.FileIO, io.BufferedReader, io.BufferedRandom):
            return None
        try:
            fd = wrapper.file.fileno()
            status = os.fstat(fd)
            offset = wrapper.file.tell()
            holds_what_it_says = status.st_blocks > 0 or (
                status.st_size > 0 and os.pread(fd, 1, status.st_size - 1) != b""
            )
        except (AttributeError, OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode) or not holds_what_it_says:
            return None
        size = max(0, status.st_size - offset)
        head = self._begin(size)
        if head.framing != NONE:
            self._sent = count = min(size, size if head.length is None else head.length)
            if count:
                self._span = FileSpan(fd, offset, count)
            self._iterator = iter(())  # at whose end it shows whether that was all of it
        return head.data

    def _failed(self, error: BaseException) -> bytes:
        request, server = self._request, self._server
        line = f"{request.method} {request.target}: "
        if isinstance(error, TypeError) and not self._began(error):
            error = Breach(
                f"the app cannot be called with (environ, start_response), as WSGI has it: {error}{_ASGI}"
            )
        if isinstance(error, Breach):
            server.log.error(f"{line}{error}")  # a traceback would tell of our own lines only
        else:
            server.log.exception(f"{line}the app raised {name_of(error)}", error)
        self._close()
        if self._head is not None:
            server.count_error()
            what = str(error) if isinstance(error, Breach) else f"the app raised {name_of(error)}"
            raise CutOff(f"{what}, in the middle of its response") from None
        text = "Internal Server Error\n"
        if server.debug:
            text += f"\n{error if isinstance(error, Breach) else traceback_of(error)}\n"
        body = text.encode("utf-8", "backslashreplace")
        self.status = f"500 {REASONS[500]}"
        self._fields = check_fields([("Content-Type", "text/plain; charset=utf-8")])
        head = self._begin(len(body))
        self.complete = self.done = True
        return head.data if head.framing == NONE else head.data + body

    def _began(self, error: BaseException) -> bool:
        """Whether `error` was raised by the app's code, not by calling it with what it
        does not take.
        """
        trace = error.__traceback__
        return self._result is not None or trace is None or trace.tb_next is not None


_PLAIN = (list, tuple)  # and without a close()
_ASGI = ". If it is an ASGI app (Starlette, FastAPI, Quart, `async def`), it needs an ASGI server"
_NO_BODIES = (str, bytes, bytearray, memoryview, dict)  # though one can iterate over them


def _iterate(result: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of what the app has returned, or Breach if it cannot have any: text
    and dicts can be iterated over, but not as bytes.
    """
    kind = type(result).__name__
    if isinstance(result, _NO_BODIES):
        remedy = "return [body]"
        if isinstance(result, str | dict):
            remedy = (
                "return [text.encode()]"
                if isinstance(result, str)
                else "return [json.dumps(...).encode()]"
            )
        raise Breach(
            f"the app returned {kind}, where PEP 3333 wants an iterable of bytes: {remedy}"
        )
    try:
        return iter(result)
    except TypeError:
        if result is None:
            raise Breach(
                "the app returned None, where PEP 3333 wants an iterable of bytes: is a `return` missing?"
            ) from None
        hint = _ASGI if hasattr(result, "__await__") or hasattr(result, "__aiter__") else ""
        raise Breach(
            f"the app returned {kind}, where PEP 3333 wants an iterable of bytes{hint}"
        ) from None


def _no_bytes(chunk: object) -> Breach:
    hint = ": text.encode() makes bytes of a text" if isinstance(chunk, str) else ""
    return Breach(
        f"the app gave {type(chunk).__name__} as a piece of its body, where PEP 3333 wants bytes{hint}"
    )
