"""Signals as facts to be read in a loop, not as code that runs at any moment.

A handler does nothing: the interpreter's wake-up descriptor (signal.set_wakeup_fd) puts the signal's number into a pipe, the
pipe wakes the loop's one wait point, and the loop takes the numbers and acts. An ignored signal would be inherited through exec
by every program an app starts (signal(7)); one with a handler goes back to its default there. So nothing is ever set to SIG_IGN.
"""

from __future__ import annotations

import os
from _thread import get_ident

from spyglass.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType


def nothing(_number: int, _frame: FrameType | None) -> None:
    """The handler of every signal that is recorded."""


class Signals:
    """Records the signals in `numbers`; `fd` becomes readable when one has come."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.fd, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._numbers = frozenset(numbers)
        self.install()

    def install(self) -> None:
        """Set the handlers; again when other code may have set its own."""
        signal.set_wakeup_fd(self.write_end, warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, nothing)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)  # whoever started us may have held them back until now

    def take(self) -> list[int]:
        """The numbers recorded since the last call, in order."""
        try:
            return [number for number in os.read(self.fd, 4096) if number in self._numbers]
        except BlockingIOError:
            return []

    def forget(self) -> None:
        """In a forked child: let go of the parent's pipe and give every signal its default action back. Idempotent.

        Else a signal for that process would be recorded in the pipe that it shares with us, and heard by us instead. The child may be
        a process of the app's, which may have set handlers of its own by now: those stay.
        """
        if self.fd < 0:
            return
        previous = signal.set_wakeup_fd(-1)
        if previous not in (-1, self.write_end):
            signal.set_wakeup_fd(previous)
        for number in self._numbers:
            if signal.getsignal(number) is nothing:
                signal.signal(number, signal.SIG_DFL)
        for fd in (self.fd, self.write_end):
            try:
                os.close(fd)
            except OSError:
                pass  # somebody has closed it for us
        self.fd = -1

    def forget_in_children(self) -> None:
        """Have every process that is forked from this one, by whomever, begin so; from its first moment, in which it may be told to end."""
        masks: dict[int, set[int]] = {}  # by thread: several may fork at the same time

        def hold_back() -> None:
            masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)

        def let_come() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(get_ident()))

        def begin() -> None:
            self.forget()
            let_come()

        os.register_at_fork(before=hold_back, after_in_parent=let_come, after_in_child=begin)
