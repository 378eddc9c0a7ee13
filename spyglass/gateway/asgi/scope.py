"""The scope: what an ASGI app is told of one request (ASGI, "HTTP & WebSocket").

It says the same as the environ of a WSGI app (gateway/environ.py), by the same rules:
which proxies are believed and in what, which names are dropped, which path is the
app's.
"""

from __future__ import annotations

from spyglass.errors import RequestError
from spyglass.gateway.asgi.fields import request_pairs
from spyglass.http11.request import PROXY_FIELDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from spyglass.gateway.asgi.fields import Pair
    from spyglass.http11.request import Request

    Endpoint = tuple[str, int | None]

# 2.3, and not the 2.5 that we could speak: from 2.4 on Starlette's StreamingResponse
# listens for no http.disconnect, and relies on the OSError that its next send() raises.
# An event stream that has nothing to send would then outlive its client, and keep the
# app awake for ever.
_HTTP_VERSIONS: Final = {"version": "3.0", "spec_version": "2.3"}
_WEBSOCKET_VERSIONS: Final = {"version": "3.0", "spec_version": "2.5"}
_PROXY_NAMES: Final = {
    key.removeprefix("HTTP_").replace("_", "-").lower().encode(): key for key in PROXY_FIELDS
}


class ScopeMaker:
    """Makes the scope of each request of one connection.

    `base` are the facts about the connection, keyed as in an environ; `server` is the
    address to which it came. `trusted_proxies` and `forwarded_headers` (str) are the
    settings of that name, `prefix` (str, from url_prefix.parse()) is `script_name`.
    What was prepared for the last request is kept, see EnvironMaker.
    """

    __slots__ = (
        *("_address", "_base", "_forwarded_headers", "_last", "_pairs", "_plain", "_prefix"),
        *("_prepared", "_server", "_trusted_proxies"),
    )

    def __init__(
        self,
        base: dict[str, Any],
        server: Endpoint | None,
        trusted_proxies: str = "",
        forwarded_headers: str = "",
        prefix: str = "",
    ) -> None:
        self._base = base
        self._server = server
        self._trusted_proxies = trusted_proxies
        self._forwarded_headers = forwarded_headers
        self._prefix = prefix
        self._last: Request | None = None
        self._pairs: list[Pair] = []
        self._prepared: dict[str, Any] = {}
        self._address = ""
        # What is the same for all requests without a word of a proxy's.
        self._plain: dict[str, Any] = {
            "type": "http",
            "client": _client(base),
            "server": server,
            "scheme": base["wsgi.url_scheme"],
            "root_path": "",
        }

    def client(self, request: Request) -> str:
        """Return the client's address, "" if there is none: see EnvironMaker."""
        if request is not self._last:
            self._prepare(request)
        return self._address

    def make(self, request: Request, state: dict[str, Any]) -> dict[str, Any]:
        """Return the scope of `request`; the app may change all of it. `state` is what
        the app has put there in its lifespan. Raise RequestError for a request that is
        not the app's.
        """
        if request is not self._last:
            self._prepare(request)
        scope = self._prepared.copy()
        scope["asgi"] = _HTTP_VERSIONS.copy()
        scope["headers"] = self._pairs.copy()
        scope["state"] = state.copy()
        scope["extensions"] = {"http.response.pathsend": {}}
        return scope

    def make_websocket(self, request: Request, state: dict[str, Any]) -> dict[str, Any]:
        """Return the scope of a handshake, all of it but `subprotocols`. As make()."""
        scope = self.make(request, state)
        scope["type"] = "websocket"
        scope["asgi"] = _WEBSOCKET_VERSIONS.copy()
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["extensions"] = {"websocket.http.response": {}}
        del scope["method"]
        return scope

    def _prepare(self, request: Request) -> None:
        fields = request.fields
        assert request.section is not None
        pairs = request_pairs(request.section)
        prepared = self._plain.copy()
        self._address = self._base["REMOTE_ADDR"]
        removed = ""
        if not PROXY_FIELDS.isdisjoint(fields):
            pairs, removed = self._believe(request, pairs, prepared)
        elif request.target[:1] != "/" and request.target != "*":
            pairs = _with_host(pairs, fields["HTTP_HOST"])
        if "CONTENT_LENGTH" in fields:
            pairs = _with_length(pairs, fields["CONTENT_LENGTH"])
        prepared["http_version"] = "1.0" if request.version == (1, 0) else "1.1"
        prepared["method"] = request.method
        prepared["query_string"] = request.query.encode("latin-1")
        self._set_path(prepared, request, removed)
        self._pairs, self._prepared, self._last = pairs, prepared, request

    def _set_path(self, prepared: dict[str, Any], request: Request, removed: str) -> None:
        """Set the paths; `removed` is what a proxy has taken away in front of this one.
        `root_path` is a part of `path`, as ASGI has it.
        """
        path = "*" if request.target == "*" else request.path
        raw = path.encode("latin-1")
        if "%" in path:
            # Inside: as in environ.py.
            from urllib.parse import unquote_to_bytes

            path = unquote_to_bytes(path).decode("utf-8", "replace")
        prefix = removed
        if removed:
            from urllib.parse import quote

            lost = removed.encode("latin-1")
            path = lost.decode("utf-8", "replace") + path
            raw = quote(lost, safe="/!$&'()*+,;=:@").encode("ascii") + raw
        elif self._prefix and request.target != "*":
            from spyglass.policy import url_prefix

            prefix = self._prefix
            if url_prefix.split(request.path, prefix) is None:
                raise RequestError(404, f"the app is below {prefix}/")
        if prefix:
            prepared["root_path"] = prefix.encode("latin-1").decode("utf-8", "replace")
        prepared["path"] = path
        prepared["raw_path"] = raw

    def _believe(
        self, request: Request, pairs: list[Pair], prepared: dict[str, Any]
    ) -> tuple[list[Pair], str]:
        """Change `prepared` to what trusted proxies say. Return the headers that count,
        and the path that the proxies have removed.
        """
        # Inside: as in environ.py.
        from spyglass.http11.forwarded_headers import believe

        fields = request.fields
        host = fields.get("HTTP_HOST", "")
        environ = self._base.copy()
        environ["SCRIPT_NAME"] = ""
        environ["HTTP_HOST"] = host
        environ.update({key: fields[key] for key in PROXY_FIELDS if key in fields})
        believe(environ, self._trusted_proxies, self._forwarded_headers)
        self._address = environ["REMOTE_ADDR"]
        prepared["client"] = _client(environ)
        prepared["scheme"] = environ["wsgi.url_scheme"]
        name, port = environ["SERVER_NAME"], environ["SERVER_PORT"]
        if (name, port) != (self._base["SERVER_NAME"], self._base["SERVER_PORT"]):
            prepared["server"] = name.strip("[]"), int(port)
        counting = []
        for pair in pairs:
            key = _PROXY_NAMES.get(pair[0])
            if key is None or key in environ:
                counting.append(pair)
        if environ["HTTP_HOST"] != host or request.target[:1] != "/":
            counting = _with_host(counting, environ["HTTP_HOST"])
        removed: str = environ["SCRIPT_NAME"]
        return counting, removed


def _client(environ: dict[str, Any]) -> Endpoint | None:
    address = environ["REMOTE_ADDR"]
    # A proxy may tell the address alone. ASGI has no word for "unknown".
    return (address, int(environ.get("REMOTE_PORT") or 0)) if address else None


def _with_host(pairs: list[Pair], host: str) -> list[Pair]:
    """Return the headers with this Host: the app must see the host by which the request
    was judged (control_headers.py, forwarded_headers.py).
    """
    if not host:
        return pairs
    pair = b"host", host.encode("latin-1")
    if all(name != b"host" for name, _ in pairs):
        return [pair, *pairs]
    return [pair if each[0] == b"host" else each for each in pairs]


def _with_length(pairs: list[Pair], length: str) -> list[Pair]:
    """Return the headers with the length that frames the body: the reader removes zeros
    in front of one that is too long for int().
    """
    for number, (name, value) in enumerate(pairs):
        if name == b"content-length" and len(value) != len(length):
            pairs = pairs.copy()
            pairs[number] = name, length.encode("latin-1")
    return pairs
