"""The environ of an app below a path, the setting `script_name`: SCRIPT_NAME is that
path, PATH_INFO what follows it (PEP 3333, "environ Variables").

A request outside gets a 404. A web server in front passes the whole path, as nginx does
with `location /blog/` and a proxy_pass without a path. Then a path outside is not this
app's, and an app that got it all the same would answer for /admin what the web server
protects as /blog/admin. gunicorn (500), uWSGI's mount and Werkzeug's
DispatcherMiddleware (404) refuse it, too.

A web server that removes the path says so in X-Forwarded-Prefix, if that is one of
`forwarded_headers` (http11/forwarded_headers.py). Then PATH_INFO is the path as it
came, and the header takes the place of the setting.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from spyglass.errors import RequestError
from spyglass.gateway.environ import EnvironMaker
from spyglass.policy import url_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.http11.request import Request


class EnvironMakerBelow(EnvironMaker):
    """An EnvironMaker for an app below `prefix` (str, from url_prefix.parse()).

    Derived, not composed: a worker without the setting must not pay for it, and the
    environ prepared for the last request is of both.
    """

    __slots__ = ("_outside", "_prefix", "_removed")

    def __init__(
        self, base: dict[str, Any], trusted_proxies: str, forwarded_headers: str, prefix: str
    ) -> None:
        super().__init__(base, trusted_proxies, forwarded_headers)
        self._prefix = prefix
        self._removed = ""  # what a proxy has removed from the path
        self._outside = False

    def make(self, request: Request) -> dict[str, Any]:
        """Return the environ of `request`. Raise RequestError for one outside."""
        if request is not self._last:
            self._prepare(request)
        if self._outside:
            raise RequestError(404, f"the app is below {self._prefix}/")
        return super().make(request)

    def _prepare(self, request: Request) -> None:
        before = self._prepared
        super()._prepare(request)
        prepared = self._prepared
        if prepared is not before:
            self._removed = prepared["SCRIPT_NAME"]
        self._outside = False
        if self._removed:
            return
        prepared["SCRIPT_NAME"] = self._prefix
        if request.target == "*":
            return  # OPTIONS, of the server as a whole (RFC 9110 9.3.7): PATH_INFO is "/"
        rest = url_prefix.split(request.path, self._prefix)
        self._outside = rest is None
        if rest is not None:
            prepared["PATH_INFO"] = (
                unquote_to_bytes(rest).decode("latin-1") if "%" in rest else rest
            )
