"""What stay_awake() returns: a hold, taken and ended by a `with` or around each call of
a decorated function.

api.py has the theory: where a hold is written down, and in which processes it counts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

    class Process(Protocol):
        """What a hold needs of api.Process."""

        def take(self, token: object, reason: str) -> None: ...
        def end(self, token: object) -> None: ...


# The flags of functions as the data model has them ("Code objects", co_flags). inspect
# has functions for them, but its import would cost the app milliseconds.
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


class Hold:
    """A hold on the idle exit: a context manager, and a decorator of functions,
    generators and coroutines.
    """

    __slots__ = ("_process", "_reason", "_taken")

    def __init__(self, process: Process, reason: str) -> None:
        self._process = process
        self._reason = reason
        self._taken: list[object] = []  # tokens, one for each time it is held now

    def __enter__(self) -> None:
        token = object()
        self._process.take(token, self._reason)
        self._taken.append(token)

    def __exit__(self, *_error: object) -> None:
        # Threads may share this hold. Which of their tokens is ended does not matter.
        self._process.end(self._taken.pop())

    def __call__(self, function: Function) -> Function:
        from functools import update_wrapper

        flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
        if flags & _ASYNC_GENERATOR:
            raise TypeError(
                f"stay_awake() cannot decorate an asynchronous generator: use 'with stay_awake():' in {function.__name__}()"
            )
        wrap = (
            self._coroutine
            if flags & _COROUTINE
            else self._generator
            if flags & _GENERATOR
            else self._plain
        )
        return update_wrapper(wrap(function), function)  # type: ignore[return-value]

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def held(*args: Any, **keywords: Any) -> Any:
            with self:
                return function(*args, **keywords)

        return held

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def held(*args: Any, **keywords: Any) -> Any:
            with self:
                return (yield from function(*args, **keywords))

        return held

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def held(*args: Any, **keywords: Any) -> Any:
            with self:
                return await function(*args, **keywords)

        return held
