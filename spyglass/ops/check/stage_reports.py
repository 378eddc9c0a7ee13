"""What a zygote and its worker report to `spyglass check`, stage by stage: how long it
took, and what it has found.
"""

from __future__ import annotations

import os
import sys
import time

from spyglass.ops.check import import_costs
from spyglass.runtime import channel
from spyglass.zygote.app_loader import module_of
from spyglass.zygote.fork_safety import Found, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.config.settings import Config
    from spyglass.runtime.fast_imports import socket
    from spyglass.zygote.import_effects import Watch

_LATER = 0.3  # seconds for a thread that was started at import to open what it needs


class Reporter:
    """The zygote's and the worker's part (rehearsal.Rehearsal): report to check."""

    def __init__(self, config: Config, far_end: socket.socket) -> None:
        self._config = config
        self._channel = far_end
        self._began = 0.0  # monotonic seconds: the stage that takes time
        self._took = 0  # milliseconds: the stage before that
        self._is_asgi = False

    def loading(self) -> None:
        from spyglass.zygote.where_opened import Places  # it changes the process: see there

        self._places = Places()
        self._imports = import_costs.ImportTimer()
        self._imports.start()
        self._began = time.monotonic()

    def loaded(self, watch: Watch, *, has_post_fork: bool, is_asgi: bool) -> None:
        self._imports.stop()
        self._is_asgi = is_asgi
        took = _milliseconds_since(self._began)
        channel.send(self._channel, channel.LOADED, took, _resident(), is_asgi)
        if line := self._imports.line():
            channel.send(self._channel, channel.IMPORTS, line)
        if watch.tids:
            time.sleep(_LATER)
            watch.look()
        found = watch.inherited(has_post_fork=has_post_fork, trace=self._places.of)
        if self._config.preload:
            refuse(found, module_of(self._config))
            found += _random_numbers(has_post_fork)
        for each in found:
            facts = each.grave, each.settled, each.what, each.why, each.locked
            channel.send(self._channel, channel.FOUND, *facts)

    def preparing(self) -> None:
        self._took = _milliseconds_since(self._began)
        self._began = time.monotonic()

    def started(self, *, has_lifespan: bool) -> None:
        took = _milliseconds_since(self._began)
        channel.send(self._channel, channel.LIFESPAN, took, has_lifespan)

    def ready(self, *, has_post_fork: bool) -> None:
        # That of an ASGI app was followed by its start.
        took = self._took if self._is_asgi else _milliseconds_since(self._began)
        took = took if has_post_fork else 0
        channel.send(self._channel, channel.READY, took, has_post_fork)


def _milliseconds_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _random_numbers(has_post_fork: bool) -> list[Found]:
    # `random` of the standard library, and OpenSSL, seed themselves again at a fork.
    if "numpy.random" not in sys.modules:
        return []
    why = "all workers draw the same numbers from it, unless post_fork() calls numpy.random.seed()"
    return [Found("numpy.random's own generator", why, grave=False, settled=has_post_fork)]


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
