"""A terminal for a command in an app's sandbox: a pseudo-terminal of its own, relayed
to the one that `spyglass run` was typed into.

Why not the administrator's terminal itself? A process of the app's that got its
descriptor could keep it open, and read what is typed into root's shell afterwards. And
it would be no controlling terminal: that one belongs to the session of the shell
(credentials(7)), so Ctrl-C, job control and getpass would not work.

Only descriptors that are terminals are replaced. `spyglass run blog dump >file` writes
to the file, and asks for a password at the terminal. If stdout is a pipe, the keyboard
is left to the program behind it, and the command reads from /dev/null.

A command may ignore Ctrl-C, and another process of its user may stop it (SIGSTOP), so
that it does not even notice. Ctrl-] typed three times gives the terminal back in any
case, as with systemd-run(1).
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 16384  # bytes copied at once
_ESCAPE = 0x1D  # Ctrl-]
_ESCAPES, _WITHIN = 3, 1.0  # seconds
_OFLAG = 1  # index in the list of tcgetattr(3)


class TerminalRelay:
    """A pseudo-terminal for the command, if any of our stdin, stdout and stderr is a
    terminal.

    `stdio` are the three descriptors for the command. `terminal` is the number (0 to 2)
    of the one that is its terminal, -1 if none is. `is_abandoned` (bool): Ctrl-] was
    typed three times within a second.
    """

    def __init__(self) -> None:
        ours = [fd for fd in range(3) if os.isatty(fd)]
        self._keyboard = 0 in ours and not stat.S_ISFIFO(os.fstat(1).st_mode)
        self._screen = next((fd for fd in (1, 2, 0) if fd in ours), -1)
        self._typed = b""  # read from the keyboard, not yet taken by the command
        self._escapes: list[float] = []  # when Ctrl-] was typed, other keys not between
        self.is_abandoned = False
        self._fd, self._command_end = -1, -1
        self.stdio = [0, 1, 2]
        if 0 in ours and not self._keyboard:
            # `spyglass run blog dump | less`: the keys are for less.
            self.stdio[0] = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            ours.remove(0)
        self.terminal = ours[0] if ours else -1
        if ours:
            self._fd, self._command_end = os.openpty()
            os.set_blocking(self._fd, False)
            self.stdio = [self._command_end if fd in ours else fd for fd in self.stdio]
            self._dress()
            self.resize()

    def _dress(self) -> None:
        """Give the new terminal the settings of ours."""
        modes = termios.tcgetattr(self._screen)
        if not self._keyboard:
            # Ours stays as it is, and makes CR LF of LF itself.
            modes[_OFLAG] &= ~termios.OPOST
        termios.tcsetattr(self._command_end, termios.TCSANOW, modes)

    def resize(self) -> None:
        """Give the command's terminal the size of ours. It gets SIGWINCH if that
        changes it (ioctl_tty(2)).
        """
        if self._fd >= 0:
            size = fcntl.ioctl(self._screen, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._fd, termios.TIOCSWINSZ, size)

    def give_to(self, uid: int) -> None:
        """Let the command, which runs as `uid`, open its terminal by name."""
        if self._fd >= 0:
            os.fchown(self._command_end, uid, -1)

    @contextmanager
    def raw_keyboard(self) -> Iterator[None]:
        """Pass every key to the command, Ctrl-C included. Restore our terminal, and
        close the command's, in the end.
        """
        before: list[Any] = []
        try:
            if self._keyboard:
                before = termios.tcgetattr(0)
                tty.setraw(0, termios.TCSADRAIN)
            yield
        finally:
            if before:
                termios.tcsetattr(0, termios.TCSADRAIN, before)
            self.close()

    def close(self) -> None:
        """Close the terminal: processes that still have it get SIGHUP (pty(7))."""
        if self._fd >= 0:
            os.close(self._command_end)
            os.close(self._fd)
            self._fd = -1

    # The loop of run_unit.py: which events it waits for, and what it does then

    def events(self) -> dict[int, int]:
        """Return {descriptor: events to poll for}."""
        if self._fd < 0:
            return {}
        wanted = {self._fd: select.POLLIN | (select.POLLOUT if self._typed else 0)}
        if self._keyboard and not self._typed:
            wanted[0] = select.POLLIN
        return wanted

    def handle(self, fd: int) -> None:
        """Copy what can be copied, after poll(2) has reported `fd`."""
        if fd == 0:
            try:
                self._typed = os.read(0, _PIECE)
            except OSError:  # EIO: our terminal is gone
                self._typed = b""
            self._keyboard = bool(self._typed)
            self._look_for_escape(time.monotonic())
        else:
            self._show()
        try:
            while self._typed:
                self._typed = self._typed[os.write(self._fd, self._typed) :]
        except BlockingIOError:
            pass  # the command does not read: events() waits for it

    def _look_for_escape(self, now: float) -> None:
        for key in self._typed:
            self._escapes = [*self._escapes, now][-_ESCAPES:] if key == _ESCAPE else []
            if len(self._escapes) == _ESCAPES and now - self._escapes[0] <= _WITHIN:
                self.is_abandoned = True

    def _show(self) -> None:
        """Copy what the command has written to our terminal."""
        try:
            # Never the end of the file: we have the command's end open ourselves, so a
            # command may close its own and open it again.
            piece = os.read(self._fd, _PIECE)
        except BlockingIOError:
            return
        while piece and self._screen >= 0:
            try:
                piece = piece[os.write(self._screen, piece) :]
            except BlockingIOError:  # another process made our terminal non-blocking
                poll = select.poll()
                poll.register(self._screen, select.POLLOUT)
                poll.poll()
            except OSError:  # EIO: our terminal is gone
                self._screen = -1

    def drain(self) -> None:
        """Copy what is left when the command has ended."""
        poll = select.poll()
        if self._fd >= 0:
            poll.register(self._fd, select.POLLIN)
            while poll.poll(0):
                self._show()
