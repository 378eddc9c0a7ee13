"""One request and its response, between the server and the app (PEP 3333).

An Exchange is driven by its connection: `advance()` returns the next piece to send, and
is called again only when that piece has left. So a generator that could produce a
gigabyte is never more than one chunk ahead of its client. All of the app's code runs in
`advance()` and `abandon()` and nowhere else, so only these two can block.

An Exchange knows nothing of threads. The server may call it in any thread, but only in
one at a time.
"""

from __future__ import annotations

from spyglass.gateway.app_errors import Breach, explained, iterate, no_bytes
from spyglass.gateway.file_wrapper import FileSpan, FileWrapper, rest_of
from spyglass.http11.error_response import REASONS
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
from spyglass.printable import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Final

    from spyglass.gateway.interfaces import Client, Server
    from spyglass.http11.request import Request

    App = Callable[..., Iterable[bytes]]

# Bytes. A body up to this size is sent in one piece with the head: to copy it costs
# less than to send two pieces.
_JOINED: Final = 16 << 10
_PLAIN: Final = (list, tuple)  # not a class derived from them, which may have a close()


class CutOff(Exception):
    """The response cannot be completed. The connection must end here, so that its
    client notices (RFC 9112 8).
    """


class Exchange:
    """One request and its response.

    `complete` (bool) becomes true when nothing is to be sent after the piece that was
    just returned; `done` (bool) when the app has nothing left to do, either. Then
    `keep_alive` (bool) tells whether the connection can take another request, and
    `status` (str) what was answered.

    `home` and `bound` belong to what runs the exchange (worker/leader_followers.py).
    They are its slots, so that it needs no table of its own, and nothing here reads
    them. So is the type of `connection` beyond Client.

    All of the app's code runs in a context of its own (environ.py, Contexts): context
    variables set by a suspended generator, for instance the current request, must not
    leak into other requests on this thread.

    There are more attributes than a class should have: each request makes one object,
    and parts of it would be further objects that each request pays for.
    """

    __slots__ = (
        *("bound", "complete", "connection", "done", "home", "keep_alive", "path", "status"),
        *("_broken", "_called", "_context", "_environ", "_fields", "_head", "_iterator"),
        *("_overrun", "_request", "_result", "_sent", "_server", "_span", "_written"),
    )

    def __init__(
        self, server: Server, request: Request, environ: dict[str, Any], connection: Client
    ) -> None:
        self.connection: Any = connection
        self.home: Any = None
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
        self._iterator: Iterator[object] | None = None
        self._span: FileSpan | None = None
        # A write() was cut: nothing more is sent, whatever the app makes of the error.
        self._broken = False
        self._overrun = False  # the app has given more than its Content-Length
        self._written = False  # write() was called

    @property
    def called(self) -> bool:
        """True when the app has been called."""
        return self._called

    @property
    def given(self) -> int:
        """Return how many bytes of the body were returned so far, without the chunked
        coding.
        """
        head = self._head
        if head is None or head.framing == NONE:
            return 0
        if self.done and head.framing == LENGTH:
            return head.length or 0  # _whole() does not count in `_sent`
        return self._sent - (self._span.count if self._span is not None else 0)

    def advance(self) -> bytes | tuple[bytes, bytes] | FileSpan | None:
        """Return the next piece to send, which may be empty, or may be two; None when
        there is no more. Raises CutOff.
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
        """End the exchange: the client has gone, and will not get the rest."""
        self._called = True
        self._close()

    def _whole(
        self, chunks: list[object] | tuple[object, ...], plain: bool
    ) -> bytes | tuple[bytes, bytes]:
        """Return all of a response whose pieces are there at once, so that its length
        is known (PEP 3333, "Handling the Content-Length Header"). `plain` (bool): the
        list has no close() that must be called.
        """
        if len(chunks) == 1:
            only = chunks[0]
            if not isinstance(only, bytes):
                raise no_bytes(only)
            body = only
        else:
            for chunk in chunks:
                if not isinstance(chunk, bytes):
                    raise no_bytes(chunk)
            body = b"".join(chunks)  # type: ignore[arg-type]  # just checked
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

    def _open(self, result: object) -> bytes | tuple[bytes, bytes]:
        """Return the first piece of a body that is not simply there."""
        if self._broken:
            raise CutOff("the client has gone")
        if not self._written:
            if isinstance(result, (list, tuple)):  # of a derived class, see _PLAIN
                piece = self._whole(result, False)
                if self._iterator is None and self._head is not None:
                    self._sent = self._head.length or 0
                return piece
            if isinstance(result, FileWrapper):
                head = self._open_file(result)
                if head is not None:
                    return head
        self._iterator = iterate(result)
        return self._next(self._iterator)

    def _next(self, iterator: Iterator[object]) -> bytes:
        for chunk in iterator:
            if not isinstance(chunk, bytes):
                raise no_bytes(chunk)
            piece = b""
            # PEP 3333: the app may change the head until the first piece of the body
            # that is not empty.
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
                # Nothing of the rest can be sent, and the rest may be endless.
                self._iterator = None
            if piece or self._iterator is None:
                return piece
        if self._head is None:
            # The head alone first: the app may have promised a body by Content-Length.
            # Then the client gets the head before the connection is cut.
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
            # The response is out, or its client has gone: only the journal can be told.
            self._server.log.exception(
                f"{self._request.method} {self._request.target}: close() raised {name_of(error)}",
                explained(error),
            )

    def start_response(
        self, status: object, fields: object, exc_info: Any = None
    ) -> Callable[[object], None]:
        """PEP 3333, "The start_response() Callable".

        What an app gives has the type `object` until it has been checked: the compiled
        engine would refuse what is not of a declared type, in words of its own.
        """
        if exc_info is not None:
            try:
                if self._head is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no reference cycle through this frame
        elif self._fields is not None:
            raise AssertionError("start_response() was called twice without exc_info")
        check_status(status)
        self._fields = checked = check_fields(fields)
        if checked.dropped:
            request, names = self._request, ", ".join(checked.dropped)
            self._server.log.debug(
                f"{request.method} {request.target}: dropped headers that only the server can set: {names}"
            )
        assert isinstance(status, str)  # check_status() has said so
        self.status = status if type(status) is str else str.__str__(status)
        return self._write

    def _write(self, data: object) -> None:
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
                "the app returned its response without calling start_response(status, headers) first"
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
        """Return `chunk` framed as the head says. What exceeds the Content-Length is
        never sent: the client would read it as the next response.
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
                text = f"the app sent more than its Content-Length of {head.length} bytes"
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
            text = f"the app sent {self._sent} bytes, but its Content-Length is {head.length}"
            self._server.log.error(f"{self._request.method} {self._request.target}: {text}")
            raise CutOff(text)
        return b""

    def _open_file(self, wrapper: FileWrapper) -> bytes | None:
        """Return the head of a response that the kernel sends from a file, or None when
        the file must be read as any other iterable.
        """
        span = rest_of(wrapper.file)
        if span is None:
            return None
        head = self._begin(span.count)
        if head.framing != NONE:
            if head.length is not None and head.length < span.count:
                span.count = head.length
            self._sent = span.count
            if span.count:
                self._span = span
            self._iterator = iter(())  # its end shows whether the length was kept
        return head.data

    def _failed(self, error: BaseException) -> bytes:
        request, server = self._request, self._server
        line = f"{request.method} {request.target}: "
        error = explained(error, was_called=self._result is None)
        if isinstance(error, Breach):
            server.log.error(f"{line}{error}")  # its traceback has only the server's lines
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
