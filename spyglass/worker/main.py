"""Becoming a worker: the first thing after the fork, and the last before the exit.

A worker is forked from the zygote with the app loaded. It holds the listeners, a slot
of the scoreboard, the Master's bell and the reading end of the life line. It leaves
when it is told to (by the Master, or by a SIGTERM from whoever), or when the life line
reports the end of its Master, always after it has finished what it accepted.

A process that the app forks in a request (os.fork(), and multiprocessing, which uses
it) is a copy of all that, but no worker. It has what it needs to go on in the app's
code, and nothing of ours; should it come back from there, it is ended.
"""

from __future__ import annotations

import faulthandler
import os
import select
import time

from spyglass.errors import LoadError, blame
from spyglass.log import Log, flush, traceback_of
from spyglass.runtime import scoreboard
from spyglass.runtime.fast_imports import signal
from spyglass.runtime.printable import name_of, words_of
from spyglass.worker.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from spyglass.config.settings import Config
    from spyglass.runtime.shared_memory import Shared
    from spyglass.runtime.signals import Signals
    from spyglass.zygote.app_loader import App

_HEAP_KEPT = 1 << 20
_DRAIN_ON = (signal.SIGTERM, signal.SIGQUIT)


def make_loop(config: Config, app: App, shared: Shared, number: int, log: Log) -> Loop:
    """Return the loop of worker `number`. Raises LoadError when the app, which is
    loaded by now, has taken something away that it takes.
    """
    slot = shared.board.slot(number)
    try:
        if config.idle_ignore:
            from spyglass.worker.idle_activity import (
                IgnoringLoop,
            )  # who ignores nobody does not pay for it

            return IgnoringLoop(config, app, shared.listeners, slot, log, shared.tell_master)
        return Loop(config, app, shared.listeners, slot, log)
    except Exception as error:
        what = "no worker can work beside this app, which may have replaced a part of the standard library"
        raise LoadError(
            f"{what}: {name_of(error)}: {words_of(error)}", traceback_of(error)
        ) from error


def work(loop: Loop, shared: Shared, number: int, log: Log, signals: Signals) -> None:
    """Serve until told to leave. The caller has just forked and has closed what was its
    own; `signals` has recorded since the fork.
    """
    # A crash, and a call that the Master ends for taking too long (SIGABRT), leave the
    # traceback of every thread in the journal.
    faulthandler.enable(2, all_threads=True)
    faulthandler.register(signal.SIGUSR2, 2, all_threads=True, chain=False)
    # The C library gives what is free at the end of the heap back to the kernel as soon
    # as it is more than 128 KiB, and a worker with bodies of some size would have it
    # taken, and its pages faulted in again, with each request. Both thresholds rise to
    # what the largest block needed that it has seen go (mallopt(3), M_MMAP_THRESHOLD):
    # this one was never touched, so it costs nothing.
    bytes(_HEAP_KEPT)
    _fill_standard_streams()
    slot = shared.board.slot(number)

    def obey() -> None:
        slot[scoreboard.HEARD] = time.monotonic_ns()
        order = slot[scoreboard.ORDER]
        if order == scoreboard.DRAIN:
            loop.drain()
        elif order == scoreboard.RETIRE:
            loop.retire()
        else:
            loop.quiesce(order > scoreboard.SERVE)
        if slot[scoreboard.ANSWER] != order:
            slot[scoreboard.ANSWER] = order
            shared.tell_master()

    def heed_bell() -> None:
        obey()
        loop.look()

    def heed_signals() -> None:
        # What else comes to the whole group, from a terminal or systemctl kill, is the
        # Master's to decide on.
        if any(number in _DRAIN_ON for number in signals.take()):
            loop.drain()
            shared.ring()
            shared.tell_master()

    def forked() -> None:
        shared.abandon()
        loop.abandon(Stray(log))

    os.register_at_fork(after_in_child=forked)
    loop.ours |= {shared.poke, signals.write_end, log.fd}
    loop.open_door(signals.fd, heed_signals)
    # Edge-triggered and read by nobody: one ring wakes every worker (epoll(7): each
    # write to an eventfd is a new edge).
    loop.open_door(shared.bell, heed_bell, select.EPOLLIN | select.EPOLLET)
    loop.open_door(
        shared.lifeline, loop.drain, select.EPOLLET
    )  # its end shows as EPOLLHUP, which cannot be masked; once is enough
    if slot[scoreboard.LIMIT]:
        loop.tell_after(slot[scoreboard.LIMIT], shared.tell_master)
    # Told to stop before we were there to hear it?
    obey()
    log.debug(
        f"accepting, pid {os.getpid()}"
    )  # before others leave because we do, so that the journal has them in this order
    slot[scoreboard.STATE] = scoreboard.ACCEPTING
    shared.board.note_accepting()
    shared.tell_master()
    try:
        loop.run()
    except Exception as error:
        # Not by way of what the app has for the end: it may wait for what will not come
        # any more.
        log.exception(blame(error), error)
        os._exit(1)
    slot[scoreboard.STATE] = scoreboard.LEAVING
    shared.tell_master()
    log.debug(f"leaving after {slot[scoreboard.SERVED]} requests")


def _fill_standard_streams() -> None:
    """Whoever has closed one of them while the app was loaded has left its number to
    the next client, who would get what is printed.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(
                os.open(os.devnull, os.O_RDWR), True
            )  # gets the lowest number that is free


class Stray(Log):
    """The log of a process that the app has forked, and its end when it comes back to
    us, in whatever way.
    """

    def __init__(self, worker: Log) -> None:
        super().__init__("stray", worker.level, like=worker)

    def exception(self, text: str, error: BaseException) -> None:
        """The app has raised `error`. An exit is what it says it is, only that nothing
        of what is the worker's is done on the way.
        """
        if not isinstance(error, SystemExit):
            super().exception(f"{text}, in a process that it had forked", error)
            self.end(1)
        code = error.code
        self.end(code if isinstance(code, int) else int(code is not None))

    def back(self) -> NoReturn:
        self.warning(
            "a process that the app has forked came back from its request, and is ended: it should end by os._exit()"
        )
        self.end(1)

    def end(self, status: int) -> NoReturn:
        flush()
        os._exit(status & 0xFF)
