"""Let one administrator's command run at a time, by locks that only root can take.

flock(2) works on any file that a process can open. On a file that users can read, one
of them could hold the lock, and every command would wait for it. So the locks are files
of their own in a directory that only root can enter.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spyglass.errors import EX_UNAVAILABLE, StartError
from spyglass.ops.files import path_ownership

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = "/run/spyglass-admin"
_NOTICE_AFTER = 1.0  # seconds, after which the command says what it waits for
_TIMEOUT = 300.0  # seconds
_RETRY_INTERVAL = 0.05  # seconds; flock(2) cannot wait with a time limit


class LockedError(StartError):
    """Another command has held the lock for too long."""

    exit_status = EX_UNAVAILABLE


def path_of(name: str) -> str:
    """Return the path of the lock `name`."""
    return os.path.join(DIRECTORY, name)


@contextmanager
def held(name: str, doing: str) -> Iterator[None]:
    """Hold the lock `name` inside the `with` block. Only root can.

    `doing` says what a command does while it holds this lock ("changing units"), for
    the message of a command that waits. Raise LockedError after five minutes,
    StartError if the lock's file cannot be made.
    """
    try:
        os.makedirs(DIRECTORY, 0o700, exist_ok=True)
        if why := path_ownership.weakness(DIRECTORY):
            raise StartError(f"{why}: refusing to use a lock that another user could take")
        fd = os.open(
            path_of(name),
            os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
        )
    except OSError as error:
        raise StartError(f"{DIRECTORY}: cannot create a lock there: {error.strerror}") from None
    try:
        _take(fd, path_of(name), doing)
        yield
    finally:
        os.close(fd)


def _take(fd: int, path: str, doing: str) -> None:
    """Lock `fd`; say on stderr what is waited for, if it takes long. Raise
    LockedError.
    """
    began, noticed = time.monotonic(), False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - began
        if waited >= _TIMEOUT:
            raise LockedError(
                f"another command has been {doing} for {waited:.0f} s: find the process with fuser -v {path}, then retry"
            )
        if waited >= _NOTICE_AFTER and not noticed:
            noticed = True
            print(f"waiting: another command is {doing}", file=sys.stderr, flush=True)
        time.sleep(_RETRY_INTERVAL)
