"""What an app's text becomes before it is shown or passed on: lines that nothing can be
hidden in.
"""

import pytest

from spyglass.printable import LONGEST, lines, one_line

CASES = {
    "plain": ("RuntimeError: no", "RuntimeError: no"),
    "other scripts": ("Größe 三 שלום 🦉", "Größe 三 שלום 🦉"),
    "ends of lines": ("a\nb\rc\vd\fe", "a b c d e"),
    "ends that only str.splitlines() knows": (
        "a\x1cb\x1dc\x1ed\x85e\u2028f\u2029g",
        "a b c d e f g",
    ),
    "blanks": ("a\tb\xa0c\u3000d", "a b c d"),
    "terminal controls": ("\x1b[2Jgone\x07\x9b31m\x7f", r"\x1b[2Jgone\x07\x9b31m\x7f"),
    "bidi controls": ("a\u202eb\u2066c\u200fd", r"a\u202eb\u2066c\u200fd"),
    "invisible": ("a\u200bb\ufeffc\u00add", r"a\u200bb\ufeffc\xadd"),
    "lone surrogates": ("\ud800 \udc80", r"\ud800 \udc80"),
    "NUL": ("a\0b", r"a\x00b"),
    "noncharacter": ("\U0010ffff", r"\U0010ffff"),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_what_cannot_be_printed_is_shown_as_what_it_is(text, expected):
    assert one_line(text) == expected


@pytest.mark.parametrize("letter", ["x", "\ud800", "\n", "🦉", "\U0010ffff"])
@pytest.mark.parametrize("count", [LONGEST - 1, LONGEST, LONGEST + 1, 10_000_000])
def test_a_line_is_bounded_printable_and_encodable(letter, count):
    line = one_line(letter * count)
    assert len(line) <= LONGEST
    assert line.isprintable()
    assert line.encode()
    assert line.endswith("...") == (len(one_line(letter)) * count > LONGEST)


def test_several_lines_are_bounded_each_in_number_and_together():
    assert lines("a\n\n  b\tc\rd") == "a\n\n  b c d"
    assert lines("\n".join(map(str, range(100))), most=5) == "0\n1\n...\n98\n99"
    assert lines("\n".join(["abcd", "efgh", "ijkl"]), size=6) == "abc\n...\njkl"
    assert len(lines("\n" * 10_000_000, most=100).split("\n")) == 100
    assert len(lines(("\ud800" * 500 + "\n") * 10_000)) < 17_000
