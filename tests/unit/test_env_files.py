"""Files of variables as systemd reads them. Each expectation was verified on systemd
252 and 257 (tests/system/test_environment.py).
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.ops.app import env_files

TAKEN = [
    ("A=1\nC=3\n", {"A": "1", "C": "3"}),
    ("A=1\r\nC=3\r\n", {"A": "1", "C": "3"}),
    ("A=1 \\\nB=2\nC=3\n", {"A": "1 B=2", "C": "3"}),
    ("A=1\\\r\nB=2\nC=3\n", {"A": "1", "B": "2", "C": "3"}),
    ('A="x\r\ny"\nC=3\n', {"A": "x\r\ny", "C": "3"}),
    ("A=a\tb\x01\nC=3\n", {"A": "a\tb\x01", "C": "3"}),
    ("A='x'y\"z\" w\nB = 2 \nC=3\n", {"A": 'xy"z" w', "B": "2", "C": "3"}),
    ("A=x\rB=1\nC=3", {"A": "x", "B": "1", "C": "3"}),
    ("A=\\\n\nC=3", {"A": "", "C": "3"}),
    ('A=x\\qy\nB="a\\qb\\"\\$"\nC=\\', {"A": "xqy", "B": 'a\\qb"$', "C": ""}),
    ("A\t=2\nC=3", {"A": "2", "C": "3"}),
    (
        "# a comment\n ; and another\n\n  A=x#y\nB='a # b'\nC=https://example.org/#top\n",
        {"A": "x#y", "B": "a # b", "C": "https://example.org/#top"},
    ),
    ("A='x '\nB=\"a \\\n b\"\nC= $HOME ", {"A": "x ", "B": "a  b", "C": "$HOME"}),
    ("", {}),
]


@pytest.mark.parametrize(("text", "found"), TAKEN)
def test_accepted_variables(text, found):
    parsed = env_files.parse(text)
    assert (dict(parsed.found), parsed.faults, parsed.fatal) == (found, [], False)


IGNORED = [
    (
        "A=1\nexport B=2\nC=3\n",
        "AC",
        [(2, "'export' before the name is shell syntax (write NAME=value): systemd ignores it")],
    ),
    (
        "\ufeffA=1\nC=3\n",
        "C",
        [(1, "a byte order mark before the name (save the file without one): systemd ignores it")],
    ),
    ("\ufeff# A file\nC=3\n", "C", [(1, "not an assignment (NAME=value): systemd ignores it")]),
    ("\ufeff\nC=3\n", "C", [(1, "a byte order mark")]),
    ("A\n\n1A=1\nA-=1\nA.=2\n=5\nA x=1\nC=3\n", "C", [(line, None) for line in (1, 3, 4, 5, 6, 7)]),
    ("A: 1\nC=3\n", "C", [(1, "not an assignment (NAME=value): systemd ignores it")]),
    (
        "set A=1\nC='a\nb\nc'\nsetenv B 1\n",
        "C",
        [
            (1, "'set' before the name is shell syntax (write NAME=value): systemd ignores it"),
            (5, None),
        ],
    ),
    (
        'A="1\nB=2\nC=3\n',
        "A",
        [
            (
                1,
                "A has an unclosed quote: all following lines are part of its value",
            )
        ],
    ),
    (
        "# c \\\nC=3\n",
        "C",
        [(1, "a comment that ends in \\: systemd 252 ignores the next line, too")],
    ),
    (
        'A="x" # c\nC=3\n',
        "AC",
        [
            (
                1,
                "the text after # is part of the value of A: put comments on their own lines",
            )
        ],
    ),
    ('A=x # c\nB="x"# c\nC=3\n', "ABC", [(1, None), (2, None)]),
    ("-----BEGIN KEY-----\nc2Vj+cmV0==\n", "", [(1, None), (2, None)]),
]


@pytest.mark.parametrize(("text", "names", "faults"), IGNORED)
def test_ignored_lines_are_reported(text, names, faults):
    parsed = env_files.parse(text)
    assert "".join(name for name, _ in parsed.found) == names
    assert [line for line, _ in parsed.faults] == [line for line, _ in faults]
    assert [
        what
        for (_, what), (_, expected) in zip(parsed.faults, faults, strict=True)
        if expected not in (None, what)
    ] == []
    assert not parsed.fatal
    assert not any("c2Vj" in what for _, what in parsed.faults), (
        "what may be a piece of a secret is not shown"
    )


@pytest.mark.parametrize(
    ("data", "line"),
    [(b"A=1\nB=\xff\n", 2), (b"\xff=1\n", 1), (b"A=1\n\nB=x\0y\n", 3), (b"# \0\n", 1)],
)
def test_rejected_files(data, line):
    parsed = env_files.parse(data.decode(errors="surrogateescape"))
    assert (parsed.fatal, [number for number, _ in parsed.faults]) == (True, [line])


def test_comment_may_have_any_encoding():
    assert env_files.parse(
        b"# \xe9\nA=1\n".decode(errors="surrogateescape")
    ) == env_files.Variables([("A", "1")])


@given(st.text(alphabet="AB=\n\r\\'\"# \t;\0\ufeff1", max_size=40))
def test_any_text_is_parsed(text):
    parsed = env_files.parse(text)
    assert all(1 <= line <= text.count("\n") + 1 and what for line, what in parsed.faults)
