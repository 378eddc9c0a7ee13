"""The 503 page: the Master answers each request by itself while the app cannot.

It parses no more of HTTP than where a head ends. It lives in the Master's one loop, so
everything here is non-blocking and bounded: the head is read up to a limit and a
deadline, the answer fits a socket's buffer, and what the client still sends is read and
dropped for a moment before the close. When the Master answers is decided in failing.py.
"""

from __future__ import annotations

import functools
import time

from spyglass.http11.error_response import http_date, refusal
from spyglass.runtime.addresses import ACCEPT_PAUSE, EXHAUSTED, GONE
from spyglass.runtime.fast_imports import socket
from spyglass.runtime.timers import Deadlines, Timed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.runtime.poller import Doors
    from spyglass.runtime.sd_daemon import Listener

_HEAD, _LINGER = 0, 1
_PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n"  # see http11/proxy_protocol.py, which the Master does not import
_LARGEST_HEAD = 64 << 10
_MOST = 256  # connections at a time; more wait in the kernel's queue
_ACCEPTED_A_TURN = 32

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Not available</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42em;margin:15vh auto;padding:0 1em}pre{overflow:auto}</style>
<h1>This page is not available right now</h1>
<p>The app behind it could not be started. The server tries again when visitors come.</p>
"""


def _request(head: bytes) -> bytes:
    """`head` without what may come before it: a proxy's PROXY header
    (`proxy_protocol`), and empty lines (RFC 9112 2.2).
    """
    if head.startswith(b"PROXY "):
        head = head.partition(b"\r\n")[2]
    elif head.startswith(_PROXY_2):
        head = head[len(_PROXY_2) + 4 + int.from_bytes(head[14:16], "big") :]
    return head.lstrip(b"\r\n") if head.startswith(b"\r\n") else head


class _Visitor(Timed):
    __slots__ = ("head", "sock")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock = sock
        self.head = b""


class Answerer:
    """`doors` is where the Master waits; `page()` gives the details to show, or "", and
    the seconds until another visit is worth while.
    """

    def __init__(
        self, doors: Doors, page: Callable[[], tuple[str, int]], header_timeout: float
    ) -> None:
        self.activity = time.monotonic()  # when a visitor last came or left
        self._doors = doors
        self._page = page
        self._accept_after = 0.0
        self._cut_at: float | None = None
        self._visitors: dict[int, _Visitor] = {}
        self._deadlines = Deadlines([header_timeout, 2.0])

    @property
    def open(self) -> int:
        return len(self._visitors)

    @property
    def full(self) -> bool:
        """True while no more can be taken."""
        return len(self._visitors) >= _MOST or time.monotonic() < self._accept_after

    def accept(self, listener: Listener) -> None:
        """Take who is waiting on `listener`."""
        for _ in range(_ACCEPTED_A_TURN):
            if self.full:
                return
            try:
                sock, _ = listener.sock.accept()
            except OSError as error:
                if error.errno in EXHAUSTED or error.errno in GONE:
                    # The visitor stays in the queue and the listener readable: without
                    # a pause this would spin.
                    self._accept_after = time.monotonic() + ACCEPT_PAUSE
                return
            sock.setblocking(False)
            visitor = _Visitor(sock)
            self._visitors[sock.fileno()] = visitor
            self.activity = time.monotonic()
            self._deadlines.set(visitor, _HEAD, self.activity)
            self._doors.open(sock.fileno(), functools.partial(self._read, visitor))
            self._read(visitor)

    def _read(self, visitor: _Visitor) -> None:
        try:
            data = visitor.sock.recv(64 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(visitor)
        elif visitor.deadline == _HEAD:
            visitor.head += data
            request = _request(visitor.head)
            if b"\r\n\r\n" in request or b"\n\n" in request or len(visitor.head) > _LARGEST_HEAD:
                self._send(visitor, self._answer(request.startswith(b"HEAD ")))

    def _answer(self, head_only: bool) -> bytes:
        details, wait = self._page()
        page = _PAGE
        if details:
            # Not by html.escape(): the visitor may have taken the last descriptor with
            # which it could be imported.
            page += f"<pre>{details.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}</pre>\n"
        return refusal(
            503,
            page,
            http_date(time.gmtime()),
            head_only=head_only,
            extra=f"Retry-After: {wait}\r\nCache-Control: no-store\r\n",
            kind="text/html; charset=utf-8",
        )

    def _send(self, visitor: _Visitor, answer: bytes) -> None:
        visitor.head = b""
        try:
            visitor.sock.send(answer)
            visitor.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(visitor)
            return
        # Closing now, with bytes unread, would reset the connection and could take the
        # answer with it.
        self._deadlines.set(visitor, _LINGER, time.monotonic())

    def _close(self, visitor: _Visitor) -> None:
        fd = visitor.sock.fileno()
        self._deadlines.forget(visitor)
        self._doors.close(fd)
        del self._visitors[fd]
        visitor.sock.close()
        self.activity = time.monotonic()

    def due(self) -> float | None:
        """When `expire()` is to be called next (monotonic seconds), or None."""
        due = [
            when
            for when in (self._deadlines.next(), self._cut_at if self._visitors else None)
            if when is not None
        ]
        if time.monotonic() < self._accept_after:
            due.append(self._accept_after)
        return min(due, default=None)

    def expire(self, now: float) -> None:
        for visitor, kind in self._deadlines.expired(now):
            if kind == _HEAD and visitor.head:
                text, head_only = (
                    "408: the request did not arrive in time\n",
                    _request(visitor.head).startswith(b"HEAD "),
                )
                self._send(
                    visitor, refusal(408, text, http_date(time.gmtime()), head_only=head_only)
                )
            else:
                self._close(visitor)
        if self._cut_at is not None and now >= self._cut_at:
            self.close()

    def abandon(self) -> None:
        """In a forked child: the visitors are the parent's."""
        for visitor in self._visitors.values():
            visitor.sock.close()
        self._visitors.clear()

    def drain(self, by: float) -> None:
        """Go on with those who are asking, until `by` (monotonic seconds), and with
        nobody who has not said anything.
        """
        self._cut_at = by
        for visitor in list(self._visitors.values()):
            if visitor.deadline == _HEAD and not visitor.head:
                self._close(visitor)

    def close(self) -> None:
        for visitor in list(self._visitors.values()):
            self._close(visitor)
