"""Judge, without calling it, whether an object can be a WSGI app, and say what it is
instead.

The worker calls `app(environ, start_response)` (PEP 3333), so what counts is the code
that this call would run: that of a function, of a class's `__call__`, of what a partial
wraps. Its flags and its parameters are read from there. `inspect.signature()` would
follow `__wrapped__` and `__signature__`, which describe other code, and `inspect` is
slow to import.

Only what can never answer is refused. Code that is not Python's own (a C function, a
proxy's descriptor) is not known, and accepted.
"""

from __future__ import annotations

import sys

from spyglass.zygote import asgi_judge
from spyglass.zygote.call_target import Target, in_class, mro, target_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FunctionType, ModuleType
else:  # as `types` has them, which is slow to import
    FunctionType = type(lambda: None)
    ModuleType = type(sys)

FRAMEWORKS = {
    "fastapi": "FastAPI",
    "starlette": "Starlette",
    "quart": "Quart",
    "django": "Django",
    "litestar": "Litestar",
    "sanic": "Sanic",
    "blacksheep": "BlackSheep",
    "channels": "Django Channels",
    "falcon": "Falcon",
    "connexion": "Connexion",
    "socketio": "Socket.IO",
    "asgiref": "asgiref",
    "a2wsgi": "a2wsgi",
}
WITH_OWN_SERVERS = {"aiohttp": "aiohttp", "tornado": "Tornado"}
# Of a function that makes an app: create_app, make_wsgi_app, get_wsgi_application.
_MAKING = ("create", "make", "build", "factory", "get_app", "get_wsgi", "get_asgi", "init_app")
_CALLED = "a WSGI app is called with two, (environ, start_response)"


def refusal(app: object, where: str, name: str, interface: str = "auto") -> str:
    """Return why `app`, which is `name` in the module or file `where`, can never
    answer, and what to write instead (one line); "" if it may. `interface` is the
    setting.

    `name` is as in the setting `app`, so it ends in ")" if `app` is what a factory has
    returned.
    """
    try:
        return _refusal(app, where, name, interface)
    except Exception:  # an object of the app's may raise anything when it is looked at
        return ""


def is_asgi(app: object) -> bool:
    """Return True if `app` is an ASGI app: calling it makes a coroutine."""
    try:
        target = None if type in mro(type(app)) else target_of(app)
        return target is not None and asgi_judge.is_asgi(target)
    except Exception:
        return False


def needs_two(app: object) -> bool:
    """Return True if `app` must be called with two arguments, as a WSGI app is."""
    try:
        target = None if type in mro(type(app)) else target_of(app)
        return target is not None and target.takes(2) and len(target.required) == 2
    except Exception:
        return False


def setting(where: str, name: str) -> str:
    """Return the line of the TOML file that names this app."""
    value = f"{where}:{name}" if name else where
    quote = "'" if '"' in value else '"'
    return f"app = {quote}{value}{quote}"


# What to say


def _refusal(app: object, where: str, name: str, interface: str) -> str:
    shown = repr(f"{where}:{name}" if name else where)
    if not callable(app):
        return _not_callable(app, shown, where, name)
    if type in mro(type(app)):
        return _refusal_of_class(app, shown, where, name)  # type: ignore[arg-type]
    target = target_of(app)
    if target is None:
        return ""
    if not target.takes(2) and (own := _framework(type(app), WITH_OWN_SERVERS)):
        return neither(shown, own)
    framework = _framework(type(app), FRAMEWORKS)
    return refusal_of_call(target, where, name, framework, interface)


def refusal_of_call(
    target: Target, where: str, name: str, framework: str = "", interface: str = "auto"
) -> str:
    """Return why the call of `target`, which is `name` in `where`, can never answer
    (one line); "" if it may. `framework` is what the app is made with, if it is known,
    `interface` the setting.
    """
    shown = repr(f"{where}:{name}")
    if asgi_judge.is_asgi_2(target):
        return asgi_judge.two_calls(shown, framework)
    if interface == "asgi":
        return "" if target.takes(3) else asgi_judge.wrong_arguments(target, shown)
    if asgi_judge.is_asgi(target):
        return "" if interface == "auto" else asgi_judge.not_wsgi(shown, framework)
    if target.is_asynchronous:
        return f"{shown} is an async function (async def), which WSGI cannot call: make it a plain function (def)"
    if _is_unfinished_factory(target, name):
        return _factory(target, shown, where, name)
    return "" if target.takes(2) else _wrong_arguments(target, shown, where, name)


def neither(shown: str, own: str) -> str:
    """Return the refusal of an app of the framework `own`, which has its own server."""
    return f"{shown} is an app of {own}, which is neither WSGI nor ASGI: run it with the server of {own}"


