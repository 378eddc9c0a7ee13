"""Why a generation cannot serve: what is kept of several reports, and what is logged."""

from spyglass.errors import LoadError
from spyglass.master.load_failures import LoadFailures

from .fake_log import FakeLog

WHY = ("OSError: no database", "Traceback ...", ["/srv/app.py"])


def failures(*, first=True):
    log = FakeLog()
    return LoadFailures(log, first=first), log


def test_a_report_says_more_than_the_end_of_the_process_that_sent_it():
    it, _ = failures()
    it.load_failed(*WHY)
    it.load_ended("exited with status 1")
    assert (it.loading.summary, it.loading.files) == (WHY[0], WHY[2])


def test_without_a_report_the_end_of_the_process_is_the_reason():
    it, _ = failures()
    it.load_ended("was killed by SIGSEGV")
    assert str(it.loading) == "the app's process was killed by SIGSEGV while it was being loaded"


def test_a_worker_s_reason_is_logged_once():
    it, log = failures()
    errors = [it.worker_unfit(WHY, accepting=False) for _ in range(2)]
    assert log.lines == [f"a worker cannot start: {WHY[0]}\n{WHY[1]}"]
    assert all(error.told for error in errors)


def test_on_another_attempt_at_a_broken_app_the_log_is_the_master_s():
    it, log = failures(first=False)
    assert not it.worker_unfit(WHY, accepting=False).told
    assert log.lines == []
    assert it.worker_unfit(WHY, accepting=True).told
    assert len(log.lines) == 1


def test_details_that_were_logged_are_kept_for_the_report_and_not_logged_again():
    it, _ = failures()
    it.worker_died_loading(it.worker_unfit(WHY, accepting=False), "exited with status 1")
    assert (it.loading.summary, it.loading.details, it.loading.told) == (*WHY[:2], True)


def test_of_two_workers_that_died_loading_the_first_says_why():
    it, _ = failures()
    it.worker_died_loading(LoadError("first"), "exited with status 1")
    it.worker_died_loading(LoadError("second"), "exited with status 1")
    assert it.loading.summary == "first"
