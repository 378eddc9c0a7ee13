"""What the Master reports of itself: to which clients, and what they make of it."""

import os
import socket
import threading

import pytest

from spyglass.master import local_socket, report_socket
from spyglass.master.counters import Record
from spyglass.master.reload_socket import Outcome
from spyglass.master.report_socket import NAME, Report, Reports, parse
from spyglass.ops.status import master_report
from spyglass.runtime.poller import Poller

from .answering import answering

TRACEBACK = 'Traceback (most recent call last):\n  File "app.py", line 6\n\nSyntaxError: invalid'


def full():
    record = Record()
    record.requests, record.recent_errors, record.written = 40, 2, 1_700_000_000.0
    outcome = Outcome(78, 0.25, 1234.5, "SyntaxError: invalid", TRACEBACK)
    return Report("awake: 2 workers", record, outcome)


def test_report_that_is_sent_is_understood():
    report = parse(full().text())
    assert (report.status, report.record.requests, report.record.recent_errors) == (
        "awake: 2 workers",
        40,
        2,
    )
    assert vars(report.outcome) == vars(full().outcome)


def test_report_without_counters_or_reload():
    report = parse(Report("waking: loading app", None, None).text())
    assert (report.status, report.record, report.outcome) == ("waking: loading app", None, None)


def test_successful_reload_has_neither_reason_nor_details():
    report = parse(Report("awake", None, Outcome(0, 0.15, 2.0)).text())
    assert (report.outcome.status, report.outcome.why, report.outcome.details) == (0, "", "")


@pytest.mark.parametrize(
    "text",
    [
        "", "spyglass report 2\nstatus x\n", "78 x\n", full().text()[:-5], full().text().replace("78 0.250", "-1 0.250"),
        full().text().replace("0.250", "nan"), full().text().replace("78 0.250 1234.500 SyntaxError: invalid", "78"),
        full().text().replace("requests 40", "requests x"), "spyglass report 1\nreload\n", "spyglass report 1\nreload ² 0 0\n",
    ],
)  # fmt: skip
def test_damaged_report_is_none(text):
    with pytest.raises(ValueError, match=r".*"):
        parse(text)


def test_facts_of_a_later_version_are_skipped():
    later = full().text().replace("status ", "mood good\nstatus ")
    assert parse(later).status == "awake: 2 workers"


# The Master's end


@pytest.fixture
def served(tmp_path):
    """served(): a Master that reports in `tmp_path`; each is ended afterwards."""
    ends = []

    def serve(compose=lambda: full().text()):
        poller, over = Poller(), threading.Event()
        reports = Reports({"STATE_DIRECTORY": str(tmp_path)}, poller, compose)

        def turn():
            while not over.is_set():
                poller.wait(0.02)

        thread = threading.Thread(target=turn)
        thread.start()

        def end():
            over.set()
            thread.join()
            reports.close()
            poller.abandon()

        ends.append(end)
        return reports

    yield serve
    for end in ends:
        end()


def ask(*wanted):
    return master_report.ask(wanted, within=5)


def test_master_reports_and_removes_its_file(served, tmp_path):
    reports = served()
    [report] = ask((str(tmp_path), os.getpid()))
    assert report.record.requests == 40
    reports.close()
    assert list(tmp_path.iterdir()) == []


def test_without_a_state_directory_nothing_listens():
    poller = Poller()
    reports = Reports({}, poller, str)
    reports.close()
    poller.abandon()


def test_another_user_is_told_nothing(served, tmp_path, monkeypatch):
    monkeypatch.setattr(local_socket, "_is_ours", lambda sock: False)
    served()
    assert ask((str(tmp_path), os.getpid())) == [None]


def test_long_traceback_is_whole(served, tmp_path):
    long = full()
    long.outcome.details = "\n".join(["x" * 79] * 200)
    served(long.text)
    [report] = ask((str(tmp_path), os.getpid()))
    assert report.outcome.details == long.outcome.details
    assert len(long.text()) < report_socket.LONGEST


# The command's end


def test_listener_that_is_another_process_is_not_believed(served, tmp_path):
    served()
    assert ask((str(tmp_path), os.getpid() + 1)) == [None]


def a_link(path):
    path.with_name("real").touch()
    path.symlink_to("real")


def a_link_to_a_socket(path):
    """It may be another app's, which a connection would wake."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path.with_name("real")))
        path.symlink_to("real")


PUT = [
    lambda path: None,
    a_link,
    a_link_to_a_socket,
    os.mkfifo,
    os.mkdir,
    lambda path: path.touch(),
]


@pytest.mark.parametrize("put", PUT)
def test_what_an_app_puts_there_is_not_opened(put, tmp_path):
    put(tmp_path / NAME)
    assert ask((str(tmp_path), os.getpid())) == [None]


def test_link_to_a_living_socket_is_not_connected_to(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "real"))
        listener.listen()
        listener.setblocking(False)
        (tmp_path / NAME).symlink_to("real")
        assert ask((str(tmp_path), os.getpid())) == [None]
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("said", [b"", b"\xff", b"spyglass report 1\n", b"x" * 200_000])
def test_anything_may_be_said(tmp_path, said):
    with answering(tmp_path / NAME, said):
        [report] = ask((str(tmp_path), os.getpid()))
    assert report is None or report.record is None


def test_master_that_stands_still_is_not_waited_for(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / NAME))
        listener.listen()
        assert master_report.ask([(str(tmp_path), os.getpid())], within=0.01) == [None]


def test_many_are_asked_at_once(served, tmp_path):
    served()
    found = ask(*[(str(tmp_path), os.getpid())] * 300)
    assert len(found) == 300
    assert all(report.record.requests == 40 for report in found)
