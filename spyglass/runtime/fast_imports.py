"""Offer the standard library's socket and signal, and what we use of a few other
modules, without the cost of their import.

`import socket` turns some hundred constants into enumerations, as `import signal` does.
With enum, selectors, collections and functools that takes as long as all modules of
Spyglass together, and every wake would pay for it before the app is even loaded. The C
modules beneath do the work, and the sockets and numbers here are theirs. An app that
imports the real modules gets those.

`signal` has no `Signals` here, and `socket.socket` neither accept() nor `with`: see
`signal_name()` and `Listening`.
"""

from __future__ import annotations

import _socket as socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections import deque
    from collections.abc import Callable
    from contextvars import copy_context
    from functools import lru_cache
    from heapq import heappop, heappush
    from typing import Any
else:
    import _signal as signal
    from _collections import deque
    from _contextvars import copy_context
    from _heapq import heappop, heappush

    try:
        from _functools import _lru_cache_wrapper
    except ImportError:  # another implementation of Python
        from functools import lru_cache
    else:

        def lru_cache(maxsize: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
            """functools.lru_cache, less cache_info() as a named tuple."""
            return lambda function: _lru_cache_wrapper(
                function, maxsize, False, lambda *counts: counts
            )


__all__ = [
    "Listening",
    "copy_context",
    "deque",
    "heappop",
    "heappush",
    "lru_cache",
    "signal",
    "signal_name",
    "socket",
]


class Listening(socket.socket):
    """A socket that has accept(), and that `with` closes."""

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a connection, close-on-exec and blocking, and its peer's address
        (accept4(2)).
        """
        fd, address = self._accept()  # type: ignore[attr-defined]  # typeshed knows it of socket.socket only
        # With fileno alone, Python would find out the rest by three more system calls
        # for each connection.
        return socket.socket(self.family, self.type, self.proto, fd), address


def signal_name(number: int) -> str:
    """Return the name of a signal, "SIGTERM", for messages.

    "signal 15" if there is no descriptor for the import, and "signal 40" for a realtime
    signal, most of which have no name.
    """
    try:
        from signal import Signals  # in here: only a process with such a message needs it

        return Signals(number).name
    except (OSError, ValueError):
        return f"signal {number}"
