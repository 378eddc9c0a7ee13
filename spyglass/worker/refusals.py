"""The server's own answers to a request, and their lines in the access log."""

from __future__ import annotations

from spyglass.http11.error_response import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from spyglass.http11.request import Request
    from spyglass.http11.request_reader import RequestReader
    from spyglass.worker.server import Server


_RETRY_AFTER: Final = 5  # seconds
# For a client that asks for another version of WebSocket (RFC 6455 4.4, RFC 9110
# 15.5.22)
_UPGRADE: Final = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"


def refuse(
    server: Server,
    peer: Any,
    reader: RequestReader,
    request: Request | None,
    status: int,
    why: str,
    extra: str = "",
) -> bytes:
    """Return the answer with `status` (int) to `request`, or to what `reader` has of
    one; count it, and note it in the access log. `peer` is the client, as the log takes
    it. `extra` holds further headers, each with its CRLF.
    """
    if status == 503:
        # What is wrong for a moment only may be tried again (RFC 9110 10.2.3).
        extra += f"Retry-After: {_RETRY_AFTER}\r\n"
    elif status == 426:
        extra += _UPGRADE
    answer = refusal(
        status, f"{status}: {why}\n", server.date, head_only=reader.is_head, extra=extra
    )
    server.meter.refused(status)
    if server.access is not None:
        request = request or reader.pending
        line = "" if request is not None else reader.line.decode("latin-1")
        server.access.refused(peer, request, line, status, len(answer.partition(b"\r\n\r\n")[2]))
    return answer
