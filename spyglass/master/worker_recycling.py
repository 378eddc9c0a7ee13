"""Replaces worn-out workers, one at a time, without a gap.

The fresh worker is started first; the old one is told to finish when the fresh one
accepts. "One at a time" ends when the old process has exited, so there is never more
than one process too many. An app with one process (Config.one_process) cannot have two:
there the old worker exits first. Which worker is worn out is decided in
policy/recycling.py.
"""

from __future__ import annotations

import time

from spyglass.policy import recycling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.master.worker_records import Worker

_WEIGH_EVERY = 5.0  # seconds between two looks at the memory of the workers
_RETRY_AFTER = 5.0  # seconds until the next attempt when a fresh worker did not live
_NEVER = float("inf")
_REQUESTS = "max_requests"


def limit_of(worker: Worker) -> str:
    """Return the setting because of which `worker` was recycled."""
    return _REQUESTS if worker.recycled == _REQUESTS else "max_memory"


class WorkerRecycling:
    """Of the generation's `workers` (its own dict, by slot number). `spawn()` starts a
    worker; `retire(worker)` tells one to finish, however long that takes.
    """

    def __init__(
        self,
        config: Config,
        workers: dict[int, Worker],
        log: Log,
        spawn: Callable[[float, int], Worker],
        retire: Callable[[Worker], None],
    ) -> None:
        self._max_memory = config.max_memory
        self._workers = workers
        self._log = log
        self._spawn = spawn
        self._retire = retire
        self._handover: tuple[Worker, Worker] | None = None  # the old worker, the fresh one
        self._not_before = 0.0
        self._weigh_at = 0.0

    @property
    def under_way(self) -> bool:
        """Two processes share the place of one."""
        return self._handover is not None

    def follow(self) -> None:
        """Take the handover that is under way, if any, one step further."""
        if self._handover is None:
            return
        old, fresh = self._handover
        if old.draining or fresh.draining:
            # For another reason. Whether a worker is missing, or one too many, is found
            # by the count, as always.
            self._handover = None
        elif fresh.accepting:
            self._retire(old)
            self._handover = None

    def find(self, now: float) -> Worker | None:
        """Return the worker to replace now, with the reason in its `recycled`. To be
        called while all workers are there and none is exiting.
        """
        if now < self._not_before:
            return None
        self._weigh(now)
        slot = recycling.worn_out(
            [worker.slot() for worker in self._workers.values()], self._max_memory
        )
        if slot is None:
            return None
        worker = self._workers[slot.number]
        heavy = self._max_memory and slot.memory > self._max_memory
        worker.recycled = (
            f"its memory had grown to {slot.memory / (1 << 20):.0f} MiB" if heavy else _REQUESTS
        )
        return worker

    def begin(self, old: Worker, now: float, order: int) -> None:
        """Start the worker that replaces `old`, under `order`."""
        self._handover = old, self._spawn(now, order)

    def fresh_one_failed(self, number: int) -> bool:
        """Worker `number` has ended. Return True if it was to replace another one that
        serves on: then no worker is missing. Another attempt is made later.
        """
        if (
            self._handover is None
            or self._handover[1].number != number
            or self._handover[1].accepting
        ):
            return False
        self._handover = None
        self._not_before = time.monotonic() + _RETRY_AFTER
        return True

    def forget(self, worker: Worker) -> None:
        """`worker` has ended."""
        if self._handover is not None and worker in self._handover:
            self._handover = None

    def _weigh(self, now: float) -> None:
        if not self._max_memory or now < self._weigh_at:
            return
        self._weigh_at = now + _WEIGH_EVERY
        try:
            # Here, so that only apps with a limit pay for the import.
            from spyglass.master.worker_memory import share

            for worker in self._workers.values():
                worker.memory = share(worker.pid)
        except PermissionError as error:
            self._log.warning(f"max_memory has no effect: {error}")
            self._weigh_at = _NEVER
        except OSError:
            pass  # no descriptor is left, or no memory: at the next look there may be
