"""What the source of a module says about its app. It is parsed, never imported: an
import runs the code as the user who asks, often root.

Source does not say all: names are bound in loops, by star imports, in other modules.
So only what is plain is judged: a name that is bound once, at the top level, by a
function or by a call of a framework's class. All else may be an app.
"""

from __future__ import annotations

import ast
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING

from spyglass.errors import LoadError
from spyglass.ops.files import atomic_files
from spyglass.zygote import app_factory, app_judge, asgi_judge
from spyglass.zygote.call_target import Target, flags
from spyglass.zygote.similar_names import closest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Function = ast.FunctionDef | ast.AsyncFunctionDef

NAMES = ("application", "app")  # as the loader tries them for a module without a callable
FACTORIES = ("create_app", "make_app")
_WSGI_FRAMEWORKS = {
    "flask": "Flask",
    "bottle": "Bottle",
    "falcon": "Falcon",
    "pyramid": "Pyramid",
    "django": "Django",
    "cherrypy": "CherryPy",
    "dash": "Dash",
    "werkzeug": "Werkzeug",
}
# What these packages have for WSGI, too.
_WSGI_PARTS = ("falcon.App", "falcon.API", "django.core.wsgi", "a2wsgi.ASGIMiddleware")
_ASGI_CLASSES = {
    *("FastAPI", "Starlette", "Quart", "Litestar", "Sanic", "Application"),
    *("ProtocolTypeRouter", "ASGIApp", "AsyncApp", "WsgiToAsgi"),
}
# Methods that make an ASGI app, of servers of the Model Context Protocol.
_ASGI_METHODS = ("streamable_http_app", "sse_app", "http_app")
# With one of these, a name may be bound although no statement does it.
_BINDING = ("globals", "locals", "vars", "exec", "eval", "setattr", "modules", "__dict__")


