"""Parse a file of variables as systemd does (EnvironmentFile=, systemd.exec(5)).

systemd ignores malformed lines with a warning in its own log at most. Many such files
are written for a shell or for dotenv: systemd knows neither `export` nor a byte order
mark nor a comment after a value. The rules are those of its parser (env-file.c),
verified on systemd 252 and 257.

A report never contains a value, nor a line that may be part of one: values are usually
secrets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_BLANK = re.compile(r"[ \t\r\n]*")
_LINE = re.compile(r"[^\r\n]*")
_KEY = re.compile(r"[^=\r\n]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BOM = "\ufeff"


@dataclass
class Variables:
    """What systemd makes of a file: `found` are (name, value) in order, `faults` (line
    number, problem).

    With a fault in `fatal` (bool) systemd rejects the whole file. It does not start the
    service then; if the file is optional, it starts it without any of these variables.
    """

    found: list[tuple[str, str]] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    fatal: bool = False


def parse(text: str) -> Variables:
    """Parse `text`. Bytes that are not UTF-8 are lone surrogates in it
    (surrogateescape).
    """
    made = Variables()
    if "\0" in text:
        made.faults.append(
            (
                text.count("\n", 0, text.index("\0")) + 1,
                "a zero byte: systemd rejects the whole file",
            )
        )
        made.fatal = True
        return made
    position = counted = 0
    line = 1
    while (position := _end(_BLANK, text, position)) < len(text):
        line += text.count("\n", counted, position)
        counted = position
        take = _comment if text[position] in "#;" else _assignment
        position = take(text, position, line, made)
    return made


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Return the end of the match of `pattern` at `position`."""
    found = pattern.match(text, position)
    return found.end() if found else position


def _comment(text: str, position: int, line: int, made: Variables) -> int:
    """Skip the comment at `position` and return its end."""
    end = _end(_LINE, text, position)
    if text[position:end].endswith("\\"):
        made.faults.append(
            (line, "a comment that ends in \\: systemd 252 ignores the next line, too")
        )
    return end


def _assignment(text: str, position: int, line: int, made: Variables) -> int:
    """Parse the assignment at `position` and return its end."""
    end = _end(_KEY, text, position)
    key = text[position:end].rstrip(" \t")
    if text[end : end + 1] != "=":
        made.faults.append(
            (
                line,
                "a byte order mark"
                if key == _BOM
                else "not an assignment (NAME=value): systemd ignores it",
            )
        )
        return end
    value, end, remark = _value(text, end + 1)
    if not _is_utf8(key) or not _is_utf8(value):
        made.faults.append((line, "not UTF-8: systemd rejects the whole file"))
        made.fatal = True
    elif why := _misnamed(key):
        made.faults.append((line, f"{why}: systemd ignores it"))
    else:
        made.found.append((key, value))
        if remark:
            made.faults.append((line, remark.format(key)))
    return end


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _misnamed(key: str) -> str:
    """Return why `key` is not a variable's name, or ""."""
    if _NAME.fullmatch(key):
        return ""
    if key.startswith(_BOM):
        return "a byte order mark before the name (save the file without one)"
    word, *rest = key.split()[:2] or [""]
    if word in ("export", "set", "setenv", "declare") and rest:
        return f"{word!r} before the name is shell syntax (write NAME=value)"
    return "the text before = is not a variable name (letters, digits, _)"


_UNCLOSED = "{} has an unclosed quote: all following lines are part of its value"
_REMARK = "the text after # is part of the value of {}: put comments on their own lines"


def _value(text: str, position: int) -> tuple[str, int, str]:
    """Return the value that begins at `position`, the end of its line, and a remark
    with {} for the name, or "".
    """
    value: list[str] = []
    plain = False  # inside unquoted text; blanks before it are skipped
    quoted = commented = False
    while position < len(text) and text[position] not in "\r\n":
        letter = text[position]
        position += 1
        if not plain and letter in "'\"":
            piece, position, closed = _quoted(text, position, letter)
            value.append(piece)
            quoted = True
            if not closed:
                return "".join(value), position, _UNCLOSED
        elif letter == "\\":
            plain = True
            if text[position : position + 1] not in ("\r", "\n"):
                value.append(text[position : position + 1])
            position += 1
        elif plain or letter not in " \t":
            commented |= letter == "#" and (text[position - 2] in " \t" or (quoted and not plain))
            plain = True
            value.append(letter)
    made = "".join(value)
    return made.rstrip(" \t") if plain else made, position, _REMARK if commented else ""


def _quoted(text: str, position: int, quote: str) -> tuple[str, int, bool]:
    """Return the quoted text that begins at `position`, the position after it, and
    whether the quote is closed.
    """
    value: list[str] = []
    while position < len(text):
        letter = text[position]
        position += 1
        if letter == quote:
            return "".join(value), position, True
        if letter == "\\" and quote == '"':
            escaped = text[position : position + 1]
            position += 1
            if escaped == "\n":
                continue
            value.append(escaped if escaped and escaped in '"\\`$' else f"\\{escaped}")
        else:
            value.append(letter)
    return "".join(value), position, False
