"""Let a command clean up when it is asked to terminate.

By default SIGTERM and SIGHUP end a Python process at once: no `finally` runs. A command
that has stopped sockets, or has made a unit in /run, would leave them so. SIGHUP is
what a terminal that is closed sends.
"""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def exit_on_termination_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, as Ctrl-C is a KeyboardInterrupt.

    The exit status is 128 + the signal's number, as in a shell. A second signal is
    ignored, so that the clean-up runs once and to its end.
    """

    def exit_once(number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    before = {
        number: signal.signal(number, exit_once) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
