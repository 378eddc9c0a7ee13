"""A file in memory, for what a program says that we run.

A pipe that is not read blocks its writer, and a temporary file needs a disk with room.
On a full disk an administrator needs `spyglass logs` and `status` most.
"""

from __future__ import annotations

import os
from typing import IO

from spyglass.master import settings_record

_LARGEST = 1 << 20  # bytes that are read of it


def create() -> IO[bytes]:
    """Return an empty file. Raise OSError."""
    return os.fdopen(settings_record.new_memory_file("spyglass-output", os.MFD_CLOEXEC), "w+b")


def text_of(stream: IO[bytes]) -> str:
    """Return what was written to the file, by whichever process."""
    return os.pread(stream.fileno(), _LARGEST, 0).decode(errors="replace")
