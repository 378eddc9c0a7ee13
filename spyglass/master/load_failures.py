"""Why a generation cannot serve: what the zygote, or a worker, reported before it
exited, and what the journal has of it already.
"""

from __future__ import annotations

from spyglass.errors import LoadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.log import Log


class LoadFailures:
    """Of one generation. `first` (bool): the app is tried for the first time, so what
    goes wrong is news.

    `loading` (LoadError or None) is why the app cannot be loaded. `unfit` (LoadError or
    None) is why the last worker that died could not begin to work, if it has said so.
    """

    def __init__(self, log: Log, *, first: bool) -> None:
        self.loading: LoadError | None = None
        self.unfit: LoadError | None = None
        self._first = first
        self._log = log
        self._logged = ""  # the summary that the journal has

    def load_failed(self, summary: str, details: str, files: list[str]) -> None:
        """The app raised an error while it was loaded."""
        self.loading = LoadError(summary, details, files)

    def load_ended(self, how: str) -> None:
        """The process that loaded the app is gone; `how` it ended ("was killed by
        SIGSEGV") matters only if it has not told more.
        """
        if self.loading is None:
            self.loading = LoadError(f"the app's process {how} while it was being loaded")

    def worker_unfit(self, why: tuple[Any, ...], *, accepting: bool) -> LoadError:
        """A worker reports `why` it cannot begin to work (summary, details, files).
        `accepting` (bool): others of its generation serve.
        """
        error = LoadError(*why)
        if error.summary == self._logged:
            error.told = True
        elif self._first or accepting:
            # Else it is another attempt at what is broken, and the Master logs what is
            # new about that.
            error.told, self._logged = True, error.summary
            self._log.error(f"a worker cannot start: {error.summary}\n{error.details}".rstrip())
        return error

    def worker_died_loading(self, unfit: LoadError | None, how: str) -> None:
        """The worker loaded the app itself (preload = false), and no other one has."""
        if unfit is not None and self.loading is None:
            self.loading = unfit
        self.load_ended(how)
