"""Signals as facts to be read in a loop, not as code that runs at any moment.

A handler does nothing: the interpreter's wake-up descriptor (signal.set_wakeup_fd) puts
the signal's number into a pipe, the pipe wakes the loop's one wait point, and the loop
takes the numbers and acts. An ignored signal would be inherited through exec by every
program an app starts (signal(7)); one with a handler goes back to its default there. So
nothing is ever set to SIG_IGN.

Most signals end a process that has no handler for them, and may be sent to all of ours:
by `systemctl kill`, by logrotate (SIGUSR1). The Master and the lookout block those that
mean nothing to them (UNHEARD), which is one system call. A blocked signal would be
inherited by what an app starts, so zygotes and workers have a handler for them instead,
as long as the app sets none of its own.
"""

from __future__ import annotations

import os
from _thread import get_ident

from spyglass.runtime.fast_imports import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType


# SIGUSR2 is not among them: it asks for tracebacks. Nor is what a limit (SIGXCPU) or a
# crash raises.
UNHEARD = frozenset(
    {
        *(
            signal.SIGUSR1,
            signal.SIGALRM,
            signal.SIGVTALRM,
            signal.SIGPROF,
            signal.SIGIO,
            signal.SIGPWR,
            signal.SIGSTKFLT,
        ),
        *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
    }
)


def hold_back_unheard() -> None:
    """Block UNHEARD for good, in a process that runs nothing of an app's."""
    signal.pthread_sigmask(signal.SIG_BLOCK, UNHEARD)


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
        signal.pthread_sigmask(
            signal.SIG_UNBLOCK, self._numbers
        )  # whoever started us may have held them back until now

    def ignore_unheard(self) -> None:
        """Have UNHEARD do nothing, here and in the processes that renew(); before the
        app, which may want one of them, has been loaded.
        """
        for number in UNHEARD:
            signal.signal(number, nothing)
            signal.siginterrupt(number, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, UNHEARD)

    def release(self, numbers: Iterable[int]) -> None:
        """Give `numbers` their default action back, until install()."""
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    def take(self) -> list[int]:
        """The numbers recorded since the last call, in order."""
        try:
            return [number for number in os.read(self.fd, 4096) if number in self._numbers]
        except BlockingIOError:
            return []

    def forget(self) -> None:
        """In a forked child: let go of the parent's pipe and give every signal its
        default action back. Idempotent.

        Else a signal for that process would be recorded in the pipe that it shares with
        us, and heard by us instead. The child may be a process of the app's, which may
        have set handlers of its own by now: those stay.
        """
        if self.fd < 0:
            return
        previous = signal.set_wakeup_fd(-1)
        if previous not in (-1, self.write_end):
            signal.set_wakeup_fd(previous)
        self._drop(self._numbers | UNHEARD)
        self._close()
        self.fd = -1

    def renew(self, numbers: Iterable[int]) -> None:
        """In a forked child of ours: record `numbers`, of those that the parent does,
        in a pipe of its own. What is unheard stays so.
        """
        signal.set_wakeup_fd(-1)
        self._close()
        self.fd, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.write_end, warn_on_full_buffer=False)
        parents, self._numbers = self._numbers, frozenset(numbers)
        self._drop(parents - self._numbers)

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if signal.getsignal(number) is nothing:
                signal.signal(number, signal.SIG_DFL)

    def _close(self) -> None:
        for fd in (self.fd, self.write_end):
            try:
                os.close(fd)
            except OSError:
                pass  # somebody has closed it for us

    def forget_in_children(self, ours: Callable[[], Iterable[int]] = tuple) -> None:
        """Have every process that is forked from this one, by whomever, begin so; from
        its first moment, in which it may be told to end.

        But a child of which `ours()` names the signals to be recorded there begins with
        renew(): none that comes early is lost.
        """
        masks: dict[int, set[int]] = {}  # by thread: several may fork at the same time

        def hold_back() -> None:
            masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)

        def let_come() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(get_ident()))

        def begin() -> None:
            numbers = frozenset(ours())
            if numbers:
                self.renew(numbers)
            else:
                self.forget()
            let_come()

        os.register_at_fork(before=hold_back, after_in_parent=let_come, after_in_child=begin)
