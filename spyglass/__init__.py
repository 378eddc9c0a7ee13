"""Spyglass: a preforking WSGI and ASGI server that lives inside systemd. Asleep, an app
costs nothing.

An app may ask it for `stay_awake()` and `last_wake()`. `import spyglass` must be cheap,
so they are imported when they are used (PEP 562).
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.api import last_wake as last_wake
    from spyglass.api import stay_awake as stay_awake


def __getattr__(name: str) -> object:
    if name in ("stay_awake", "last_wake"):
        from spyglass import api

        found: object = getattr(api, name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
