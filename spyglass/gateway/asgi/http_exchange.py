"""One request to an ASGI app and its response, as messages (ASGI, "HTTP & WebSocket").

Nothing waits in here. `next_event()` says what `receive()` returns, or that it has to
wait; `send()` turns a message into what is to be sent. The worker waits, for the
client's bytes and for room in its socket (worker/asgi/).

The status and headers are checked when the app sends them, and go out with the first
piece of the body. So an app that fails in between gets a 500 sent for it.
"""

from __future__ import annotations

import stat
from os import O_CLOEXEC, O_NONBLOCK, O_RDONLY, close, fstat
from os import open as open_file

from spyglass.gateway.app_errors import explained
from spyglass.gateway.asgi.fields import check_pairs, status_line
from spyglass.gateway.file_wrapper import FileSpan
from spyglass.http11.error_response import REASONS
from spyglass.http11.response_head import CHUNKED, LENGTH, NONE, UNTIL_CLOSE, make_head
from spyglass.log import traceback_of
from spyglass.printable import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from spyglass.gateway.asgi.interfaces import Server
    from spyglass.http11.request import Request
    from spyglass.http11.response_head import CheckedFields, Head
    from spyglass.http11.stream_body import StreamBody

    Piece = bytes | tuple[bytes, bytes] | tuple[bytes, FileSpan]

# Bytes. A body up to this size is sent in one piece with what precedes it.
_JOINED: Final = 16 << 10
# Bytes of a body that the app has left unread, which are read and dropped so that the
# connection can take another request.
MOST_DROPPED: Final = 256 << 10


