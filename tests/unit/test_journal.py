"""From journal entries to the last traceback, complete."""

import json
import tracemalloc

import pytest

from spyglass.ops.output.untrusted_text import sanitize
from spyglass.ops.systemd.journal import JournalError, entries, last_traceback, parse

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
    """Each of these is written by a process of its own (1, 2...), one second after the
    other.
    """
    lines = []
    for number, text in enumerate(texts, 1):
        for offset, line in enumerate(text.split("\n")):
            when = number * 1_000_000 + offset * 100
            lines.append(
                json.dumps(
                    {
                        "__REALTIME_TIMESTAMP": str(when),
                        "_PID": str(number),
                        "PRIORITY": "3",
                        "MESSAGE": line,
                    }
                )
            )
    return parse(lines)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (SIMPLE, "master: failing: KeyError: 'a'"),
        (CHAINED, "worker: GET /: the app raised ValueError"),
        (APPS_OWN, ""),
        (FATAL, ""),
    ],
)
@pytest.mark.parametrize(
    "after", ["", "\nmaster: awake after 0.03 s: app:app", "\nsomething that the app prints"]
)
def test_last_traceback_is_complete(text, title, after):
    [*entries] = told(text + after)
    if after:  # some time later
        entries[-1].when += 10
    found = last_traceback(entries)
    prefix = f"{title.partition(': ')[0]}: " if title else ""
    assert found.title == title
    assert found.lines == [line.removeprefix(prefix) for line in text.split("\n")[bool(title) :]]


def test_tracebacks_of_other_processes_are_kept_apart():
    entries = told(SIMPLE, CHAINED)
    mixed = [entry for pair in zip(entries, entries[5:], strict=False) for entry in pair]
    found = last_traceback(
        sorted(
            {id(entry): entry for entry in mixed}.values(),
            key=lambda entry: (entry.when % 1, entry.pid),
        )
    )
    assert found.pid == 2
    assert found.lines[-1] == "second line"
    assert len(found.lines) == 10


def test_latest_traceback_is_returned():
    assert last_traceback(told(CHAINED, SIMPLE)).lines[-1] == "KeyError: 'a'"
    assert last_traceback(told("nothing", "of the kind")) is None
    assert last_traceback([]) is None


def test_tracebacks_written_at_once_are_kept_apart():
    [*entries] = told("\n".join([CHAINED, CHAINED, SIMPLE.replace("master: ", "worker: ")]))
    found = last_traceback(entries)
    assert found.title == "worker: failing: KeyError: 'a'"
    assert len(found.lines) == len(SIMPLE.split("\n")) - 1


def test_binary_message_is_a_list_of_numbers():
    [entry] = parse([json.dumps({"MESSAGE": [104, 105, 255], "_PID": "x", "PRIORITY": None})])
    assert (entry.text, entry.pid, entry.priority) == ("hi�", 0, 6)
    assert (
        parse(["", "{", json.dumps({"MESSAGE": None})])[0].text
        == "(message longer than 4 KiB: see journalctl)"
    )
    assert [
        entry.text for entry in parse([json.dumps({"MESSAGE": ["a", [98, 255], [{}], None, 7]})])
    ]


@pytest.mark.parametrize("field", ["MESSAGE", "PRIORITY", "_PID", "__REALTIME_TIMESTAMP"])
@pytest.mark.parametrize(
    "value",
    [
        "²",
        "٣",
        "1e9",
        "-1",
        "9" * 5000,
        "",
        None,
        [],
        [300],
        [-1, "x"],
        [[[]]],
        {},
        {"a": []},
        True,
        1.5,
        "\u2028\x85\ud800",
    ],
)
def test_any_entry_is_parsed(field, value):
    entries = parse([json.dumps({"MESSAGE": "m", "PRIORITY": "3", field: value})])
    assert len(entries) <= 2
    assert all(letter.isprintable() for entry in entries for letter in entry.text)


def test_malformed_lines_are_skipped():
    assert (
        parse(["[]", "7", '"x"', "null", "[" * 100_000, b"\xff\xfe", b'{"MESSAGE": "\xff"}']) == []
    )


def test_entry_is_one_line_of_json():
    [entry] = parse([json.dumps({"MESSAGE": "a\u2028b\x85c\x0bd\re"}, ensure_ascii=False)])
    assert entry.text == "a�b�c�d�e"


@pytest.fixture
def journalctl(tmp_path, monkeypatch):
    """A journalctl that runs this shell script and stores its arguments in the file
    `told`.
    """

    def make(script):
        path = tmp_path / "bin" / "journalctl"
        path.parent.mkdir()
        path.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/told\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
        return tmp_path / "told"

    return make


def test_memory_is_bounded(journalctl):
    """30 MB in one entry, then 500 of many lines each, 30 MB as lists: the reader's
    peak stays near what the last ones take.
    """
    told = journalctl(
        """{ printf '{"MESSAGE":"'; head -c 30000000 /dev/zero | tr '\\0' x; echo '"}'; }
        yes '{"MESSAGE":"'$(printf 'a\\\\n%.0s' $(seq 1000))'"}' | head -n 500; echo '{"MESSAGE":"last"}'"""
    )
    tracemalloc.start()
    try:
        found = entries("spyglass@a.service", 100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(found), found[-1].text) == (100, "last")
    assert peak < 8 << 20
    assert "--lines 100" in told.read_text()
    assert "--output-fields=" in told.read_text()
    assert "--all" not in told.read_text()


def test_unreadable_journal(journalctl):
    journalctl("echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1")
    with pytest.raises(JournalError, match="use sudo"):
        entries("spyglass@a.service", 100)


def test_control_characters_are_replaced():
    assert sanitize("a\x1b[2J\x07\tb") == "a�[2J�\tb"
