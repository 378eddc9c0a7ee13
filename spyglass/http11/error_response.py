"""The server's own responses, after which the connection ends.

They are apart from response_head.py because the Master needs nothing else of HTTP.
"""

from __future__ import annotations

REASONS = {
    400: "Bad Request",
    404: "Not Found",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
    507: "Insufficient Storage",
}


def refusal(
    status: int,
    text: str,
    date: str,
    *,
    head_only: bool = False,
    extra: str = "",
    kind: str = "text/plain; charset=utf-8",
) -> bytes:
    """Return a complete response with `status` (int) and the body `text`. `date` is the
    value of Date; `extra` holds further headers, each with its CRLF.
    """
    body = text.encode("utf-8", "backslashreplace")
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"{extra}Date: {date}\r\nServer: spyglass\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if head_only else body)


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(utc: tuple[int, ...]) -> str:
    """Return the IMF-fixdate (RFC 9110 5.6.7) of a time.struct_time in UTC. Not by
    strftime(), which has the names of the locale.
    """
    year, month, day, hour, minute, second, weekday = utc[:7]
    return f"{_DAYS[weekday]}, {day:02d} {_MONTHS[month]} {year} {hour:02d}:{minute:02d}:{second:02d} GMT"
