"""Signals as facts to be read in a loop, not as code that runs at any moment.

A handler does nothing. The interpreter's wake-up descriptor (signal.set_wakeup_fd)
writes the signal's number into a pipe, the pipe wakes the loop's one wait point, and
the loop reads the numbers and acts. So no signal interrupts a change half-way, and none
is lost between a check and a wait.

What fork(2) and execve(2) do to signals decides the rest (signal(7)):

- A child inherits the handlers, the mask, and the pipe. Until it has a pipe of its own,
  a signal for the child is recorded in the parent's pipe, and the parent acts on it. So
  signals are blocked across the fork, and the child begins with forget() or renew().
- execve() resets handlers to the default but keeps SIG_IGN. An ignored signal would be
  ignored by every program that an app starts, which few programs expect. So nothing is
  ever set to SIG_IGN.
- Blocked signals stay blocked through both.

Most signals end a process that has no handler for them, and `systemctl kill` or
logrotate (SIGUSR1) may send them to every process of the unit. The Master and the
lookout block those that mean nothing to them (UNHEARD): one system call, and they run
no program of an app's that could inherit it. Zygotes and workers do, so they have a
handler for them instead, unless the app sets one of its own.
"""

from __future__ import annotations

import os
from _thread import get_ident

from spyglass.runtime.fast_imports import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType


# SIGUSR2 is not among them: it requests tracebacks. Nor are the signals of a limit
# (SIGXCPU) or a crash.
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
    """Block UNHEARD for good, in a process that runs no code of an app."""
    signal.pthread_sigmask(signal.SIG_BLOCK, UNHEARD)


def nothing(_number: int, _frame: FrameType | None) -> None:
    """The handler of every signal that is recorded."""


class Signals:
    """Records the signals in `numbers`; `fd` is readable when one has come."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.fd, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._numbers = frozenset(numbers)
        self.install()

    def install(self) -> None:
        """Set the handlers; again when other code may have set its own."""
        signal.set_wakeup_fd(self.write_end, warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, nothing)
        # The parent may have blocked them until now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def ignore_unheard(self) -> None:
        """Have UNHEARD do nothing, here and in children that call renew(). To be called
        before the app is loaded, which may want one of them.
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
        """Return the numbers recorded since the last call, in order."""
        try:
            return [number for number in os.read(self.fd, 4096) if number in self._numbers]
        except BlockingIOError:
            return []

    def forget(self) -> None:
        """In a forked child: close the parent's pipe and give every signal its default
        action back. Idempotent.

        Otherwise a signal for the child would be recorded in the pipe that it shares
        with the parent, which would act on it. The child may be a process of the app's,
        which may have set handlers of its own by now: those stay.
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
        """In a zygote or worker after its fork: record `numbers`, a part of the
        parent's, in a pipe of its own. UNHEARD signals stay as they are.
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
                pass  # the app has closed it

    def forget_in_children(self, ours: Callable[[], Iterable[int]] = tuple) -> None:
        """Have every process that is forked from this one call forget(), whichever code
        forks it, before any signal can reach it.

        If `ours()` returns signals in the child, it calls renew() with them instead:
        then a signal that comes early is recorded, not lost.
        """
        masks: dict[int, set[int]] = {}  # by thread: two may fork at the same time

        def hold_back() -> None:
            # UNHEARD, too: until forget(), the child has the handler that does nothing.
            held = self._numbers | UNHEARD
            masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, held)

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
