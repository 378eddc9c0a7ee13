"""Log lines, as journald and as a person at a terminal want them."""

import errno
import os
import re
import socket
import subprocess
import sys

import pytest

from spyglass import log
from spyglass.log import LEVELS, Log
from spyglass.worker.main import Stray


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
    """journald files a line without one under "info", so the rest of a traceback would
    be lost to `journalctl -p err`.
    """
    assert (
        written(capfd, journal=True, say=lambda logger: logger.error("a\n\nb"))
        == "<3>worker: a\n<3>worker: \n<3>worker: b\n"
    )


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
    assert written(capfd, journal=True, say=lambda logger: logger.info(text)).startswith(
        "<6>worker: "
    )


def test_a_child_has_the_level_and_a_role_of_its_own(capfd):
    parent = Log("zygote", LEVELS["error"], journal=True)
    parent.set_level(LEVELS["debug"])
    child = parent.child("worker")
    child.debug("d")
    assert capfd.readouterr().err == "<7>worker: d\n"
    assert parent.debugging
    assert child.debugging


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&1 1>/dev/null | true"])
def test_a_line_that_cannot_be_written_is_dropped(redirection):
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
    """Whoever runs out of descriptors gets many errors, and the first of them must not
    be the end of its worker.
    """

    class NoMore:
        def find_spec(self, *_):
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.delitem(sys.modules, "traceback", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoMore()])
    Log("worker", LEVELS["error"], journal=True).exception("the app raised", ValueError("why"))
    assert capfd.readouterr().err == "<3>worker: the app raised\n<3>worker: ValueError: why\n"


# A stream of our own


@pytest.fixture
def journald(tmp_path, monkeypatch):
    """Listens where journald does; stderr is the journal's as far as the environment
    says.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "stdout"))
        listener.listen()
        monkeypatch.setattr(log, "_JOURNAL", str(tmp_path / "stdout"))
        yield listener


def journal_environ():
    stat = os.fstat(2)
    return {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}


def test_what_we_say_has_a_stream_of_its_own(journald, capfd):
    """So that priorities are ours alone: the app has stderr, and prints there what its
    clients have sent.
    """
    ours = log.open_log("master", environ=journal_environ())
    ours.child("worker").error("broken")
    os.close(ours.fd)
    stream, _ = journald.accept()
    with stream, stream.makefile() as lines:
        assert lines.read() == "spyglass\n\n6\n1\n0\n0\n0\n<3>worker: broken\n"
    assert capfd.readouterr().err == ""


def test_the_stream_is_not_what_an_app_starts_gets(journald):
    ours = log.open_log("master", environ=journal_environ())
    assert not os.get_inheritable(ours.fd)
    os.close(ours.fd)


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("of", ["a child", "a stray"])
def test_an_app_that_closes_it(journald, tmp_path, capfd, of, reused):
    """As programs do that become daemons. The next file gets its number, a database
    perhaps, and no line of ours must be written there.
    """
    ours = log.open_log("master", environ=journal_environ())
    os.close(ours.fd)
    data = os.open(tmp_path / "data", os.O_RDWR | os.O_CREAT) if reused else -1
    assert not reused or data == ours.fd
    writer = ours.child("worker") if of == "a child" else Stray(ours)
    writer.error("broken")
    writer.error("still")
    assert (tmp_path / "data").exists() == reused
    assert not reused or (tmp_path / "data").read_text() == ""
    assert re.fullmatch(
        rf"(.* {writer.role}\] error: (broken|still)\n){{2}}", capfd.readouterr().err
    )
    if reused:
        os.close(data)


def test_without_one_it_is_stderr(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(log, "_JOURNAL", str(tmp_path / "missing"))
    ours = log.open_log("master", environ=journal_environ())
    ours.error("broken")
    assert (ours.fd, capfd.readouterr().err) == (2, "<3>master: broken\n")


def test_where_stderr_is_not_the_journal_it_is_asked_for_nothing(journald):
    journald.setblocking(False)
    assert log.open_log("master", environ={}).fd == 2
    with pytest.raises(BlockingIOError):
        journald.accept()


def test_no_line_is_another_for_journald(capfd):
    """It takes a NUL for the end of a line, and begins another after 48 KiB; what
    stands there would be read as a priority.
    """
    text = "a\0<0>b\r<0>c\u2028<0>d\n" + "x" * (48 << 10) + "<0>e\ud800"
    first, second, end = written(capfd, journal=True, say=lambda logger: logger.error(text)).split(
        "\n"
    )
    assert (first, end) == (r"<3>worker: a\x00<0>b <0>c <0>d", "")
    assert second.startswith("<3>worker: xxx")
    assert len(second) < 10_000


class Mute(Exception):
    def __str__(self):
        raise SystemExit


@pytest.mark.parametrize(
    "error",
    [
        Mute(),
        SyntaxError("a", (7, b"x", [], 3.5)),
        RuntimeError("x" * 10_000_000),
        type("A\nB\ud7ff", (Mute,), {})(),
    ],
)
def test_whatever_is_raised_there_is_a_traceback(capfd, error):
    found = log.traceback_of(error)
    assert found
    assert len(found) < 20_000
    assert found.encode()