class Source:
    """The source of one module, which is `where` in the setting `app`.

    `is_readable` (bool) is False if there is none, or it cannot be parsed.
    """

    def __init__(self, path: str, where: str) -> None:
        self.where = where
        self.is_readable = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # SyntaxWarnings of the app do not matter here
                self._tree = ast.parse(atomic_files.read_untrusted_or_empty(path))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            # The last two: nested too deeply for the parser.
            self._tree = ast.Module([], [])
            self.is_readable = False
        self._bound: dict[str, list[ast.AST]] = {}
        self._imports: dict[str, str] = {}
        self._may_have_more = False
        for node in ast.walk(self._tree):
            self._note(node)

    def _note(self, node: ast.AST) -> None:
        """Note the names that a statement binds, wherever it is."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._note_import(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._bind(node.name, node)
            self._may_have_more |= node.name == "__getattr__"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self._bind(node.id, node)
        elif isinstance(node, ast.Global):
            for name in node.names:
                self._bind(name, node)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            self._bind(node.name, node)
        named = getattr(node, "id", None) or getattr(node, "attr", None)
        self._may_have_more |= named in _BINDING

    def _note_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self._may_have_more = True
                continue
            name = alias.asname or alias.name.partition(".")[0]
            self._bind(name, node)
            if isinstance(node, ast.Import):
                self._imports[name] = alias.name if alias.asname else name
            elif node.level == 0:
                self._imports[name] = f"{node.module}.{alias.name}"

    def _bind(self, name: str, node: ast.AST) -> None:
        self._bound.setdefault(name, []).append(node)

    def has(self, name: str) -> bool:
        """Return True if the module binds `name` at its top level."""
        return any(name in names for _, names in self._top_level())

    def _top_level(self) -> Iterator[tuple[ast.stmt, list[str]]]:
        """Yield the statements at the top level, and the names that they bind."""
        for node in self._tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield node, [node.name]
            elif isinstance(node, ast.ImportFrom | ast.Import):
                yield node, [alias.asname or alias.name for alias in node.names]
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield node, [target.id for target in targets if isinstance(target, ast.Name)]

    def _statement(self, name: str) -> ast.stmt | None:
        """Return the statement that binds `name`, if it is plain that no other does."""
        if len(self._bound.get(name, [])) != 1 or self._may_have_more:
            return None
        return next((node for node, names in self._top_level() if name in names), None)

    # What is said of an app

    def refusal(self, name: str) -> str:
        """Return why `name`, as in the setting `app`, can never answer (one line), ""
        if it may.
        """
        dotted, bracket, _ = name.partition("(")
        first = dotted.partition(".")[0]
        if not self.is_readable:
            return ""
        if first not in self._bound:
            return "" if self._may_have_more else self._lacks(first, name)
        statement = self._statement(first)
        if statement is None or "." in dotted:
            return ""
        if bracket:
            return self._refusal_of_factory(statement, name)
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if statement.decorator_list:
                return ""
            return app_judge.refusal_of_call(_target(statement), self.where, name)
        return self._refusal_of_made(getattr(statement, "value", None), name)

    def _lacks(self, first: str, name: str) -> str:
        near = closest(first, [each for each in self._bound if not each.startswith("_")])
        near = near or next((each for each in NAMES if self.has(each)), "")
        hint = f", did you mean '{self.where}:{near}'?" if near else ""
        return f"{self.where!r} has no {name.partition('(')[0]!r}{hint}"

    def _refusal_of_factory(self, statement: ast.stmt, name: str) -> str:
        arguments: tuple[Any, ...] = ([], {})
        if not name.endswith("()"):
            try:
                arguments = app_factory.arguments(self.where, name)
            except LoadError as error:
                return error.summary
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            return ""
        if isinstance(statement, ast.AsyncFunctionDef):
            return f"'{self.where}:{name}' would return a coroutine, not an app: make the factory a plain function (def)"
        if self._returned_framework(statement):
            return ""
        if statement.decorator_list:
            return ""
        target = _target(statement)
        missing = [
            *[each for each in target.required[len(arguments[0]) :] if each not in arguments[1]],
            *[each for each in target.required_keywords if each not in arguments[1]],
        ]
        if missing:
            right = app_judge.setting(self.where, f"{statement.name}(...)")
            return f"'{self.where}:{name}' lacks the argument {missing[0]}: write {right}, with its arguments"
        return ""

    def _returned_framework(self, factory: ast.FunctionDef) -> str:
        """Return the framework of the ASGI app that each `return` of `factory` gives,
        "" if one may give anything else.
        """
        made: dict[str, list[str]] = {}
        returned: list[ast.expr | None] = []
        for node in _own_statements(factory):
            if isinstance(node, ast.Return):
                returned.append(node.value)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                made.setdefault(node.id, []).append("")
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                framework = self._asgi_framework(node.value)
                for target in node.targets:
                    if framework and isinstance(target, ast.Name):
                        made.setdefault(target.id, []).append(framework)
        found = [
            self._asgi_framework(value)
            if isinstance(value, ast.Call)
            # Bound once: by the assignment, and as its target.
            else max(made[value.id])
            if isinstance(value, ast.Name) and len(made.get(value.id, [])) == 2
            else ""
            for value in returned
        ]
        return found[0] if found and all(found) else ""

    def _refusal_of_made(self, value: ast.expr | None, name: str) -> str:
        if not isinstance(value, ast.Call):
            return ""
        own = app_judge.WITH_OWN_SERVERS.get(self._called(value).partition(".")[0], "")
        return app_judge.neither(repr(f"{self.where}:{name}"), own) if own else ""

    def _called(self, call: ast.Call) -> str:
        """Return the dotted name of what is called: "flask.Flask"; "" if it was not
        imported.
        """
        parts = []
        node = call.func
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self._imports:
            return ""
        return ".".join([self._imports[node.id], *reversed(parts)])

    def _asgi_framework(self, call: ast.Call) -> str:
        """Return the framework whose ASGI app `call` makes, "" if it makes none."""
        called = self._called(call)
        last = called.rpartition(".")[2]
        if called.startswith(_WSGI_PARTS) or not (
            last[:1].isupper() or last == "get_asgi_application"
        ):
            return ""
        root = called.partition(".")[0]
        if root in ("django", "falcon") and "asgi" not in called:
            return ""
        is_app = last in _ASGI_CLASSES or last == "get_asgi_application" or "asgi" in called
        return app_judge.FRAMEWORKS.get(root, "") if is_app else ""

    def made_by(self, name: str) -> str:
        """Return what makes `name` an app, as "made by Flask()"; "" if that is not
        plain.
        """
        if self.is_asgi(name):
            return self._asgi_made_by(self._statement(name))
        statement = self._statement(name)
        value = getattr(statement, "value", None)
        if isinstance(value, ast.Call):
            called = self._called(value)
            if called.partition(".")[0] in _WSGI_FRAMEWORKS:
                return f"made by {called.rpartition('.')[2]}()"
        if isinstance(statement, ast.FunctionDef) and not statement.decorator_list:
            target = _target(statement)
            if target.takes(2) and len(target.required) == 2:
                return "a function"
        return ""

    def is_asgi(self, name: str) -> bool:
        """Return True if it is plain that `name`, as in the setting `app`, is an ASGI
        app, or a factory of them.
        """
        plain, bracket, _ = name.partition("(")
        statement = self._statement(plain)
        if bracket:
            if not isinstance(statement, ast.FunctionDef):
                return False
            return bool(self._returned_framework(statement))
        return bool(self._asgi_made_by(statement))

    def _asgi_made_by(self, statement: ast.stmt | None) -> str:
        """Return what makes an ASGI app in `statement`, "" if it is not plainly one."""
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            is_app = not statement.decorator_list and asgi_judge.is_asgi(_target(statement))
            return "an ASGI function" if is_app else ""
        value = getattr(statement, "value", None)
        if not isinstance(value, ast.Call):
            return ""
        if self._asgi_framework(value):
            return f"made by {self._called(value).rpartition('.')[2]}()"
        if isinstance(value.func, ast.Attribute) and value.func.attr in _ASGI_METHODS:
            return f"made by {value.func.attr}()"
        return ""

    def lists_app(self, apps: tuple[str, ...]) -> str:
        """Return which of `apps` Django's INSTALLED_APPS has, "" if none: the strings
        of a list whose name ends in APPS, because projects add such lists together.
        """
        for node in ast.walk(self._tree):
            if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) or not node.value:
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if not any(name.endswith("APPS") for name in names):
                continue
            for each in ast.walk(node.value):
                if isinstance(each, ast.Constant) and isinstance(each.value, str):
                    root = each.value.partition(".")[0]  # of channels.apps.ChannelsConfig
                    if root in apps:
                        return root
        return ""

    def line_of(self, name: str) -> int:
        """Return the line that binds `name`, 0 if it is not known."""
        return next((node.lineno for node, names in self._top_level() if name in names), 0)


def _own_statements(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Yield the nodes of a function's body without those of functions within it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _target(node: Function) -> Target:
    """Return what is called if the function `node` is."""
    arguments = node.args
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    code = SimpleNamespace(
        co_flags=flags(
            varargs=arguments.vararg is not None,
            asynchronous=isinstance(node, ast.AsyncFunctionDef),
        ),
        co_argcount=len(positional),
        co_kwonlyargcount=len(arguments.kwonlyargs),
        co_varnames=(*positional, *(each.arg for each in arguments.kwonlyargs)),
    )
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    function: Any = SimpleNamespace(
        __code__=code,
        __defaults__=tuple(arguments.defaults),
        __kwdefaults__={each.arg: default for each, default in keywords if default is not None},
    )
    return Target(function, 0, set())
