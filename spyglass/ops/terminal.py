"""Format what a person reads in a terminal: tables that fit, times, sizes, colours.

Everything here is a function from values to text; the commands print it. A width or a
colour is used only for a terminal: files and pipes get whole, plain lines.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

_COLOURS = {
    "awake": "32",
    "failing": "1;31",
    "waking": "33",
    "leaving": "33",
    "off": "2",
    "fault": "1;31",
    "hint": "33",
    "title": "1",
}
UNKNOWN = "-"


def escape_unencodable(stream: TextIO | None = None) -> None:
    """Make `stream` (default: stdout) escape characters that its encoding lacks,
    instead of raising UnicodeEncodeError.
    """
    stream = stream or sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def is_coloured(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return True if `stream` is a terminal that wants colours: NO_COLOR is not set
    (no-color.org), and TERM is not "dumb".
    """
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def colourize(text: str, kind: str, coloured: bool) -> str:
    """Return `text` in the colour of `kind` (a state, or "fault", "hint", "title"), or
    unchanged if `coloured` is False or there is no such kind.
    """
    code = _COLOURS.get(kind)
    return f"\033[{code}m{text}\033[m" if coloured and code else text


def width_limit(stream: TextIO, environ: Mapping[str, str]) -> int | None:
    """Return how many columns a line may have, or None for a file or a pipe, which has
    no limit.

    COLUMNS, if it is set, counts for files and pipes, too.
    """
    if stream.isatty() or environ.get("COLUMNS", "").isdigit():
        return max(40, shutil.get_terminal_size().columns)
    return None


class Column:
    """A column of a table: its title, and how it behaves if the line is too long.

    `short` is the title to use if space is scarce. `right` (bool) aligns numbers. The
    column shrinks to `min_width` letters at the least; 0 means that it never shrinks.
    """

    def __init__(
        self, title: str, short: str = "", *, right: bool = False, min_width: int = 0
    ) -> None:
        self.title = title
        self.short = short or title
        self.right = right
        self.min_width = min_width


def column_widths(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], limit: int | None
) -> list[int]:
    """Return the widths of the columns (letters), so that a line has at most `limit`.

    The widest column that may shrink does so first. A table that is too wide uses the
    short titles. A line stays longer than `limit` if no column can shrink any more.
    """
    titles = [column.short if column.min_width else column.title for column in columns]
    found = [max(len(text) for text in texts) for texts in zip(titles, *rows, strict=True)]
    if limit is not None and _total_width(found) > limit:
        found = [
            max(len(text) for text in texts)
            for texts in zip([column.short for column in columns], *rows, strict=True)
        ]
    while limit is not None and _total_width(found) > limit:
        giving = [
            index
            for index, column in enumerate(columns)
            if column.min_width and found[index] > column.min_width
        ]
        if not giving:
            break
        found[max(giving, key=lambda index: found[index])] -= 1
    return found


def _total_width(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def truncate(text: str, width: int) -> str:
    """Return `text` cut to `width` letters. The end of a path says more than its
    beginning, so a path keeps its end.
    """
    if len(text) <= width:
        return text
    return "…" + text[-(width - 1) :] if text.startswith("/") else text[: width - 1] + "…"


def table_lines(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    limit: int | None = None,
    *,
    coloured: bool = False,
    kind: int | None = None,
) -> list[str]:
    """Return the lines of a table, titles first.

    The column with index `kind` (int) is coloured according to its own text: a state.
    """
    widths = column_widths(columns, rows, limit)
    titles = [
        column.title if len(column.title) <= width else column.short
        for column, width in zip(columns, widths, strict=True)
    ]
    made = []
    for number, row in enumerate([titles, *rows]):
        cells = []
        for index, (text, column, width) in enumerate(zip(row, columns, widths, strict=True)):
            cell = truncate(text, width)
            cell = cell.rjust(width) if column.right else cell.ljust(width)
            if number == 0 or index == kind:
                cell = colourize(cell, text if number else "title", coloured)
            cells.append(cell)
        made.append("  ".join(cells).rstrip())
    return made


# Quantities


def ago(when: float | None, now: float | None = None) -> str:
    """Return how long ago `when` was (wall clock, seconds): "7 s ago", "3 min ago", "5
    h ago", "12 d ago".
    """
    if not when:
        return UNKNOWN
    seconds = max(0, int((time.time() if now is None else now) - when))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size * (1 if unit == "min" else 2):
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def duration(milliseconds: float | None) -> str:
    """Return a duration: "81 ms", "12 s"."""
    if milliseconds is None:
        return UNKNOWN
    return f"{milliseconds:.0f} ms" if milliseconds < 9999.5 else f"{milliseconds / 1000:.0f} s"


def size(count: int | None) -> str:
    """Return a number of bytes as "35 MiB" or "12.0 GiB"."""
    if count is None:
        return UNKNOWN
    return f"{count / (1 << 30):.1f} GiB" if count >= 10 << 30 else f"{count / (1 << 20):.0f} MiB"


def bytes_text(count: int) -> str:
    """Return a number of bytes in the unit that suits it: "12 bytes", "35 MiB"."""
    if count < 10_000:
        return f"{count} bytes"
    return f"{count >> 10} KiB" if count < 10 << 20 else size(count)


def number(count: int | None) -> str:
    """Return `count` in digits, or "-" if it is unknown."""
    return UNKNOWN if count is None else str(count)


def local_time(when: float | None) -> str:
    """Return a wall-clock time in the time zone of this machine."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when)) if when else UNKNOWN
