"""The prose is plain English: a process, a connection or a file is "it" or its noun.

Counted are pronouns for persons in comments, docstrings, messages and documentation.
A person may be "who", but persons are rare here. The field's servers have less than 1
in 1,000 words.
"""

import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PRONOUN = re.compile(
    r"\b(?:who|whom|whose|who(?:m)?ever|nobody|some(?:body|one)|any(?:body|one)|every(?:body|one))\b",
    re.IGNORECASE,
)
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
# In 1,000 words, at most
LIMITS = {"spyglass": 1.0, "docs": 1.0}
STRINGS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def of_python(path):
    """Comments, docstrings and messages; not names."""
    with tokenize.open(path) as stream:
        return "\n".join(
            token.string
            for token in tokenize.generate_tokens(stream.readline)
            if token.type in STRINGS
        )


def of_markdown(path):
    """All but code: `nobody` is a user's name."""
    return re.sub(r"`[^`\n]*`", "", path.read_text("utf-8"))


def pages():
    names = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md")
    manual = ROOT.glob("packaging/manual/*.[158]")
    return [*(ROOT / name for name in names), *ROOT.glob("docs/**/*.md"), *manual]


PROSE = {
    "spyglass": lambda: {path: of_python(path) for path in ROOT.glob("spyglass/**/*.py")},
    "docs": lambda: {path: of_markdown(path) for path in pages()},
}


@pytest.mark.parametrize("area", LIMITS)
def test_pronouns_for_persons_are_rare(area):
    texts = PROSE[area]()
    found = {path: len(PRONOUN.findall(text)) for path, text in texts.items()}
    words = sum(len(WORD.findall(text)) for text in texts.values())
    assert words > 10_000
    rate = 1000 * sum(found.values()) / words
    worst = sorted(found, key=found.__getitem__, reverse=True)[:10]
    assert rate <= LIMITS[area], f"{rate:.2f} in 1,000 words; most are in " + ", ".join(
        f"{path.relative_to(ROOT)} ({found[path]})" for path in worst
    )


def test_names_of_tests_have_none():
    """Except `whose`, for which English has no other word."""
    names = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    assert len(names) > 1000
    told = [name for name in names if PRONOUN.search(name.replace("_", " ").replace("whose", ""))]
    assert told == []


def test_architecture_names_files_that_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_0-9/@.]+(?:\.py|\.toml|\.service|/))`", text))
    assert len(named) > 40
    assert [
        name
        for name in sorted(named)
        if not (ROOT / "spyglass" / name).exists() and not (ROOT / name).exists()
    ] == []


def test_architecture_names_each_file_of_the_commands():
    """Too many to guess from; what is in these two, its own name says."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    spoken = ("commands", "doctor_checks")
    files = {
        str(path.relative_to(ROOT / "spyglass"))
        for path in ROOT.glob("spyglass/ops/**/*.py")
        if path.name != "__init__.py" and path.parent.name not in spoken
    }
    assert len(files) > 40
    assert [name for name in sorted(files) if f"`{name}`" not in text] == []
