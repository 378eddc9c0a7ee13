"""Messages of a WebSocket that wait for the app."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from spyglass.gateway.asgi.websocket_messages import Event

# No more is read from the client while so much waits: TCP tells the client to wait.
_MOST: Final = 16
_LARGEST: Final = 1 << 20  # bytes, or characters


class Inbox:
    """Events in their order. A list, and no deque: an idle WebSocket should cost
    little, and an empty deque takes 600 bytes.
    """

    __slots__ = ("_events", "_size", "_sizes")

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._sizes: list[int] = []
        self._size = 0

    @property
    def full(self) -> bool:
        return len(self._events) >= _MOST or self._size >= _LARGEST

    def put(self, event: Event, size: int) -> None:
        """Append an event with `size` bytes or characters."""
        self._events.append(event)
        self._sizes.append(size)
        self._size += size

    def take(self) -> Event | None:
        """Return the next event, None if there is none."""
        if not self._events:
            return None
        self._size -= self._sizes.pop(0)
        return self._events.pop(0)
