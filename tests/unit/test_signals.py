"""Signals become numbers in a pipe."""

import os
import select
import signal
import subprocess
import sys
from signal import SIGHUP, SIGTTIN, SIGUSR1, SIGUSR2

import pytest

from spyglass.runtime.signals import Signals

HEEDED = (SIGUSR1, SIGUSR2, SIGHUP)


@pytest.fixture
def signals():
    before = {number: signal.getsignal(number) for number in HEEDED}
    wakeup = signal.set_wakeup_fd(-1)
    made = Signals(HEEDED)
    yield made
    signal.set_wakeup_fd(wakeup)
    for number, handler in before.items():
        signal.signal(number, handler)
    for fd in (made.fd, made.write_end):
        try:
            os.close(fd)
        except OSError:
            pass  # forget() has


def readable(signals):
    return bool(select.select([signals.fd], [], [], 0)[0])


def test_they_are_taken_in_the_order_in_which_they_came(signals):
    assert signals.take() == []
    for number in (SIGUSR1, SIGHUP, SIGUSR1):
        signal.raise_signal(number)
    assert readable(signals)
    assert signals.take() == [SIGUSR1, SIGHUP, SIGUSR1]
    assert not readable(signals)
    assert signals.take() == []


def test_others_that_python_reports_there_are_not_ours(signals):
    os.write(signals.write_end, bytes([SIGTTIN, SIGUSR2]))
    assert signals.take() == [SIGUSR2]


def test_a_flood_neither_blocks_nor_prints(signals, capfd):
    os.set_blocking(signals.write_end, False)
    while True:
        try:
            os.write(signals.write_end, bytes([SIGUSR1]) * 4096)
        except BlockingIOError:
            break
    signal.raise_signal(SIGUSR1)
    assert SIGUSR1 in signals.take()
    assert capfd.readouterr().err == ""


def test_a_handler_of_other_code_is_replaced(signals):
    signal.signal(SIGUSR1, lambda *_: pytest.fail("the app's handler ran"))
    signals.install()
    signal.raise_signal(SIGUSR1)
    assert signals.take() == [SIGUSR1]


def test_what_an_app_starts_has_the_default_action(signals):
    """SIG_IGN would have been inherited through exec (signal(7))."""
    assert subprocess.run(["sh", "-c", "kill -USR1 $$"]).returncode == -SIGUSR1


def test_a_child_that_forgets_dies_of_a_signal_as_any_process_does(signals):
    pid = os.fork()
    if not pid:
        signals.forget()
        os.kill(os.getpid(), SIGUSR1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -SIGUSR1
    assert signals.take() == []  # and its parent hears nothing of it


def test_a_process_that_is_told_to_end_in_its_first_moment_ends_and_its_parent_hears_nothing():
    """multiprocessing does that: a pool that is no longer needed, a process that was
    started in vain.
    """
    script = """
import os, signal, threading
from spyglass.runtime.signals import Signals
signals = Signals([signal.SIGTERM])
signals.ignore_unheard()
signals.forget_in_children()
ends = []
def fork_and_end(times):
    for _ in range(times):
        pid = os.fork()
        if not pid:
            signal.pause()
            os._exit(0)
        number = (signal.SIGTERM, signal.SIGALRM)[len(ends) % 2]
        os.kill(pid, number)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) + number)
fork_and_end(50)
threads = [threading.Thread(target=fork_and_end, args=(25,)) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert ends == [0] * 100, ends
assert signals.take() == []
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
os.kill(os.getpid(), signal.SIGTERM)
assert signals.take() == [signal.SIGTERM]
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_child_has_set_itself_stays_when_it_forgets(signals):
    pid = os.fork()
    if not pid:
        signal.signal(SIGUSR1, lambda *_: os._exit(7))
        signals.forget()
        signals.forget()
        os.kill(os.getpid(), SIGUSR1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
