"""Guess the app and the virtual environment in a directory, for `spyglass new`.

Sources are parsed, never imported: importing runs the code as the user who asks, often
root.
"""

from __future__ import annotations

import ast
import glob
import os
import re
import warnings

from spyglass.ops import atomic_files

_NAMES = ("application", "app")  # as the loader tries them for a module without a callable
_FACTORIES = ("create_app", "make_app")
_PACKAGES = 100  # packages to look at
_FILES = ("wsgi.py", "app.py", "application.py", "main.py")
_SETTINGS = re.compile(r"""DJANGO_SETTINGS_MODULE['"]\s*,\s*['"]([\w.]+)\.settings""")


def venv_in(directory: str) -> str:
    """Return the virtual environment in `directory`, relative to it, or ""."""
    return next(
        (
            name
            for name in ("venv", ".venv")
            if os.path.isfile(os.path.join(directory, name, "pyvenv.cfg"))
        ),
        "",
    )


def apps_in(directory: str) -> list[str]:
    """Return candidates for the setting `app`, most likely first.

    One if there is no doubt: a Django project, or a wsgi.py.
    """
    if django := _django(directory):
        return [django]
    found = [app for file in _FILES if (app := _app_in(directory, file))]
    if found and found[0].startswith("wsgi"):
        return found[:1]  # this is the purpose of a wsgi.py
    if not found:
        packages = sorted(glob.glob("*/wsgi.py", root_dir=directory)) + sorted(
            glob.glob("*/__init__.py", root_dir=directory)
        )
        found = [app for file in packages[:_PACKAGES] if (app := _app_in(directory, file))]
    return found


def _django(directory: str) -> str:
    """Return the WSGI application of the project that manage.py names, or ""."""
    found = _SETTINGS.search(
        atomic_files.read_untrusted_or_empty(os.path.join(directory, "manage.py"))
    )
    if found and os.path.isfile(os.path.join(directory, *found[1].split("."), "wsgi.py")):
        return f"{found[1]}.wsgi:application"
    return ""


def _app_in(directory: str, file: str) -> str:
    """Return "module:callable" of the app in `file`, relative to `directory`, or ""."""
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if not all(part.isidentifier() for part in module.split(".")):
        return ""  # cannot be imported, and must not get into a suggested command
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SyntaxWarnings of the app do not matter here
            tree = ast.parse(atomic_files.read_untrusted_or_empty(os.path.join(directory, file)))
    except (
        SyntaxError,
        ValueError,
        RecursionError,
        MemoryError,
    ):  # the last two: nested too deeply for the parser
        return ""
    made = _top_level(tree)
    for name in _NAMES:
        if name in made:
            return f"{module}:{name}"
    return next((f"{module}:{name}()" for name in _FACTORIES if name in made), "")


def _top_level(tree: ast.Module) -> set[str]:
    """Return the names that a module defines at its top level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names
