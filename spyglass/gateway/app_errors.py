"""What an app gets to hear when it does not keep to PEP 3333: which rule it broke, and
how to fix it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

_ASGI = '. If it is an ASGI app (Starlette, FastAPI, Quart, `async def`), set interface = "asgi"'
# Compiled code has paths below the package's parent.
_OURS = (os.path.dirname(os.path.dirname(__file__)) + os.sep, "spyglass/")
# They can be iterated over, but not as bytes; and bytes only one by one, which would
# send each as a piece of its own.
_NO_BODIES = (str, bytes, bytearray, memoryview, dict)


class Breach(Exception):
    """The app has broken a rule of PEP 3333. The message says which one, and how to fix
    it.
    """


def iterate(result: Any) -> Iterator[object]:
    """Return an iterator over the pieces of what the app has returned. Raises Breach if
    it cannot have any.
    """
    kind = type(result).__name__
    if isinstance(result, _NO_BODIES):
        remedy = "return [body]"
        if isinstance(result, str):
            remedy = "return [text.encode()]"
        elif isinstance(result, dict):
            remedy = "return [json.dumps(...).encode()]"
        raise Breach(
            f"the app returned {kind}, but PEP 3333 requires an iterable of bytes: {remedy}"
        )
    try:
        return iter(result)
    except TypeError as error:
        if is_from_within(error):
            raise  # by the app's __iter__()
        if result is None:
            raise Breach(
                "the app returned None, but PEP 3333 requires an iterable of bytes: is a `return` missing?"
            ) from None
        hint = ""
        if hasattr(result, "__await__") or hasattr(result, "__aiter__"):
            hint = _ASGI
        elif callable(result):
            hint = (
                ': if the app is a factory, call it in the setting, as in app = "shop:create_app()"'
            )
        raise Breach(
            f"the app returned {kind}, but PEP 3333 requires an iterable of bytes{hint}"
        ) from None


def no_bytes(chunk: object) -> Breach:
    """Return the Breach for a piece of a body that is not bytes."""
    hint = ": use text.encode()" if isinstance(chunk, str) else ""
    return Breach(
        f"the app yielded {type(chunk).__name__} as part of its body, but PEP 3333 requires bytes{hint}"
    )


def explained(error: BaseException, *, was_called: bool = False) -> BaseException:
    """Return what to write to the journal about `error`, which the app's code has
    raised: a Breach if the app does not take (environ, start_response), and else
    `error` without our own frames, which say nothing to the author of an app.

    `was_called` (bool): the call of the app raised it, and not what it has returned.
    """
    if was_called and isinstance(error, TypeError) and not is_from_within(error):
        hint = _ASGI if "'send'" in str(error) else ""
        return Breach(
            f"the app cannot be called with (environ, start_response), as WSGI requires: {error}{hint}"
        )
    trace = _traceback(error)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    # Only our own frames: it is a bug of ours, or raised by code without frames.
    return error if trace is None else BaseException.with_traceback(error, trace)


def is_from_within(error: BaseException) -> bool:
    """Return True if the app's code raised `error`; False if calling the app did,
    because it does not take these arguments. Then the traceback ends at the call.
    """
    trace = _traceback(error)
    return trace is None or trace.tb_next is not None


def _traceback(error: BaseException) -> TracebackType | None:
    # Not by the class of `error`, which may be the app's.
    found: TracebackType | None = BaseException.__getattribute__(error, "__traceback__")
    return found
