"""One request as the reader gives it, and what a request may cost."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.http11.request_body import Bodies, Body

# The headers with which a proxy speaks for its client. The setting `forwarded_headers`
# names them as the keys do; the values are the keys of the environ. Whether they are
# believed is decided in forwarded_headers.py.
FORWARDED_NAMES: Final = {
    name: f"HTTP_X_FORWARDED_{name.upper()}"
    for name in ("for", "proto", "host", "port", "by", "prefix", "scheme", "server", "ssl")
} | {"forwarded": "HTTP_FORWARDED"}
PROXY_FIELDS: Final = frozenset(FORWARDED_NAMES.values())


class Limits:
    """What a request may cost: `max_head`, `max_body` and `body_memory` (int, bytes),
    `max_fields` (int, header lines), and `bodies`, what all bodies of a worker share.
    """

    __slots__ = ("bodies", "body_memory", "max_body", "max_fields", "max_head")

    def __init__(
        self, *, max_head: int, max_fields: int, max_body: int, body_memory: int, bodies: Bodies
    ) -> None:
        self.max_head = max_head
        self.max_fields = max_fields
        self.body_memory = min(body_memory, bodies.most_memory)
        # A body larger than what all bodies share would never fit. Its client should
        # learn that at once (413), not when the space has run out (503).
        self.max_body = min(max_body, max(bodies.most_disk, self.body_memory))
        self.bodies = bodies


class Section:
    """The lines of the headers of a request: `text` (bytes), with the empty line.

    `pairs` are the same headers as ASGI has them, (name in small letters, value) in
    their order. Made by gateway/asgi/fields.py where an ASGI app is served, else None.
    """

    __slots__ = ("pairs", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.pairs: list[tuple[bytes, bytes]] | None = None


class Request:
    """One request.

    `fields` (dict of str) are the headers, keyed as PEP 3333 wants them, for example
    HTTP_HOST; `version` is (1, 0) or (1, 1); `target` (str) is the request target as it
    came, `path` and `query` (str) are its parts. `keep_alive` (bool): the client will
    send another request on this connection. `expects_continue` (bool): it waits for
    100 Continue before it sends the body. `section` has the lines of the headers as
    they came.

    The reader gives the same Request again for the same bytes, so nothing changes one
    once the reader has given it.
    """

    __slots__ = (
        "body",
        "expects_continue",
        "fields",
        "keep_alive",
        "method",
        "path",
        "query",
        "section",
        "target",
        "version",
    )

    def __init__(
        self, method: str, target: str, version: tuple[int, int], fields: dict[str, str]
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.path = target
        self.query = ""
        self.keep_alive = False
        self.expects_continue = False
        self.body: Body | None = None
        self.section: Section | None = None
