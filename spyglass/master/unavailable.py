"""Answers for an app that cannot: 503 to each request, by the Master itself, without
parsing more of HTTP than where a head ends.

`Failing` knows of the tries in a row that failed: what was told of them, and whether
there is anybody else to answer. It lives in the Master's one loop, so everything here
is non-blocking and bounded: the head is read up to a limit and a deadline, the answer
fits a socket's buffer, and what the client still sends is read and dropped for a moment
before the close.
"""

from __future__ import annotations

import functools
import os
import time

from spyglass.http11.error_response import http_date, refusal
from spyglass.policy.worker_pool import retry_pause
from spyglass.runtime.addresses import ACCEPT_PAUSE, EXHAUSTED, GONE
from spyglass.runtime.fast_imports import socket
from spyglass.runtime.timers import Deadlines, Timed
from spyglass.zygote.app_loader import candidates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.config.settings import Config
    from spyglass.errors import LoadError
    from spyglass.log import Log
    from spyglass.runtime.poller import Doors
    from spyglass.runtime.sd_daemon import Listener

_HEAD, _LINGER = 0, 1
_PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n"  # see http11/proxy_protocol.py, which the Master does not import
_LARGEST_HEAD = 64 << 10
_MOST = 256  # connections at a time; more wait in the kernel's queue
_ACCEPTED_A_TURN = 32
_HOLD = 0.7  # seconds a visitor may wait for a new try at a broken app; then the 503

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Not available</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42em;margin:15vh auto;padding:0 1em}pre{overflow:auto}</style>
<h1>This page is not available right now</h1>
<p>The app behind it could not be started. It is tried again from time to time.</p>
"""


class Failing:
    """Of an app that could not be loaded, or whose workers could not live: `count`
    (int) tries in a row, `failures` (int) of all.

    While nobody else serves, there is `trouble` and the Master answers. Then
    `hold_until` (monotonic seconds or None) is how long who comes is left to wait for a
    try that has just begun. `doors` is where the Master waits.
    """

    def __init__(self, doors: Doors, log: Log) -> None:
        self.count = 0
        self.failures = 0
        self.trouble: Trouble | None = None
        self.hold_until: float | None = None
        self._doors = doors
        self._log = log
        self._config: Config | None = None
        self._logged = ""  # the failure that stands in the journal already
        self._answerer: Answerer | None = None

    def report(self, what: str, error: LoadError) -> None:
        """One more has failed; `what` (str) says what that means."""
        self.count += 1
        if self._logged == error.summary:
            self._log.info(f"still {what}: {error.summary}")
            return
        self._logged = error.summary
        self.tell(what, error)

    def tell(self, what: str, error: LoadError) -> None:
        """The same for one that somebody has asked for, while others serve: it is told
        in full, and is not the first of many.
        """
        self._log.error(
            f"{what}: {error.summary}"
            + (f"\n{error.details}" if error.details and not error.told else "")
        )

    def stand_in(self, error: LoadError, config: Config, began: float, now: float) -> None:
        """Answer from now on, with what `config` says of that, because of `error`; see
        Trouble for `began`.
        """
        error.files += [path for path in [config.file, *candidates(config)] if path]
        self.trouble = Trouble(error, self.count, began, now)
        self._config = config
        self.hold_until = None
        if self._answerer is None:
            self._answerer = Answerer(self._doors, self._page, config.header_timeout)

    def make_way(self) -> None:
        """Somebody serves; whether that lasts is not known yet."""
        self.trouble = self.hold_until = None

    def forget(self) -> None:
        """The app has answered a request."""
        self.count, self._logged = 0, ""

    def _page(self) -> tuple[str, int]:
        if self.trouble is None or self._config is None:
            return "", 1
        error = self.trouble.error
        wait = max(1, round(self.trouble.retry_at - time.monotonic()))
        return (f"{error.summary}\n\n{error.details}" if self._config.debug else ""), wait

    def hold(self, now: float, longest: float) -> None:
        """A new try has begun. Perhaps it works this time, and whoever asked for it
        need not see an error at all.
        """
        self.hold_until = now + min(_HOLD, longest)

    def accept(self, listeners: list[Listener]) -> None:
        """Take who is waiting."""
        assert self._answerer is not None
        for listener in listeners:
            self._answerer.accept(listener)

    def wants_more(self, now: float) -> bool:
        """Whether who waits on a listener is to be taken now."""
        assert self._answerer is not None
        if self.hold_until is not None and now >= self.hold_until:
            self.hold_until = None
        return self.hold_until is None and not self._answerer.full

    @property
    def open(self) -> int:
        """Connections that the Master holds."""
        return self._answerer.open if self._answerer is not None else 0

    def leave_at(self, now: float) -> float | None:
        """When it will be time to give up if nobody comes (monotonic seconds); None for
        never.
        """
        assert self._answerer is not None
        assert self._config is not None
        if not self._config.idle_timeout:
            return None
        return (now if self._answerer.open else self._answerer.activity) + self._config.idle_timeout

    def due(self) -> list[float | None]:
        """When `expire()` is to be called, and when to look again at what is held
        (monotonic seconds).
        """
        return [self.hold_until, self._answerer.due() if self._answerer is not None else None]

    def expire(self, now: float) -> None:
        if self._answerer is None:
            return
        if (self._answerer.due() or now) < now:
            # Before anybody is sent away for being late: all of us may have stood still
            # (SIGSTOP), between the look and the clock, or while waiting, which is over
            # then without a look (PEP 475). What came meanwhile is there.
            self._doors.wait(0)
        self._answerer.expire(now)

    def abandon(self) -> None:
        """In a forked child."""
        if self._answerer is not None:
            self._answerer.abandon()

    def drain(self, by: float) -> None:
        """The Master stops; see Answerer.drain()."""
        self.hold_until = None
        if self._answerer is not None:
            self._answerer.drain(by)

    def close(self) -> None:
        """Send everybody away."""
        if self._answerer is not None:
            self._answerer.close()

    def __str__(self) -> str:
        return self._logged


class Trouble:
    """Why the app cannot serve: `error`, for the `count`th time in a row, and when
    another try is worth while.

    `began` (float) is the wall clock's time at which the failed try began, `now`
    (float) is monotonic. A file that is mended while that try still ran has a time of
    change after it.
    """

    def __init__(self, error: LoadError, count: int, began: float, now: float) -> None:
        self.error = error
        self.count = count
        self.retry_at = now + retry_pause(count)
        self._seen = {path: _look_at(path) for path in error.files}
        self._mended_meanwhile = any(
            seen is not None and began < seen[0] / 1e9 <= time.time()
            for seen in self._seen.values()
        )

    def may_retry(self, now: float) -> bool:
        """True when the pause is over, or one of the files that are to blame has
        changed.
        """
        return (
            now >= self.retry_at
            or self._mended_meanwhile
            or any(_look_at(path) != seen for path, seen in self._seen.items())
        )


def _look_at(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # the latter: no file can have such a name
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


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
