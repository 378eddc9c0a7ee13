"""One administrator's command at a time, by locks that only root can take.

flock(2) on a file that others can open is theirs to take as well, and to keep: every
command would wait for them. So the locks are files of their own, in a directory of
root's.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spyglass.errors import EX_UNAVAILABLE, StartError
from spyglass.ops import path_ownership

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = "/run/spyglass-admin"
_NOTICE_AFTER = 1.0  # seconds, after which it says what it waits for
_TIMEOUT = 300.0  # seconds
_RETRY_INTERVAL = 0.05  # seconds between two tries: flock(2) has no time limit


class LockedError(StartError):
    """Another command has been at it for too long."""

    exit_status = EX_UNAVAILABLE


@contextmanager
def held(name: str, doing: str) -> Iterator[None]:
    """Hold the lock `name` meanwhile; `doing` is what another command does that has it:
    "changing units".

    Raise LockedError when that takes more than five minutes, StartError where there can
    be no lock. Only for root.
    """
    try:
        os.makedirs(DIRECTORY, 0o700, exist_ok=True)
        if why := path_ownership.weakness(DIRECTORY):
            raise StartError(f"{why}: nothing is done without a lock that is root's alone")
        fd = os.open(
            os.path.join(DIRECTORY, name),
            os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
        )
    except OSError as error:
        raise StartError(f"{DIRECTORY}: no lock can be made there: {error.strerror}") from None
    try:
        _take(fd, os.path.join(DIRECTORY, name), doing)
        yield
    finally:
        os.close(fd)


def _take(fd: int, path: str, doing: str) -> None:
    began, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - began
        if waited >= _TIMEOUT:
            raise LockedError(
                f"another command has been {doing} for {waited:.0f} s: find out which process has {path} open (fuser -v), then try again"
            )
        if waited >= _NOTICE_AFTER and not told:
            told = True
            print(f"waiting: another command is {doing}", file=sys.stderr, flush=True)
        time.sleep(_RETRY_INTERVAL)
