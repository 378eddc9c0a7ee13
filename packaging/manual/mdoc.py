"""Text for mdoc(7), the language of man pages that says what a word is, not how it
looks.
"""

from __future__ import annotations

import re
import textwrap

from facts import Command, Option

_WIDTH = 80
# What would be set as a typographer's sign, which no shell understands.
_ESCAPES = str.maketrans(
    {"\\": r"\e", "-": r"\-", '"': r"\(dq", "'": r"\(aq", "^": r"\(ha", "~": r"\(ti"}
)


def text(words: str) -> str:
    """A paragraph, with `backticks` for what is typed, as lines of mdoc."""
    lines: list[str] = []
    # A sentence begins a line: mandoc asks for it, and sets the space between two by
    # it.
    for sentence in re.split(r"(?<=[a-z0-9`)\"][.?!]) +(?=[A-Z])", " ".join(words.split())):
        lines += textwrap.wrap(sentence, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(_line(line) for line in _whole(lines))


def _whole(lines: list[str]) -> list[str]:
    """Without a line that ends within backticks: each is marked up by itself."""
    whole: list[str] = []
    for line in lines:
        if whole and whole[-1].count("`") % 2:
            whole[-1] += " " + line
        else:
            whole.append(line)
    return whole


def _line(line: str) -> str:
    pieces = line.split("`")
    marked = "".join(
        rf"\fB{escape(piece)}\fP" if index % 2 else _prose(piece)
        for index, piece in enumerate(pieces)
    )
    return rf"\&{marked}" if marked.startswith((".", "'")) else marked


def _prose(words: str) -> str:
    # A hyphen is one between words, and a minus where it may be copied into a shell.
    return re.sub(r"(?<!\w)-+", lambda dashes: r"\-" * len(dashes[0]), words.replace("\\", r"\e"))


def escape(words: str) -> str:
    """Words to be copied as they stand."""
    return words.translate(_ESCAPES)


def argument(word: str) -> str:
    """A word for a macro's line, where a macro's name and punctuation would mean
    something.
    """
    escaped = escape(word)
    if not re.fullmatch(r"[A-Za-z0-9_@/.=\\-]+", escaped) or re.fullmatch(
        r"[A-Z][a-z]|[a-z]{2}", word
    ):
        return '"\\&' + escaped + '"'
    return escaped


def flag(word: str) -> str:
    """`Fl` puts the first dash itself."""
    return f"Fl {escape(word[1:])}"


def synopsis(command: Command) -> str:
    """The line of SYNOPSIS; settings are told of together."""
    parts = [".Nm", f".Cm {command.name}"]
    for each in command.arguments:
        parts.append(f".Op {_named(each)}" if each.optional else f".{_named(each)}")
    for option in command.options:
        if not option.is_setting:
            parts.append(
                f".{'Op ' if option.optional else ''}{invocation(option, short=True)}"
                + (" ..." if option.many else "")
            )
    if any(option.is_setting for option in command.options):
        parts.append(r".Op Fl \-SETTING Ar VALUE ...")
    return "\n".join(parts)


def _named(each: Option) -> str:
    """An argument, which may be of one kind or another."""
    return " | ".join(f"Ar {argument(word)}" for word in each.value.split(" | ")) + (
        " ..." if each.many else ""
    )


def invocation(option: Option, *, short: bool = False) -> str:
    """How an option is given: `Fl n , Fl \\-name Ar VALUE`, or the first of its names
    alone.
    """
    names = " , ".join(flag(name) for name in (option.flags[:1] if short else option.flags))
    shown = (
        "Ar " + " ".join(argument(word) for word in option.value.split()) if option.value else ""
    )
    return f"{names} {shown}".strip()


def filled(page: str) -> str:
    """The page with no line of text longer than mandoc wants it; macros' lines are
    left, and what is literal.
    """
    lines: list[str] = []
    literal = False
    for line in page.splitlines():
        literal = line.startswith(".Bd -literal") or (literal and line != ".Ed")
        keep = literal or line.startswith(".") or len(line) <= _WIDTH
        lines += (
            [line]
            if keep
            else textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False)
        )
    return "\n".join(lines) + "\n"


def entry(command: Command, prose: str = "", *, options: bool = True) -> str:
    """The command in a list of them: what it is for, `prose` (mdoc), and what can be
    said to it, with or without its options.
    """
    names = " ".join(
        f"Oo {_named(each)} Oc" if each.optional else _named(each) for each in command.arguments
    )
    lines = [f".It Cm {command.name} {names}".rstrip(), text(sentence(command.help))]
    if prose.strip():
        lines += [prose.strip()]
    told = [option for option in command.options if options and not option.is_setting]
    explained = [each for each in command.arguments if each.help]
    if told or explained:
        lines.append(".Bl -tag -width Ds")
        for each in explained:
            lines += [f".It {_named(each)}", text(_described(each))]
        for option in told:
            lines += [f".It {invocation(option)}", text(_described(option))]
        lines.append(".El")
    if command.more:
        lines += [".Pp", text(command.more)]
    return "\n".join(lines)


def _described(option: Option) -> str:
    values = (
        f" One of {', '.join(f'`{value}`' for value in option.values)}." if option.values else ""
    )
    return sentence(option.help) + values


def sentence(words: str) -> str:
    """With a capital and a full stop, but for what begins with code, or a value that is
    to be explained.
    """
    words = words.strip()
    if not words:
        return words
    as_it_is = re.match(r"`|\S*[:/_]", words)
    return (words if as_it_is else words[0].upper() + words[1:]) + (
        "" if words.endswith((".", "!", "?")) else "."
    )
