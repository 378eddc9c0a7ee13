"""What an exchange needs of the server around it. Imported for type checking only: the
worker has classes of these shapes, and the gateway may not import the worker.

A module of its own, because the compiler takes no class inside an `if TYPE_CHECKING:`,
and outside it would import typing at each wake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Context

    from spyglass.log import Log


class Server(Protocol):
    """The worker; `date` (str) is the Date header now."""

    app: Callable[..., Iterable[bytes]]
    log: Log
    debug: bool
    date: str

    def fresh_context(self) -> Context: ...
    def would_keep(self) -> bool: ...
    def count_error(self) -> None: ...


class Client(Protocol):
    """The connection.

    `push()` sends at once, and blocks if it must (CutOff). `reset_unless_whole()` is
    called when a response begins whose end its client can tell by the end of the
    connection alone.
    """

    def push(self, data: bytes) -> None: ...
    def reset_unless_whole(self) -> None: ...
