"""The 503 page: the Master answers each request by itself while the app cannot.

It parses no more of HTTP than where a head ends. It lives in the Master's one loop, so
everything here is non-blocking and bounded: the head is read up to a limit and a
deadline, the answer fits a socket's buffer, and what the client still sends is read and
dropped for a moment before the close. When the Master answers is decided in failing.py.
"""

from __future__ import annotations

import functools
from time import gmtime, monotonic

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

# With the colours of the welcome page; without a script, and with nothing to fetch.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Not available right now</title>
<style>
:root { --paper: #faf6ee; --ink: #1e2632; --soft: #5a6271; --line: #e2d9c8; --card: #fffdf9; --mark: #a8480f; --sky: #c9d3da;
 --sea: #7f9cac; --fog: #eef1f2; --land: #24313a }
body { margin: 0; background: var(--paper); color: var(--ink); font: 17px/1.6 system-ui, sans-serif }
main { max-width: 45rem; margin: 0 auto; padding: 6vh 1.2rem 3rem }
svg { display: block; width: 100%; border-radius: 1rem }
h1 { font-size: clamp(1.8rem, 5vw, 2.5rem); line-height: 1.15; letter-spacing: -.02em; margin: 1.6rem 0 .6rem }
h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; color: var(--mark); overflow-wrap: anywhere }
p { margin: .5rem 0; color: var(--soft) }
pre { margin: .5rem 0; padding: .8rem 1rem; border: 1px solid var(--line); border-radius: .6rem; background: var(--card);
 font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) {
:root { --paper: #10151f; --ink: #edf0f5; --soft: #a3adbd; --line: #2a3446; --card: #171e2b; --mark: #f0a35e; --sky: #1b2433;
 --sea: #17303d; --fog: #49566b; --land: #0a0e15 }
}
</style>
</head>
<body>
<main>
<svg viewBox="0 0 720 150" role="img" aria-label="A spyglass on the shore, and fog above the sea">
<path fill="var(--sky)" d="M0 0h720v104H0z"/><path fill="var(--sea)" d="M0 104h720v46H0z"/>
<path fill="none" stroke="var(--fog)" stroke-width="15" stroke-linecap="round" stroke-opacity=".75"
 d="M300 62h260M420 84h330M250 106h210M520 126h230M600 40h160"/>
<path fill="var(--land)" d="M0 150v-36c60-16 120-14 176 4 34 11 58 22 84 32z"/>
<g fill="none" stroke="var(--land)" stroke-width="5" stroke-linecap="round"><path d="M136 60l-24 60M136 60l2 60M136 60l30 64"/></g>
<g fill="#3a2a22" transform="rotate(-16 136 54)"><path d="M84 48h44v14H84z"/>
<path fill="#c98a3c" d="M126 45h40v20h-40z"/><path d="M164 42h44v26h-44z"/><path fill="#c98a3c" d="M206 40h7v30h-7z"/></g>
</svg>
<h1>Not available right now</h1>
<p>The app behind this page could not be started. The next visit makes another attempt; the reason is in the server's journal.</p>
@DETAILS@</main>
</body>
</html>
"""


def _page(details: str) -> str:
    """Return the page. `details` are a line with the reason, then what is behind it, or
    "" for a page that tells neither.
    """
    if details:
        # Not html.escape(): this client may have taken the last descriptor, and without
        # one nothing can be imported.
        escaped = details.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        reason, _, behind = escaped.partition("\n\n")
        details = f"<h2>{reason}</h2>\n" + (f"<pre>{behind.strip()}</pre>\n" if behind else "")
    return _PAGE.replace("@DETAILS@", details)


def _request(head: bytes) -> bytes:
    """Return `head` without what may come before it: a proxy's PROXY header
    (`proxy_protocol`), and empty lines (RFC 9112 2.2).
    """
    if head.startswith(b"PROXY "):
        head = head.partition(b"\r\n")[2]
    elif head.startswith(_PROXY_2):
        length = int.from_bytes(head[14:16], "big")
        head = head[len(_PROXY_2) + 4 + length :]
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
        self.activity = monotonic()  # when a client last came or left, or it began
        self.refused = 0  # requests that were answered with 503
        self._poller = poller
        self._page = page
        # A pause, until expire() ends it: not by the clock, which moves on between the
        # look at `full` and the question when to look again.
        self._accept_after: float | None = None
        self._cut_at: float | None = None
        self._clients: dict[int, _Client] = {}
        self._deadlines = Deadlines([header_timeout, 2.0])

    @property
    def open(self) -> int:
        return len(self._clients)

    @property
    def full(self) -> bool:
        """True while no more can be accepted."""
        return len(self._clients) >= _MOST or self._accept_after is not None

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
                    self._accept_after = monotonic() + ACCEPT_PAUSE
                return
            sock.setblocking(False)
            client = _Client(sock)
            self._clients[sock.fileno()] = client
            self.activity = monotonic()
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
        self.refused += 1
        details, wait = self._page()
        return refusal(
            503,
            _page(details),
            http_date(gmtime()),
            head_only=head_only,
            extra=f"Retry-After: {wait}\r\nCache-Control: no-store\r\nContent-Security-Policy: {_POLICY}\r\n",
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
        self._deadlines.set(client, _LINGER, monotonic())

    def _close(self, client: _Client) -> None:
        fd = client.sock.fileno()
        self._deadlines.forget(client)
        self._poller.unwatch(fd)
        del self._clients[fd]
        client.sock.close()
        self.activity = monotonic()

    def due(self) -> float | None:
        """Return when to call `expire()` next (monotonic seconds), or None."""
        cut_at = self._cut_at if self._clients else None
        due = (self._deadlines.next(), cut_at, self._accept_after)
        return min((when for when in due if when is not None), default=None)

    def expire(self, now: float) -> None:
        if self._accept_after is not None and now >= self._accept_after:
            self._accept_after = None
        for client, kind in self._deadlines.expired(now):
            if kind == _HEAD and client.head:
                text, head_only = (
                    "408: the request did not arrive in time\n",
                    _request(client.head).startswith(b"HEAD "),
                )
                self._send(client, refusal(408, text, http_date(gmtime()), head_only=head_only))
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
