"""Log lines, as journald and as a person at a terminal want them."""

import errno
import os
import re
import subprocess
import sys

import pytest

from spyglass import log
from spyglass.log import LEVELS, Log


def written(capfd, level="debug", *, journal, say):
    say(Log("worker", LEVELS[level], journal=journal))
    return capfd.readouterr().err


def one_of_each(logger):
    logger.error("e")
    logger.warning("w")
    logger.info("i")
    logger.debug("d")


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        ("error", "<3>worker: e\n"),
        ("warning", "<3>worker: e\n<4>worker: w\n"),
        ("info", "<3>worker: e\n<4>worker: w\n<6>worker: i\n"),
        ("debug", "<3>worker: e\n<4>worker: w\n<6>worker: i\n<7>worker: d\n"),
    ],
)
def test_the_journal_gets_priorities(capfd, level, lines):
    assert written(capfd, level, journal=True, say=one_of_each) == lines


def test_each_line_has_its_priority(capfd):
    """journald files a line without one under "info", so the rest of a traceback would be lost to `journalctl -p err`."""
    assert written(capfd, journal=True, say=lambda logger: logger.error("a\n\nb")) == "<3>worker: a\n<3>worker: \n<3>worker: b\n"


def test_a_terminal_gets_time_pid_and_role(capfd):
    lines = written(capfd, journal=False, say=one_of_each).splitlines()
    start = rf"\d\d:\d\d:\d\d \[{os.getpid()} worker\] "
    for line, rest in zip(lines, ["error: e", "warning: w", "i", "d"], strict=True):
        assert re.fullmatch(start + rest, line)


@pytest.mark.parametrize("journal", [True, False])
def test_a_traceback_is_an_error_in_all_its_lines(capfd, journal):
    def say(logger):
        try:
            raise ValueError("boom")
        except ValueError as error:
            logger.exception("GET /: the app raised ValueError", error)

    lines = written(capfd, "error", journal=journal, say=say).splitlines()
    assert lines[0].endswith("GET /: the app raised ValueError")
    assert lines[-1].endswith("ValueError: boom")
    assert all("<3>worker: " in line if journal else " worker] error: " in line for line in lines)


@pytest.mark.parametrize("text", ["Füße", "€", "\udcff", "\x00", "\x1b[2J"])
def test_any_text_is_written_somehow(capfd, text):
    assert written(capfd, journal=True, say=lambda logger: logger.info(text)).startswith("<6>worker: ")


def test_a_child_has_the_level_and_a_role_of_its_own(capfd):
    parent = Log("zygote", LEVELS["error"], journal=True)
    parent.set_level(LEVELS["debug"])
    child = parent.child("worker")
    child.debug("d")
    assert capfd.readouterr().err == "<7>worker: d\n"
    assert parent.debugging
    assert child.debugging


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&1 1>/dev/null | true"])
def test_what_cannot_be_written_hurts_nobody(redirection):
    code = "from spyglass.log import Log; log = Log('x'); [log.info('y' * 9000) for _ in range(99)]"
    script = f"set -o pipefail; '{sys.executable}' -c \"{code}\" {redirection}"
    assert subprocess.run(["bash", "-c", script], timeout=30).returncode == 0


def test_stderr_is_the_journal_when_device_and_inode_say_so(capfd):
    stat = os.fstat(2)
    for text, is_journal in [
        (f"{stat.st_dev}:{stat.st_ino}", True),
        (f"{stat.st_dev}:{stat.st_ino + 1}", False),  # it was, before somebody redirected it
        (f"{stat.st_dev}", False),
        ("a:b", False),
        ("", False),
    ]:
        assert log.stderr_is_journal({"JOURNAL_STREAM": text}) is is_journal, text
    assert not log.stderr_is_journal({})


def test_without_a_descriptor_to_import_it_with_the_traceback_is_left_out(capfd, monkeypatch):
    """Whoever runs out of descriptors gets many errors, and the first of them must not be the end of its worker."""

    class NoMore:
        def find_spec(self, *_):
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.delitem(sys.modules, "traceback", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoMore()])
    Log("worker", LEVELS["error"], journal=True).exception("the app raised", ValueError("why"))
    assert capfd.readouterr().err == "<3>worker: the app raised\n<3>worker: ValueError: why\n"
