"""An app is judged by the code that a call would run, and is not called: what can never
answer is refused with what to write instead, and all else is accepted.
"""

import functools
import types
import unittest.mock

import pytest
from flask import Flask
from werkzeug.local import LocalProxy
from werkzeug.middleware.proxy_fix import ProxyFix

from spyglass.zygote import app_judge, app_loader


def judged(app, name="app", where="shop", interface="auto"):
    """Return the refusal, "" if the loader accepts `app`. The short way must not differ
    from the long one.
    """
    why = app_judge.refusal(app, where, name, interface)
    if app_loader._is_plain(app) and interface != "asgi":
        assert why == ""
    return why


def wsgi(environ, start_response):
    raise AssertionError("called")


def exact_wrapper(function):
    @functools.wraps(function)
    def call(environ, start_response):
        return function

    return call


def loose_wrapper(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        return function

    return call


def keyword_only(environ, start_response, *, debug=False): ...
def optional(environ, start_response, settings=None, *more): ...
def positional_only(environ, start_response, /): ...
def three(environ, start_response, settings): ...
def create_nothing(): ...
def create_with(config): ...
async def asynchronous(environ, start_response): ...
async def asgi(scope, receive, send): ...


class Plain:
    def __init__(self, *_): ...
    def __call__(self, environ, start_response): ...
    def method(self, environ, start_response): ...
    @staticmethod
    def static(environ, start_response): ...
    @classmethod
    def of_class(cls, environ, start_response): ...


class Derived(Plain): ...


class Slotted:
    __slots__ = ()

    def __call__(self, environ, start_response): ...


class StaticCall:
    @staticmethod
    def __call__(environ, start_response): ...


class ClassCall:
    @classmethod
    def __call__(cls, environ, start_response): ...


class PartialCall:
    __call__ = functools.partialmethod(three, settings=None)


class ProxyCall:
    """As a proxy is made: what is called is found by a descriptor."""

    class Descriptor:
        def __get__(self, instance, owner=None):
            return wsgi

    __call__ = Descriptor()


class AppClass:
    """The example of PEP 3333."""

    def __init__(self, environ, start_response): ...
    def __iter__(self):
        yield b""


class Sequence(AppClass):
    __iter__ = None

    def __getitem__(self, index): ...


class Made:
    def __new__(cls, environ, start_response):
        return [b""]


class Meta(type):
    def __call__(cls, environ, start_response):
        return [b""]


class OfMeta(metaclass=Meta): ...


class Lies:
    """Signatures that describe other code than a call runs."""

    __signature__ = "none"
    __wrapped__ = create_nothing

    def __call__(self, environ, start_response): ...


class Evil:
    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __call__(self, environ, start_response): ...


class EvilMeta(type):
    def __getattribute__(cls, name):
        raise RuntimeError(name)


class OfEvilMeta(metaclass=EvilMeta):
    def __call__(self, environ, start_response): ...


def lying_function(environ, start_response): ...


lying_function.__wrapped__ = create_nothing
lying_function.__signature__ = "none"


ACCEPTED = {
    "function": wsgi,
    "lambda": lambda e, s: [],
    "varargs": lambda *args: [],
    "varargs and keywords": lambda *args, **kwargs: [],
    "one and varargs": lambda environ, *rest: [],
    "keyword-only with a default": keyword_only,
    "more with defaults": optional,
    "positional-only": positional_only,
    "wrapped exactly": exact_wrapper(create_nothing),
    "wrapped loosely": loose_wrapper(create_nothing),
    "wrapped async": loose_wrapper(asgi),
    "lru_cache": functools.lru_cache(wsgi),
    "a lying function": lying_function,
    "object": Plain(),
    "object of a derived class": Derived(),
    "object without a __dict__": Slotted(),
    "bound method": Plain().method,
    "bound __call__": Plain().__call__,
    "static method": Plain.static,
    "class method": Plain.of_class,
    "a static __call__": StaticCall(),
    "a class's __call__": ClassCall(),
    "a partial __call__": PartialCall(),
    "a descriptor as __call__": ProxyCall(),
    "method of another callable": types.MethodType(functools.partial(three), {}),
    "partial of a position": functools.partial(lambda config, e, s: [], {}),
    "partial of a keyword": functools.partial(three, settings={}),
    "partial of a partial": functools.partial(functools.partial(lambda a, b, e, s: [], 1), 2),
    "partial of a method": functools.partial(Plain().method),
    "partial of an object": functools.partial(Plain()),
    "partial of a loose one": functools.partial(loose_wrapper(create_nothing), 1, x=2),
    "partial of a C function": functools.partial(print),
    "C function": print,
    "C method": [].append,
    "PEP 3333's class": AppClass,
    "class that is a sequence": Sequence,
    "class with __new__": Made,
    "class written in C": str,
    "class of a metaclass": OfMeta,
    "an object that lies": Lies(),
    "an object that raises": Evil(),
    "an object whose class raises": OfEvilMeta(),
    "Mock": unittest.mock.Mock(),
    "MagicMock": unittest.mock.MagicMock(),
    "Mock of a class": unittest.mock.Mock(spec=type),
    "Mock of a function": unittest.mock.create_autospec(three),
    "Flask": Flask(__name__),
    "Flask's wsgi_app": Flask(__name__).wsgi_app,
    "middleware": ProxyFix(Flask(__name__)),
    "LocalProxy": LocalProxy(lambda: wsgi),
    "LocalProxy of nothing": LocalProxy(lambda: 1 / 0),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name):
    assert judged(ACCEPTED[name]) == ""


@pytest.mark.parametrize("name", ["create_app", "make_wsgi_app", "build"])
def test_an_app_may_be_called_like_a_factory(name):
    for app in (wsgi, optional, loose_wrapper(wsgi), Plain(), print, keyword_only):
        assert judged(app, name) == ""
    assert judged(lambda environ=None, start_response=None: [], name) == ""


class Starlette:
    __module__ = "starlette.applications"

    def __init__(self, debug=False): ...
    async def __call__(self, scope, receive, send): ...
    async def handle(self, scope, receive, send): ...


class FastAPI(Starlette):
    __module__ = "fastapi.applications"


class MyApi(FastAPI):
    __module__ = "shop"


class ASGIHandler:
    __module__ = "django.core.handlers.asgi"

    async def __call__(self, scope, receive, send): ...


class Asgi2:
    def __init__(self, scope): ...
    async def __call__(self, receive, send): ...


class Channels2(Asgi2):
    __module__ = "channels.routing"


class Sentry:
    """Its middleware: `__call__` is a slot, and each object has its own."""

    __slots__ = ("__call__", "app")

    def __init__(self, app):
        self.app = app
        self.__call__ = self._run

    async def _run(self, scope, receive, send): ...


class SentryForWsgi(Sentry):
    def _run(self, environ, start_response): ...


class EmptySlot(Sentry):
    def __init__(self): ...


class WithArguments:
    def __init__(self, import_name, path=None): ...
    def __call__(self, environ, start_response): ...


class Callable:
    def __call__(self, environ, start_response): ...


class NeitherNor: ...


class WrongInit(AppClass):
    def __init__(self, environ): ...


class Aiohttp:
    __module__ = "aiohttp.web_app"

    def __call__(self):
        return self


class Tornado:
    __module__ = "tornado.web"

    def __call__(self, request): ...


async def streaming(environ, start_response):
    yield b""


def sync_asgi(scope, receive, send): ...
async def other_names(a, b, c): ...
async def optional_asgi(scope, receive=None, send=None): ...
async def with_settings(settings, scope, receive, send): ...
def scope_only(scope): ...
def keyword(environ, start_response, *, secret): ...
def view(): ...
def respond(request): ...


ASGI_2 = "(a double callable), and Spyglass serves ASGI 3: wrap it in asgiref.compatibility.guarantee_single_callable()"
CALLED = "but a WSGI app is called with two, (environ, start_response)"
ASYNC = "'shop:app' is an async function (async def), which WSGI cannot call: make it a plain function (def)"
REFUSED = [
    # ASGI
    (scope_only, "app", f"'shop:app' is an app of ASGI 2 {ASGI_2}"),
    (Asgi2, "app", f"'shop:app' is an app of ASGI 2 {ASGI_2}"),
    (Channels2, "app", f"'shop:app' is an app of ASGI 2 of Django Channels {ASGI_2}"),
    (FastAPI, "FastAPI", "'shop:FastAPI' is a class, not an app: write app = \"shop:FastAPI()\", or name an object of it"),
    (asynchronous, "app", ASYNC),
    (streaming, "app", ASYNC),
    # Factories
    (create_nothing, "create_app", "'shop:create_app' is a factory, not an app: write app = \"shop:create_app()\""),
    (lambda config=None: 0, "create_app", "'shop:create_app' is a factory, not an app: write app = \"shop:create_app()\""),
    (lambda config=None, debug=False: 0, "create_app", "'shop:create_app' is a factory, not an app: write app = \"shop:create_app()\""),
    (create_with, "make_app", "'shop:make_app' is a factory, not an app: write app = \"shop:make_app(...)\", with its argument config"),
    (lambda config, debug=False: 0, "make_app", "'shop:make_app' is a factory, not an app: write app = \"shop:make_app(...)\", with its argument config"),
    (lambda *, config: 0, "make_app", "'shop:make_app' is a factory, not an app: write app = \"shop:make_app(config=...)\", with its argument config"),
    (lambda global_config, **settings: 0, "main", "'shop:main' is a factory, not an app: write app = \"shop:main(...)\", with its argument global_config"),
    (loose_wrapper(create_nothing), "create_app", ""),
    (view, "app", f"'shop:app' takes no arguments, {CALLED}: if it makes the app, write app = \"shop:app()\""),
    (lambda config=None: 0, "main", f"'shop:main' takes only the argument config, {CALLED}: if it makes the app, write app = \"shop:main()\""),
    # Arguments
    (respond, "app", f"'shop:app' takes 1 argument (request), {CALLED}"),
    (three, "app", f"'shop:app' takes 3 arguments (environ, start_response, settings), {CALLED}"),
    (keyword, "app", f"'shop:app' cannot be called without the keyword argument secret, {CALLED}"),
    (Plain.method, "Plain.method", "'shop:Plain.method' is a method without its object (self): write app = \"shop:OBJECT.method\""),
    (functools.partial(wsgi, {}), "app", f"'shop:app' takes 1 argument (start_response), {CALLED}"),
    (functools.partial(wsgi, environ={}), "app", None),
    (exact_wrapper, "app", f"'shop:app' takes 1 argument (function), {CALLED}"),
    (view, "create_app()", f"'shop:create_app()' takes no arguments, {CALLED}"),
    (Aiohttp(), "app", "'shop:app' is an app of aiohttp, which is neither WSGI nor ASGI: run it with the server of aiohttp"),
    (Tornado(), "app", "'shop:app' is an app of Tornado, which is neither WSGI nor ASGI: run it with the server of Tornado"),
    # Classes
    (Callable, "Callable", "'shop:Callable' is a class, not an app: write app = \"shop:Callable()\", or name an object of it"),
    (WithArguments, "Web", "'shop:Web' is a class, not an app: name an object of it, such as one that the module creates by app = WithArguments(...)"),
    (Flask, "Flask", "'shop:Flask' is a class, not an app: name an object of it, such as one that the module creates by app = Flask(...)"),
    (NeitherNor, "app", "'shop:app' is a class, and its objects are neither apps nor responses: name a WSGI app"),
    (WrongInit, "app", "'shop:app' is a class, and its objects are neither apps nor responses: name a WSGI app"),
    # No callables
    (None, "app", "'shop:app' is None, not an app: is it set later, or never?"),
    (None, "create_app()", "'shop:create_app()' returned None, not an app: is a `return` missing?"),
    (7, "app", "'shop:app' is not callable: it is of type 'int'"),
    ("shop:app", "app", "'shop:app' is not callable: it is of type 'str'"),
    ((wsgi, None), "create_app()", "'shop:create_app()' is not callable: it is of type 'tuple'"),
    (app_loader, "app", "'shop:app' is a module, not an app: write app = \"spyglass.zygote.app_loader:NAME\""),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[1]}-{type(case[0]).__name__}")
def test_refused(case):
    app, name, why = case
    assert (bool(judged(app, name)) if why is None else judged(app, name)) == (why is None or why)


def test_a_module_that_has_an_app_is_named_with_it():
    module = types.ModuleType("shop.app")
    module.app = wsgi
    assert judged(module) == "'shop:app' is a module, not an app: write app = \"shop.app:app\""


ASGI_APPS = {
    "function": asgi,
    "function with other names": other_names,
    "function that returns a coroutine": sync_asgi,
    "method": Starlette().handle,
    "object": Starlette(),
    "object of a derived class": MyApi(),
    "Django": ASGIHandler(),
    "partial": functools.partial(asgi),
    "partial of an object": functools.partial(Starlette()),
    "partial with an argument": functools.partial(with_settings, {}),
    "wrapped": loose_wrapper(asgi),
    "instance slot": Sentry(None),
    "optional arguments": optional_asgi,
}


@pytest.mark.parametrize("kind", ASGI_APPS)
def test_an_asgi_app_is_told_from_others(kind):
    app = ASGI_APPS[kind]
    assert judged(app) == ""
    assert app_judge.is_asgi(app)
    assert judged(app, interface="asgi") == ""
    refused = judged(app, interface="wsgi")
    assert "is an ASGI app" in refused
    assert 'but interface = "wsgi": remove that setting' in refused


@pytest.mark.parametrize(
    "app",
    [
        *(wsgi, Plain(), Plain, Derived(), AppClass, keyword_only, optional, SentryForWsgi(None)),
        *(EmptySlot(), loose_wrapper(wsgi), streaming, asynchronous, len, unittest.mock.Mock()),
    ],
)
def test_what_makes_no_coroutine_is_no_asgi_app(app):
    assert not app_judge.is_asgi(app)


def test_an_app_is_an_asgi_app_if_the_setting_says_so():
    """What makes coroutines and does not look like it."""
    returns_coroutine = functools.wraps(wsgi)(lambda *args: asgi(*args))
    assert not app_judge.is_asgi(returns_coroutine)
    assert judged(returns_coroutine, interface="asgi") == ""
    assert judged(wsgi, interface="asgi") == (
        "'shop:app' takes 2 arguments (environ, start_response), but an ASGI app is called with "
        'three, (scope, receive, send): remove interface = "asgi"'
    )
    assert "ASGI 2" in judged(scope_only, interface="asgi")


def test_a_coroutine_is_closed():
    """Python would warn that it was never awaited; warnings are errors here."""
    coroutine = asgi(1, 2, 3)
    assert judged(coroutine, "make()") == (
        "'shop:make()' returned a coroutine, not an app: make the factory a plain function (def)"
    )
    with pytest.raises(RuntimeError):
        coroutine.send(None)


def test_a_name_with_quotes_is_written_as_toml():
    assert app_judge.setting("shop", 'create_app("prod")') == "app = 'shop:create_app(\"prod\")'"
