"""What is remembered of an app while it sleeps: how often it woke and how long that
took, what it answered, and why it exited.

A file in the app's state directory, one line a fact, written by the Master and read by
`spyglass list` and `status`. It is part of no wake and no request. The Master imports
this when the app is being loaded. What it does to exit comes after the file is written,
so a slow disk delays the exit and no client.

The directory belongs to the app, which may do with it what it likes. So the reader
takes nothing for granted, and a Master that cannot write says so once and carries on.
There is no fsync(2): after a power cut the counts of the last seconds are lost, or all
of them. That is less than every sleeping disk would pay for it.
"""

from __future__ import annotations

import errno
import os
import time

from spyglass.master.counter_record import CODES, KILLED, Process, Record, parse
from spyglass.runtime import scoreboard, untrusted_files
from spyglass.wake_record import began

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from spyglass.log import Log
    from spyglass.master.worker_records import Worker
    from spyglass.runtime.shared_memory import Shared

NAME = ".spyglass-counters"
EVERY = 10.0  # seconds between two writes while it is awake
_FIRST_AFTER = 1.0  # seconds after READY=1, when the first client has its answer
_NEVER = float("inf")
# Seconds; a write that takes longer must not delay the next Master, for which a client
# may wait.
SLOW = 0.5
_LARGEST = 64 << 10  # bytes: of 256 workers and two generations, and then some


def read(directory: str) -> Record:
    """Return the record in the state directory `directory`.

    Raises FileNotFoundError if there is none, ValueError if it is damaged or in an
    unknown format, OSError if it cannot be read. The app may have put anything there: a
    link is not followed, a pipe not waited for.
    """
    try:
        data = untrusted_files.read(os.path.join(directory, NAME), _LARGEST)
    except untrusted_files.NotRegularError as error:
        raise ValueError(error.strerror) from None
    return parse(data.decode())


def write(directory: str, text: str) -> None:
    """Replace the file's contents by `text`, atomically. Raises OSError, and then the
    old file is still there.
    """
    new = os.path.join(directory, NAME + ".new")
    try:
        # Left by a Master that was killed, or made by the app. It may be anything, so
        # it is not opened.
        os.unlink(new)
    except FileNotFoundError:
        pass
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            data = text.encode("utf-8", "backslashreplace")
            if os.write(fd, data) != len(data):
                # There was room for a part of it (write(2)).
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)
        os.rename(new, os.path.join(directory, NAME))
    except OSError:
        try:
            os.unlink(new)
        except OSError:
            pass
        raise


class Counters:
    """The Master's counts, added to those of the Masters before it, in the
    STATE_DIRECTORY of `environ` (systemd.exec(5)).

    Raises OSError if no descriptor is left to read those: they are still there, and can
    be read later.
    """

    def __init__(self, environ: Mapping[str, str], shared: Shared, log: Log) -> None:
        self._directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
        self._log = log
        self._before = Record()
        self._board = shared.board
        self._started = began(shared)
        self._woke = time.time() - time.monotonic() + self._started
        self._by = str(shared.woken_by) if shared.woken_by is not None else ""
        self._told = self._written = ""
        self.slow = False  # the last write was
        try:
            self._before = read(self._directory)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            why = (
                error.strerror
                if isinstance(error, OSError)
                else "it is damaged or in an unknown format"
            )
            log.warning(
                f"counters start from zero: {os.path.join(self._directory, NAME)} cannot be read: {why}"
            )
        if self._before.awake:
            self._before.why, self._before.left = KILLED, self._before.written
            self._before.exits[KILLED] += 1

    def note(
        self,
        workers: Iterable[Worker],
        failures: int,
        reloads: int,
        loading: float,
        why: str,
        refused: int = 0,
    ) -> float:
        """Write what this Master has counted; return the seconds until the next time.

        `workers` are the living ones; the scoreboard has the sums of the others.
        `loading` is how many seconds the app took to load, `why` the Master exits, or
        "", and `refused` how many requests it has answered with 503 itself. Nothing is
        written when nothing has changed. Never raises.
        """
        record = self.record(workers, failures, reloads, loading, why, refused)
        news = record.text()
        if news == self._written:
            return EVERY
        record.written = time.time()
        record.left = record.written if why else record.left
        began = time.monotonic()
        try:
            write(self._directory, record.text())
            self._written = news
        except OSError as error:
            if error.strerror != self._told:
                self._told = str(error.strerror)
                self._log.warning(
                    f"counters are not saved: {os.path.join(self._directory, NAME)} cannot be written: {self._told}"
                )
        took = time.monotonic() - began
        self.slow = took > SLOW
        # However slow the disk: at most a hundredth of the Master's time goes to it.
        return max(EVERY, 100 * took)

    def record(
        self,
        workers: Iterable[Worker],
        failures: int,
        reloads: int,
        loading: float,
        why: str = "",
        refused: int = 0,
    ) -> Record:
        """Return what note() would write, except for the time of writing."""
        before, record, board = self._before, Record(), self._board
        answers = board.answers
        for worker in workers:
            cells = worker.cells
            answers = scoreboard.add(answers, scoreboard.read_answers(cells))
            record.workers.append(
                Process(
                    worker.pid,
                    cells[scoreboard.SERVED],
                    cells[scoreboard.ERRORS],
                    cells[scoreboard.OPEN],
                )
            )
            if (number := cells[scoreboard.INTERFACE]) in (1, 2):  # the app may write there
                record.interface = scoreboard.INTERFACES[number]
        record.interface = record.interface or before.interface
        record.awake = 0 if why else 1
        record.why = why or before.why
        record.left = 0.0 if why else before.left
        record.wakes = before.wakes + 1
        record.recent_requests = board.served + sum(each.served for each in record.workers)
        record.recent_errors = board.errors + sum(each.errors for each in record.workers)
        record.requests = before.requests + record.recent_requests
        record.errors = before.errors + record.recent_errors
        record.crashes = before.crashes + board.crashes
        record.failures, record.reloads = before.failures + failures, before.reloads + reloads
        record.woke, record.by = self._woke, self._by
        record.since = before.since or record.woke
        record.wake_ms = (
            max(0.0, board.accepting_since / 1e6 - self._started * 1e3)
            if board.accepting_since
            else 0.0
        )
        record.load_ms = loading * 1000
        _add_answers(record, before, answers)
        record.refusals["5xx"] += refused
        _add_reasons(record, before, board.restarts, why)
        record.wakes_took.include(before.wakes_took.counts, before.wakes_took.seconds)
        if board.accepting_since:
            record.wakes_took.add(record.wake_ms / 1000)
        return record


