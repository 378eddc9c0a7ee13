"""Become a worker: the first thing after the fork, and the last before the exit.

A worker is forked from the zygote with the app loaded. It holds the listeners, a slot
of the scoreboard, the Master's bell and the reading end of the life line. It exits when
the Master or a SIGTERM tells it to, or when the life line reports the end of its
Master, always after it has finished what it accepted.

A process that the app forks in a request (os.fork(), and multiprocessing, which uses
it) is a copy of all that, but no worker. It keeps what it needs to go on in the app's
code, and nothing of ours. If it returns from there, it is ended.
"""

from __future__ import annotations

import faulthandler
import os
import select
import time

from spyglass.errors import LoadError, blame
from spyglass.log import Log, flush, traceback_of
from spyglass.printable import name_of, words_of
from spyglass.runtime import scoreboard
from spyglass.runtime.fast_imports import signal
from spyglass.worker.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from spyglass.config.settings import Config
    from spyglass.gateway.wsgi import App
    from spyglass.runtime.shared_memory import Shared
    from spyglass.runtime.signals import Signals
    from spyglass.worker.asgi.runner import Runner

_HEAP_KEPT = 1 << 20
_DRAIN_ON = (signal.SIGTERM, signal.SIGQUIT)


def make_loop(
    config: Config, app: App, shared: Shared, number: int, log: Log, *, is_asgi: bool = False
) -> Loop | Runner:
    """Return the loop of worker `number`, or the Runner that has it if the app is an
    ASGI app. Raises LoadError when the app, which is loaded by now, has replaced or
    removed something that a worker needs.
    """
    slot = shared.board.slot(number)
    try:
        activity = None
        if config.idle_ignore:
            # In here: only a worker with idle_ignore needs it
            from spyglass.worker.idle_activity import IgnoringActivity

            activity = IgnoringActivity(slot, config.idle_ignore, shared.tell_master)
        if is_asgi:
            # In here: nothing of asyncio is imported for a WSGI app
            from spyglass.worker.asgi.runner import Runner

            return Runner(config, app, shared.listeners, slot, log, activity)
        return Loop(config, app, shared.listeners, slot, log, activity)
    except Exception as error:
        what = "no worker can work beside this app, which may have replaced a part of the standard library"
        raise LoadError(
            f"{what}: {name_of(error)}: {words_of(error)}", traceback_of(error)
        ) from error


def work(loop: Loop | Runner, shared: Shared, number: int, log: Log, signals: Signals) -> None:
    """Serve until told to exit. The caller has just forked and has closed what was its
    own; `signals` has recorded since the fork.
    """
    runner, loop = (None, loop) if isinstance(loop, Loop) else (loop, loop.loop)
    _prepare_process()
    slot = shared.board.slot(number)

    def forked() -> None:
        shared.abandon()
        stray = Stray(log)
        loop.abandon(stray, stray.back)
        if runner is not None:
            runner.abandon(stray.back)

    os.register_at_fork(after_in_child=forked)
    loop.acceptor.reserved |= {shared.poke, signals.write_end, log.fd}
    _obey_orders(loop, shared, slot, signals)
    # Before the others exit because this worker is there, so that the journal has the
    # lines in this order
    log.debug(f"accepting, pid {os.getpid()}")
    slot[scoreboard.INTERFACE] = 1 if runner is None else 2
    slot[scoreboard.STATE] = scoreboard.ACCEPTING
    shared.board.note_accepting()
    shared.tell_master()
    try:
        if runner is None:
            loop.run()
        else:
            runner.ask_for_another = shared.tell_master
            runner.run()
    except Exception as error:
        # Not through the app's atexit functions: they may wait for what will not
        # happen any more.
        log.exception(blame(error), error)
        os._exit(1)
    slot[scoreboard.STATE] = scoreboard.LEAVING
    shared.tell_master()
    if runner is not None:
        runner.stop()
    log.debug(f"leaving after {slot[scoreboard.SERVED]} requests")


def _obey_orders(loop: Loop, shared: Shared, slot: memoryview[int], signals: Signals) -> None:
    """Have `loop` hear the Master's orders, signals, and the end of the Master."""

    def obey() -> None:
        slot[scoreboard.HEARD] = time.monotonic_ns()
        order = slot[scoreboard.ORDER]
        if order == scoreboard.DRAIN:
            loop.drain()
        elif order == scoreboard.RETIRE:
            loop.retire()
        else:
            loop.quiesce(order > scoreboard.SERVE)
            if order == scoreboard.PART:
                loop.part()
        if slot[scoreboard.ANSWER] != order:
            slot[scoreboard.ANSWER] = order
            shared.tell_master()

    def heed_bell() -> None:
        obey()
        loop.acceptor.look()

    def heed_signals() -> None:
        # Other signals that come to the whole group, from a terminal or systemctl kill,
        # are the Master's to decide on.
        if any(number in _DRAIN_ON for number in signals.take()):
            loop.drain()
            shared.ring()
            shared.tell_master()

    loop.warm_up.when_done = shared.tell_master  # it waits for the first answer, too
    loop.open_door(signals.fd, heed_signals)
    # Edge-triggered and never read: one ring wakes every worker (epoll(7): each write
    # to an eventfd is a new edge).
    loop.open_door(shared.bell, heed_bell, select.EPOLLIN | select.EPOLLET)
    # Its end shows as EPOLLHUP, which cannot be masked; once is enough.
    loop.open_door(shared.lifeline, loop.drain, select.EPOLLET)
    if slot[scoreboard.LIMIT]:
        loop.tell_after(slot[scoreboard.LIMIT], shared.tell_master)
    obey()  # the order may have been given before we could hear it


def _prepare_process() -> None:
    # A crash, and a call that the Master ends for taking too long (SIGABRT), leave the
    # traceback of every thread in the journal.
    faulthandler.enable(2, all_threads=True)
    faulthandler.register(signal.SIGUSR2, 2, all_threads=True, chain=False)
    # The C library gives what is free at the end of the heap back to the kernel as soon
    # as it is more than 128 KiB. A worker with bodies of some size would have it taken,
    # and its pages faulted in again, with each request. Both thresholds rise to the
    # size of the largest block that was freed (mallopt(3), M_MMAP_THRESHOLD). This
    # block was never touched, so it costs nothing.
    bytes(_HEAP_KEPT)
    # If the app has closed a standard stream while it was loaded, the next client would
    # get its number, and what is printed.
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # open(2) returns the lowest number that is free
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


class Stray(Log):
    """The log of a process that the app has forked, and its end when it returns to our
    code, in whatever way.
    """

    def __init__(self, worker: Log) -> None:
        super().__init__("stray", worker.level, like=worker)

    def exception(self, text: str, error: BaseException) -> None:
        """The app has raised `error`. A SystemExit is obeyed, but none of the worker's
        own clean-up runs on the way.
        """
        if not isinstance(error, SystemExit):
            super().exception(f"{text}, in a process that it had forked", error)
            self.end(1)
        code = error.code
        self.end(code if isinstance(code, int) else int(code is not None))

    def back(self) -> NoReturn:
        """The app's call has returned in this process."""
        self.warning(
            "a process that the app has forked came back from its request, and is ended: it should end by os._exit()"
        )
        self.end(1)

    def end(self, status: int) -> NoReturn:
        """Exit at once, without the app's atexit functions."""
        flush()
        os._exit(status & 0xFF)
