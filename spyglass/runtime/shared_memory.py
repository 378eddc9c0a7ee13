"""What the Master makes before its first fork and every process then shares: the
scoreboard and three descriptors.

- the *bell*, an eventfd that the Master rings to make every worker look at its ORDER;
- the *poke*, an eventfd by which any process makes the Master look at the scoreboard;
- the *life line*, a pipe that is never written to. Only the Master holds its writing
  end, so it ends with the Master, however that ends. A worker that finds it ended
  drains: no other process could tell it to.
"""

from __future__ import annotations

import os
import time

from spyglass.runtime.channel import LISTENERS, receive, send
from spyglass.runtime.scoreboard import Scoreboard
from spyglass.runtime.sd_daemon import adopt_again, first_pending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.runtime.fast_imports import socket
    from spyglass.runtime.sd_daemon import Listener


class Shared:
    """`listeners` (list of Listener) and the means by which `slots` (int) workers and
    the Master reach each other. A wake's first zygote is forked before the listeners
    are known: until adopt() there are None.

    For last_wake() there are also `woken_by` (Listener or None), on which a connection
    waited when they were adopted, `began` (float, monotonic), when this was made, and
    `master` (int), the Master's pid.
    """

    def __init__(self, listeners: list[Listener] | None, slots: int) -> None:
        self.adopted = False
        self.listeners: list[Listener] = []
        self.woken_by: Listener | None = None
        if listeners is not None:
            self.adopt(listeners, first_pending(listeners))
        self.began = time.monotonic()
        self.master = os.getpid()
        self.board = Scoreboard(slots)
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.poke = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._abandoned = False
        self.lifeline, self._held = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def adopt(self, listeners: list[Listener], woken_by: int) -> None:
        """Use `listeners`. A connection waits on the one with the index `woken_by`; -1:
        on none.
        """
        self.adopted, self.listeners = True, listeners
        self.woken_by = listeners[woken_by] if woken_by >= 0 else None

    def pass_on(self, channel: socket.socket) -> None:
        """Have the process at the other end of `channel` learn() the listeners."""
        names = [listener.name for listener in self.listeners]
        woken_by = self.listeners.index(self.woken_by) + 1 if self.woken_by else 0
        send(channel, LISTENERS, woken_by, names)

    def learn(self, channel: socket.socket) -> bool:
        """In a process that was forked before there were any: wait for the listeners.
        Return False if the Master has exited, because it was passed none.
        """
        message = receive(channel)
        if message is None:
            return False
        _, woken_by, names = message
        self.adopt(adopt_again(names), woken_by - 1)
        return True

    def leave_the_line(self) -> None:
        """In a child: only the Master may hold the life line."""
        os.close(self._held)

    def abandon(self) -> None:
        """In a process that the app has forked: close all of it. A second call does
        nothing, because the numbers may belong to other files by then.
        """
        if self._abandoned:
            return
        self._abandoned = True
        for fd in (
            self.bell,
            self.poke,
            self.lifeline,
            *(listener.fd for listener in self.listeners),
        ):
            try:
                os.close(fd)
            except OSError:
                pass

    def ring(self) -> None:
        _add(self.bell)

    def tell_master(self) -> None:
        _add(self.poke)

    def hear(self) -> None:
        """In the Master: take the poke back."""
        empty(self.poke)


def _add(fd: int) -> None:
    """Wake each process that waits for eventfd `fd`."""
    try:
        os.eventfd_write(fd, 1)
    except BlockingIOError:
        # Full: the app has written to it (eventfd(2)). Each write that succeeds wakes,
        # so make room for one.
        empty(fd)
        try:
            os.eventfd_write(fd, 1)
        except BlockingIOError:
            pass  # full again, so another process has just written


def empty(fd: int) -> None:
    """Reset eventfd `fd`, so that it is not ready any more."""
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        pass
