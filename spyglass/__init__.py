"""Spyglass: a preforking WSGI server that lives inside systemd. Asleep, an app costs
nothing.

Here is what an app may ask of it: `stay_awake()` and `last_wake()`. Every wake imports
this file, so they come when they are asked for (PEP 562).
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.api import stay_awake as stay_awake
    from spyglass.config.settings import Config
    from spyglass.runtime.shared_memory import Shared
    from spyglass.woken import last_wake as last_wake

# Of the process that the app runs in, where a server has forked it: its pid, its slot
# of the scoreboard, and what rings the bell.
_slot: tuple[int, memoryview[int], Callable[[], None]] | None = None
# And by what it serves: what all processes share, and the settings.
_serving: tuple[Shared, Config] | None = None


def __getattr__(name: str) -> object:
    if name == "stay_awake":
        from spyglass.api import stay_awake

        globals()[name] = stay_awake
        return stay_awake
    if name == "last_wake":
        from spyglass.woken import last_wake

        globals()[name] = last_wake
        return last_wake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
