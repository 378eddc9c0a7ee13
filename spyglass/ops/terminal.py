"""What people read: tables that fit, times as they are said, and colour for those who
look at a terminal.
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
    """What cannot be said in the terminal's encoding is no reason to say nothing."""
    stream = stream or sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def is_coloured(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return True for a terminal, unless NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def colourize(text: str, kind: str, coloured: bool) -> str:
    code = _COLOURS.get(kind)
    return f"\033[{code}m{text}\033[m" if coloured and code else text


def width_limit(stream: TextIO, environ: Mapping[str, str]) -> int | None:
    """Columns that a line may have; None: a file or a pipe, and as many as it takes.
    COLUMNS counts for both.
    """
    if stream.isatty() or environ.get("COLUMNS", "").isdigit():
        return max(40, shutil.get_terminal_size().columns)
    return None


class Column:
    """`title`, which is `short` where there is little room; numbers are `right` (bool)
    aligned.

    Where there is no room the column gives way, down to `min_width` letters (0: not at
    all).
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

    The widest column that may shrink does so first. In a table that is too wide, the
    short titles are used. A line is longer than `limit` if no column can shrink.
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
    """`text` in `width` letters. Of a path the end says more than the beginning."""
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
    """The rows of a table below its titles; the column `kind` (int) says in which
    colour itself is written.
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
    """How long `when` (wall clock) is past: "7 s ago", "3 min ago", "5 h ago", "12 d
    ago".
    """
    if not when:
        return UNKNOWN
    seconds = max(0, int((time.time() if now is None else now) - when))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size * (1 if unit == "min" else 2):
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return UNKNOWN
    return f"{milliseconds:.0f} ms" if milliseconds < 9999.5 else f"{milliseconds / 1000:.0f} s"


def size(count: int | None) -> str:
    """Bytes: "35 MiB"."""
    if count is None:
        return UNKNOWN
    return f"{count / (1 << 30):.1f} GiB" if count >= 10 << 30 else f"{count / (1 << 20):.0f} MiB"


def number(count: int | None) -> str:
    return UNKNOWN if count is None else str(count)


def local_time(when: float | None) -> str:
    """A time of day, where the machine is."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when)) if when else UNKNOWN
