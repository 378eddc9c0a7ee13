"""What is wrong with a file that is not TOML, for people who do not know TOML.

tomllib says that a file is wrong, and where: only then is it looked at here, around
that place. So nothing here can refuse a file that tomllib takes, or take one that it
refuses. What is not understood keeps tomllib's own words.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata

from spyglass.config import setting_text, value_hints
from spyglass.config.setting_types import Setting
from spyglass.printable import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_POSITION = re.compile(r" \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)$")
_KEY = re.compile(r"""([A-Za-z0-9_.-]+|"[^"]*"|'[^']*')[ \t]*=?[ \t]*$""")
_STATEMENT = re.compile(r"""[ \t]*([A-Za-z0-9_.-]+|"[^"]*"|'[^']*')[ \t]*=""")
_OPEN_LIST = re.compile(r"[^#=]*=[^#]*\[")
_NAMES = re.compile(r"'([^']*)'")
_TYPOGRAPHIC = "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u00b4`"
_COMMENTS = (";", "//", "/*", "<!--", "%", "!")
_FORM = "a line is NAME = VALUE, or begins with # if it is a comment"
_LONGEST = 60  # letters of the file that are quoted


def explain_error(data: bytes, error: Exception, known: Mapping[str, Setting]) -> tuple[int, str]:
    """Return explain() or not_utf_8(): what the `error` says of a file, `data`."""
    if isinstance(error, UnicodeDecodeError):
        return not_utf_8(data, error.start)
    said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    return explain(data.decode(), said, known)


def explain(text: str, message: str, known: Mapping[str, Setting]) -> tuple[int, str]:
    """Return the number of the line (from 1), what is wrong there and how to fix it.

    `text` was refused by tomllib with `message`. `known` are all settings by name.
    """
    text = text.replace("\r\n", "\n")  # as tomllib does
    found = _POSITION.search(message)
    said = message[: found.start()] if found else message
    lines = text.split("\n")
    if found and found[1]:
        number, column = int(found[1]), int(found[2]) - 1
    else:  # the end: the last line that holds anything
        number = text.rstrip().count("\n") + 1
        column = len(lines[number - 1])
    place = _Place(lines, number, min(column, len(lines[number - 1])), known)
    for rule, explanation in _RULES:
        if said.startswith(rule) and (why := explanation(place, said)):
            return place.number, why
    return place.number, f"not TOML: {said}"


