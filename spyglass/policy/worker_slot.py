"""One worker as the policies see it: the facts of its scoreboard slot, as a value.

Times are monotonic seconds (float).
"""

from __future__ import annotations


class Slot:
    """What the scoreboard says of one worker; and its `memory` (bytes, 0: not
    measured).

    `ignored` (int) of the open connections do not keep the app awake, and `websockets`
    (int) of them are WebSockets. `holds` (int) and
    `reason` (str) come from stay_awake(); a zygote's slot has nothing else.
    """

    __slots__ = (
        *(
            "activity",
            "answer",
            "call_since",
            "heard",
            "holds",
            "ignored",
            "limit",
            "memory",
            "number",
            "open",
            "reason",
            "served",
            "state",
        ),
        "websockets",
    )

    def __init__(
        self, number: int, state: int, open: int, served: int, activity: float, call_since: float, answer: int,
        limit: int = 0, memory: int = 0, ignored: int = 0, holds: int = 0, reason: str = "", heard: float = 0.0,
        websockets: int = 0,
    ) -> None:  # fmt: skip
        self.number = number
        self.state = state
        self.open = open
        self.served = served
        self.activity = activity
        self.call_since = call_since
        self.answer = answer
        self.limit = limit
        self.memory = memory
        self.ignored = ignored
        self.holds = holds
        self.reason = reason
        self.heard = heard
        self.websockets = websockets

    @property
    def busy(self) -> bool:
        """It keeps the app awake: by a connection that counts, or at the app's wish."""
        return self.open > self.ignored or self.holds > 0
