"""The deadline of one call of an ASGI app.

A connection's deadline is about its client. A call has one of its own, because it may
outlive its connection.
"""

from __future__ import annotations

from spyglass.runtime.timers import Timed
from spyglass.worker.asgi.duplex_states import CALLING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.worker.connection_states import State


class CallTimer(Timed):
    """Tells `call` when its deadline has passed, by `call.late(kind)`."""

    __slots__ = ("call", "state")

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call
        self.state: State = CALLING

    def late(self, kind: int) -> None:
        self.call.late(kind)

    def ignore(self, _kind: int = 0) -> None:
        pass


CALLING.bind(CallTimer)
