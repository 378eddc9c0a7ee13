"""Which settings say nothing about an ASGI app. Each wake of one imports this."""

from __future__ import annotations

from spyglass.config.settings import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.config.settings import Config

# Its calls run in one event loop, and it gets a body while that arrives.
_WSGI_ONLY = ("threads", "body_memory", "bodies_memory", "bodies_disk")


def without_effect(config: Config) -> list[str]:
    """Return the settings that are set, and have no effect on an ASGI app."""
    return [name for name in _WSGI_ONLY if config.values[name] != SETTINGS[name].default]
