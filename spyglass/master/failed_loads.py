"""The attempts to load the app that failed: how many in a row, what the journal has of
them, and when another attempt is worth making.
"""

from __future__ import annotations

import os
import time

from spyglass.policy.respawn import retry_pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.errors import LoadError
    from spyglass.log import Log


class FailedLoads:
    """`in_a_row` (int) since the app last answered a request, `total` (int) of all. An
    app with workers that cannot live counts as one that cannot be loaded.
    """

    def __init__(self, log: Log) -> None:
        self.in_a_row = 0
        self.total = 0
        self.latest = ""  # its summary; the journal has its details
        self._log = log

    def add(self, what: str, error: LoadError) -> None:
        """One more has failed; `what` (str) says what that means. Of the same failure
        again the journal gets one line.
        """
        self.total += 1
        self.in_a_row += 1
        if self.latest == error.summary:
            self._log.info(f"still {what}: {error.summary}")
            return
        self.latest = error.summary
        self._report(what, error)

    def add_requested(self, what: str, error: LoadError) -> None:
        """The same for a reload that failed while the app serves: each gets its
        details, and it is not the first of many.
        """
        self.total += 1
        self._report(what, error)

    def _report(self, what: str, error: LoadError) -> None:
        details = f"\n{error.details}" if error.details and not error.told else ""
        self._log.error(f"{what}: {error.summary}{details}")

    def forget(self) -> None:
        """The app has answered a request."""
        self.in_a_row, self.latest = 0, ""


class Trouble:
    """Why the app cannot serve: `error`, for the `count`th time in a row, and when
    another attempt is worth making.

    `began` (float) is the wall clock's time at which the failed attempt began, `now`
    (float) is monotonic. A file that was fixed while the attempt still ran was modified
    after that.
    """

    def __init__(self, error: LoadError, count: int, began: float, now: float) -> None:
        self.error = error
        self.count = count
        self.retry_at = now + retry_pause(count)
        self._seen = {path: _look_at(path) for path in error.files}
        self._fixed_meanwhile = any(
            seen is not None and began < seen[0] / 1e9 <= time.time()
            for seen in self._seen.values()
        )

    def may_retry(self, now: float) -> bool:
        """Return True if the pause is over, or a file at fault has changed."""
        return (
            now >= self.retry_at
            or self._fixed_meanwhile
            or any(_look_at(path) != seen for path, seen in self._seen.items())
        )


def _look_at(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # the latter: no file can have such a name
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
