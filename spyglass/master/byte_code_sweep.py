"""Deletes byte code that belongs to no source any more, from the app's cache directory.

Done while no client waits: before an idle app exits, and after a reload.
"""

from __future__ import annotations

import os

from spyglass.runtime.sd_daemon import byte_code_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.config.settings import Config


def sweep_byte_code(config: Config) -> None:
    """Sweep the cache of the app that `config` describes."""
    if not os.environ.get("CACHE_DIRECTORY"):
        return
    try:
        from spyglass.zygote import byte_code_cache
    except OSError:  # no descriptor is left
        return
    app, venv = os.path.abspath(config.directory), config.venv
    byte_code_cache.sweep(
        byte_code_directory(),
        [
            app,
            os.path.join(app, venv) if venv else "",
            os.path.dirname(os.__file__),
            "/usr/lib/python3",
        ],
    )
