"""Text for mdoc(7), the language of man pages that says what a word is, not how it
looks.
"""

from __future__ import annotations

import re
import textwrap

from spyglass.ops.command_declaration import Command, Operand, Option

_WIDTH = 80
# Characters that groff would print as typographic ones, which no shell understands.
_ESCAPES = str.maketrans(
    {"\\": r"\e", "-": r"\-", '"': r"\(dq", "'": r"\(aq", "^": r"\(ha", "~": r"\(ti"}
)


def text(words: str) -> str:
    """Return a paragraph, with `backticks` for what is typed, as lines of mdoc."""
    lines: list[str] = []
    # Each sentence begins a line: mandoc requires it, and computes the space between
    # two sentences from it.
    for sentence in re.split(r"(?<=[a-z0-9`)\"][.?!]) +(?=[A-Z])", " ".join(words.split())):
        lines += textwrap.wrap(sentence, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(_line(line) for line in _whole(lines))


def _whole(lines: list[str]) -> list[str]:
    """Join lines where one ends within backticks: each line is marked up by itself."""
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
    # A hyphen between words stays one; elsewhere it may be copied into a shell, so it
    # becomes a minus.
    return re.sub(r"(?<!\w)-+", lambda dashes: r"\-" * len(dashes[0]), words.replace("\\", r"\e"))


def escape(words: str) -> str:
    """Return words that are printed exactly as they are."""
    return words.translate(_ESCAPES)


def argument(word: str) -> str:
    """Return a word for the line of a macro, where names of macros and punctuation
    must be escaped.
    """
    escaped = escape(word)
    if not re.fullmatch(r"[A-Za-z0-9_@/.=\\-]+", escaped) or re.fullmatch(
        r"[A-Z][a-z]|[a-z]{2}", word
    ):
        return '"\\&' + escaped + '"'
    return escaped


def flag(word: str) -> str:
    """Return an option as a macro; `Fl` prints the first dash itself."""
    return f"Fl {escape(word[1:])}"


def synopsis(command: Command) -> str:
    """Return the lines of SYNOPSIS for a command; one word stands for all settings."""
    parts = [".Nm", f".Cm {command.name}"]
    for each in command.operands:
        if not each.rest:
            parts.append(f".Op {_named(each)}" if each.optional else f".{_named(each)}")
    for option in command.options:
        shown = invocation(option, short=True) + (" ..." if option.many else "")
        if option.excludes:
            parts[-1] += f" | {shown}"
        else:
            parts.append(f".Op {shown}")
    if command.settings:
        parts.append(r".Op Fl \-SETTING Ar VALUE ...")
    parts += [rf".Op Fl \- {_named(each)}" for each in command.operands if each.rest]
    return "\n".join(parts)


def _named(each: Operand) -> str:
    """Return an operand as a macro; its name may be two, as in NAME | APP."""
    return " | ".join(f"Ar {argument(word)}" for word in each.value.split(" | ")) + (
        " ..." if each.many else ""
    )


def invocation(option: Option, *, short: bool = False) -> str:
    """Return an option with its value, `Fl n , Fl \\-name Ar VALUE`; if `short`, only
    with the first of its names.
    """
    names = " , ".join(flag(name) for name in (option.flags[:1] if short else option.flags))
    shown = (
        "Ar " + " ".join(argument(word) for word in option.value.split()) if option.value else ""
    )
    return f"{names} {shown}".strip()


def filled(page: str) -> str:
    """Return the page with its lines of text wrapped as mandoc requires. Lines of
    macros and literal text are kept.
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
    """Return an entry of the list of commands: help, `prose` (mdoc), operands, and,
    if `options`, options.
    """
    names = " ".join(
        f"Oo {_named(each)} Oc" if each.optional else _named(each) for each in command.operands
    )
    lines = [f".It Cm {command.name} {names}".rstrip(), text(sentence(command.help))]
    if prose.strip():
        lines += [prose.strip()]
    told = command.options if options else ()
    explained = [each for each in command.operands if each.help]
    if told or explained:
        lines.append(".Bl -tag -width Ds")
        for each in explained:
            lines += [f".It {_named(each)}", text(_described(each))]
        for option in told:
            lines += [f".It {invocation(option)}", text(_described(option))]
        lines.append(".El")
    if command.more:
        lines += [".Pp", text(sentence(command.more))]
    return "\n".join(lines)


def _described(each: Option | Operand) -> str:
    choices = ", ".join(f"`{choice}`" for choice in each.choices)
    return sentence(each.help) + (f" One of {choices}." if choices else "")


def sentence(words: str) -> str:
    """Return words with a capital and a full stop; no capital if they begin with code
    or with a value.
    """
    words = words.strip()
    if not words:
        return words
    as_it_is = re.match(r"`|\S*[:/_]", words)
    return (words if as_it_is else words[0].upper() + words[1:]) + (
        "" if words.endswith((".", "!", "?")) else "."
    )
