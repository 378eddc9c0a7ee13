"""What an exchange needs of the worker around it, for the type checker only: see
gateway/interfaces.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from spyglass.log import Log


class Server(Protocol):
    """The worker; `date` (str) is the Date header now."""

    log: Log
    debug: bool
    date: str

    def would_keep(self) -> bool: ...
    def count_error(self) -> None: ...
