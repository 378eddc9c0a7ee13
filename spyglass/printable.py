"""Make text from an app, a client or a file safe to show and to pass on.

Such text may hold anything. Line ends and U+2028 forge lines for a program that reads
line by line. Escape sequences and bidi controls change what a terminal shows. NUL ends
a line for journald, a lone surrogate cannot be encoded, and a message may be megabytes
long. It is made safe where it enters (LoadError, Log, notify()), so that the code
behind those can rely on it.
"""

from __future__ import annotations

from os import fsencode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 1000  # characters of a line that is passed on
_CUT = "..."
_LONGEST_PATH = 4096  # PATH_MAX


def one_line(text: str, limit: int = LONGEST) -> str:
    """Return `text` as one line of at most `limit` characters (int, at least 3), all of
    them printable and encodable in UTF-8.

    White space of any kind becomes a blank, and other characters that cannot be printed
    an escape sequence such as `\\x1b`. A line that was cut ends in "...".
    """
    if len(text) <= limit and text.isprintable():
        return text
    line = "".join([_shown(letter) for letter in text[: limit + 1]])
    return line if len(line) <= limit else line[: limit - len(_CUT)] + _CUT


def lines(text: str, most: int = 200, size: int = 16 << 10) -> str:
    """Return `text` with each of its lines as one_line(); only "\\n" ends one.

    Of more than `most` lines (int), or more than about `size` characters (int), only
    the first and the last remain.
    """
    rows = text.split("\n")
    if len(rows) > most:
        rows = [*rows[: most // 2], _CUT, *rows[len(rows) - (most - most // 2 - 1) :]]
    shown = "\n".join([one_line(row) for row in rows])
    return shown if len(shown) <= size else f"{shown[: size // 2]}\n{_CUT}\n{shown[-(size // 2) :]}"


def paths(names: Iterable[str], most: int = 256, size: int = 8 << 10) -> list[str]:
    """Return those of `names` that can be names of files: at most `most` (int), of at
    most `size` characters (int) together.
    """
    found: list[str] = []
    for name in names:
        if len(name) > _LONGEST_PATH:
            continue
        size -= len(name)
        if size < 0 or len(found) >= most:
            break
        if "\0" not in name and _is_encodable(name):
            found.append(name)
    return found


def words_of(error: BaseException) -> str:
    """Return str(error), or "" if that raises another error: the class may be the
    app's.
    """
    try:
        return str.__str__(str(error))  # a real str, and not one of the app's classes
    except BaseException:
        return ""


def name_of(error: BaseException) -> str:
    """Return the name of the class of `error` as one line. A metaclass of the app's may
    raise instead.
    """
    try:
        return one_line(type(error).__name__, 100)
    except BaseException:
        return "an exception"


def _is_encodable(name: str) -> bool:
    try:
        fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else letter.encode("unicode_escape").decode("ascii")
