"""Say how the processes of a service ended, from systemd's properties."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from spyglass.ops.output.untrusted_text import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    Properties = Mapping[str, str]


def exit_reason(service: Properties) -> str:
    """Return how the last process of a failed service ended: "killed by SIGKILL",
    "status 217".
    """
    result, code, status = (
        service.get(name, "") for name in ("Result", "ExecMainCode", "ExecMainStatus")
    )
    if result in ("signal", "core-dump") and code in ("2", "3"):
        try:
            return f"killed by {signal.Signals(number(status)).name}"
        except ValueError:
            return f"killed by signal {status}"
    return f"status {status}" if result == "exit-code" else result
