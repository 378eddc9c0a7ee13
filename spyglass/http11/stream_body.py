"""A request's body that its app takes while it is still on its way, as ASGI apps do.

Nothing is spooled, and the memory of all bodies is not counted: a connection reads no
further while HIGH bytes wait for the app.
"""

from __future__ import annotations

from spyglass.http11.request_body import Body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

HIGH: Final = 64 << 10
_PARTS: Final = 64


class StreamBody(Body):
    """What has arrived and was not taken yet: `size` bytes. `ended` (bool): all of it
    has arrived. `length` and the pace are those of Body; `expected` (int) is the whole
    length where the client has told it, else 0.

    Derived, because the reader and its decoder write to a Body.
    """

    __slots__ = ("_dropped", "_waiting", "ended", "expected", "size")

    def __init__(self, expected: int = 0) -> None:
        super().__init__(0)
        self.expected = expected
        self.ended = False
        self.size = 0
        self._waiting: list[bytes] = []
        self._dropped = False

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        size = len(data)
        self.length += size
        if self._dropped:
            return
        waiting = self._waiting
        if len(waiting) == _PARTS:
            # Many small parts would take more memory than they hold.
            waiting[:] = [b"".join(waiting)]
        self.size += size
        waiting.append(bytes(data))  # bytes() does not copy bytes

    def take(self) -> bytes:
        """Return what has arrived since the last call."""
        waiting = self._waiting
        data = waiting[0] if len(waiting) == 1 else b"".join(waiting)
        waiting.clear()
        self.size = 0
        return data

    def drop(self) -> None:
        """The app has finished without it: keep nothing of it."""
        self._dropped = True
        self._waiting.clear()
        self.size = 0

    def close(self) -> None:
        """See Body."""
        self.drop()
