"""Plain lines of a settings file mean what tomllib makes of them."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spyglass.config import plain_toml

DOCS = Path(__file__).resolve().parents[2] / "docs"
PLAIN = """\
# The blog
app = "blog.wsgi"   # Django's
directory='/srv/my blog'
  venv = "venv"
workers = 2
threads=0# none
debug = false
preload = true
trusted_proxies = [ "10.0.0.1", 'unix',]
idle_ignore = []
listen = [8001, "127.0.0.1:8002"] # both
quote = "it's # 1"
other = 'say "no" \\ n'
key-with_dash0 = "größer"
007 = "a key"
"""
NOT_PLAIN = [
    '[environment]\nA = "b"',
    'a.b = "c"',
    '"a" = "b"',
    'a = "\\u0041"',
    'a = """b"""',
    "a = '''b'''",
    "a = ''''b'''",
    'a = """\nb"""',
    "a = 1_000",
    "a = +1",
    "a = -1",
    "a = 0x10",
    "a = 1.5",
    "a = 1e3",
    "a = inf",
    "a = 2026-11-30",
    "a = { b = 1 }",
    "a = [[1], [2]]",
    "a = [\n1,\n]",
    'a = "b"\r\n',
    "a\t=\t1",
    # And what is not TOML
    "a",
    "a =",
    "= 1",
    "a b = 1",
    "ä = 1",
    "a = b",
    "a = 01",
    "a = 00",
    "a = 1 2",
    'a = "b" c',
    'a = "b',
    'a = "b\x00"',
    "a = 1 # \x01",
    "a = \N{ARABIC-INDIC DIGIT ONE}",
    "a = [,]",
    "a = [1,,2]",
    "a = [1 2]",
    "a = [1",
    "a = [1]]",
    "a = 1\na = 2",
    "a == 1",
    "a = True",
    "\ufeffa = 1",
    "a = 1\u2028b = 2",
    f"a = {'9' * 19}",
    f"a = {'9' * 5000}",
]


def test_plain_lines_are_read():
    found = plain_toml.read(PLAIN)
    assert found == tomllib.loads(PLAIN)
    assert list(found) == list(tomllib.loads(PLAIN))
    assert plain_toml.read("") == {}


@pytest.mark.parametrize("text", NOT_PLAIN)
def test_all_else_is_left_to_tomllib(text):
    assert plain_toml.read(text) is None


def agrees(text):
    found = plain_toml.read(text)
    if found is None:
        return
    expected = tomllib.loads(text)
    assert repr(found) == repr(expected)  # True is not 1


LETTERS = "ab0129_-=[]#,\"'\\ \n\t\r.+tf\x7f\u2028ä"
PIECES = st.sampled_from(
    [
        *("a", "b = ", "a = ", " = ", "true", "false", "0", "12", '"x"', "'y'", '"""', "'''"),
        *("[", "]", ",", "#", " ", "\n", "\\", '"', "'", "=", ".", "-", "_", "\t", "é", "\x1f"),
    ]
)


@settings(deadline=None, max_examples=500)
@given(st.one_of(st.text(LETTERS), st.lists(PIECES).map("".join), st.text()))
def test_whatever_is_read_tomllib_reads_in_the_same_way(text):
    agrees(text)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_file_is_read_as_tomllib_reads_it(data):
    at = data.draw(st.integers(0, len(PLAIN)))
    agrees(PLAIN[:at] + data.draw(PIECES) + PLAIN[at + data.draw(st.integers(0, 3)) :])


def test_most_examples_of_the_documentation_are_plain():
    blocks = [
        block
        for page in DOCS.rglob("*.md")
        for block in re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.M | re.S)
    ]
    for block in blocks:
        agrees(block)
    assert sum(plain_toml.read(block) is not None for block in blocks) > len(blocks) / 2
