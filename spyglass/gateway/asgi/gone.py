"""What an app gets that sends on a WebSocket that has ended."""

from __future__ import annotations

_MOST_REASONS = 10  # of an error; an app may make a circle of them


class Gone(OSError):
    """The app sends to a client that has gone. ASGI wants an OSError for that since
    version 2.4, so that an app that only sends finds out. This happens every day, and
    is not logged.
    """


def tells_of_the_end(error: BaseException, code: int) -> bool:
    """Return True if `error` only tells that a WebSocket has ended, with this code.
    Frameworks have one with the code in it, which many handlers let through:
    WebSocketDisconnect of Starlette and Litestar.
    """
    return is_gone(error) or (isinstance(error, Exception) and getattr(error, "code", None) == code)


def is_gone(error: BaseException) -> bool:
    """Return True if a client that had gone is the reason of `error`: frameworks make
    errors of their own of our Gone.
    """
    reason: BaseException | None = error
    for _ in range(_MOST_REASONS):
        if reason is None or isinstance(reason, Gone):
            break
        reason = reason.__cause__ or reason.__context__
    return isinstance(reason, Gone)
