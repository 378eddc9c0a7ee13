"""An app that a factory makes: `app = "shop:create_app('production', debug=False)"`.

Nothing of the setting is evaluated. The arguments are literals, so that a settings file
cannot contain code.
"""

from __future__ import annotations

from spyglass.errors import LoadError
from spyglass.zygote import app_judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from typing import Any

_LITERALS = (
    "arguments are text, numbers, True, False, None, and lists, tuples, sets and dicts of these; "
    "for anything else, call the factory in a module of your own, such as wsgi.py"
)


def arguments(where: str, name: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and the named arguments of the call `name`, such as
    "create_app('production', debug=False)". Raise LoadError.
    """
    import ast  # slow to import, and only arguments need it

    spec = f"{where}:{name}"
    try:
        call = ast.parse(name, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise LoadError(f"{spec!r} is not a call that Python understands: {why}") from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name | ast.Attribute):
        raise LoadError(f"{spec!r} is neither a name nor a call: write module:factory(arguments)")
    try:
        return (
            [_literal(each) for each in call.args],
            {_keyword(each): _literal(each.value) for each in call.keywords},
        )
    except ValueError as error:
        raise LoadError(f"{spec!r}: {error} is not a literal: {_LITERALS}") from None


def _keyword(node: ast.keyword) -> str:
    import ast

    if node.arg is None:
        raise ValueError(f"**{ast.unparse(node.value)}")
    return node.arg


def _literal(node: ast.expr) -> Any:
    import ast

    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(ast.unparse(node)) from None


def cannot_be_called(factory: object, where: str, name: str, error: TypeError) -> str:
    """Return why the call `name` of `factory` failed with `error` before the factory
    was entered (one line): it does not take these arguments.
    """
    dotted = name.partition("(")[0]
    shown = f"{where}:{name}"
    if app_judge.needs_two(factory):
        right = app_judge.setting(where, dotted)
        return f"{shown!r}: {dotted} is the app itself, not a factory: write {right}"
    return f"{shown!r} does not fit the factory: {error}; its arguments go into the parentheses, as literals"