def not_utf_8(data: bytes, at: int) -> tuple[int, str]:
    """Return the same for a file with the bytes `data`, which is not UTF-8 at `at`."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return 1, "it is UTF-16, not UTF-8: iconv -f UTF-16 -t UTF-8"
    return data.count(b"\n", 0, at) + 1, (
        f"not UTF-8: byte 0x{data[at]:02x}; if it is Latin-1: iconv -f LATIN1 -t UTF-8"
    )


class _Place:
    """Where tomllib has stopped: `line` from `column` on, which is `rest`."""

    def __init__(
        self, lines: list[str], number: int, column: int, known: Mapping[str, Setting]
    ) -> None:
        self.lines = lines
        self.known = known
        self.column = column
        self.move(number)

    def move(self, number: int) -> None:
        self.number = number
        self.line = self.lines[number - 1]

    @property
    def before(self) -> str:
        return self.line[: self.column]

    @property
    def rest(self) -> str:
        return self.line[self.column :]

    @property
    def key(self) -> str:
        """The name of the last key before the place, as it is written."""
        found = _KEY.search(self.before)
        return found[1] if found else ""

    @property
    def is_nested(self) -> bool:
        """True within a list or a table in braces that begins in this line."""
        opened = self.before.partition("=")[2]
        return opened.count("[") > opened.count("]") or opened.count("{") > opened.count("}")

    def setting(self, key: str) -> Setting | None:
        """Return the setting that this line sets, if `key` is its name, or if the place
        is an entry of its list.
        """
        in_table = any(re.match(r"[ \t]*\[", line) for line in self.lines[: self.number])
        found = _STATEMENT.match(self.line)
        name = found[1] if found else key
        return self.known.get(name) if key in ("", name) and not in_table else None

    def statement(self) -> str:
        """Go to the line in which the statement begins, and return its key."""
        for number in range(self.number, 0, -1):
            if found := _STATEMENT.match(self.lines[number - 1]):
                self.move(number)
                return found[1]
        return ""

    def first_line(self, name: str) -> str:
        """Return ", first in line 3" for a name that is set, or opens a table, before
        this line.
        """
        pattern = re.compile(rf"""[ \t]*\[*[ \t]*["']?{re.escape(name)}["']?[ \t]*[].=]""")
        for number, line in enumerate(self.lines[: self.number - 1], 1):
            if pattern.match(line):
                return f", first in line {number}"
        return ""


def _byte_order_mark(place: _Place, said: str) -> str:
    if (place.number, place.column) == (1, 0) and place.line.startswith("\ufeff"):
        return "the file begins with a byte order mark: save it as UTF-8 without BOM"
    return ""


def _odd_letter(place: _Place, said: str) -> str:
    """Explain a letter that looks like another one."""
    letter = place.rest[:1]
    if letter == "\r":
        return "the line ends with a carriage return alone: save the file with Unix line ends"
    if letter and letter in _TYPOGRAPHIC:
        plain = place.rest.translate(dict.fromkeys(map(ord, _TYPOGRAPHIC), '"')).strip()
        return f"typographic quotes: write plain ones, {_shown(place.before + plain)}"
    if letter and not letter.isascii() and (letter.isspace() or not letter.isprintable()):
        name = unicodedata.name(letter, f"U+{ord(letter):04X}").lower()
        return f"an invisible character ({name}) in column {place.column + 1}: delete it"
    return ""


def _not_a_statement(place: _Place, said: str) -> str:
    """Explain a line that does not begin with a name."""
    rest = place.rest
    if "{" in place.before and "}" not in place.before and not rest.strip():
        return (
            "a table in { } ends in its line: write it in one line, or as [environment] at the end "
            "of the file, with one line for each entry"
        )
    if rest.startswith(_COMMENTS):
        return f"a comment begins with #: {_shown('# ' + rest.strip(';/*%!<-> '))}"
    if rest.startswith("{"):
        return f"{_FORM}; this looks like JSON"
    if rest.startswith("="):
        return "the name before = is missing"
    return _FORM


def _no_equals_sign(place: _Place, said: str) -> str:
    key, rest = place.key, place.rest.lstrip()
    if re.fullmatch(r"---|\.\.\.", place.line.strip()):
        return f"this looks like YAML: delete it; {_FORM}"
    if key in ("-", "*"):
        return 'a list is written in brackets: ["a", "b"]'
    if key in ("export", "set", "let", "var", "const", "env"):
        return f"delete {key!r}: {_FORM}"
    if key in ("import", "from", "def", "class"):
        return f"this looks like Python; {_FORM}"
    if rest[:1] == ":":
        value = _until(rest.lstrip(":= "), place.is_nested)
        if not value:
            return f"= and a value, instead of the colon: {_shown(f'{key} = VALUE')}"
        return f"= instead of the colon: {_shown(f'{key} = {_fit(place, key, value)}')}"
    if not rest or rest.startswith("#"):
        return f"= and a value are missing: {_shown(f'{key} = VALUE')}"
    return f"= is missing: {_shown(f'{key} = {_fit(place, key, rest)}')}"


def _not_a_value(place: _Place, said: str) -> str:
    """Explain what is neither text in quotes, nor a number, nor any other value."""
    key = place.key
    in_list = not place.before.rstrip().endswith("=")
    if in_list and not place.before.strip() and _STATEMENT.match(place.line):
        return _begun_list(place)
    value = _until(place.rest, in_list or place.is_nested)
    if not value:
        if in_list:
            return "a value is missing before " + (place.rest[:1] or "the end of the line")
        return f"{key} has no value: delete the line, or write {_shown(f'{key} = VALUE')}"
    if value.startswith("="):
        value = value.lstrip("= ")
        return f"one = is enough: {_shown(f'{key} = {_fit(place, key, value)}')}"
    if value.lower() in ("null", "none", "nil", "~"):
        return f"there is no value {value}: delete the line, and {key} has its default"
    return _needs_quotes(place, "" if in_list else key, value)


def _more_than_a_value(place: _Place, said: str) -> str:
    """Explain what follows a complete value in its line: the rest of text without
    quotes, mostly.
    """
    found = _STATEMENT.match(place.line)
    rest = place.rest.strip()
    if found is None or (rest.startswith(",") and "=" in rest):
        rest = rest.lstrip(", ")
        if "=" in rest:
            return f"this must be in a line of its own: {_shown(rest)}"
        return f"delete what follows {_shown(place.before)}: {_shown(rest)}"
    key, value = found[1], _until(place.line[found.end() :], False)
    if rest.startswith(_COMMENTS[:3]):
        return f"delete {_shown(rest)!r}: only a comment may follow the value, and it begins with #"
    if rest.startswith(","):
        entries = ", ".join(_fit(place, key, entry.strip()) for entry in value.split(","))
        return f"a list needs brackets: {_shown(f'{key} = [{entries}]')}"
    if value.startswith(('"', "'", "[", "{")):
        return f"one value is enough: delete what follows it, {_shown(rest)}"
    return _needs_quotes(place, key, value)


def _needs_quotes(place: _Place, key: str, value: str) -> str:
    """Explain a value that is text without quotes, or nearly a value. Without a `key`,
    it is an entry of a list.
    """
    setting = place.setting(key)
    if setting is not None and value_hints.closest(setting, value) is None:
        try:
            setting.check(value)
        except ValueError as error:
            return f"{setting.name}: {error.args[0]}, not {_shown(value)}"
    right = _fit(place, key, value)
    line = f"{key} = {right}" if key else right
    if right == f'"{value}"' or right == f"'{value}'":
        return f"text needs quotes: {_shown(line)}"
    return f"{_shown(value)}: write {_shown(line)}"


def _open_list(place: _Place, said: str) -> str:
    rest = place.rest.strip()
    if rest and not rest.startswith("#") and place.before.strip():
        if entry := _begun_value(place, "[,"):
            return _needs_quotes(place, "", entry)
        return f"a comma or a ] is missing before {_shown(rest)}"
    return _begun_list(place)


def _begun_value(place: _Place, signs: str) -> str:
    """Return a value of which tomllib has read only the first part, as a number: the
    text from the last of `signs` on. Return "" if what it has read is complete.
    """
    begin = max(place.before.rfind(sign) for sign in signs) + 1
    begun = place.before[begin:]
    if not begun.strip() or begun[-1].isspace() or begun.strip()[-1] in "\"'}]":
        return ""
    return _until(place.line[begin:], True)


def _begun_list(place: _Place) -> str:
    """Explain a list that was still open when the next statement began."""
    stopped = place.number
    for number in range(stopped, 0, -1):
        if _OPEN_LIST.match(place.lines[number - 1]):
            place.move(number)
            break
    return "the list that begins here is not closed: a ] is missing" + (
        f", or a comma before line {stopped}" if stopped > place.number else ""
    )


def _open_table(place: _Place, said: str) -> str:
    rest = place.rest.strip()
    if not rest or rest.startswith("#"):
        return "a } is missing at the end of the line"
    if value := _begun_value(place, "="):
        keys = re.findall(r"([A-Za-z0-9_.-]+)[ \t]*=", place.before)
        return _needs_quotes(place, keys[-1] if keys else "", value)
    return f"a comma or a }} is missing before {_shown(rest)}"


def _open_text(place: _Place, said: str) -> str:
    """Explain text whose end has not been found."""
    many = next((mark for mark in ('"""', "'''") if f"{mark}" in said), "")
    quote = "'" if said == 'Expected "\'"' else '"'
    if not many and said.startswith("Unterminated"):
        many = '"""' if "\n".join(place.lines).count('"""') % 2 else ""
    for number in range(place.number, 0, -1):
        if (many or quote) in place.lines[number - 1]:
            place.move(number)
            break
    return f"the quote {many or quote} is not closed"


def _odd_character(place: _Place, said: str) -> str:
    if place.column >= len(place.line):
        quote = '"' if said.startswith("Illegal") else "'"
        return f"the quote {quote} is not closed in this line"
    return f"a control character ({place.rest[0]!r}) in column {place.column + 1}: delete it"


def _backslash(place: _Place, said: str) -> str:
    return "in \"...\" a \\ is written \\\\; or put the text in '...', which has no such rule"


def _twice(place: _Place, said: str) -> str:
    found = _NAMES.findall(said)
    if found and "(" in said:  # a table: Cannot declare ('environment',) twice
        name = ".".join(found)
        return f"[{name}] is there already{place.first_line(name)}: put all of it in one place"
    header = re.match(r"[ \t]*\[+([^]]+)", place.line)
    key = header[1].strip() if header else found[-1] if found else place.statement()
    return f"{key} is set twice{place.first_line(key)}: delete one of the lines" if key else ""


def _table_header(place: _Place, said: str) -> str:
    return f"the line must end with {said[10:].partition(chr(39))[0]}: {_shown(place.before + ']')}"


def _date(place: _Place, said: str) -> str:
    return _needs_quotes(place, place.key, _until(place.rest, place.is_nested))


_RULES = (
    ("", _byte_order_mark),
    ("", _odd_letter),
    ("Invalid statement", _not_a_statement),
    ("Invalid initial character", _not_a_statement),
    ("Expected '=' after a key", _no_equals_sign),
    ("Expected newline", _more_than_a_value),
    ("Expected ']", _table_header),
    ("Expected ", _open_text),
    ("Invalid value", _not_a_value),
    ("Unclosed array", _open_list),
    ("Unclosed inline table", _open_table),
    ("Unterminated string", _open_text),
    ("Illegal character", _odd_character),
    ("Found invalid character", _odd_character),
    ("Unescaped", _backslash),
    ("Invalid hex", _backslash),
    ("Escaped character", _backslash),
    ("Cannot ", _twice),
    ("Duplicate inline table key", _twice),
    ("Invalid date", _date),
)


def _until(text: str, in_list: bool) -> str:
    """Return the value at the start of `text`, without a comment or what follows it."""
    end = re.search(r"[,\]}#]" if in_list else r"[ \t]#", text)
    return (text[: end.start()] if end else text).strip().rstrip(";")


def _fit(place: _Place, key: str, value: str) -> str:
    """Return `value` as the file must have it: as it is, as the setting `key` takes it,
    or in quotes.
    """
    value = _until(value, False)
    setting = place.setting(key)
    try:
        tomllib.loads(f"x = {value}")
    except (ValueError, RecursionError):
        pass
    else:
        return value
    meant = value_hints.closest(setting, value) if setting is not None else None
    if isinstance(meant, dict | list):
        meant = None
    if meant is None and value.lower() in ("true", "false"):
        return value.lower()
    if meant is None and value.startswith(('"', "'")):
        value = value.strip("\"'")
    if meant is None and '"' in value and "'" not in value:
        return f"'{value}'"
    return setting_text.toml(value if meant is None else meant)


def _shown(text: str) -> str:
    return one_line(text.strip(), _LONGEST)
