"""From entries of the journal to the last traceback, whole."""

import json

import pytest

from spyglass.admin.journal import harmless, last_traceback, parse

SIMPLE = """\
master: failing: KeyError: 'a'
master: Traceback (most recent call last):
master:   File "app.py", line 1, in <module>
master:     a["a"]
master: KeyError: 'a'"""
CHAINED = "\n".join(
    f"worker: {line}"
    for line in (
        "GET /: the app raised ValueError", "Traceback (most recent call last):", '  File "app.py", line 1, in f', "KeyError: 'a'", "",
        "During handling of the above exception, another exception occurred:", "", "Traceback (most recent call last):",
        '  File "app.py", line 3, in f', "ValueError: first line", "second line",
    )
)  # fmt: skip
APPS_OWN = """\
Traceback (most recent call last):
  File "thread.py", line 1, in run
OSError: enough"""
FATAL = """\
Fatal Python error: Aborted

Current thread 0x00007f (most recent call first):
  File "app.py", line 1 in hang
  File "app.py", line 2 in app

Extension modules: _cffi_backend (total: 1)"""


def told(*texts):
    """Each of these is written by a process of its own (1, 2...), a second after the one before it."""
    lines = []
    for number, text in enumerate(texts, 1):
        for offset, line in enumerate(text.split("\n")):
            when = number * 1_000_000 + offset * 100
            lines.append(json.dumps({"__REALTIME_TIMESTAMP": str(when), "_PID": str(number), "PRIORITY": "3", "MESSAGE": line}))
    return parse(lines)


@pytest.mark.parametrize(
    ("text", "title"),
    [(SIMPLE, "master: failing: KeyError: 'a'"), (CHAINED, "worker: GET /: the app raised ValueError"), (APPS_OWN, ""), (FATAL, "")],
)
@pytest.mark.parametrize("after", ["", "\nmaster: awake after 0.03 s: app:app", "\nsomething that the app prints"])
def test_all_of_it_and_nothing_else(text, title, after):
    [*entries] = told(text + after)
    if after:  # some time later
        entries[-1].when += 10
    found = last_traceback(entries)
    prefix = f"{title.partition(': ')[0]}: " if title else ""
    assert found.title == title
    assert found.lines == [line.removeprefix(prefix) for line in text.split("\n")[bool(title) :]]


def test_those_of_others_in_between_are_theirs():
    entries = told(SIMPLE, CHAINED)
    mixed = [entry for pair in zip(entries, entries[5:], strict=False) for entry in pair]
    found = last_traceback(sorted({id(entry): entry for entry in mixed}.values(), key=lambda entry: (entry.when % 1, entry.pid)))
    assert found.pid == 2
    assert found.lines[-1] == "second line"
    assert len(found.lines) == 10


def test_the_last_one_is_what_counts():
    assert last_traceback(told(CHAINED, SIMPLE)).lines[-1] == "KeyError: 'a'"
    assert last_traceback(told("nothing", "of the kind")) is None
    assert last_traceback([]) is None


def test_what_is_not_text_comes_as_numbers():
    [entry] = parse([json.dumps({"MESSAGE": [104, 105, 255], "_PID": "x", "PRIORITY": None})])
    assert (entry.text, entry.pid, entry.priority) == ("hi�", 0, 6)
    assert parse(["", "{", json.dumps({"MESSAGE": None})])[0].text == ""


def test_nothing_does_anything_to_a_terminal():
    assert harmless("a\x1b[2J\x07\tb") == "a�[2J�\tb"