class HttpExchange:
    """One request and its response.

    `complete` (bool) becomes true with the last message of the response; then
    `keep_alive` (bool) tells whether the connection can take another request, and
    `status` (str) what was answered. `running` (bool): the app's call has not returned.

    `left` (bool): the client has said its last, or is being left by us, and the app is
    to hear of it. `gone` (bool): nothing can be sent any more. `is_late` (bool): the
    call was cancelled, as it gave no response in time. `broken` (str): why the response
    cannot be completed, "" if it can.

    More attributes than a class should have: see Exchange in gateway/wsgi.py.
    """

    __slots__ = (
        *("broken", "complete", "gone", "is_late", "keep_alive", "left", "path", "request"),
        *("running", "span", "status"),
        *("_body", "_fields", "_head", "_sent", "_server", "_told"),
    )

    def __init__(self, server: Server, request: Request, body: StreamBody | None) -> None:
        self.request = request
        self.path = request.path
        self.running = True
        self.complete = False
        self.keep_alive = False
        self.left = False
        self.gone = False
        self.is_late = False
        self.broken = ""
        self.status = ""
        self.span: FileSpan | None = None
        self._server: Any = server
        self._body = body
        self._told = False  # the app has had all of the request
        self._fields: CheckedFields | None = None
        self._head: Head | None = None
        self._sent = 0  # bytes of the body

    # What the app receives

    def next_event(self) -> dict[str, object] | None:
        """Return the next event of the app's; None when there is none yet."""
        if not self._told:
            body = self._body
            if body is None:
                self._told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if body.ended:
                self._told = True
                return {"type": "http.request", "body": body.take(), "more_body": False}
            if body.size:
                return {"type": "http.request", "body": body.take(), "more_body": True}
        if self.left or self.complete:
            return {"type": "http.disconnect"}
        return None

    @property
    def awaits_client(self) -> bool:
        """True while the app lacks a part of the request that is on its way. A client
        that waits for leave to send it waits for the app (RFC 9110 10.1.1).
        """
        body = self._body
        if body is None or self.request.expects_continue:
            return False
        return not (body.ended or body.size or self.left)

    # What the app sends

    @property
    def started(self) -> bool:
        """True when the app has sent status and headers."""
        return self._fields is not None

    @property
    def begun(self) -> bool:
        """True when some of the response may be on its way to the client."""
        return self._head is not None

    @property
    def is_event_stream(self) -> bool:
        """True for a response that has no end of its own: Server-Sent Events, which a
        client asks for by GET and asks for again when they end. The answer to a POST
        has an end, in whatever form it comes (MCP, language models).
        """
        fields = self._fields
        return (
            fields is not None
            and self.request.method == "GET"
            and "text/event-stream" in fields.text.lower()
        )

    @property
    def until_close(self) -> bool:
        """True when the client can tell the end of the response by that of the
        connection alone.
        """
        return self._head is not None and self._head.framing == UNTIL_CLOSE

    @property
    def given(self) -> int:
        """How many bytes of the body the app has sent, without the chunked coding."""
        return self._sent

    def send(self, message: Any) -> Piece | None:
        """Return what is to be sent because of `message`, None for nothing. Raise
        RuntimeError for one that must not come now, TypeError or ValueError for what
        cannot be sent.
        """
        kind = message["type"]
        if self.gone:
            return None  # as version 2.3 has it; the app may listen for http.disconnect
        if kind == "http.response.body":
            return self._take_body(message)
        if kind == "http.response.start":
            if self._fields is not None:
                raise RuntimeError("http.response.start was sent twice")
            status = status_line(message["status"])
            self._fields = check_pairs(message.get("headers", ()))
            self.status = status
            return None
        if kind == "http.response.pathsend":
            return self._take_path(message)
        raise RuntimeError(f"unexpected message {kind!r}: this is an http request")

    def _take_body(self, message: Any) -> Piece | None:
        data = message.get("body", b"")
        if not isinstance(data, bytes):
            if not isinstance(data, bytearray | memoryview):
                hint = ": use text.encode()" if isinstance(data, str) else ""
                raise TypeError(
                    f"the body of a response must be bytes, not {type(data).__name__}{hint}"
                )
            data = bytes(data)
        is_last = not message.get("more_body", False)
        self._check_turn("http.response.body")
        start = b""
        head = self._head
        if head is None:
            head = self._begin(len(data) if is_last else None)
            start = head.data
        framing = head.framing
        if framing == LENGTH:
            self._check_length(head, self._sent + len(data), is_last)
        self._head = head
        if is_last:
            self.complete = True
        if framing == NONE:
            return start
        self._sent += len(data)
        if framing == CHUNKED:
            end = b"0\r\n\r\n" if is_last else b""
            data = b"%x\r\n%b\r\n%b" % (len(data), data, end) if data else end
        if start and len(data) > _JOINED:
            return start, data
        return start + data

    def _check_turn(self, kind: str) -> None:
        if self._fields is None:
            raise RuntimeError(f"{kind} was sent before http.response.start")
        if self.complete:
            raise RuntimeError(f"{kind} was sent after the end of the response")

    def _check_length(self, head: Head, sent: int, is_last: bool) -> None:
        """Raise RuntimeError if the app sends more than it has promised, which its
        client would read as the next response, or less.
        """
        if sent <= (head.length or 0) and (not is_last or sent == head.length):
            return
        what = "more" if sent > (head.length or 0) else "less"
        why = f"the app sent {what} than its Content-Length of {head.length} bytes"
        if self._head is not None:
            self.broken = why
        raise RuntimeError(why)

    def _begin(self, length: int | None) -> Head:
        assert self._fields is not None
        request, server = self.request, self._server
        if self.status[0] == "5":
            server.count_error()
        keep_alive = request.keep_alive and self._can_skip_body() and server.would_keep()
        head = make_head(self.status, self._fields, request, server.date, keep_alive, length)
        self.keep_alive = head.keep_alive
        return head

    def _can_skip_body(self) -> bool:
        """Return True if what the app has not read can be read and dropped: not if the
        client waits for leave to send it (RFC 9110 10.1.1), or it is much.
        """
        body = self._body
        if body is None or body.ended:
            return True
        return not self.request.expects_continue and body.expected - body.length <= MOST_DROPPED

    def _take_path(self, message: Any) -> Piece:
        """Send a file (ASGI, "Path Send"), which the kernel reads where it can."""
        kind = "http.response.pathsend"
        self._check_turn(kind)
        if self._head is not None:
            raise RuntimeError(f"{kind} was sent after http.response.body")
        fd = open_file(message["path"], O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        try:
            status = fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise RuntimeError(f"{kind}: not a regular file: {message['path']!r}")
            head = self._begin(status.st_size)
            if head.framing != NONE:
                self._check_length(head, status.st_size, True)
            self._head = head
            self.complete = True
            if head.framing == NONE or not status.st_size:
                close(fd)
                return head.data
        except BaseException:
            close(fd)
            raise
        self._sent = status.st_size
        self.span = FileSpan(fd, 0, status.st_size)
        return head.data, self.span

    def close_file(self) -> None:
        """Close what pathsend has opened. Idempotent."""
        span, self.span = self.span, None
        if span is not None:
            close(span.fd)

    # How it ends

    def leave(self) -> None:
        """The client has said its last, or the worker leaves: the app is to hear it."""
        self.left = True

    def lose(self) -> None:
        """Nothing can be sent any more."""
        self.left = self.gone = True

    def failed(self, error: BaseException | None, patience: float) -> bytes | None:
        """The app's call has ended, perhaps with `error`, and the response is not
        complete. Return an error of our own to send; None when it is too late for one.
        `patience` (seconds) is what the call had, if it is late.
        """
        request, server = self.request, self._server
        line = f"{request.method} {request.target}: "
        status, text = 500, "Internal Server Error\n"
        trace = ""
        if self.is_late:
            status = 503
            text = f"503: the request took longer than {patience:g} s\n"
        elif error is None:
            what = "a response" if self._head is None else "the end of its response"
            trace = f"the app returned without {what}"
            server.log.error(line + trace)
        else:
            error = explained(error)
            server.log.exception(f"{line}the app raised {name_of(error)}", error)
            trace = traceback_of(error) if server.debug else ""
        if self._head is not None:
            server.count_error()
            self.broken = self.broken or "the app failed in the middle of its response"
            return None
        if server.debug and trace:
            text += f"\n{trace}\n"
        body = text.encode("utf-8", "backslashreplace")
        self.status = f"{status} {REASONS[status]}"
        self._fields = check_pairs([(b"content-type", b"text/plain; charset=utf-8")])
        self._head = head = self._begin(len(body))
        self.complete = True
        if head.framing == NONE:
            return head.data
        self._sent = len(body)
        return head.data + body
