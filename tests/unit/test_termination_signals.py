"""SIGTERM and SIGHUP end a command only after it has cleaned up."""

import os
import signal

import pytest

from spyglass.ops.guards.termination_signals import exit_on_termination_signals

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_is_an_exit_with_its_number(number):
    with pytest.raises(SystemExit) as caught, exit_on_termination_signals():
        os.kill(os.getpid(), number)
    assert caught.value.code == 128 + number


def test_second_signal_does_not_interrupt_the_clean_up():
    done = []

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            for number in SIGNALS:
                os.kill(os.getpid(), number)
            done.append("cleaned up")

    with pytest.raises(SystemExit) as caught, exit_on_termination_signals():
        work()
    assert (done, caught.value.code) == (["cleaned up"], 128 + signal.SIGTERM)


def test_handlers_are_restored():
    before = [signal.getsignal(number) for number in SIGNALS]
    with exit_on_termination_signals():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    with pytest.raises(SystemExit), exit_on_termination_signals():
        os.kill(os.getpid(), signal.SIGHUP)
    assert [signal.getsignal(number) for number in SIGNALS] == before
