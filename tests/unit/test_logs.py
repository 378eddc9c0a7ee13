"""`spyglass logs`: from the output of a journalctl, here a script, to lines for people."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from spyglass.errors import UsageError
from spyglass.log import ACCESS_LOG
from spyglass.ops.commands import logs
from spyglass.ops.systemd import journal_reader
from spyglass.ops.systemd.journal import JournalError
from spyglass.ops.systemd.journal_reader import Message, follow, parse, tail, whole


def entry(number, text="text", source="spyglass", **more):
    return json.dumps(
        {
            "__CURSOR": f"s={number}",
            "__REALTIME_TIMESTAMP": str(number * 1_000_000),
            "_PID": "7",
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": source,
            "MESSAGE": text,
        }
        | more
    )


@pytest.fixture
def journalctl(tmp_path, monkeypatch):
    """journalctl(script): `journalctl` runs this Python; its arguments are in `asked`."""

    def make(script):
        program = tmp_path / "journalctl"
        body = textwrap.dedent(script)
        program.write_text(
            f"#!{sys.executable} -S\nimport sys, time\n"
            f"open({str(tmp_path / 'asked')!r}, 'a').write(repr(sys.argv[1:]) + '\\n')\n{body}"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return tmp_path / "asked"

    return make


def texts(messages):
    return [each.text for each in messages]


def test_last_messages_come_oldest_first_and_following_begins_after_the_newest(journalctl):
    asked = journalctl(f"print('''{entry(3, 'c')}\n{entry(2, 'b')}\n{entry(1, 'a')}''')")
    found, after = tail(["--unit", "x"], 2, lambda each: True)
    assert (texts(found), after) == (["b", "c"], ["--after-cursor=s=3"])
    assert "'--reverse', '--unit', 'x'" in asked.read_text()


def test_messages_that_are_not_wanted_do_not_count(journalctl):
    journalctl(f"print('''{entry(3, 'c', ACCESS_LOG)}\n{entry(2, 'b')}\n{entry(1, 'a')}''')")
    found, after = tail([], 2, lambda each: each.source != ACCESS_LOG)
    assert (texts(found), after) == (["a", "b"], ["--after-cursor=s=3"])


def test_enough_messages_end_an_endless_journal(journalctl):
    journalctl(f"while True: print('''{entry(1)}''', flush=True)")
    assert len(tail([], 5, lambda each: True)[0]) == 5


def test_following_an_empty_journal_begins_now(journalctl):
    journalctl("")
    found, [after] = tail([], 5, lambda each: True)
    assert found == []
    assert after.startswith("--since=@")


def test_too_long_a_message_is_replaced_and_the_next_one_is_whole(journalctl):
    long = journal_reader._LONGEST + 200_000
    journalctl(f"print('x' * {long})\nprint('''{entry(1, 'next')}''')")
    found = []
    after = whole([], found.extend)
    assert texts(found) == [journal_reader._TOO_LONG, "next"]
    assert after == ["--after-cursor=s=1"]
    assert next(iter(logs.lines(found, False))) == journal_reader._TOO_LONG


@pytest.mark.parametrize("line", [b"", b"nonsense", b"[1]", b"[" * 100_000, b"{"])
def test_malformed_lines_are_skipped(line):
    assert parse(line) is None


def test_fields_of_any_type_are_read():
    odd = parse(b'{"MESSAGE": [27, 91, 255], "_PID": "\xc2\xb2", "SYSLOG_IDENTIFIER": ["a\\n", 1]}')
    assert odd is not None
    assert odd.pid == 0
    assert "\n" not in odd.source
    assert odd.text.startswith("\x1b[")  # command_table.run() filters what is printed


@pytest.mark.parametrize(
    ("said", "status", "error", "words"),
    [
        ("Failed to parse timestamp: soon", 1, UsageError, "--since 'soon' is not a time"),
        ("Hint: You are currently not seeing messages from other users", 0, JournalError, "systemd-journal"),
        ("No journal files were opened due to insufficient permissions.", 1, JournalError, "sudo"),
        ("Failed to open /x: \x1b[31m", 1, JournalError, "Failed to open"),
    ],
)  # fmt: skip
def test_errors_are_in_our_words(journalctl, said, status, error, words):
    journalctl(f"sys.stderr.write({said!r}); sys.exit({status})")
    with pytest.raises(error, match=words) as caught:
        tail([], 5, lambda each: True)
    assert str(caught.value).isprintable()


def test_following_ends_when_the_reader_of_the_output_has_gone(journalctl):
    """Even if no new line ever comes."""
    journalctl(f"print('''{entry(1, 'first')}''', flush=True)\ntime.sleep(600)")
    script = (
        "from spyglass.ops.systemd.journal_reader import follow\n"
        "for found in follow([]):\n    print(*[each.text for each in found], flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    assert process.wait(30) == 0


def test_following_says_that_journalctl_has_ended(journalctl):
    journalctl("sys.exit(1)")
    with pytest.raises(JournalError, match="journalctl"):
        list(follow([]))


def test_each_line_has_its_time_and_process_and_foreign_sources_their_name():
    found = [
        Message(1.0, 7, 6, "spyglass", "worker: one\ntwo"),
        Message(1.0, 1, 6, "systemd", "Started it."),
        Message(1.0, 7, 3, "spyglass", "no"),
    ]
    plain = [line.partition(" [")[2] for line in logs.lines(found, False)]
    assert plain == ["7] worker: one", "7] two", "1] systemd: Started it.", "7] no"]
    assert list(logs.lines(found, True))[3].endswith("[7] \033[1;31mno\033[m")


@pytest.mark.parametrize(
    ("lines", "since", "count"),
    [(None, None, 50), (None, "1h", None), ("all", None, None), ("7", "1h", 7)],
)
def test_how_many_lines(lines, since, count):
    assert logs._count(lines, since=since) == count


@pytest.mark.parametrize("lines", ["-1", "", "ten", "²"])
def test_a_number_of_lines_that_is_none(lines):
    with pytest.raises(UsageError, match="expected a number, or all"):
        logs._count(lines, since=None)


@pytest.mark.parametrize(
    ("since", "option"), [("2h", "-2h"), ("30 min", "-30 min"), ("today", "today"), ("08:30", "08:30")]
)  # fmt: skip
def test_a_span_means_ago(since, option):
    assert logs._since(since) == [f"--since={option}"]


def test_no_temporary_file_is_needed(journalctl, monkeypatch):
    # On a full disk the journal is what tells why.
    def full(*_args, **_more):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    journalctl(f"print('{entry(1)}')")
    assert texts(tail([], 5, lambda each: True)[0]) == ["text"]


def test_a_whole_journal_is_shown_as_it_is_read(journalctl, tmp_path):
    """A busy app's is larger than memory."""
    asked = journalctl(
        f"""
        import os
        print({entry(1, "a")!r}, flush=True)
        while not os.path.exists({str(tmp_path / "shown")!r}):
            time.sleep(0.01)
        print({entry(2, "b")!r})
        """
    )
    found = []

    def show(messages):
        found.extend(messages)
        (tmp_path / "shown").touch()

    assert whole(["--since=x"], show) == ["--after-cursor=s=2"]
    assert texts(found) == ["a", "b"]
    assert "--reverse" not in asked.read_text()
