"""Find the code that a call of an object would run, without calling it.

Flags and parameters are read from that code. `inspect.signature()` would follow
`__wrapped__` and `__signature__`, which describe other code, and `inspect` is slow to
import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from functools import partial
    from types import CodeType, FunctionType, MemberDescriptorType, MethodType
else:  # as `types` and `functools` have them, which are slow to import
    from _functools import partial

    FunctionType = type(lambda: None)
    MethodType = type(FunctionType.__get__(lambda self: None, 0))
    MemberDescriptorType = type(FunctionType.__globals__)

# CO_VARARGS, CO_COROUTINE, CO_ASYNC_GENERATOR; `inspect`, which has the names, is slow
# to import.
_VARARGS, _COROUTINE, _ASYNC_GENERATOR = 0x04, 0x80, 0x200
_MOST_LAYERS = 16  # partials, methods and slots around each other


def flags(*, varargs: bool, asynchronous: bool) -> int:
    """Return the flags that such a function has in its `co_flags`."""
    return _VARARGS * varargs | _COROUTINE * asynchronous


class Target:
    """The Python function that a call runs, and what it is given before the call's own
    arguments: `bound` positional ones (int), and `keywords`.
    """

    def __init__(self, function: FunctionType, bound: int, keywords: set[str]) -> None:
        code: CodeType = function.__code__
        self.is_asynchronous = bool(code.co_flags & (_COROUTINE | _ASYNC_GENERATOR))
        self.is_coroutine = bool(code.co_flags & _COROUTINE)
        wrapped = function.__dict__.get("__wrapped__")
        self.wraps_coroutine = type(wrapped) is FunctionType and bool(
            wrapped.__code__.co_flags & _COROUTINE
        )
        names = code.co_varnames[: code.co_argcount]
        optional = set(names[len(names) - len(function.__defaults__ or ()) :])
        self.positional = names[bound:]
        self.has_varargs = bool(code.co_flags & _VARARGS)
        # A positional argument for a name that a partial has given, too, is one twice.
        given = [index for index, each in enumerate(self.positional) if each in keywords]
        self.most = given[0] if given else len(self.positional)
        if self.has_varargs and not given:
            self.most = 1 << 16
        self.required = [
            each for each in self.positional if each not in optional and each not in keywords
        ]
        only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        self.required_keywords = [
            each
            for each in only
            if each not in (function.__kwdefaults__ or {}) and each not in keywords
        ]

    def takes(self, count: int) -> bool:
        """Return True if it can be called with `count` positional arguments."""
        return (
            len(self.required) <= count <= self.most
            and not self.required_keywords
            and not set(self.required) & set(self.positional[count:])
        )


def target_of(app: object) -> Target | None:
    """Return what a call of `app` runs, None if that is unknown. Classes are not
    looked into.
    """
    bound, keywords = 0, set[str]()
    for _ in range(_MOST_LAYERS):
        kind = type(app)
        if kind is FunctionType:
            return Target(app, bound, keywords)  # type: ignore[arg-type]
        if kind is MethodType:
            bound, app = bound + 1, app.__func__  # type: ignore[attr-defined]
        elif kind is partial:
            assert isinstance(app, partial)  # for mypy
            if any(type(each).__name__ == "_PlaceholderType" for each in app.args):
                return None  # since Python 3.14: arguments may go between those given
            bound, keywords, app = bound + len(app.args), keywords | set(app.keywords), app.func
        elif type in mro(kind):
            return None
        else:
            found = in_class(kind, "__call__")
            if type(found) is staticmethod:
                app = found.__func__
            elif type(found) is classmethod:
                bound, app = bound + 1, found.__func__
            elif type(found) is FunctionType:
                bound, app = bound + 1, found
            elif type(found) is MemberDescriptorType:
                # `__call__` in __slots__: each object has a function of its own there,
                # which is what a call of it runs.
                app = found.__get__(app, kind)
            else:
                return None  # written in C, or by a descriptor, as a proxy's
    return None


def mro(kind: type) -> tuple[type, ...]:
    found: tuple[type, ...] = type.__getattribute__(kind, "__mro__")
    return found


def in_class(kind: type, name: str) -> object:
    """Return the attribute that a special method lookup in the class `kind` finds, None
    if there is none.

    As Python does it: neither a `__getattr__` nor a metaclass has a say.
    """
    for each in mro(kind):
        attributes = type.__dict__["__dict__"].__get__(each)
        if name in attributes:
            return attributes[name]
    return None
