"""What the app gets for one request: its environ (PEP 3333, "environ Variables"), and
the context (PEP 567) in which its code runs.
"""

from __future__ import annotations

import sys

from spyglass.gateway.file_wrapper import FileWrapper
from spyglass.http11.request import PROXY_FIELDS
from spyglass.runtime.bound_names import BytesIO
from spyglass.runtime.fast_imports import copy_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context, ContextVar
    from typing import Any, Final

    from spyglass.http11.request import Request

# The headers that an app does not get as the client has sent them.
_TO_BE_CHANGED: Final = PROXY_FIELDS | {"HTTP_UPGRADE"}


def base_environ(threads: int = 1) -> dict[str, Any]:
    """Return the part of the environ that is the same for every request of a worker
    which runs the app in `threads` (int) threads.
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
        "wsgi.input": None,  # a place for the body of each request
    }


class EnvironMaker:
    """Makes the environ of each request of one connection. `base` is the part that is
    the same for all of them; `trusted_proxies` and `forwarded_headers` (str) are the
    settings of that name.

    A client mostly repeats its headers, and the reader gives the same Request for the
    same bytes and the same dict for the same headers. So the environ prepared for the
    last request is kept, and each request gets a copy of its own.

    `_is_plain` (bool): what was prepared has the headers as the client has sent them.
    """

    __slots__ = (
        *("_base", "_fields", "_forwarded_headers", "_is_plain", "_last", "_prepared"),
        "_trusted_proxies",
    )

    def __init__(
        self, base: dict[str, Any], trusted_proxies: str = "", forwarded_headers: str = ""
    ) -> None:
        self._base = base
        self._forwarded_headers = forwarded_headers
        self._trusted_proxies = trusted_proxies
        self._last: Request | None = None
        self._fields: dict[str, str] | None = None
        self._is_plain = False
        self._prepared: dict[str, Any] = {}

    def client(self, request: Request) -> str:
        """Return REMOTE_ADDR as the environ of `request` has it."""
        if request is not self._last:
            self._prepare(request)
        address: str = self._prepared["REMOTE_ADDR"]
        return address

    def make(self, request: Request) -> dict[str, Any]:
        """Return the environ of `request`; the app may change it."""
        if request is not self._last:
            self._prepare(request)
        environ = self._prepared.copy()
        environ["wsgi.input"] = BytesIO() if request.body is None else request.body.open()
        return environ

    def _prepare(self, request: Request) -> None:
        fields, last = request.fields, self._fields
        if fields is not last:
            if last is None or not self._is_plain or not _replace(self._prepared, last, fields):
                self._begin(fields)
            self._fields = fields
        path = request.path
        if "%" in path:
            # Inside: urllib.parse is large, and many apps see no escape in a path.
            from urllib.parse import unquote_to_bytes

            path = unquote_to_bytes(path).decode("latin-1")
        prepared = self._prepared
        prepared["REQUEST_METHOD"] = request.method
        prepared["PATH_INFO"] = path
        prepared["QUERY_STRING"] = request.query
        prepared["REQUEST_URI"] = request.target
        prepared["SERVER_PROTOCOL"] = "HTTP/1.0" if request.version == (1, 0) else "HTTP/1.1"
        self._last = request

    def _begin(self, fields: dict[str, str]) -> None:
        self._prepared = {**self._base, **fields}
        self._is_plain = fields.keys().isdisjoint(_TO_BE_CHANGED)
        if not self._is_plain:
            if "HTTP_UPGRADE" in fields:
                _hide_offer(self._prepared)
            if not PROXY_FIELDS.isdisjoint(fields):
                # Inside: an app without a proxy in front of it never needs this, and
                # must not wake more slowly for it.
                from spyglass.http11.forwarded_headers import believe

                believe(self._prepared, self._trusted_proxies, self._forwarded_headers)


def _replace(prepared: dict[str, Any], last: dict[str, str], fields: dict[str, str]) -> bool:
    """Replace the headers `last` in `prepared` by `fields`. Return False if their names
    are not the same; then `prepared` is of no more use.
    """
    if len(fields) != len(last):
        return False
    size = len(prepared)
    prepared.update(fields)
    return len(prepared) == size


def _hide_offer(environ: dict[str, Any]) -> None:
    """Remove the client's offer to upgrade the connection (RFC 9110 7.8): it was made
    to the server, which does not accept it.

    Libraries that find the offer in the environ look for the server's socket beside it
    and raise an error when there is none: engineio and simple-websocket, and with them
    Flask-SocketIO and flask-sock.
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
    """Makes the context of each request: a copy of the one in which the app was
    imported and post_fork() was called.

    Create it in the thread that did both. Other threads have empty contexts, so what
    the app sets at import (the precision of decimal, a language, a tracer) would hold
    for some of its requests only.
    """

    __slots__ = ("_base", "_decimal", "fresh")

    def __init__(self) -> None:
        self._base = copy_context()
        # decimal keeps one mutable object in its context variable. A copied context
        # shares that object, so one request could change it for all others.
        self._decimal: ContextVar[Any] | None = next(
            (each for each in self._base if each.name == "decimal_context"), None
        )
        # Called for each request, so it is the copying itself where nothing else needs
        # to be done.
        self.fresh: Callable[[], Context] = (
            self._base.copy if self._decimal is None else self._with_its_own_decimal
        )

    def _with_its_own_decimal(self) -> Context:
        assert self._decimal is not None
        context = self._base.copy()
        context.run(self._decimal.set, self._base[self._decimal].copy())
        return context
