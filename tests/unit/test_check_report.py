"""The report of `spyglass check` fits the terminal and ends with one verdict, also if
another process has printed most of it.
"""

import io
import os
import sys

import pytest

from spyglass.ops.check import check_report, sandboxed_check


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A function that makes stdout and stderr terminals of 60 columns without colours,
    and returns both. (pytest sets them itself before each test.)
    """

    def enter():
        monkeypatch.setenv("COLUMNS", "60")
        monkeypatch.setenv("NO_COLOR", "1")
        streams = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        return streams

    return enter


def test_the_lines_of_a_report_hang(terminal):
    line = "sandbox: spyglass@blog.service, as spyglass-blog, with /etc/systemd/system/blog.conf"
    assert check_report.fitted(line, terminal()[0]).splitlines() == [
        "sandbox: spyglass@blog.service, as spyglass-blog, with",
        "  /etc/systemd/system/blog.conf",
    ]
    line = "warning: it has locked a file: set preload = false in /etc/spyglass/blog.toml"
    assert check_report.fitted(line, terminal()[0]).splitlines() == [
        "warning: it has locked a file: set preload = false in",
        "  /etc/spyglass/blog.toml",
    ]
    hint = "(the file system is read-only in the sandbox: write to $STATE_DIRECTORY)"
    assert check_report.fitted(hint, terminal()[0]).splitlines() == [
        "(the file system is read-only in the sandbox: write to",
        " $STATE_DIRECTORY)",
    ]


@pytest.mark.parametrize("line", ["x " * 100, "  File " + "x " * 100, "app " + "y" * 100])
def test_lines_of_the_app_stay_as_they_are(terminal, line):
    assert check_report.fitted(line, terminal()[0]) == line


def test_a_file_gets_whole_lines(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    line = "app: " + "x " * 100
    assert check_report.fitted(line, io.StringIO()) == line


VERDICTS = [
    ([], 0, "blog: can be served\n", ""),
    ([], 1, "blog: can be served, with a warning\n", ""),
    ([], 12, "blog: can be served, with 12 warnings\n", ""),
    (["no app"], 1, "", "blog: cannot be served: no app\n"),
    (["no app", "no app"], 0, "", "blog: cannot be served: no app\n"),
    (["no app", "no user"], 0, "", "blog: cannot be served:\n  no app\n  no user\n"),
]


@pytest.mark.parametrize(("faults", "warnings", "out", "err"), VERDICTS)
def test_each_fault_is_in_the_verdict_once(capsys, faults, warnings, out, err):
    check_report.print_verdict("blog", faults, warnings)
    assert capsys.readouterr() == (out, err)


@pytest.mark.parametrize(("faults", "warnings", "out", "err"), VERDICTS)
def test_a_verdict_that_another_process_has_printed_is_understood(faults, warnings, out, err):
    verdict = check_report.Verdict()
    assert all(verdict.takes(line) for line in (out + err).splitlines())
    assert verdict.faults == list(dict.fromkeys(faults))
    assert verdict.warnings == (0 if faults else warnings)


def test_a_long_verdict_hangs(terminal):
    _, err = terminal()
    check_report.print_verdict(
        "blog", ["ModuleNotFoundError: No module named 'blgo', did you mean 'blog'?"]
    )
    check_report.print_verdict(
        "blog", ["listen: 127.0.0.1:8001 is in use by the app wiki, whose name is long", "b"]
    )
    assert err.getvalue().splitlines() == [
        "blog: cannot be served: ModuleNotFoundError: No module named",
        "  'blgo', did you mean 'blog'?",
        "blog: cannot be served:",
        "  listen: 127.0.0.1:8001 is in use by the app wiki, whose",
        "    name is long",
        "  b",
    ]


def test_only_the_judgement_is_coloured(terminal, monkeypatch):
    out, err = terminal()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    check_report.print_verdict("blog", [])
    check_report.print_verdict("blog", [], 1)
    check_report.print_verdict("blog", ["why"])
    assert out.getvalue() == (
        "blog: \033[32mcan be served\033[m\nblog: \033[33mcan be served\033[m, with a warning\n"
    )
    assert err.getvalue() == "blog: \033[1;31mcannot be served\033[m: why\n"


# The relay


@pytest.fixture
def relay():
    """A relay to a file, and a function that has it read what it is given."""
    out, into = os.pipe()
    os.set_blocking(out, False)
    relay = sandboxed_check.Relay(io.StringIO())

    def say(text):
        os.write(into, text.encode())
        relay.read(out)
        return relay._stream.getvalue()

    yield relay, say
    os.close(out)
    os.close(into)


def test_the_verdict_is_kept_back(relay):
    it, say = relay
    assert say("app: shop\nblog: cannot be served:\n  one\n") == "app: shop\n"
    assert say("  two\n") == "app: shop\n"
    assert it.verdict.faults == ["one", "two"]


def test_a_verdict_that_something_follows_is_none(relay):
    it, say = relay
    text = "x: cannot be served: y\nmore\nblog: can be served\nz: cannot be served: y\n"
    assert say(text) == "x: cannot be served: y\nmore\nblog: can be served\n"
    assert it.verdict.faults == ["y"]
    it.give_up_verdict()
    assert it._stream.getvalue() == text


def test_the_beginning_of_a_line_is_shown_when_its_end_is_late(relay):
    it, say = relay
    assert say("Loading") == ""
    assert it.waits
    it.show_begun()
    assert it._stream.getvalue() == "Loading"
    assert say(" ... done\nblog: can be served\n") == "Loading ... done\n"
    assert not it.waits


def test_a_line_without_end_is_not_collected(relay):
    it, say = relay
    for _ in range(3):
        say("x" * 60_000)
    assert len(it._stream.getvalue()) >= 100_000


def test_letters_of_several_bytes_are_passed_on(relay):
    _, say = relay
    assert say("grün\n") == "grün\n"
