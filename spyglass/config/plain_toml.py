"""Read a settings file that has nothing but plain lines, without tomllib.

Nearly every app has such a file, and each wake reads it. tomllib compiles regular
expressions when it is imported, and brings `re`, `datetime`, `string` and `typing`
along: twice as much as the interpreter's own start.

Plain is a part of TOML 1.0: comments, and `key = value` on one line with a bare key.
Values are strings without an escape, decimal integers, true, false, and arrays of
these. All else is tomllib's to read or to refuse. So there is no second opinion on what
a file means: what is read here, tomllib reads in the same way, and a test compares.
"""

from __future__ import annotations

_DIGITS = 18  # of the longest integer
_ENDS = " ,]#"  # what may follow a value


def loads(text: str) -> dict[str, object]:
    """Return the table in `text`. Raise what tomllib.loads() raises."""
    table = read(text)
    if table is not None:
        return table
    import tomllib  # in here: half of what a hello-world wake may cost

    return tomllib.loads(text)


def read(text: str) -> dict[str, object] | None:
    """Return the table in `text`; None if it is not plain, or not TOML."""
    table: dict[str, object] = {}
    try:
        for line in text.split("\n"):
            # Printable text has no control characters. TOML allows a tab, and others
            # only as escapes.
            if not line.isprintable():
                return None
            line = line.strip(" ")
            if line and line[0] != "#":
                key, value = _pair(line)
                if key in table:
                    return None
                table[key] = value
    except ValueError:
        return None
    return table


def _pair(line: str) -> tuple[str, object]:
    key, _, rest = line.partition("=")
    key = key.rstrip(" ")
    if not (key.isascii() and key.replace("_", "a").replace("-", "a").isalnum()):
        raise ValueError("not a bare key")
    rest = rest.lstrip(" ")
    value, rest = _array(rest[1:]) if rest.startswith("[") else _scalar(rest)
    rest = rest.lstrip(" ")
    if rest and rest[0] != "#":
        raise ValueError("more than a value")
    return key, value


def _array(text: str) -> tuple[list[object], str]:
    """Return the array of which `text` begins behind the bracket, and what follows."""
    items: list[object] = []
    text = text.lstrip(" ")
    while not text.startswith("]"):
        item, text = _scalar(text)
        items.append(item)
        text = text.lstrip(" ")
        if text.startswith(","):
            text = text[1:].lstrip(" ")
        elif not text.startswith("]"):
            raise ValueError("neither a comma nor the end")
    return items, text[1:]


def _scalar(text: str) -> tuple[object, str]:
    """Return the value with which `text` begins, and what follows."""
    quote = text[:1]
    if quote in ('"', "'"):
        # The first quote of three ends an empty string here, and more follows.
        inside, end, rest = text[1:].partition(quote)
        if not end or (quote == '"' and "\\" in inside):
            raise ValueError("not a plain string")
        return inside, rest
    length = next((at for at, letter in enumerate(text) if letter in _ENDS), len(text))
    word, rest = text[:length], text[length:]
    if word in ("true", "false"):
        return word == "true", rest
    if not (word.isascii() and word.isdigit() and len(word) <= _DIGITS):
        raise ValueError("not a plain value")
    if word[0] == "0" and word != "0":
        raise ValueError("a leading zero")
    return int(word), rest
