"""Text that an app, a client or a file has given, as text that can be shown and passed on.

Such text may hold anything: line ends and U+2028 forge lines for whoever reads it line by line, escape sequences and bidi controls
change what a terminal shows, NUL ends a line for journald, a lone surrogate cannot be encoded, and a message may be megabytes long.
It is made harmless where it enters (LoadError, Log, notify()), so that nothing behind those has to think of it.
"""

from __future__ import annotations

LONGEST = 1000  # characters of a line that is passed on
_CUT = "..."


def one_line(text: str, limit: int = LONGEST) -> str:
    """Return `text` as one line of at most `limit` characters (int, at least 3), all of them printable and encodable in UTF-8.

    White space of any kind becomes a blank, what else cannot be printed an escape sequence such as `\\x1b`; what is too long ends in "...".
    """
    if len(text) <= limit and text.isprintable():
        return text
    line = "".join([_shown(letter) for letter in text[: limit + 1]])
    return line if len(line) <= limit else line[: limit - len(_CUT)] + _CUT


def lines(text: str, most: int, limit: int) -> str:
    """Return `text` with each of its lines as one_line(), at most `most` of them (int): of more, the first and the last ones.

    `limit` (int) is for a line. Only "\\n" ends one.
    """
    rows = text.split("\n")
    if len(rows) > most:
        rows = [*rows[: most // 2], _CUT, *rows[len(rows) - (most - most // 2 - 1) :]]
    return "\n".join([one_line(row, limit) for row in rows])


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else letter.encode("unicode_escape").decode("ascii")
