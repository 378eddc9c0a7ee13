"""What a fork copies, and how a child leaves its parent's stack.

fork(2) makes a second process that continues from the same point. For a newcomer, four
things matter everywhere in this program:

- *Descriptors* are copied, what they refer to is not. Parent and child share the
  position in a file, the flags of a socket, the registrations of an epoll. A pipe or
  channel ends only when its last copy is closed. So each child first closes what is its
  parent's alone, and closes an epoll without touching its registrations (epoll(7)).
- *Threads* are not copied: the child has only the one that called fork(). A lock that
  another thread held stays locked for ever. So the Master and the zygote start none.
- *Memory* is shared until one side writes, page by page (copy-on-write). CPython writes
  even when a program only reads: reference counts, and the garbage collector's marks.
  The zygote's gc.freeze() keeps at least the collector away from what workers share.
- *Signals*: handlers and mask are inherited, and so is the pipe into which a handler
  writes. runtime/signals.py gives each child its own before a signal can be lost.

The fifth is the stack. The child wakes up inside its parent's functions. Each `except`
and `finally` there was written for the parent: an error that reached one made a worker
behave like a second Master. So a child calls enter(), which unwinds the parent's frames
up to run() in the entry point and calls the child's own main from there. The unwinding
also drops the parent's objects. At its end the child exits from the entry point, as any
program does, so the app's atexit functions run. It does not return there: what the
command does next is for its parent.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


class _Child(BaseException):
    """Carries `main` to run(). Not an Exception: no handler for errors may stop it."""

    def __init__(self, main: Callable[[], int]) -> None:
        super().__init__()
        self.main = main


def run(main: Callable[[], int]) -> int:
    """Return the exit status of `main()`. Each process that was forked below it and
    called enter() exits instead, with the status of its own main.
    """
    is_child = False
    while True:
        try:
            status = main()
        except _Child as child:
            main, is_child = child.main, True
        else:
            if is_child:
                raise SystemExit(status)
            return status
        # The exception is gone here, and with it the traceback that kept the frames.


def enter(main: Callable[[], int]) -> NoReturn:
    """In a child right after its fork: leave the parent's stack and run `main`.

    The caller must be below run(). No `finally` and no `with` between the two may do
    what is for the parent alone, such as to unlink a file or to send a message.
    """
    raise _Child(main)
