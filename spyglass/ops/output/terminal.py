"""Format what a person reads in a terminal: tables that fit, times, sizes, colours.

Everything here is a function from values to text; the commands print it. A width or a
colour is used only for a terminal: files and pipes get whole, plain lines.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
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

# Blanks at which no line ends: in `app = "a:b"`, "12 ms", "2026-11-30 16:41:18".
_UNBROKEN = re.compile(
    r"(?<= =) | (?== )|(?<=\d) (?=(?:ms|s|min|h|d|bytes|[KMG]iB)\b)|(?<=\d-\d\d) (?=\d\d:)"
)


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


def wrapped(text: str, limit: int | None, hang: int = 0) -> list[str]:
    """Return `text` as lines of at most `limit` letters (None: one line). All but the
    first begin with `hang` (int) blanks; the text's own indentation is kept.

    It breaks at blanks only, so that a path or an address can be copied: a longer word
    stays whole, and its line is too long. Nor does a line end within `app = "a:b"`, a
    quantity, or a time.
    """
    if limit is None or len(text) <= limit:
        return [text]
    start = text[: len(text) - len(text.lstrip(" "))]
    lines = textwrap.wrap(
        _UNBROKEN.sub("\0", text.strip(" ")),
        limit,
        initial_indent=start,
        subsequent_indent=" " * min(hang, limit // 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


class Column:
    """A column of a table. `right` (bool) aligns numbers. If the lines are too long the
    columns with a `drop` (int) are left out, the lowest number first.
    """

    def __init__(self, title: str, *, right: bool = False, drop: int = 0) -> None:
        self.title = title
        self.right = right
        self.drop = drop


class Row:
    """A row of a table: its `cells`, which may have several lines, and lines to print
    `below` it.
    """

    def __init__(self, cells: Sequence[str], below: Sequence[str] = ()) -> None:
        self.cells = [cell.split("\n") for cell in cells]
        self.below = below


def _widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    """Return the widths of the columns, in letters."""
    return [
        max(len(column.title), *(len(line) for row in rows for line in row.cells[index]))
        if rows
        else len(column.title)
        for index, column in enumerate(columns)
    ]


def table_width(columns: Sequence[Column], rows: Sequence[Row]) -> int:
    """Return the letters of the table's longest line, if no column is dropped."""
    return sum(_widths(columns, rows)) + 2 * (len(columns) - 1)


def table_lines(
    columns: Sequence[Column],
    rows: Sequence[Row],
    limit: int | None = None,
    *,
    coloured: bool = False,
    kind: int | None = None,
) -> list[str]:
    """Return the lines of a table, titles first, of at most `limit` letters (None: no
    limit). Nothing is cut: columns are dropped, and then lines may be longer.

    The column with index `kind` (int) is coloured according to its own text: a state.
    """
    widths = _widths(columns, rows)
    kept = list(range(len(columns)))
    for index in sorted(kept, key=lambda index: columns[index].drop):
        width = sum(widths[each] for each in kept) + 2 * (len(kept) - 1)
        if columns[index].drop and limit is not None and width > limit:
            kept.remove(index)

    def line(texts: Sequence[str], colour: str = "") -> str:
        cells = []
        for index in kept:
            text, width = texts[index], widths[index]
            cell = text.rjust(width) if columns[index].right else text.ljust(width)
            shade = colour or (text if index == kind else "")
            cells.append(colourize(cell, shade, coloured))
        return "  ".join(cells).rstrip()

    made = [line([column.title for column in columns], "title")]
    for row in rows:
        for number in range(max(len(cell) for cell in row.cells)):
            made.append(line([(cell[number : number + 1] or [""])[0] for cell in row.cells]))
        made += row.below
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


def entries_text(count: int, size: int) -> str:
    """Return how much is stored: "3 files and directories, 12 bytes"."""
    what = "file or directory" if count == 1 else "files and directories"
    return f"{count} {what}, {bytes_text(size)}"


def number(count: int | None) -> str:
    """Return `count` in digits, or "-" if it is unknown."""
    return UNKNOWN if count is None else str(count)


def local_time(when: float | None) -> str:
    """Return a wall-clock time in the time zone of this machine."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when)) if when else UNKNOWN