def _add_answers(record: Record, before: Record, answers: list[int]) -> None:
    """Fill in what was answered `before`, and by the workers of this Master: their
    cells from ANSWERS on.
    """
    first, size = scoreboard.ANSWERS, scoreboard.BUCKETS
    untimed = answers[scoreboard.UNTIMED - first :]
    took = record.requests_took
    took.include(before.requests_took.counts, before.requests_took.seconds)
    took.seconds += answers[scoreboard.TOOK - first] / 1e9
    for number, code in enumerate(CODES[:-1]):
        timed = answers[number * size : (number + 1) * size]
        took.include(timed, 0.0)
        record.codes[code] = before.codes[code] + sum(timed) + untimed[number]
    record.codes["cut"] = before.codes["cut"] + answers[scoreboard.CUT - first]
    for number, code in enumerate(record.refusals, scoreboard.REFUSED - first):
        record.refusals[code] = before.refusals[code] + answers[number]


def _add_reasons(record: Record, before: Record, restarts: Mapping[str, int], why: str) -> None:
    """Fill in why workers were replaced, and why Masters exited; this one does, if
    there is a `why`.
    """
    for reason in record.restarts:
        record.restarts[reason] = before.restarts[reason] + restarts.get(reason, 0)
    record.exits.update(before.exits)
    if (kind := why.partition(":")[0].partition(" ")[0]) in record.exits:
        record.exits[kind] += 1


class CounterNotes:
    """When the Master writes its counters down: a while after READY=1, from time to
    time while it is awake, and before it exits. Nothing is written without a
    STATE_DIRECTORY.

    `workers()` are those that there are, `failures()` how many attempts to load the app
    have failed, `refused()` how many requests the Master has answered with 503.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        shared: Shared,
        log: Log,
        workers: Callable[[], list[Worker]],
        failures: Callable[[], int],
        refused: Callable[[], int] = int,
    ) -> None:
        self._environ = environ
        self._shared = shared
        self._log = log
        self._workers = workers
        self._failures = failures
        self._refused = refused
        self._counters: Counters | None = None  # none has been read yet
        self._note_at = _NEVER
        self._load_seconds = 0.0
        self._reloads = 0

    def begin(self, now: float) -> None:
        """The app is ready: the first time is when the first client has its answer."""
        if self._environ.get("STATE_DIRECTORY"):
            self._note_at = now + _FIRST_AFTER

    def loaded(self, seconds: float, *, reload: bool) -> None:
        """A generation serves, after `seconds`; `reload`: because of a reload."""
        self._load_seconds = seconds
        self._reloads += reload

    def note(self, why: str = "") -> None:
        """Write them now; `why` the Master exits, or "". Never raises."""
        if not self._environ.get("STATE_DIRECTORY"):
            return
        counters = self._read_counters()
        # Without a descriptor to read it with: to begin from nothing would be to lose
        # what was counted before.
        if counters is None:
            self._note_at = time.monotonic() + _FIRST_AFTER
            return
        pause = counters.note(
            self._workers(),
            self._failures(),
            self._reloads,
            self._load_seconds,
            why,
            self._refused(),
        )
        self._note_at = time.monotonic() + pause

    def current(self) -> Record | None:
        """Return the counters as they are now; None without a STATE_DIRECTORY, or if
        what was counted before cannot be read at present.
        """
        counters = self._read_counters() if self._environ.get("STATE_DIRECTORY") else None
        if counters is None:
            return None
        record = counters.record(
            self._workers(), self._failures(), self._reloads, self._load_seconds,
            refused=self._refused(),
        )  # fmt: skip
        record.written = time.time()
        return record

    def _read_counters(self) -> Counters | None:
        """Return the counters, which continue those of the Masters before this one, or
        None if those cannot be read at present.
        """
        if self._counters is None:
            try:
                self._counters = Counters(self._environ, self._shared, self._log)
            except OSError:
                return None
        return self._counters

    def end(self, why: str) -> None:
        """The last time, because of `why`; not on a slow disk. A client that came
        meanwhile waits in the queue for the next Master, and not for the disk.
        """
        if self._counters is None or not self._counters.slow:
            self.note(why)

    def stop(self) -> None:
        """No more until end()."""
        self._note_at = _NEVER

    def due(self, _now: float) -> list[float]:
        return [self._note_at]

    def look(self, now: float) -> None:
        if now >= self._note_at:
            self.note()

    def abandon(self) -> None:
        """Nothing in it is open."""
