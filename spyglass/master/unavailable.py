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

    from spyglass.runtime.poller import Poller
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
<p>The app behind it could not be started. The server tries again whenever a visitor comes.</p>
"""


def _request(head: bytes) -> bytes:
    """Return `head` without what may come before it: a proxy's PROXY header
    (`proxy_protocol`), and empty lines (RFC 9112 2.2).
    """
    if head.startswith(b"PROXY "):
        head = head.partition(b"\r\n")[2]
    elif head.startswith(_PROXY_2):
        head = head[len(_PROXY_2) + 4 + int.from_bytes(head[14:16], "big") :]
    return head.lstrip(b"\r\n") if head.startswith(b"\r\n") else head


class _Client(Timed):
    __slots__ = ("head", "sock")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock = sock
        self.head = b""


class Answerer:
    """Accepts connections and answers each with 503. `page()` returns the details to
    show, or "", and the seconds for Retry-After. `poller` is the Master's wait point.
    """

    def __init__(
        self, poller: Poller, page: Callable[[], tuple[str, int]], header_timeout: float
    ) -> None:
        self.activity = time.monotonic()  # when a client last came or left
        self._poller = poller
        self._page = page
        self._accept_after = 0.0
        self._cut_at: float | None = None
        self._clients: dict[int, _Client] = {}
        self._deadlines = Deadlines([header_timeout, 2.0])

    @property
    def open(self) -> int:
        return len(self._clients)

    @property
    def full(self) -> bool:
        """True while no more can be accepted."""
        return len(self._clients) >= _MOST or time.monotonic() < self._accept_after

    def accept(self, listener: Listener) -> None:
        """Accept what waits on `listener`."""
        for _ in range(_ACCEPTED_A_TURN):
            if self.full:
                return
            try:
                sock, _ = listener.sock.accept()
            except OSError as error:
                if error.errno in EXHAUSTED or error.errno in GONE:
                    # The connection stays in the queue and the listener readable:
                    # without a pause this would spin.
                    self._accept_after = time.monotonic() + ACCEPT_PAUSE
                return
            sock.setblocking(False)
            client = _Client(sock)
            self._clients[sock.fileno()] = client
            self.activity = time.monotonic()
            self._deadlines.set(client, _HEAD, self.activity)
            self._poller.watch(sock.fileno(), functools.partial(self._read, client))
            self._read(client)

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(64 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(client)
        elif client.deadline == _HEAD:
            client.head += data
            request = _request(client.head)
            if b"\r\n\r\n" in request or b"\n\n" in request or len(client.head) > _LARGEST_HEAD:
                self._send(client, self._answer(request.startswith(b"HEAD ")))

    def _answer(self, head_only: bool) -> bytes:
        details, wait = self._page()
        page = _PAGE
        if details:
            # Not html.escape(): this client may have taken the last descriptor, and
            # without one nothing can be imported.
            page += f"<pre>{details.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}</pre>\n"
        return refusal(
            503,
            page,
            http_date(time.gmtime()),
            head_only=head_only,
            extra=f"Retry-After: {wait}\r\nCache-Control: no-store\r\n",
            kind="text/html; charset=utf-8",
        )

    def _send(self, client: _Client, answer: bytes) -> None:
        client.head = b""
        try:
            client.sock.send(answer)
            client.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(client)
            return
        # Closing now, with bytes unread, would reset the connection, and the client
        # could lose the answer that it has not read yet (RFC 9112 9.6).
        self._deadlines.set(client, _LINGER, time.monotonic())

    def _close(self, client: _Client) -> None:
        fd = client.sock.fileno()
        self._deadlines.forget(client)
        self._poller.unwatch(fd)
        del self._clients[fd]
        client.sock.close()
        self.activity = time.monotonic()

    def due(self) -> float | None:
        """Return when to call `expire()` next (monotonic seconds), or None."""
        due = [
            when
            for when in (self._deadlines.next(), self._cut_at if self._clients else None)
            if when is not None
        ]
        if time.monotonic() < self._accept_after:
            due.append(self._accept_after)
        return min(due, default=None)

    def expire(self, now: float) -> None:
        for client, kind in self._deadlines.expired(now):
            if kind == _HEAD and client.head:
                text, head_only = (
                    "408: the request did not arrive in time\n",
                    _request(client.head).startswith(b"HEAD "),
                )
                self._send(
                    client, refusal(408, text, http_date(time.gmtime()), head_only=head_only)
                )
            else:
                self._close(client)
        if self._cut_at is not None and now >= self._cut_at:
            self.close()

    def abandon(self) -> None:
        """In a forked child: the connections are the parent's."""
        for client in self._clients.values():
            client.sock.close()
        self._clients.clear()

    def drain(self, by: float) -> None:
        """Answer the clients that have begun a request, until `by` (monotonic seconds);
        close the connections of the others now.
        """
        self._cut_at = by
        for client in list(self._clients.values()):
            if client.deadline == _HEAD and not client.head:
                self._close(client)

    def close(self) -> None:
        for client in list(self._clients.values()):
            self._close(client)
