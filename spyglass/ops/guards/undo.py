"""Do several steps as one: all of them, or none.

Each step says how it is undone before it is done, so a signal between two lines of code
leaves nothing behind. So an undoing function must also cope with a step that never
began.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spyglass.errors import StartError
from spyglass.ops.files import atomic_files
from spyglass.ops.guards.termination_signals import exit_on_termination_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class UndoneError(StartError):
    """Something failed half-way; the message says what, and what the state is now."""

    exit_status = 1


class Steps:
    """The steps that were begun, in order."""

    def __init__(self) -> None:
        self._undoing: list[tuple[str, Callable[[], object]]] = []
        self.changed = False

    def begin(self, what: str, undo: Callable[[], object], *, change: bool = True) -> None:
        """Note that a step begins. `what` names it if it cannot be undone.

        A step that is no `change` (bool) is one that only the command itself can see.
        """
        self._undoing.append((what, undo))
        self.changed = self.changed or change

    def move(self, source: str, target: str) -> None:
        """Rename a file or directory of root's. Raise OSError; FileExistsError if there
        is something at `target`.
        """

        def back() -> None:
            if os.path.lexists(target) and not os.path.lexists(source):
                os.rename(target, source)

        if os.path.lexists(target):
            raise FileExistsError(17, os.strerror(17), target)
        self.begin(f"{target} could not be moved back to {source}", back)
        os.rename(source, target)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a text file, or delete it if `text` is empty. Raise UndoneError."""
        before = atomic_files.read(path)

        def back() -> None:
            # Not if the step has failed: on a full disk this would, too.
            if atomic_files.read(path) != before:
                atomic_files.write(path, before, mode)

        self.begin(f"{path} could not be restored", back)
        try:
            atomic_files.write(path, text, mode)
        except OSError as error:
            raise UndoneError(f"{path}: cannot be written: {error.strerror}") from error

    def undo(self) -> list[str]:
        """Undo all steps, the last one first. Return what could not be undone
        (lines).
        """
        failed = []
        while self._undoing:
            what, undo = self._undoing.pop()
            try:
                undo()
            except (OSError, StartError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                failed.append(f"{what}: {why}")
        return failed


@contextmanager
def undone_on_failure() -> Iterator[Steps]:
    """Undo the steps of the block if it ends by an error or a termination signal, and
    raise UndoneError, or exit with the signal's status.

    A StartError before the first change is raised as it is.
    """
    steps = Steps()
    with exit_on_termination_signals():
        try:
            yield steps
        except BaseException as error:
            with _uninterrupted():
                failed = steps.undo()
            state = "; ".join(failed) if failed else "all changes were undone"
            if isinstance(error, SystemExit):
                print(f"spyglass: interrupted; {state}", file=sys.stderr)
                raise
            if isinstance(error, StartError) and not steps.changed and not failed:
                raise
            raise UndoneError(f"{_words(error)}; {state}") from error


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror}"
    return str(error) or ("interrupted" if isinstance(error, KeyboardInterrupt) else repr(error))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore the signals that would end the block half-way."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
