"""Tell ASGI apps from others by the code that a call would run, and say what is wrong
with those that can never answer.

An app of ASGI 3 is called with (scope, receive, send) and makes a coroutine. One of
ASGI 2 was called with (scope), and what that returned with (receive, send).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.zygote.call_target import Target

_NAMES = ("scope", "receive", "send")
CALLED = "an ASGI app is called with three, (scope, receive, send)"


def is_asgi(target: Target) -> bool:
    """Return True if `target` is called as an app of ASGI 3 is, and not one of WSGI:
    it takes three arguments, and is a coroutine function, wraps one, or has ASGI's
    names for them.
    """
    if not target.takes(3):
        return False
    if target.is_asynchronous:
        return target.is_coroutine
    return target.positional[:3] == _NAMES or (target.has_varargs and target.wraps_coroutine)


def is_asgi_2(target: Target) -> bool:
    """Return True if `target` takes a scope, and nothing else."""
    return target.positional == _NAMES[:1] and not target.takes(3)


def two_calls(shown: str, framework: str) -> str:
    """Return the refusal of an app of ASGI 2."""
    return (
        f"{shown} is an app of ASGI 2{_of(framework)} (a double callable), and Spyglass serves ASGI 3: "
        "wrap it in asgiref.compatibility.guarantee_single_callable()"
    )


def not_wsgi(shown: str, framework: str) -> str:
    """Return the refusal where the setting `interface` says WSGI."""
    return f'{shown} is an ASGI app{_of(framework)}, but interface = "wsgi": remove that setting'


def wrong_arguments(target: Target, shown: str) -> str:
    """Return the refusal where the setting `interface` says ASGI, and it is none."""
    names = target.positional
    count = len(names) or "no"
    listed = f" ({', '.join(names)})" if names else ""
    return f'{shown} takes {count} argument{"s" * (count != 1)}{listed}, but {CALLED}: remove interface = "asgi"'


def _of(framework: str) -> str:
    return f" of {framework}" if framework else ""
