"""The standard library's socket and signal, and what we use of functools and
collections, without what their import costs.

`import socket` turns some hundred constants into enumerations, as `import signal` does;
with enum, selectors, collections and functools that takes as long as everything
Spyglass imports of its own, and every wake would pay for it before the app is even
looked at. What does the work are the C modules beneath, of which the sockets here and
all numbers are made. An app that imports the real ones gets those.

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
    from functools import lru_cache
    from typing import Any
else:
    import _signal as signal
    from _collections import deque

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


__all__ = ["Listening", "deque", "lru_cache", "signal", "signal_name", "socket"]


class Listening(socket.socket):
    """A socket that can accept(), and that `with` closes."""

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def accept(self) -> tuple[socket.socket, Any]:
        """A connection, close-on-exec and blocking, and its peer's address
        (accept4(2)).
        """
        fd, address = self._accept()  # type: ignore[attr-defined]  # typeshed knows it of socket.socket only
        # Told what it is: with fileno alone, each connection would cost three more
        # system calls to find out.
        return socket.socket(self.family, self.type, self.proto, fd), address


def signal_name(number: int) -> str:
    """ "SIGTERM"; for messages, so that only who has one to write pays for the import.

    "signal 15" if there is no descriptor for that, and "signal 40" of a realtime
    signal, for most of them have no name.
    """
    try:
        from signal import Signals

        return Signals(number).name
    except (OSError, ValueError):
        return f"signal {number}"
