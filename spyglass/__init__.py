"""Spyglass: a preforking WSGI server that lives inside systemd. Asleep, an app costs nothing.

Here is what an app may ask of it: `stay_awake()`. Every wake imports this file, so that comes when it is asked for (PEP 562).
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.awake import stay_awake as stay_awake

# Of the process that the app runs in, where a server has forked it: its pid, its slot of the scoreboard, and what rings the bell.
_slot: tuple[int, memoryview[int], Callable[[], None]] | None = None


def __getattr__(name: str) -> object:
    if name == "stay_awake":
        from spyglass.awake import stay_awake

        globals()[name] = stay_awake
        return stay_awake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
