"""Keep large request bodies on disk while they arrive: in files without a name, in the
service's cache directory.

Not in /tmp, which on Debian 13 is memory: systemd makes it a tmpfs of a tenth of the
memory (DynamicUser= in systemd.exec(5)). An upload there would take the memory that it
is to be kept out of. Without a cache directory from systemd, or when it cannot be
written, it is the directory that tempfile chooses ($TMPDIR).
"""

from __future__ import annotations

import errno

from spyglass.http11.request_body import temporary_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from spyglass.log import Log

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""What write(2) reports when a disk, or our share of it, is full."""
_NO_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))


class Spool:
    """Opens files in `directory` (path, or "" for the one that tempfile chooses)."""

    def __init__(self, directory: str, log: Log) -> None:
        self._directory = directory
        self._log = log

    def open(self) -> BinaryIO:
        """Return a file without a name: it is gone with this process, however that
        ends. Raises OSError when there is no room or no descriptor.
        """
        if self._directory:
            try:
                return temporary_file(self._directory)
            except OSError as error:
                if error.errno in FULL | _NO_DESCRIPTORS:
                    raise
                self._log.error(
                    f"no request body can be kept in {self._directory}: {error.strerror}; they go to $TMPDIR or /tmp"
                )
                self._directory = ""
        return temporary_file()
