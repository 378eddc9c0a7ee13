"""The zygote as its Master holds it: a pid, a scoreboard slot and the channel.

The Master forks it (beginning.py), sends it the numbers of the slots for which it is to
fork workers, and hears from it what became of them. The channel ends when both the
zygote and all that it has forked have closed their end; the process ends when
waitpid(2) says so. The two may come in either order, and each is handled by itself.
"""

from __future__ import annotations

import os
import time

from spyglass.config import sent_settings
from spyglass.master.beginning import Fork
from spyglass.runtime import channel, scoreboard
from spyglass.runtime.fast_imports import signal, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.policy.worker_slot import Slot
    from spyglass.runtime.poller import Poller
    from spyglass.runtime.shared_memory import Shared

_MESSAGES_A_TURN = 1024
_NEVER = float("inf")


class ZygoteProcess:
    """`pid` (int) is 0 before the fork and after the end. `started` (float) is
    monotonic, `started_wall` (float) the wall clock's, for comparison with times of
    files. `report(kind, *facts)`, set by its generation, is called for each message; it
    raises ValueError for one that no zygote would send.

    `first_worker` (int) is the slot of the worker that was ordered before there was a
    generation; -1: none was.

    `ending` (bool): it has been told that no more workers are wanted. `killed` (bool):
    this Master has sent it SIGKILL. `loaded_at` (monotonic seconds) is when the first
    message came: from then on the zygote has nothing to do but fork. `mute_since`
    (monotonic seconds) is when its channel ended.
    """

    def __init__(self, shared: Shared, poller: Poller, log: Log, made: Fork | None = None) -> None:
        """Start it by start(), unless it was `made` before."""
        self._fork = fork = Fork() if made is None else made
        self.pid = 0
        self.started, self.started_wall = fork.started, fork.started_wall
        self.report: Callable[..., object]
        self.first_worker = -1
        self.ending = self.killed = False
        self.loaded_at = self.mute_since = _NEVER
        self._shared = shared
        self._poller = poller
        self._log = log
        self._number: int | None = None  # of its scoreboard slot
        self._babbled = False  # a message of none of our kinds has been logged
        self._channel = fork.near
        self.fd = self._channel.fileno()  # -1 when the channel has ended
        self._heard: list[tuple[Any, ...]] = []  # by has_news()
        if made is not None:
            self._hold()

    def start(self, config: Config, become_child: Callable[[], None], *, first: bool) -> None:
        """Fork it, as Fork.run() does. Raises OSError."""
        self._fork.run(self._shared, self._log, config, become_child, first=first)
        self._hold()

    def _hold(self) -> None:
        self.pid, self._number = self._fork.pid, self._fork.number
        self._channel.setblocking(False)
        self._poller.watch(self.fd, self.hear)

    def told(self, config: Config) -> bool:
        """Tell it the settings, if it was forked before they were read. Return False if
        it cannot be told.
        """
        return sent_settings.send(self._channel, config)

    def abandon(self) -> None:
        """In the zygote of another generation."""
        self._channel.close()

    def begin_work(self, config: Config) -> None:
        """As the Master's first zygote, forked before the listeners were known: have it
        take them over, and fork a worker.
        """
        self._shared.pass_on(self._channel)
        self.first_worker = number = self._shared.board.take()
        if config.max_requests:
            # Only apps with this setting pay for the import.
            from spyglass.policy.recycling import request_limit

            limit = request_limit(config.max_requests, 0)
            self._shared.board.slot(number)[scoreboard.LIMIT] = limit
        self.spawn(number)

    def discard(self) -> None:
        """End it before begin_work(): it has run no code of the app, and waits, or is
        still importing.
        """
        self.kill()
        os.waitpid(self.pid, 0)
        self.pid = 0
        self._hang_up()
        self.give_back_slot()

    def spawn(self, number: int) -> None:
        """Have it fork a worker for slot `number`."""
        channel.send(self._channel, channel.SPAWN, number)

    def end_work(self) -> None:
        """End the channel for sending: it exits when its last worker has."""
        self.ending = True
        if self.fd >= 0:
            try:
                self._channel.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def kill_hung(self, why: str) -> None:
        """Kill it once, and log `why`. Its workers serve until another generation has
        taken over.
        """
        if self.pid and not self.killed:
            self.killed = True
            self._log.error(f"zygote {self.pid} killed: {why}")
            self.kill()

    def has_news(self) -> bool:
        """Before there is a generation: return True if it says anything but that a
        worker was born. hear() will take what was heard here first.
        """
        while True:
            try:
                message = channel.receive(self._channel)
            except BlockingIOError:
                return False
            except (ValueError, OSError) as error:
                self._babble(error)
                return True
            if message is None:
                return True
            self._heard.append(message)
            if message[0] != channel.SPAWNED:
                return True

    def hear(self) -> None:
        """Take its messages."""
        for _ in range(_MESSAGES_A_TURN):
            if self.fd < 0:
                return
            try:
                message = self._heard.pop(0) if self._heard else channel.receive(self._channel)
                if message is None:
                    self._hang_up()
                    return
                self._take(message)
            except BlockingIOError:
                return
            except (ValueError, OSError) as error:
                self._babble(error)

    def _babble(self, error: Exception) -> None:
        # Not from our own code: the app has found the channel. It may harm itself that
        # way, but not end the Master.
        if not self._babbled:
            self._babbled = True
            self._log.warning(
                f"ignoring an invalid message on the zygote's channel; the app seems to have written to it: {error}"
            )

    def _take(self, message: tuple[Any, ...]) -> None:
        self.report(*message)
        self.loaded_at = min(self.loaded_at, time.monotonic())

    def _hang_up(self) -> None:
        if self.fd >= 0:
            self._poller.unwatch(self.fd)
            self._channel.close()
            self.fd = -1
            self.mute_since = time.monotonic()

    def reaped(self) -> None:
        """The process has ended; what it still had to say is heard first."""
        self.hear()
        # The channel may not have ended: a process that the app has forked,
        # and that has not called exec, still holds the other end.
        self._hang_up()
        self.pid = 0

    @property
    def cells(self) -> memoryview[int] | None:
        return None if self._number is None else self._shared.board.slot(self._number)

    @property
    def leaving(self) -> bool:
        """Its work is done; what still runs is the app's code at exit."""
        cells = self.cells
        return cells is not None and cells[scoreboard.STATE] == scoreboard.LEAVING

    def slots(self) -> list[Slot]:
        """Its slot, in which the app may ask to stay awake; none when it has ended."""
        # In here: a wake forks its zygote first, and what only the Master needs comes
        # after that.
        from spyglass.master.worker_records import read_slot

        cells = self.cells
        return [] if self._number is None or cells is None else [read_slot(self._number, cells)]

    def seconds_to_accept(self, now: float) -> float:
        """Return how long a client had to wait for its workers, which accept by `now`.

        The first worker of all accepts while the Master waits for its answer.
        """
        accepting = self._shared.board.accepting_since / 1e9
        return (accepting if accepting > self.started else now) - self.started

    def give_back_slot(self) -> None:
        if self._number is not None:
            self._shared.board.give_back(self._number)
            self._number = None

    def overslept(self, seconds: float) -> None:
        self.started += seconds
        self.loaded_at += seconds
        self.mute_since += seconds