def _not_callable(app: object, shown: str, where: str, name: str) -> str:
    made = name.endswith(")")
    if app is None:
        why = "is a `return` missing?" if made else "is it set later, or never?"
        return f"{shown} {'returned' if made else 'is'} None, not an app: {why}"
    if type in mro(type(type(app))) and ModuleType in mro(type(app)):
        found = next((each for each in ("application", "app") if each in vars(app)), "NAME")
        module = vars(app).get("__name__", where)
        return f"{shown} is a module, not an app: write {setting(module, found)}"
    if hasattr(type(app), "__await__"):
        close = getattr(app, "close", None)
        if close is not None:
            close()  # or Python would warn that it was never awaited
        return f"{shown} returned a coroutine, not an app: make the factory a plain function (def)"
    return f"{shown} is not callable: it is of type {type(app).__name__!r}"


def _framework(kind: type, known: dict[str, str]) -> str:
    """Return which of the `known` frameworks the class `kind` is of, or derived from;
    "" if none.
    """
    for each in mro(kind):
        module = type.__dict__["__dict__"].__get__(each).get("__module__")
        if isinstance(module, str) and (root := module.partition(".")[0]) in known:
            return known[root]
    return ""


def _is_unfinished_factory(target: Target, name: str) -> bool:
    """Return True if it makes an app and is not one.

    A function `create_app(config=None, debug=False)` could be called with two
    arguments, and would take the environ for its configuration.
    """
    if target.positional[:1] in (("global_config",), ("global_conf",)):
        return True  # of Pyramid and others, for PasteDeploy
    if not _makes(name):
        return False
    if not target.takes(2):
        return True
    is_environ = target.positional[:1] in (("environ",), ("env",), ("e",))
    return len(target.required) < 2 and not is_environ and not target.has_varargs


def _makes(name: str) -> bool:
    last = name.rpartition(".")[2].lower()
    return not name.endswith(")") and any(word in last for word in _MAKING)


def _factory(target: Target, shown: str, where: str, name: str) -> str:
    needed = [*target.required, *target.required_keywords]
    if not needed:
        return f"{shown} is a factory, not an app: write {setting(where, f'{name}()')}"
    words = [
        *("..." for _ in target.required),
        *(f"{each}=..." for each in target.required_keywords),
    ]
    example = setting(where, f"{name}({', '.join(words)})")
    return f"{shown} is a factory, not an app: write {example}, with its {_arguments(needed)}"


def _wrong_arguments(target: Target, shown: str, where: str, name: str) -> str:
    if target.positional[:1] == ("self",):
        right = setting(where, f"OBJECT.{name.rpartition('.')[2]}")
        return f"{shown} is a method without its object (self): write {right}"
    if target.required_keywords:
        named = _arguments(target.required_keywords)
        return f"{shown} cannot be called without the keyword {named}, but {_CALLED}"
    if target.takes(0) and not name.endswith(")"):
        few = (
            "no arguments" if not target.positional else f"only the {_arguments(target.positional)}"
        )
        return f"{shown} takes {few}, but {_CALLED}: if it makes the app, write {setting(where, f'{name}()')}"
    names = target.required if len(target.required) > 2 else target.positional
    count = len(names) or "no"
    listed = f" ({', '.join(names)})" if names else ""
    return f"{shown} takes {count} argument{'s' * (count != 1)}{listed}, but {_CALLED}"


def _arguments(names: list[str] | tuple[str, ...]) -> str:
    return f"argument{'s' * (len(names) != 1)} {', '.join(names)}"


# Classes


def _refusal_of_class(app: type, shown: str, where: str, name: str) -> str:
    """A class is an app if its objects are the response (PEP 3333, "The
    Application/Framework Side", has such an example).
    """
    call = in_class(type(app), "__call__")
    if call is not type.__call__:  # the metaclass's own
        target = Target(call, 1, set()) if type(call) is FunctionType else None
        return "" if target is None or target.takes(2) else _class(app, shown, where, name)
    if in_class(app, "__new__") is not object.__dict__["__new__"]:
        return ""  # it may return anything
    makes = in_class(app, "__init__")
    is_iterable = any(in_class(app, each) is not None for each in ("__iter__", "__getitem__"))
    if not is_iterable or makes is object.__dict__["__init__"]:
        return _class(app, shown, where, name)
    if type(makes) is FunctionType and not Target(makes, 1, set()).takes(2):
        return _class(app, shown, where, name)
    return ""


def _class(app: type, shown: str, where: str, name: str) -> str:
    makes, call = in_class(app, "__init__"), in_class(app, "__call__")
    called = Target(call, 1, set()) if type(call) is FunctionType else None
    made = Target(makes, 1, set()) if type(makes) is FunctionType else None
    framework = _framework(app, FRAMEWORKS)
    if made is not None and asgi_judge.is_asgi_2(made):
        return asgi_judge.two_calls(shown, framework)
    if called is not None and (called.takes(2) or asgi_judge.is_asgi(called)):
        if made is None or made.takes(0):
            return f"{shown} is a class, not an app: write {setting(where, f'{name}()')}, or name an object of it"
        return f"{shown} is a class, not an app: name an object of it, such as one that the module creates by app = {app.__name__}(...)"
    return f"{shown} is a class, and its objects are neither apps nor responses: name a WSGI app"
