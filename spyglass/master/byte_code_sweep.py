"""Deletes byte code that belongs to no source any more, from the app's cache directory.

Done while no client waits: before an idle app exits, and after a reload.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.config.settings import Config


def sweep_byte_code(config: Config) -> None:
    """Sweep the cache of the app that `config` describes."""
    if not os.environ.get("CACHE_DIRECTORY"):
        return
    try:
        from spyglass.zygote import byte_code_cache as byte_code
        from spyglass.zygote.app_loader import byte_code_cache
    except OSError:  # no descriptor is left
        return
    app, venv = os.path.abspath(config.directory), config.venv
    byte_code.sweep(
        byte_code_cache(),
        [
            app,
            os.path.join(app, venv) if venv else "",
            os.path.dirname(os.__file__),
            "/usr/lib/python3",
        ],
    )
