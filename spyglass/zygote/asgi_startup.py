"""In a worker: have an ASGI app start, or say why it cannot.

The zygote imports this, and with it all that an ASGI app's worker needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.config.asgi_settings import without_effect
from spyglass.errors import LoadError
from spyglass.worker.asgi.lifespan import StartupFailedError
from spyglass.worker.asgi.runner import Runner
from spyglass.zygote.app_loader import failure, source_of

if TYPE_CHECKING:
    from spyglass.config.settings import Config
    from spyglass.log import Log
    from spyglass.worker.loop import Loop
    from spyglass.zygote.rehearsal import Rehearsal


def note(config: Config, log: Log, rehearsal: Rehearsal | None) -> None:
    """Log which settings have no effect on an ASGI app, if any of them is set. A
    rehearsal reports them itself.
    """
    if rehearsal is None and (unused := without_effect(config)):
        log.info(f"settings without effect on an ASGI app: {', '.join(unused)}")


def start(worker: Loop | Runner, config: Config, rehearsal: Rehearsal | None) -> None:
    """Run `lifespan.startup`, and in a rehearsal `lifespan.shutdown` after it. Raise
    LoadError with the app's own message and traceback, if it fails.
    """
    assert isinstance(worker, Runner)
    try:
        worker.start()
        if rehearsal is not None:
            rehearsal.started(has_lifespan=worker.has_lifespan)
            worker.stop()
    except StartupFailedError as failed:
        files = source_of(config)
        if failed.__cause__ is not None:
            raise failure(failed.__cause__, files, doing="lifespan.startup") from failed
        # Starlette sends a traceback: what it ends with says most.
        last = failed.message.rpartition("\n")[2]
        details = failed.message if last != failed.message else ""
        why = f"the app sent lifespan.startup.failed: {last}".removesuffix(": ")
        raise LoadError(why, details, files) from None
