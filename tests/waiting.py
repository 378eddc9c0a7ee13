"""The one way in which tests wait: for a condition, never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.01  # seconds between two looks


def wait_until(
    condition: Callable[[], T],
    timeout: float = 10,
    what: str | Callable[[], str] = "",
    *,
    between: Callable[[], object] = lambda: time.sleep(PAUSE),
) -> T:
    """Return the first true result of `condition()`; call `between()` before each
    further look.

    Raise AssertionError after `timeout` seconds (float, monotonic). `what` says what
    should have happened; a function is called only then, to add what did happen.
    """
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            told = what() if callable(what) else what
            raise AssertionError(f"gave up waiting after {timeout:g} s: {told or condition}")
        between()
    return result
