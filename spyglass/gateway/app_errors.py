"""What an app gets to hear when it does not keep to PEP 3333: which rule it broke, and
how to fix it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ASGI = ". If it is an ASGI app (Starlette, FastAPI, Quart, `async def`), it needs an ASGI server"
# They can be iterated over, but not as bytes; and bytes only one by one, which would
# send each as a piece of its own.
_NO_BODIES = (str, bytes, bytearray, memoryview, dict)


class Breach(Exception):
    """The app has broken a rule of PEP 3333. The message says which one, and how to fix
    it.
    """


def iterate(result: Iterable[bytes]) -> Iterator[bytes]:
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
    except TypeError:
        if result is None:
            raise Breach(
                "the app returned None, but PEP 3333 requires an iterable of bytes: is a `return` missing?"
            ) from None
        hint = _ASGI if hasattr(result, "__await__") or hasattr(result, "__aiter__") else ""
        raise Breach(
            f"the app returned {kind}, but PEP 3333 requires an iterable of bytes{hint}"
        ) from None


def no_bytes(chunk: object) -> Breach:
    """Return the Breach for a piece of a body that is not bytes."""
    hint = ": use text.encode()" if isinstance(chunk, str) else ""
    return Breach(
        f"the app yielded {type(chunk).__name__} as part of its body, but PEP 3333 requires bytes{hint}"
    )


def cannot_be_called(error: TypeError) -> Breach:
    """Return the Breach for an app that does not take (environ, start_response)."""
    return Breach(
        f"the app cannot be called with (environ, start_response), as WSGI requires: {error}{_ASGI}"
    )


def is_from_within(error: BaseException) -> bool:
    """Return True if the app's code raised `error`; False if calling the app did,
    because it does not take these arguments. Then the traceback ends at the call.
    """
    trace = error.__traceback__
    return trace is None or trace.tb_next is not None
